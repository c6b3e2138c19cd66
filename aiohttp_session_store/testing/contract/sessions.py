"""The contract of the sessions that a storage keeps: the library's promises, seen through ``read`` and ``save``."""

import asyncio
from typing import Any

from ...record.format import Retired
from ...session.session import Session
from ...storages.base import KeyedStorage
from ..clock import ManualClock

REQUESTS = 20


async def stored_id(storage: KeyedStorage, **data: Any) -> str:
    """Store a new session with *data* and return its id."""
    session = await storage.read(None)
    session.update(data)
    session_id = await storage.save(session)
    assert session_id, "save() of a new session with data must return its id, to be sent as a cookie"
    return session_id


async def load(storage: KeyedStorage, session_id: str) -> Session:
    """Load a session that must be there."""
    session = await storage.read(session_id)
    assert not session.new, "read() must find the stored session"
    return session


async def readable(storage: KeyedStorage, session_id: str) -> dict[str, Any]:
    """Return what a request with *session_id* can read."""
    return dict(await storage.read(session_id))


async def assert_no_data(storage: KeyedStorage, key: str) -> None:
    """Check that nothing is left of a session, but perhaps a mark that it has ended."""
    stored = await storage.fetch(key)
    if stored is not None:
        assert isinstance(storage.records.decode(stored.data, key), Retired), "a session that ended must leave no data"


class SessionContract:
    """No write is lost, logout is final, and sessions end on time."""

    # --- one request

    async def test_a_session_reads_as_it_was_saved(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """This holds for every kind of value, read in another request."""
        data = {
            "n": 1,
            "f": 0.5,
            "s": "zażółć\n\0",
            "b": True,
            "none": None,
            "list": [1, [2]],
            "dict": {"a": {"b": []}},
        }
        session_id = await stored_id(storage, **data)
        session = await load(storage, session_id)
        assert dict(session) == data, "read() must give what save() stored"
        assert session.created_at == int(clock()), "created_at must be the time of the first request"

    async def test_a_session_that_was_only_read_is_not_written(self, storage: KeyedStorage) -> None:
        """The record keeps its version."""
        session = await load(storage, await stored_id(storage, cart=[1]))
        before = await storage.fetch(session.key)
        assert session["cart"] == [1], "the session must hold what was stored"
        assert await storage.save(session) is None, "save() of an unchanged session must leave the cookie alone"
        assert await storage.fetch(session.key) == before, "save() of an unchanged session must not write"

    async def test_a_change_inside_a_list_is_stored(self, storage: KeyedStorage) -> None:
        """The handler does not have to say that the list was changed."""
        session_id = await stored_id(storage, cart=[1])
        session = await load(storage, session_id)
        session["cart"].append(2)
        await storage.save(session)
        assert await readable(storage, session_id) == {"cart": [1, 2]}, "a change inside a list must be stored"

    async def test_a_flash_is_read_by_one_later_request(self, storage: KeyedStorage) -> None:
        """It is read neither by the request that makes it nor by the one after the next."""
        session_id = await stored_id(storage, user=5)
        session = await load(storage, session_id)
        session.flash("notice", "Saved.")
        await storage.save(session)
        following = await load(storage, session_id)
        assert following["notice"] == "Saved.", "the next request must read the flash"
        await storage.save(following)
        assert "notice" not in await storage.read(session_id), "the request after that must not read it again"

    async def test_a_record_that_is_rubbish_reads_as_no_session(self, storage: KeyedStorage) -> None:
        """Damage to one record costs one session, never an error page."""
        session_id = await stored_id(storage, user=5)
        session = await load(storage, session_id)
        stored = await storage.fetch(session.key)
        assert stored is not None, "the record must be found"
        await storage.replace(session.key, b"\0rubbish\xff", stored.expires_at, stored.version)
        assert (await storage.read(session_id)).new, "rubbish must read as a new session"
        assert await storage.fetch(session.key) is None, "rubbish must be set aside when it is found"

    # --- parallel requests

    async def test_parallel_saves_of_different_keys_all_survive(self, storage: KeyedStorage) -> None:
        """No write is lost."""
        session_id = await stored_id(storage, first=True)
        sessions = [await load(storage, session_id) for _ in range(REQUESTS)]
        for number, session in enumerate(sessions):
            session[f"key {number}"] = number
        await asyncio.gather(*(storage.save(session) for session in sessions))
        expected = {"first": True, **{f"key {number}": number for number in range(REQUESTS)}}
        assert await readable(storage, session_id) == expected, "every parallel request's key must survive"

    async def test_parallel_changes_inside_one_value_all_survive(self, storage: KeyedStorage) -> None:
        """Each request's element is in the list once, and increments add up."""
        session_id = await stored_id(storage, cart=["first"])
        sessions = [await load(storage, session_id) for _ in range(REQUESTS)]
        for number, session in enumerate(sessions):
            session["cart"].append(number)
            session.increment("count")
        await asyncio.gather(*(storage.save(session) for session in sessions))
        data = await readable(storage, session_id)
        assert data["cart"][:1] == ["first"], "what was in the list must stay"
        assert sorted(data["cart"][1:]) == list(range(REQUESTS)), "every parallel request's element must be there once"
        assert data["count"] == REQUESTS, "increments of parallel requests must add up"

    async def test_of_two_saves_of_one_key_the_last_stands(self, storage: KeyedStorage) -> None:
        """The last save counts even if it sets the value that it had read.  Other keys stay as they are."""
        session_id = await stored_id(storage, theme="dark", user=5)
        slow, fast = await load(storage, session_id), await load(storage, session_id)
        fast["theme"] = "light"
        await storage.save(fast)
        slow["theme"] = "dark"
        await storage.save(slow)
        assert await readable(storage, session_id) == {"theme": "dark", "user": 5}, "the last save of a key must stand"

    async def test_parallel_sessions_do_not_mix(self, storage: KeyedStorage) -> None:
        """Each visitor reads their own data."""

        async def visit(number: int) -> dict[str, Any]:
            session_id = await stored_id(storage, visitor=number)
            session = await load(storage, session_id)
            session["again"] = number
            await storage.save(session)
            return await readable(storage, session_id)

        visits = await asyncio.gather(*(visit(number) for number in range(REQUESTS)))
        expected = [{"visitor": number, "again": number} for number in range(REQUESTS)]
        assert visits == expected, "each session must hold its own data"

    async def test_a_cancelled_save_is_finished(self, storage: KeyedStorage) -> None:
        """No change is lost: neither its own nor that of another request."""
        for steps in range(REQUESTS // 2):
            session_id = await stored_id(storage, first=True)
            cancelled, other = await load(storage, session_id), await load(storage, session_id)
            cancelled["cancelled"], other["other"] = 1, 2
            saving = asyncio.ensure_future(storage.save(cancelled))
            for _ in range(1 + steps):
                await asyncio.sleep(0)
            saving.cancel()
            await asyncio.gather(saving, storage.save(other), return_exceptions=True)
            await storage.save(cancelled)  # waits for what is under way
            expected = {"first": True, "cancelled": 1, "other": 2}
            assert await readable(storage, session_id) == expected, "a save that has begun must be finished"

    # --- logout

    async def test_a_destroyed_session_is_gone(self, storage: KeyedStorage) -> None:
        """Its data is gone, too.  What stands in its place says only that it has ended."""
        session_id = await stored_id(storage, user=5)
        session = await load(storage, session_id)
        session.destroy()
        assert await storage.save(session) == "", "save() after destroy() must clear the cookie"
        assert (await storage.read(session_id)).new, "a destroyed session must not be readable"
        await assert_no_data(storage, session.key)

    async def test_logout_is_final_against_a_slow_writer(self, storage: KeyedStorage) -> None:
        """The changes of the slow writer are dropped, and its session says that it was destroyed."""
        session_id = await stored_id(storage, user=5)
        slow, leaving = await load(storage, session_id), await load(storage, session_id)
        leaving.destroy()
        await storage.save(leaving)
        slow["late"] = True
        assert await storage.save(slow) is None, "a save that comes after the logout must send no cookie"
        assert slow.destroyed, "a save that comes after the logout must mark its session as destroyed"
        assert (await storage.read(session_id)).new, "no slow request may bring a destroyed session back"

    async def test_logout_is_final_in_a_race(self, storage: KeyedStorage) -> None:
        """The logout races with writers and rotations at the same time."""
        for _ in range(REQUESTS // 2):
            session_id = await stored_id(storage, user=5)
            sessions = [await load(storage, session_id) for _ in range(6)]
            for number, session in enumerate(sessions[:3]):
                session[f"key {number}"] = number
            sessions[3].regenerate_id()
            sessions[4].regenerate_id(True)
            sessions[5].destroy()
            outcomes = await asyncio.gather(*(storage.save(session) for session in sessions))
            for value in {session_id, *outcomes, *(session.id for session in sessions)} - {None, ""}:
                assert (await storage.read(value)).new, "after a logout nobody may be logged in, under any id"

    async def test_a_session_whose_record_is_gone_does_not_come_back(self, storage: KeyedStorage) -> None:
        """The record may have been deleted by hand, or dropped by a server that is full."""
        session_id = await stored_id(storage, user=5)
        slow = await load(storage, session_id)
        await storage.delete(slow.key)
        slow["late"] = True
        assert await storage.save(slow) is None, "a save of a session whose record is gone must send no cookie"
        assert slow.destroyed, "a save of a session whose record is gone must mark it as destroyed"
        assert (await storage.read(session_id)).new, "a save must not create a record again"

    # --- time

    async def test_a_session_ends_when_it_is_not_used(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """It ends after the idle timeout, to the second."""
        session_id = await stored_id(storage, user=5)
        assert storage.timeouts.idle is not None, "build the storage with its default timeouts"
        clock.advance(storage.timeouts.idle)
        assert (await storage.read(session_id)).new, "a session must end with its idle timeout"
        session_id = await stored_id(storage, user=5)
        clock.advance(storage.timeouts.idle - 1)
        await load(storage, session_id)

    async def test_reading_keeps_a_session_alive_without_rewriting_it(
        self, storage: KeyedStorage, clock: ManualClock
    ) -> None:
        """Reading extends the record by a touch, which keeps the version."""
        session_id = await stored_id(storage, user=5)
        session = await load(storage, session_id)
        before = await storage.fetch(session.key)
        assert storage.timeouts.idle is not None, "build the storage with its default timeouts"
        for _ in range(3):
            clock.advance(storage.timeouts.idle - 1)
            session = await load(storage, session_id)
            await storage.save(session)
        after = await storage.fetch(session.key)
        assert before is not None, "the record must be found"
        assert after is not None, "the record must be found after a touch"
        assert after.expires_at > before.expires_at, "reading must extend the expiry"
        assert (after.data, after.version) == (before.data, before.version), "reading must not rewrite the record"

    async def test_a_session_ends_after_its_lifetime_however_much_it_is_used(
        self, storage: KeyedStorage, clock: ManualClock
    ) -> None:
        """A stolen cookie does not work forever."""
        session_id, began = await stored_id(storage, user=5), clock()
        assert storage.timeouts.idle is not None, "build the storage with its default timeouts"
        assert storage.timeouts.lifetime is not None, "build the storage with its default timeouts"
        while clock() + storage.timeouts.idle - 1 < began + storage.timeouts.lifetime:
            clock.advance(storage.timeouts.idle - 1)
            session = await load(storage, session_id)
            session["seen"] = clock()
            await storage.save(session)
        clock.advance(began + storage.timeouts.lifetime - 1 - clock())
        await load(storage, session_id)
        clock.advance(1)
        assert (await storage.read(session_id)).new, "a session must end with its lifetime, even if it is in use"

    async def test_a_slow_request_does_not_revive_a_session_that_has_ended(
        self, storage: KeyedStorage, clock: ManualClock
    ) -> None:
        """The record may still be there, but from its end on nobody writes or extends it."""
        session_id = await stored_id(storage, user=5)
        slow, reading = await load(storage, session_id), await load(storage, session_id)
        assert storage.timeouts.idle is not None, "build the storage with its default timeouts"
        clock.advance(storage.timeouts.idle)
        slow["late"] = True
        assert await storage.save(slow) is None, "a save after the end must send no cookie"
        assert slow.destroyed, "a save after the end must mark its session as destroyed"
        await storage.save(reading)
        assert (await storage.read(session_id)).new, "no slow request may revive a session that has ended"
