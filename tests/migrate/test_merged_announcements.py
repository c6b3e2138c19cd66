"""The announcements of two storages are heard as those of one."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from aiohttp_session_store import Announcement, MemoryStorage, StorageError
from aiohttp_session_store.migrate import MigratingStorage
from aiohttp_session_store.migrate.merged_announcements import merged
from tests.storages.plain import PlainStorage

BEGIN, ONE, TWO = Announcement(""), Announcement("1" * 64, "logout"), Announcement("2" * 64, "logout")


class Source:
    """Yields what a test gives it; an error is raised, and None ends it."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Announcement | Exception | None] = asyncio.Queue()
        self.closed = False

    def give(self, *given: Announcement | Exception | None) -> None:
        for one in given:
            self.queue.put_nowait(one)

    async def announcements(self) -> AsyncGenerator[Announcement, None]:
        try:
            while (one := await self.queue.get()) is not None:
                if isinstance(one, Exception):
                    raise one
                yield one
        finally:
            self.closed = True


async def test_it_begins_when_both_have_begun() -> None:
    old, new = Source(), Source()
    both = merged([old.announcements(), new.announcements()])
    first = asyncio.ensure_future(anext(both))
    old.give(BEGIN, ONE)  # what is announced before may be missed: the first one says so
    for _ in range(10):
        await asyncio.sleep(0)
    assert not first.done()

    new.give(BEGIN, TWO)
    assert await first == BEGIN
    assert await anext(both) == TWO
    old.give(ONE, BEGIN)
    assert [await anext(both), await anext(both)] == [ONE, BEGIN]
    await both.aclose()
    assert (old.closed, new.closed) == (True, True)


async def test_one_that_ends_by_itself_leaves_the_other() -> None:
    old, new = Source(), Source()
    both = merged([old.announcements(), new.announcements()])
    old.give(None)
    new.give(BEGIN, TWO)
    assert [await anext(both), await anext(both)] == [BEGIN, TWO]
    new.give(None)
    with pytest.raises(StopAsyncIteration):
        await anext(both)


async def test_if_both_end_at_once_nothing_is_heard() -> None:
    old, new = Source(), Source()
    old.give(None)
    new.give(None)
    assert [one async for one in merged([old.announcements(), new.announcements()])] == []


async def test_if_one_is_interrupted_both_are() -> None:
    old, new = Source(), Source()
    both = merged([old.announcements(), new.announcements()])
    old.give(BEGIN)
    new.give(BEGIN)
    assert await anext(both) == BEGIN
    old.give(StorageError("lost"))
    with pytest.raises(StorageError, match="lost"):
        await anext(both)
    assert new.closed


async def test_a_storage_without_announcements_may_be_one_of_them() -> None:
    deaf = PlainStorage(sweep_interval=None)
    deaf.announces = deaf.has_announcements = False
    storage = MigratingStorage(MemoryStorage(sweep_interval=None), deaf)
    announcements = storage.announcements()
    assert await anext(announcements) == BEGIN
    await storage.announce(*ONE)
    assert await anext(announcements) == ONE
    await announcements.aclose()
