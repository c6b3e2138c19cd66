"""The contract of what watched sessions need: many records at once, their versions, and announcements."""

import asyncio
from collections.abc import AsyncGenerator
from typing import ClassVar

import pytest

from ...engine.session_watch import SessionWatch
from ...engine.verbs import Announcement
from ...engine.watching import Watching
from ...session.session import state_of
from ...storages.base import KeyedStorage
from ..clock import ManualClock
from .sessions import load, stored_id
from .verbs import HOUR, inserted, new_key

# Seconds in which a busy machine does what takes a second.
PATIENCE = 20.0
# As many as the engine asks for at once.
MANY = 100


async def heard(announcements: AsyncGenerator[Announcement, None], key: str) -> Announcement:
    """Return the announcement that names *key*, or the beginning of it."""
    async for one in announcements:
        if one.key and key.startswith(one.key):
            return one
    raise AssertionError("announcements() must not end by itself")


async def watched(storage: KeyedStorage, watching: Watching, session_id: str) -> SessionWatch:
    """Watch a session that is alive."""
    place = state_of(await load(storage, session_id)).place
    assert place is not None, "the session must be there"
    return watching.add(place)


async def begun(storage: KeyedStorage, watching: Watching) -> None:
    """Return when what is watched so far was looked at, as it is when a watch begins."""
    async with asyncio.timeout(PATIENCE):
        for _ in range(2):
            session = await load(storage, await stored_id(storage, n=0))
            place = state_of(session).place
            assert place is not None, "the session must be there"
            session.destroy()
            await storage.save(session)
            await watching.add(place).ended()


class WatchContract:
    """A watched session that ends is noticed, and one that goes on is not taken for ended."""

    announcements: ClassVar[bool] = True

    def _need_announcements(self, storage: KeyedStorage) -> None:
        if not (self.announcements and storage.has_announcements):
            pytest.skip("no announcements: ends of sessions are noticed by looking alone")

    # --- many at once

    async def test_many_records_are_fetched_at_once(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """Each as ``fetch`` returns it, and none that does not exist."""
        keys = [new_key() for _ in range(MANY)]
        for number, key in enumerate(keys[::2]):
            await inserted(storage, key, b"record %d" % number, int(clock()) + HOUR)
        expected = {key: await storage.fetch(key) for key in keys[::2]}
        assert dict(await storage.fetch_many(keys)) == expected, "fetch_many() must return what fetch() returns"
        assert not await storage.fetch_many([]), "fetch_many() of no keys must return nothing"
        assert not await storage.fetch_many(keys[1::2]), "fetch_many() must leave out what does not exist"

    async def test_the_versions_are_those_of_the_records(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """Whatever gives a record another version is seen, and what does not is not."""
        keys, expires_at = [new_key() for _ in range(MANY)], int(clock()) + HOUR
        first = {key: await inserted(storage, key, b"first", expires_at) for key in keys[:4]}
        for _ in range(2):
            assert dict(await storage.versions(keys)) == first, "versions() must return the version of each record"
        replaced, retired, touched, deleted = keys[:4]
        expected = {
            replaced: await storage.replace(replaced, b"other", expires_at, first[replaced]),
            retired: await storage.retire(retired, b"ended", expires_at, first[retired]),
        }
        await storage.touch(touched, expires_at + HOUR, first[touched])
        await storage.delete(deleted)
        extended = await storage.fetch(touched)
        assert extended is not None, "a record that was touched must be found"
        expected[touched] = extended.version
        assert dict(await storage.versions(keys)) == expected, (
            "versions() must return the newest version of each record"
        )
        assert not await storage.versions([]), "versions() of no keys must return nothing"

    # --- announcements

    async def test_what_is_announced_is_heard_by_all(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """From the first announcement on, which says that whatever came before may have been missed."""
        self._need_announcements(storage)
        key, listeners = new_key(), [storage.announcements() for _ in range(2)]
        async with asyncio.timeout(PATIENCE):
            version = await inserted(storage, key, b"data", int(clock()) + HOUR)
            for listener in listeners:
                assert (await anext(listener)).key == "", "the first announcement must be about all sessions"
            assert await storage.retire(key, b"ended", int(clock()) + HOUR, version), "it must be retired"
            if storage.announces:
                await storage.announce(key, "logout")
            found = [await heard(listener, key) for listener in listeners]
        for one in found:
            assert one.reason in ("", "logout"), "an announcement must have the reason that was given"
            if storage.announces:
                assert one == Announcement(key, "logout"), "an announcement must have the key that was given"
        for listener in listeners:
            await listener.aclose()

    async def test_who_stops_listening_holds_nothing_up(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """A process that watches nothing any more, or dies."""
        self._need_announcements(storage)
        key = new_key()
        async with asyncio.timeout(PATIENCE):
            for _ in range(3):
                listener = storage.announcements()
                await anext(listener)
                waiting = asyncio.ensure_future(anext(listener))
                await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.wait([waiting])
                await listener.aclose()
            listener = storage.announcements()
            await anext(listener)
            version = await inserted(storage, key, b"data", int(clock()) + HOUR)
            await storage.retire(key, b"ended", int(clock()) + HOUR, version)
            if storage.announces:
                await storage.announce(key, "revoked")
            assert await heard(listener, key), "what is announced must be heard"
            await listener.aclose()

    # --- watched sessions

    async def test_a_watched_session_is_told_of_its_end(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """Also after its id was renewed; and the watch of another session goes on."""
        interval = 3600.0 if self.announcements and storage.has_announcements else 0.2
        watching = storage.watching(interval)
        ids = [await stored_id(storage, n=number) for number in range(3)]
        watches = [await watched(storage, watching, session_id) for session_id in ids]
        try:
            await begun(storage, watching)
            renewed = await load(storage, ids[0])
            renewed.regenerate_id()
            new_id = await storage.save(renewed)
            assert new_id, "a renewal must give a new id"
            for session_id in (new_id, ids[1]):
                session = await load(storage, session_id)
                session.destroy()
                await storage.save(session)
            async with asyncio.timeout(PATIENCE):
                reasons = [await watch.ended() for watch in watches[:2]]
            assert reasons == ["logout", "logout"], "a watch must end with the reason of the ending"
            assert watches[2].reason is None, "the watch of a session that goes on must not end"
        finally:
            await watching.stop()

    async def test_an_end_is_noticed_without_any_announcement(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """An announcement is a hint, which may be lost."""
        announces, hears = storage.announces, storage.has_announcements
        storage.announces = storage.has_announcements = False
        watching = storage.watching(0.2)
        watches = [await watched(storage, watching, await stored_id(storage, n=1)) for _ in range(2)]
        session_id = await stored_id(storage, n=2)
        ends = await watched(storage, watching, session_id)
        try:
            await begun(storage, watching)
            session = await load(storage, session_id)
            session.destroy()
            await storage.save(session)
            async with asyncio.timeout(PATIENCE):
                assert await ends.ended() == "logout", "a watch must end with the reason of the ending"
            assert [watch.reason for watch in watches] == [None, None], "the other watches must not end"
        finally:
            storage.announces, storage.has_announcements = announces, hears
            await watching.stop()
