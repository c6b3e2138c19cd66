"""The contract of the five verbs when callers race."""

import asyncio
from contextlib import suppress

from ...storages.base import KeyedStorage
from ..clock import ManualClock
from .verbs import HOUR, inserted, new_key

RACERS = 50
ROUNDS = 20


class RaceContract:
    """Of parallel requests exactly one wins, and a record that is gone stays gone."""

    async def test_of_racing_replaces_exactly_one_wins(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """The data of the winner is stored, at the version that the winner got."""
        key, expires_at = new_key(), int(clock()) + HOUR
        version = await inserted(storage, key, b"first", expires_at)
        outcomes = await asyncio.gather(
            *(storage.replace(key, b"racer %d" % racer, expires_at, version) for racer in range(RACERS))
        )
        winners = [racer for racer, outcome in enumerate(outcomes) if outcome is not None]
        assert len(winners) == 1, f"exactly one of {RACERS} replace() calls at one version must win, not {len(winners)}"
        stored = await storage.fetch(key)
        assert stored is not None, "the record must be found after the race"
        assert stored.data == b"racer %d" % winners[0], "the data of the one that won must stand"
        assert stored.version == outcomes[winners[0]], "the version that the winner was given must stand"

    async def test_of_racing_inserts_exactly_one_wins(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """Two sessions never share an id."""
        key, expires_at = new_key(), int(clock()) + HOUR
        outcomes = await asyncio.gather(
            *(storage.insert(key, b"racer %d" % racer, expires_at) for racer in range(RACERS))
        )
        winners = [racer for racer, outcome in enumerate(outcomes) if outcome is not None]
        assert len(winners) == 1, f"exactly one of {RACERS} insert() calls for one key must win, not {len(winners)}"
        stored = await storage.fetch(key)
        assert stored is not None, "the record must be found after the race"
        assert stored.data == b"racer %d" % winners[0], "the data of the one that won must stand"

    async def test_racing_writers_of_different_keys_do_not_meet(
        self, storage: KeyedStorage, clock: ManualClock
    ) -> None:
        """This test shows a lock or a buffer that sessions share by mistake."""
        keys, expires_at = [new_key() for _ in range(RACERS)], int(clock()) + HOUR

        async def write(key: str) -> None:
            version = await inserted(storage, key, b"first of " + key.encode(), expires_at)
            stored = await storage.fetch(key)
            assert stored is not None, "every key inserted in parallel must be found"
            assert stored.data == b"first of " + key.encode(), "every key must hold its own data"
            await storage.replace(key, b"second of " + key.encode(), expires_at, version)

        await asyncio.gather(*(write(key) for key in keys))
        for key in keys:
            stored = await storage.fetch(key)
            assert stored is not None, "every key written in parallel must be found"
            assert stored.data == b"second of " + key.encode(), "every key must hold its own data"

    async def test_a_replace_that_races_a_delete_never_brings_the_record_back(
        self, storage: KeyedStorage, clock: ManualClock
    ) -> None:
        """Logout is final, whichever came first."""
        expires_at = int(clock()) + HOUR
        for _ in range(ROUNDS):
            key = new_key()
            version = await inserted(storage, key, b"first", expires_at)
            await asyncio.gather(
                *(storage.replace(key, b"racer", expires_at, version) for _ in range(3)),
                storage.delete(key),
                *(storage.replace(key, b"racer", expires_at, version) for _ in range(3)),
            )
            assert await storage.fetch(key) is None, (
                "after delete() has returned, no earlier replace() may bring it back"
            )

    async def test_a_touch_that_races_a_delete_never_brings_the_record_back(
        self, storage: KeyedStorage, clock: ManualClock
    ) -> None:
        """Logout is final, whichever came first."""
        expires_at = int(clock()) + HOUR
        for _ in range(ROUNDS):
            key = new_key()
            version = await inserted(storage, key, b"first", expires_at)
            await asyncio.gather(
                storage.touch(key, expires_at + 1, version),
                storage.delete(key),
                storage.touch(key, expires_at + 2, version),
            )
            assert await storage.fetch(key) is None, "after delete() has returned, no touch() may bring the record back"

    async def test_a_touch_that_races_a_replace_undoes_nothing(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """A touch must not write back what it read, because that would lose a write in between."""
        expires_at = int(clock()) + HOUR
        for _ in range(ROUNDS):
            key = new_key()
            version = await inserted(storage, key, b"first", expires_at)
            _, newer, _ = await asyncio.gather(
                storage.touch(key, expires_at + 1, version),
                storage.replace(key, b"second", expires_at, version),
                storage.touch(key, expires_at + 2, version),
            )
            stored = await storage.fetch(key)
            assert newer is not None, "touch() must not make a replace() at the same version fail"
            assert stored is not None, "the record must be found after the race"
            assert (stored.data, stored.version) == (b"second", newer), "touch() must not undo a replace()"

    async def test_of_racing_touches_the_latest_expiry_stands(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """The order does not matter.  A touch that first checks and then writes could shorten the expiry."""
        expires_at = int(clock()) + HOUR
        for _ in range(ROUNDS):
            key = new_key()
            version = await inserted(storage, key, b"data", expires_at)
            later = [expires_at + seconds for seconds in (2, 9, 4, 7, 1)]
            await asyncio.gather(*(storage.touch(key, each, version) for each in later))
            stored = await storage.fetch(key)
            assert stored is not None, "the record must be found after the race"
            assert stored.expires_at == max(later), "racing touch() calls must leave the latest expiry"

    async def test_a_cancelled_write_leaves_the_old_record_or_the_new_one(
        self, storage: KeyedStorage, clock: ManualClock
    ) -> None:
        """It never leaves half a record.  Visitors close their browsers at any moment."""
        key, expires_at = new_key(), int(clock()) + HOUR
        old, new = b"old" * 5000, b"new" * 4000
        await inserted(storage, key, old, expires_at)
        for steps in range(ROUNDS):
            stored = await storage.fetch(key)
            assert stored is not None, "a cancelled replace() must not lose the record"
            assert stored.data in (old, new), "a cancelled replace() must not leave half a record"
            write = asyncio.ensure_future(storage.replace(key, new, expires_at, stored.version))
            for _ in range(steps):
                await asyncio.sleep(0)
            write.cancel()
            with suppress(asyncio.CancelledError):
                await write
        stored = await storage.fetch(key)
        assert stored is not None, "a cancelled replace() must not lose the record"
        assert stored.data in (old, new), "a cancelled replace() must not leave half a record"

    async def test_a_cancelled_fetch_leaves_its_answer_to_nobody_else(
        self, storage: KeyedStorage, clock: ManualClock
    ) -> None:
        """A connection with an answer that nobody waited for must not be used again.

        The next caller would get the data of this one.
        """
        expires_at = int(clock()) + HOUR
        keys = [new_key() for _ in range(5)]
        for key in keys:
            await inserted(storage, key, b"data of " + key.encode(), expires_at)
        for steps in range(ROUNDS):
            reading = [asyncio.ensure_future(storage.fetch(key)) for key in keys]
            for _ in range(steps):
                await asyncio.sleep(0)
            for read in reading[::2]:
                read.cancel()
            await asyncio.wait(reading)
            for key in keys:
                stored = await storage.fetch(key)
                assert stored is not None, "a record must be found after another fetch() was cancelled"
                assert stored.data == b"data of " + key.encode(), "fetch() must return the data of its own key"
