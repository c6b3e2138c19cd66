"""Looks at watched sessions, while some records cannot be read and others are being used."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import ClassVar

import pytest

from aiohttp_session_store import KeyedStorage, MemoryStorage, StorageError, Stored
from aiohttp_session_store.engine.watching import Watching
from aiohttp_session_store.record.session_id import key_of
from aiohttp_session_store.testing import ManualClock
from tests.storages.watched_steps import SOON, ended, log_out, stored, watch


@asynccontextmanager
async def watching(storage: KeyedStorage, interval: float) -> AsyncIterator[Watching]:
    watching = storage.watching(interval)
    yield watching
    await watching.stop()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(SOON):
        while not condition():
            await asyncio.sleep(0.01)


class PartlyUnreadable(MemoryStorage):
    """Fails for some records, as a file that another user owns, or a disk with a bad sector."""

    suspends: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__(sweep_interval=None)
        self.unreadable: set[str] = set()
        self.away = False
        self.failed = self.looks = 0

    async def fetch(self, key: str) -> Stored | None:
        if self.away or key in self.unreadable:
            self.failed += 1
            raise StorageError("Permission denied")
        return await super().fetch(key)

    async def versions(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        if self.away:
            raise StorageError("Connection refused")
        self.looks += 1
        found = [(key, await MemoryStorage.fetch(self, key)) for key in keys]
        return {key: b"" if key in self.unreadable else one.version for key, one in found if one is not None}


@pytest.mark.parametrize("hints", [True, False])
async def test_a_record_that_cannot_be_read_keeps_no_other_end_from_being_noticed(hints: bool) -> None:
    storage = PartlyUnreadable()
    storage.has_announcements = hints
    async with watching(storage, 3600 if hints else 0.1) as sessions:
        ids = [await stored(storage) for _ in range(3)]
        watches = [await watch(storage, sessions, session_id) for session_id in ids]
        storage.unreadable.add(key_of(ids[0]))
        key = key_of(ids[0])
        found = await MemoryStorage.fetch(storage, key)
        assert found is not None
        await storage.replace(key, b"damaged", found.expires_at, found.version)
        if hints:
            await storage.announce(key, "logout")
        await until(lambda: storage.failed)

        await log_out(storage, ids[1])

        assert await ended(watches[1]) == "logout"
        assert [watches[0].reason, watches[2].reason] == [None, None]

        await MemoryStorage.replace(storage, key, found.data, found.expires_at, (await version(storage, key)))
        storage.unreadable.clear()
        await log_out(storage, ids[0])

        assert await ended(watches[0]) == "logout"


async def version(storage: MemoryStorage, key: str) -> bytes:
    found = await MemoryStorage.fetch(storage, key)
    assert found is not None
    return found.version


async def test_a_storage_that_is_away_is_not_taken_for_records_that_cannot_be_read() -> None:
    storage = PartlyUnreadable()
    storage.has_announcements = False
    async with watching(storage, 0.1) as sessions:
        session_id = await stored(storage)
        seen = await watch(storage, sessions, session_id)
        await until(lambda: storage.looks >= 2)
        storage.away = True
        await asyncio.sleep(0.5)  # several looks fail
        assert seen.reason is None
        storage.away = False
        await log_out(storage, session_id)

        assert await ended(seen) == "logout"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_900_000_000)


class SlowToAnswer(MemoryStorage):
    """Reads at once, and answers when a test says so."""

    suspends: ClassVar[bool] = True

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(sweep_interval=None, clock=clock, idle_timeout=100)
        self.reads = 0
        self.answers = asyncio.Event()
        self.answers.set()

    async def fetch_many(self, keys: Sequence[str]) -> Mapping[str, Stored]:
        found = await super().fetch_many(keys)
        self.reads += 1
        await self.answers.wait()
        return found


async def test_a_session_that_is_used_while_its_record_is_read_stays_open(clock: ManualClock) -> None:
    """What was read before a limit passed does not say whether the session was used meanwhile."""
    storage = SlowToAnswer(clock)
    async with watching(storage, 0.1) as sessions:
        session_id = await stored(storage)
        seen = await watch(storage, sessions, session_id)
        await until(lambda: storage.reads and storage._listening)
        clock.advance(99)
        storage.answers.clear()
        reads = storage.reads
        await storage.announce(key_of(session_id), "logout")
        await until(lambda: storage.reads > reads)
        session = await storage.read(session_id)
        session["used"] = True
        await storage.save(session)
        clock.advance(1)
        reads = storage.reads
        storage.answers.set()
        await until(lambda: storage.reads > reads or seen.reason)
        assert seen.reason is None

        clock.advance(100)

        assert await ended(seen) == "idle"
