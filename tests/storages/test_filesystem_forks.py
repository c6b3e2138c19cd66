"""Processes that come from one: the storage is made, then forked, as gunicorn's preload does."""

import asyncio
import os
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp_session_store import FileSystemStorage
from aiohttp_session_store.storages.filesystem.locks import WRITER, BusyError, LockFile, offset_of

WORKERS = 4


def in_children(work: Callable[[int], Awaitable[None]], count: int = WORKERS) -> None:
    """Run *work* in forked children, each with an event loop of its own; fail if one of them does."""
    children = []
    for number in range(count):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                asyncio.run(work(number))  # type: ignore[arg-type]
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        children.append(pid)
    assert [0] * count == [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]


def test_four_workers_forked_after_setup_lose_nothing(tmp_path: Path) -> None:
    """One of them had used the storage before the fork, so that threads and lock file existed."""
    storage = FileSystemStorage(tmp_path / "sessions", sweep_interval=None)
    ids: list[str] = []

    async def first() -> None:
        session = await storage.read(None)
        session["made"] = "before the fork"
        ids.append(await storage.save(session) or "")

    asyncio.run(first())

    async def write(number: int) -> None:
        async def one(index: int) -> None:
            session = await storage.read(ids[0])
            await asyncio.sleep(0)
            session[f"{number}.{index}"] = index
            await storage.save(session)

        await asyncio.gather(*(one(index) for index in range(25)))
        await storage.aclose()

    in_children(write)

    async def last() -> int:
        count = len(await storage.read(ids[0]))
        await storage.aclose()
        return count

    assert asyncio.run(last()) == 1 + WORKERS * 25


def test_workers_that_start_together_agree_on_the_secret(tmp_path: Path) -> None:
    storage = FileSystemStorage(tmp_path / "sessions")

    for round_ in range(10):
        out = tmp_path / str(round_)
        out.mkdir()

        async def note(number: int, out: Path = out) -> None:
            (out / str(number)).write_text(storage.default_secrets()[0])

        in_children(note)
        secrets = {path.read_text() for path in out.iterdir()}

        assert len(secrets) == 1
        assert len(secrets.pop()) >= 32
        Path(storage.directory, "secret.key").unlink()


def test_a_lock_that_a_parent_holds_keeps_its_forked_child_out(tmp_path: Path) -> None:
    locks = LockFile(str(tmp_path / "locks"))
    offset = offset_of("ab" * 32, WRITER)
    locks.acquire(offset)

    async def refused(_: int) -> None:
        locks.forget()
        try:
            locks.acquire(offset)
        except BusyError:
            return
        raise AssertionError("the child got the parent's lock")

    in_children(refused, 1)
    locks.release(offset)

    async def granted(_: int) -> None:
        locks.forget()
        locks.acquire(offset)

    in_children(granted, 1)


def test_a_killed_holder_frees_its_lock(tmp_path: Path) -> None:
    offset = offset_of("cd" * 32, WRITER)

    async def take_and_die(_: int) -> None:
        LockFile(str(tmp_path / "locks")).acquire(offset)

    in_children(take_and_die, 1)
    LockFile(str(tmp_path / "locks")).acquire(offset)
