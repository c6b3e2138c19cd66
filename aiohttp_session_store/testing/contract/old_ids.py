"""The contract of ids that were changed: what an old id can still read, and where its changes go."""

import asyncio

from ...record.session_id import key_of
from ...storages.base import KeyedStorage
from ..clock import ManualClock
from .sessions import assert_no_data, load, readable, stored_id


class OldIdContract:
    """An old id never reads new data, its changes are not lost, and no id outlives a logout."""

    async def test_regenerate_false_leaves_the_old_id_readable_as_it_was_for_a_while(
        self, storage: KeyedStorage, clock: ManualClock
    ) -> None:
        """The grace is for requests that are under way.  The old id never leads to the new data."""
        old_id = await stored_id(storage, user=5)
        session = await load(storage, old_id)
        session["after"] = True
        session.regenerate_id()
        new_id = await storage.save(session)
        assert new_id, "a regenerated session must send its new id"
        assert new_id != old_id, "a regenerated session must have another id"
        assert await readable(storage, new_id) == {"user": 5, "after": True}, "the new id must hold all data"
        assert await readable(storage, old_id) == {"user": 5}, "the old id must read as it was"
        clock.advance(storage.rotation_grace)
        assert (await storage.read(old_id)).new, "after the grace the old id must be worthless"
        await load(storage, new_id)

    async def test_changes_under_an_id_that_was_regenerated_reach_the_new_one(self, storage: KeyedStorage) -> None:
        """This holds whether the request loaded the session before or after the regeneration."""
        old_id = await stored_id(storage, user=5)
        before, session = await load(storage, old_id), await load(storage, old_id)
        session.regenerate_id()
        new_id = await storage.save(session)
        assert new_id, "a regenerated session must send its new id"
        after = await load(storage, old_id)
        before["before"], after["after"] = 1, 2
        assert await storage.save(before) is None, "a save under the old id must send no cookie"
        assert await storage.save(after) is None, "a save under the old id must send no cookie"
        assert await readable(storage, new_id) == {"user": 5, "before": 1, "after": 2}, "no write may be lost"
        assert await readable(storage, old_id) == {"user": 5}, "the old id must never read newer data"

    async def test_regenerate_true_makes_the_old_id_worthless_at_once(self, storage: KeyedStorage) -> None:
        """It is worthless to readers and to a slow writer.

        The change of the slow writer is dropped, because it may come from somebody else.
        """
        old_id = await stored_id(storage, basket=[1])
        slow, session = await load(storage, old_id), await load(storage, old_id)
        session["user"] = 5
        session.regenerate_id(True)
        new_id = await storage.save(session)
        assert new_id, "a regenerated session must send its new id"
        assert (await storage.read(old_id)).new, "the old id must be worthless at once"
        slow["late"] = True
        await storage.save(slow)
        assert await readable(storage, new_id) == {"basket": [1], "user": 5}, (
            "a writer under the old id must be dropped"
        )
        assert (await storage.read(old_id)).new, "a writer under the old id must not make it valid again"

    async def test_parallel_regenerations_leave_one_session_with_all_changes(self, storage: KeyedStorage) -> None:
        """The first regeneration wins, and the changes of the others go into its session."""
        old_id = await stored_id(storage, user=5)
        sessions = [await load(storage, old_id) for _ in range(4)]
        for number, session in enumerate(sessions):
            session[f"key {number}"] = number
            session.regenerate_id()
        outcomes = [value for value in await asyncio.gather(*map(storage.save, sessions)) if value]
        assert len(outcomes) == 1, f"one of the regenerations must send its id, not {len(outcomes)}"
        expected = {"user": 5, **{f"key {number}": number for number in range(4)}}
        assert await readable(storage, outcomes[0]) == expected, "all changes must be in one session"

    async def test_of_parallel_regenerations_with_true_one_has_the_session(self, storage: KeyedStorage) -> None:
        """The others are dropped, and their sessions say so: one of them may be of somebody who planted the old id."""
        old_id = await stored_id(storage, user=5)
        sessions = [await load(storage, old_id) for _ in range(4)]
        for number, session in enumerate(sessions):
            session[f"key {number}"] = number
            session.regenerate_id(True)
        outcomes = await asyncio.gather(*map(storage.save, sessions))
        winners = [number for number, value in enumerate(outcomes) if value]
        assert len(winners) == 1, f"one of the regenerations must send its id, not {len(winners)}"
        assert [session.destroyed for session in sessions].count(True) == 3, "the others must be told"
        winner = winners[0]
        read = await readable(storage, outcomes[winner] or "")
        assert read == {"user": 5, f"key {winner}": winner}, "nothing of the others may be in the session"

    async def test_logout_under_an_old_id_ends_the_session_under_its_new_one(self, storage: KeyedStorage) -> None:
        """It also ends what the old id could still read."""
        old_id = await stored_id(storage, user=5)
        leaving, session = await load(storage, old_id), await load(storage, old_id)
        session.regenerate_id()
        new_id = await storage.save(session)
        assert new_id, "a regenerated session must send its new id"
        leaving.destroy()
        await storage.save(leaving)
        for session_id in (old_id, new_id):
            assert (await storage.read(session_id)).new, "a logout must end the session under all of its ids"

    async def test_logout_under_the_new_id_ends_what_the_old_one_can_read(self, storage: KeyedStorage) -> None:
        """The grace is for requests that are under way.  Nobody may stay logged in by it."""
        old_id = await stored_id(storage, user=5)
        session = await load(storage, old_id)
        session.regenerate_id()
        await storage.save(session)
        session.destroy()
        await storage.save(session)
        assert (await storage.read(old_id)).new, "a logout must end the grace of the old id"
        await assert_no_data(storage, session.key)

    async def test_a_logout_by_a_renewed_id_follows_it(self, storage: KeyedStorage) -> None:
        """Two requests renewed the id one after the other."""
        old_id = await stored_id(storage, user=5)
        leaving = await load(storage, old_id)
        newest = old_id
        for _ in range(2):
            session = await load(storage, newest)
            session.regenerate_id()
            newest = await storage.save(session) or ""
        leaving.destroy()
        assert await storage.save(leaving) == "", "a logout must clear the cookie"
        assert (await storage.read(newest)).new, "a logout must end the session under its newest id"

    async def test_a_rotation_after_a_logout_leaves_nothing_under_its_new_id(self, storage: KeyedStorage) -> None:
        """The new record is written first, and is taken back when the logout is found."""
        old_id = await stored_id(storage, user=5)
        leaving, late = await load(storage, old_id), await load(storage, old_id)
        leaving.destroy()
        await storage.save(leaving)
        late.regenerate_id(True)
        new_key = key_of(late.id)
        assert await storage.save(late) is None, "a rotation after a logout must send no cookie"
        assert late.destroyed, "a rotation after a logout must mark its session as destroyed"
        assert await storage.fetch(new_key) is None, "a rotation after a logout must delete its new record"

    async def test_a_long_request_by_an_old_id_goes_on_when_its_old_record_is_gone(
        self, storage: KeyedStorage, clock: ManualClock
    ) -> None:
        """After its first save it knows where the session stands now.  It still reads only what its own id could."""
        old_id = await stored_id(storage, user=5)
        long, session = await load(storage, old_id), await load(storage, old_id)
        session["secret"] = True
        session.regenerate_id()
        new_id = await storage.save(session)
        assert new_id, "a regenerated session must send its new id"
        long["step"] = 1
        await storage.save(long)
        assert storage.timeouts.idle is not None, "build the storage with its default timeouts"
        for _ in range(2):
            clock.advance(storage.timeouts.idle - 1)
            await load(storage, new_id)
            await storage.sweep()
        await storage.delete(key_of(old_id))  # a server may keep what has expired for longer
        long["step"] = 2
        assert await storage.save(long) is None, "a save under an old id must send no cookie"
        assert not long.destroyed, "the session goes on, and a long request must find it"
        assert "secret" not in long, "a request with an old id must not read newer data"
        assert await readable(storage, new_id) == {"user": 5, "secret": True, "step": 2}, "no write may be lost"
