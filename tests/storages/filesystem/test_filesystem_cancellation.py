"""A request may be cancelled wherever it waits: it is, at every such place in turn."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from pathlib import Path
from typing import Any

import pytest

from aiohttp_session_store import FileSystemStorage
from aiohttp_session_store.storages.filesystem.lock import LockFile
from tests.storages.filesystem.filesystem_tools import make_session, open_files, temporary_files

Scenario = Callable[[FileSystemStorage, str], Coroutine[Any, Any, None]]


class CancelledAt:
    """Awaits a coroutine, and has the task cancelled when it waits for the time number *place*."""

    def __init__(self, work: Coroutine[Any, Any, None], place: int) -> None:
        self._work = work
        self._place = place
        self.waits = 0

    def __await__(self) -> Generator[Any, Any, None]:
        task = asyncio.current_task()
        assert task is not None
        steps = self._work.__await__()
        error: BaseException | None = None
        while True:
            try:
                waiting = steps.send(None) if error is None else steps.throw(error)
            except StopIteration:
                return
            if self.waits == self._place:
                asyncio.get_running_loop().call_soon(task.cancel)
            self.waits += 1
            error = None
            try:
                yield waiting
            except BaseException as raised:
                error = raised


async def change(storage: FileSystemStorage, value: str) -> None:
    session = await storage.read(value)
    session["changed"] = True
    await storage.save(session)


async def create(storage: FileSystemStorage, value: str) -> None:
    await make_session(storage, made=True)


async def rotate(storage: FileSystemStorage, value: str) -> None:
    session = await storage.read(value)
    session["changed"] = True
    session.regenerate_id()
    await storage.save(session)


async def destroy(storage: FileSystemStorage, value: str) -> None:
    session = await storage.read(value)
    session.destroy()
    await storage.save(session)


async def hold(storage: FileSystemStorage, value: str) -> None:
    session = await storage.read(value)
    async with storage.lock(session.key):
        await storage.refresh(session)
        session["changed"] = True
        await storage.save(session)


async def crowd(storage: FileSystemStorage, value: str) -> None:
    """Other requests are at the same session, before and after this one."""
    others = [asyncio.ensure_future(change(storage, value)) for _ in range(3)]
    try:
        await change(storage, value)
    finally:
        await asyncio.shield(asyncio.gather(*others))


@pytest.mark.parametrize("scenario", [change, create, rotate, destroy, hold, crowd])
async def test_cancelling_anywhere_leaves_no_half_state_and_nothing_behind(tmp_path: Path, scenario: Scenario) -> None:
    threads = set(threading.enumerate())
    storage = FileSystemStorage(tmp_path / "sessions", sweep_interval=None)
    place, cancelled = 0, 0
    await change(storage, await make_session(storage, kept=True))  # threads and the lock file are there
    files = open_files()
    while True:
        value = await make_session(storage, kept=True)
        work = CancelledAt(scenario(storage, value), place)

        outcome = await asyncio.gather(asyncio.ensure_future(awaited(work)), return_exceptions=True)
        cancelled += isinstance(outcome[0], asyncio.CancelledError)

        await settled(storage, files)
        assert len(set(threading.enumerate()) - threads) <= 4  # the storage's own
        await nothing_is_locked(storage, value)
        session = await storage.read(value)
        assert dict(session) in ({"kept": True}, {"kept": True, "changed": True}, {})
        if scenario is not destroy:
            assert session["kept"]
            session["afterwards"] = True
            await storage.save(session)
            if scenario is not rotate:  # there it may have gone to the new id
                assert (await storage.read(value))["afterwards"]
        if work.waits <= place:
            break
        place += 1
    assert cancelled >= place > 0
    await storage.aclose()


async def awaited(work: Awaitable[None]) -> None:
    await work


async def settled(storage: FileSystemStorage, files: int) -> None:
    """Wait until what the cancelled request had begun is finished, and its threads are."""
    await storage._saver.finish()
    async with asyncio.timeout(10):
        while temporary_files(storage) or open_files() != files:
            await asyncio.sleep(0.001)


async def nothing_is_locked(storage: FileSystemStorage, value: str) -> None:
    """A stranger, with a lock file of his own as another process has, gets every lock."""
    session = await storage.read(value)
    async with asyncio.timeout(5):
        async with storage.lock(session.key):
            pass
    stranger = LockFile(str(Path(storage.directory, "locks")))
    for offset in (0, 1):
        place = int(session.key[:15], 16) * 2 + offset
        stranger.acquire(place)
        stranger.release(place)
    stranger.close()
