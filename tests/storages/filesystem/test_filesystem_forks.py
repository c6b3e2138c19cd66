"""Forked processes that share one storage object, as with gunicorn's ``preload_app``."""

import asyncio
import os
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from aiohttp_session_store import FileSystemStorage
from aiohttp_session_store.storages.filesystem.lock import BusyError, offset_of
from tests.storages.filesystem.filesystem_tools import exit_code, lock_file, make_session, run_in_child

WORKERS = 4
PATIENCE = 10  # seconds, after which a child counts as hanging


def in_children(work: Callable[[int], Awaitable[None]], count: int = WORKERS) -> None:
    """Run *work* in forked children, each with its own event loop; fail if one of them fails."""
    children = []
    for number in range(count):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                asyncio.events._set_running_loop(None)  # the parent's loop, if it forks during a request
                asyncio.run(work(number))  # type: ignore[arg-type]
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        children.append(pid)
    assert [0] * count == [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]


def test_four_workers_forked_after_setup_lose_nothing(tmp_path: Path) -> None:
    """The storage was used before the fork, so its threads and its lock file already existed."""
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


def test_workers_that_start_at_the_same_time_agree_on_the_secret(tmp_path: Path) -> None:
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


def test_a_forked_child_does_not_get_a_lock_that_its_parent_holds(tmp_path: Path) -> None:
    locks = lock_file(tmp_path)
    offset = offset_of("ab" * 32)
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


# --- forks during a request, as by a process pool in a handler


async def test_a_child_forked_during_a_save_can_save_and_close(tmp_path: Path) -> None:
    storage = FileSystemStorage(tmp_path / "sessions")
    await storage.start()
    value = await make_session(storage, made=1)
    session, fresh = await storage.read(value), await storage.read(None)
    session["parent"] = fresh["parent"] = 1
    saves = [asyncio.ensure_future(storage.save(one)) for one in (session, fresh)]
    while not (storage._saver._shared._waiting and storage._saver._running):
        await asyncio.sleep(0)

    async def write(_: int) -> None:
        async with asyncio.timeout(PATIENCE):
            session = await storage.read(value)
            session["child"] = 1
            await storage.save(session)
            await storage.aclose()

    in_children(write, 1)
    await asyncio.gather(*saves)

    assert dict(await storage.read(value)) == {"made": 1, "parent": 1, "child": 1}
    await storage.aclose()


async def test_a_child_forked_while_a_session_is_locked_waits_for_the_lock_and_gets_it(tmp_path: Path) -> None:
    storage, key = FileSystemStorage(tmp_path / "sessions", sweep_interval=None), "ab" * 32
    told, tell = os.pipe()

    async def wait_and_hold(_: int) -> None:
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05), storage.lock(key):
                    pass
            os.write(tell, b"!")
            async with storage.lock(key):
                pass

    async with storage.lock(key):
        pid = run_in_child(lambda: wait_and_hold(0))
        assert await asyncio.to_thread(os.read, told, 1) == b"!"
    code = await asyncio.to_thread(exit_code, pid)

    assert code == 0
    await storage.aclose()


async def test_a_child_forked_inside_a_lock_block_does_not_release_the_lock_of_its_parent(
    tmp_path: Path,
) -> None:
    storage, key = FileSystemStorage(tmp_path / "sessions", sweep_interval=None), "ab" * 32
    pid = -1
    try:
        async with storage.lock(key):
            pid = os.fork()
            if pid:
                assert exit_code(pid) == 0
                with pytest.raises(BusyError):
                    lock_file(storage.directory).acquire(offset_of(key))
    finally:
        if not pid:
            os._exit(0)
    await storage.aclose()


def test_a_killed_holder_frees_its_lock(tmp_path: Path) -> None:
    offset = offset_of("cd" * 32)

    async def take_and_die(_: int) -> None:
        lock_file(tmp_path).acquire(offset)

    in_children(take_and_die, 1)
    lock_file(tmp_path).acquire(offset)
