"""The contract of walking over all records, and of rewriting one without changing its expiry."""

import asyncio

import pytest

from ...engine.verbs import Stored, Verbs
from ...storages.base import KeyedStorage
from ..clock import ManualClock
from .verbs import HOUR, inserted, new_key

# More than three parts of a walk.
MANY = 350
ROUNDS = 20
LARGEST_PART = 100


async def walked(storage: KeyedStorage) -> dict[str, Stored | None]:
    """Return what a walk finds."""
    found: dict[str, Stored | None] = {}
    done = 0.0
    async for part in storage.walk():
        assert len(part.found) <= LARGEST_PART, f"a part of a walk must have {LARGEST_PART} records at most"
        assert done <= part.done <= 1, "what is done of a walk must grow, up to 1"
        done = part.done
        for one in part.found:
            assert one.stored is not None, f"a walk must read what fetch() can read, and not find: {one.fault}"
            found[one.key] = one.stored
    return found


async def touched_late(storage: KeyedStorage, key: str, expires_at: int, version: bytes, turns: int) -> bool:
    """Touch a record after some turns of the event loop."""
    for _ in range(turns):
        await asyncio.sleep(0)
    return await storage.touch(key, expires_at, version)


class WalkContract:
    """A walk finds what stands there all the time, and a rewrite undoes nothing."""

    def _need_walk(self, storage: KeyedStorage) -> None:
        if not storage.walks:
            pytest.skip("this storage cannot walk over its records")

    def _need_rewrite(self, storage: KeyedStorage) -> None:
        if type(storage).rewrite is Verbs.rewrite:
            pytest.skip("this storage rewrites in two steps")

    async def test_a_walk_finds_every_record(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """As ``fetch`` returns it, also if it has expired, and nothing else, such as entries of the index and locks."""
        self._need_walk(storage)
        assert await walked(storage) == {}, "a walk over an empty storage must find nothing"
        keys = [new_key() for _ in range(MANY)]
        for number, key in enumerate(keys):
            await inserted(storage, key, b"record %d" % number, int(clock()) + HOUR * (number % 2))
        if storage.has_index:
            await storage.link(new_key(), keys[0], int(clock()) + HOUR)
        clock.advance(60)
        expected = {key: await storage.fetch(key) for key in keys}
        assert await walked(storage) == expected, "a walk must find what fetch() returns"

    async def test_a_walk_finds_what_is_changed_meanwhile(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """What stands there during the whole walk is found, while records are replaced, inserted and removed."""
        self._need_walk(storage)
        keys, others = [new_key() for _ in range(MANY)], [new_key() for _ in range(MANY)]
        expires_at = int(clock()) + HOUR
        for key, other in zip(keys, others, strict=True):
            await inserted(storage, other, b"first", expires_at)
            await inserted(storage, key, b"first", expires_at)
        found, steps = set[str](), iter(zip(keys, others, strict=True))
        async for part in storage.walk():
            found |= {one.key for one in part.found}
            for key, other in [pair for _, pair in zip(range(60), steps, strict=False)]:
                stored = await storage.fetch(key)
                assert stored is not None, "the record must be found"
                await storage.replace(key, b"second", expires_at, stored.version)
                await storage.delete(other)
                await inserted(storage, new_key(), b"new", expires_at)
        assert found >= set(keys), "a walk must find every record that stands there from its beginning to its end"

    async def test_a_walk_can_be_left(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """And the storage works on."""
        self._need_walk(storage)
        for _ in range(MANY):
            await inserted(storage, new_key(), b"data", int(clock()) + HOUR)
        for _ in range(3):
            parts = storage.walk()
            assert await anext(parts, None) is not None, "a walk must find something after another one was left"
            await parts.aclose()
        assert len(await walked(storage)) == MANY, "a walk must find everything after another one was left"

    # --- rewriting

    async def test_rewriting_keeps_the_expiry(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """The data and the version are new."""
        key, expires_at = new_key(), int(clock()) + HOUR
        version = await inserted(storage, key, b"first", expires_at)
        newer = await storage.rewrite(key, b"second", version)
        assert newer is not None, "rewrite() at the version must return a new version"
        assert newer != version, "rewrite() must give the record a new version"
        assert await storage.fetch(key) == Stored(b"second", newer, expires_at), "rewrite() must keep the expiry"
        assert await storage.replace(key, b"third", expires_at, newer), "the new version must be the one that stands"

    async def test_rewriting_at_another_version_changes_nothing(
        self, storage: KeyedStorage, clock: ManualClock
    ) -> None:
        """Nor does it create a record."""
        key, expires_at = new_key(), int(clock()) + HOUR
        version = await inserted(storage, key, b"first", expires_at)
        newer = await storage.replace(key, b"second", expires_at, version)
        assert newer is not None, "replace() at the version must return a new version"
        assert await storage.rewrite(key, b"third", version) is None, "rewrite() at an old version must return None"
        assert await storage.fetch(key) == Stored(b"second", newer, expires_at), "it must change nothing"
        await storage.delete(key)
        assert await storage.rewrite(key, b"third", newer) is None, "rewrite() of a missing key must return None"
        assert await storage.fetch(key) is None, "rewrite() must never create a record"

    async def test_a_rewrite_that_races_a_touch_keeps_the_later_expiry(
        self, storage: KeyedStorage, clock: ManualClock
    ) -> None:
        """A touch that was answered is never undone."""
        self._need_rewrite(storage)
        for number in range(ROUNDS):
            key, expires_at = new_key(), int(clock()) + HOUR
            version = await inserted(storage, key, b"first", expires_at)

            newer, touched = await asyncio.gather(
                storage.rewrite(key, b"second", version), touched_late(storage, key, expires_at + HOUR, version, number)
            )
            assert newer is not None, "rewrite() at the version must return a new version"
            stored = await storage.fetch(key)
            assert stored == Stored(b"second", newer, expires_at + HOUR * touched), (
                "rewrite() must keep the expiry that an answered touch() has set"
            )
