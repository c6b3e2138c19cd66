"""A request can be cancelled at any place where it waits; these tests try every one of them."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from pathlib import Path
from typing import Any

import pytest

from aiohttp_session_store import FileSystemStorage
from aiohttp_session_store.storages.filesystem.lock import offset_of
from tests.storages.filesystem.filesystem_tools import (
    file_of,
    lock_file,
    make_session,
    open_files,
    record_locked_by_a_stranger,
    temporary_files,
)

Scenario = Callable[[FileSystemStorage, str], Coroutine[Any, Any, None]]


class CancelledAt:
    """Awaits a coroutine, and cancels the task during wait number *place*, counted from 0."""

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
    """Other requests change the same session, before and after this one."""
    others = [asyncio.ensure_future(change(storage, value)) for _ in range(3)]
    try:
        await change(storage, value)
    finally:
        await asyncio.shield(asyncio.gather(*others))


@pytest.mark.parametrize("scenario", [change, create, rotate, destroy, hold, crowd])
async def test_cancelling_anywhere_leaves_no_partial_state_and_no_leftovers(tmp_path: Path, scenario: Scenario) -> None:
    threads = set(threading.enumerate())
    storage = FileSystemStorage(tmp_path / "sessions", sweep_interval=None)
    place, cancelled = 0, 0
    await hold(storage, await make_session(storage, kept=True))  # creates the threads and the lock file
    files = open_files()
    while True:
        value = await make_session(storage, kept=True)
        work = CancelledAt(scenario(storage, value), place)

        outcome = await asyncio.gather(asyncio.ensure_future(awaited(work)), return_exceptions=True)
        cancelled += isinstance(outcome[0], asyncio.CancelledError)

        await settled(storage, files)
        assert len(set(threading.enumerate()) - threads) <= 4  # the threads of the storage
        await nothing_is_locked(storage, value)
        session = await storage.read(value)
        assert dict(session) in ({"kept": True}, {"kept": True, "changed": True}, {})
        if scenario is not destroy:
            assert session["kept"]
            session["afterwards"] = True
            await storage.save(session)
            if scenario is not rotate:  # after a rotation, the change may be under the new id
                assert (await storage.read(value))["afterwards"]
        if work.waits <= place:
            break
        place += 1
    assert cancelled >= place > 0
    await storage.aclose()


async def awaited(work: Awaitable[None]) -> None:
    await work


async def settled(storage: FileSystemStorage, files: int) -> None:
    """Wait until the work that the cancelled request started is finished, also in threads."""
    await storage._saver.finish()
    async with asyncio.timeout(10):
        while temporary_files(storage) or open_files() != files:
            await asyncio.sleep(0.001)


async def nothing_is_locked(storage: FileSystemStorage, value: str) -> None:
    """Check that every lock is free, for this storage and for another lock file object, as in another process."""
    session = await storage.read(value)
    async with asyncio.timeout(5):
        async with storage.lock(session.key):
            pass
    stranger = lock_file(storage.directory)
    stranger.acquire(offset_of(session.key))
    stranger.release(offset_of(session.key))
    stranger.close()
    if file_of(storage, session).exists():
        with record_locked_by_a_stranger(storage, session):
            pass
