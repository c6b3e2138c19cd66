"""The sweep of files: among many files, during requests, next to other sweeps, and cancelled."""

import asyncio
import errno
import os
import time
from pathlib import Path
from typing import Any

import pytest

from aiohttp_session_store import FileSystemStorage, StorageError
from aiohttp_session_store.record.session_id import key_of
from aiohttp_session_store.storages.base import RECLAIM_AFTER
from aiohttp_session_store.storages.filesystem import sweep
from aiohttp_session_store.storages.filesystem.file_format import Header
from aiohttp_session_store.storages.filesystem.lock import SWEEP
from aiohttp_session_store.storages.filesystem.record_file import read_header
from aiohttp_session_store.testing import ManualClock
from tests.storages.filesystem.filesystem_tools import (
    exit_code,
    file_of,
    make_session,
    record_locked_by_a_stranger,
    run_in_child,
    temporary_files,
)

DAY = 86_400
IDLE = 14 * DAY


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_700_000_000)


@pytest.fixture
def storage(tmp_path: Path, clock: ManualClock) -> FileSystemStorage:
    return FileSystemStorage(tmp_path / "sessions", clock=clock, sweep_interval=None)


async def make_many(storage: FileSystemStorage, count: int) -> list[str]:
    return await asyncio.gather(*(make_session(storage, number=number) for number in range(count)))


@pytest.mark.parametrize("what", ["file", "folder"])
async def test_an_unreadable_file_or_folder_is_reported_and_everything_else_is_swept(
    storage: FileSystemStorage, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """For example, a script ran as another user, or the disk has a bad sector."""
    await make_many(storage, 20)
    files = sorted(Path(storage.directory).glob("??/*"))
    closed = files[0] if what == "file" else files[0].parent
    kept = [file for file in files if closed in (file, file.parent)]
    clock.advance(IDLE + RECLAIM_AFTER)
    real = os.open

    def refuse(path: str, *args: Any, **kwargs: Any) -> int:
        if str(path) in (closed.name, str(closed)):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real(path, *args, **kwargs)

    with monkeypatch.context() as patched:  # chmod would not do: tests may run as root
        patched.setattr(os, "open", refuse)
        with pytest.raises(StorageError, match="Permission denied"):
            await storage.sweep()

    assert list(Path(storage.directory).glob("??/*")) == kept
    assert await storage.sweep() == len(kept)


async def test_two_thousand_expired_sessions_are_swept_while_live_ones_are_used(
    storage: FileSystemStorage, clock: ManualClock
) -> None:
    await make_many(storage, 2000)
    clock.advance(IDLE + RECLAIM_AFTER)
    live = await make_many(storage, 200)
    waits: list[float] = []
    done = asyncio.Event()

    async def visit() -> None:
        while not done.is_set():
            for value in live:
                started = time.perf_counter()
                session = await storage.read(value)
                session["visits"] = session.get("visits", 0) + 1
                await storage.save(session)
                waits.append(time.perf_counter() - started)

    visitor = asyncio.ensure_future(visit())
    removed = await storage.sweep()
    done.set()
    await visitor

    assert removed == 2000
    assert len(waits) >= len(live)
    for value in live:
        assert (await storage.read(value))["visits"] >= 1
    await storage.aclose()


async def test_a_worker_whose_clock_is_ahead_sweeps_no_session_that_is_alive_for_the_others(tmp_path: Path) -> None:
    """Its clock is ten minutes ahead, which is more than the idle timeout and ``RECLAIM_AFTER`` together."""
    right, wrong = (
        FileSystemStorage(tmp_path / "sessions", sweep_interval=None, idle_timeout=120, clock=clock)
        for clock in (time.time, lambda: time.time() + 600)
    )
    value = await make_session(right, number=1)
    dead = 64 * "0"
    await right.insert(dead, b"", int(time.time()) - RECLAIM_AFTER - 1)

    assert await wrong.sweep() == 1

    assert (await right.read(value))["number"] == 1
    assert await right.fetch(dead) is None
    await right.aclose()
    await wrong.aclose()


async def test_a_worker_whose_clock_is_behind_sweeps_no_session_that_is_alive_for_it(tmp_path: Path) -> None:
    storage = FileSystemStorage(tmp_path / "sessions", sweep_interval=None, clock=lambda: time.time() - 600)
    await storage.insert(64 * "0", b"", int(time.time()) - RECLAIM_AFTER - 1)

    assert await storage.sweep() == 0
    assert await storage.insert(64 * "1", b"", int(time.time()) - 600 - RECLAIM_AFTER)
    assert await storage.sweep() == 1
    await storage.aclose()


async def test_the_age_of_leftovers_is_measured_by_the_clock_of_the_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer whose temporary file is removed too early gets an error."""
    storage = FileSystemStorage(tmp_path / "sessions", sweep_interval=None, clock=lambda: time.time() + 10**7)
    path = Path(storage.directory, "ab", ".tmp-0123456789abcdef")
    path.parent.mkdir()
    path.write_bytes(b"under way")
    Path(storage.directory, ".tmp-0123456789abcdef").write_bytes(b"under way")
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 10**7)

    await storage.sweep()

    assert len(temporary_files(storage)) == 2
    monkeypatch.setattr(sweep, "TEMPORARY_KEPT", -1)
    await storage.sweep()
    assert temporary_files(storage) == []
    await storage.aclose()


async def test_a_session_touched_during_the_sweep_stays(
    storage: FileSystemStorage, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is touched after the sweep has read its header, so only the second check, under the lock, can notice."""
    value = await make_session(storage, number=1)
    session = await storage.read(value)
    key, version = session.key, (await storage.fetch(session.key)).version  # type: ignore[union-attr]
    clock.advance(IDLE + RECLAIM_AFTER)
    looks: list[str] = []

    def look(folder: int, name: str) -> Header | None:
        header = read_header(folder, name)
        if not looks:
            asyncio.run_coroutine_threadsafe(storage.touch(key, int(clock()) + IDLE, version), loop).result(5)
        looks.append(name)
        return header

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(sweep, "read_header", look)

    assert await storage.sweep() == 0
    assert len(looks) == 1
    assert (await storage.read(value))["number"] == 1
    await storage.aclose()


async def test_the_record_of_a_session_that_has_just_expired_stays(
    storage: FileSystemStorage, clock: ManualClock
) -> None:
    """Another process, whose clock is behind, may still be about to extend it."""
    value = await make_session(storage, number=1)
    clock.advance(IDLE + RECLAIM_AFTER - 1)

    assert await storage.sweep() == 0
    assert await storage.fetch(key_of(value)) is not None
    await storage.aclose()


async def test_empty_folders_are_removed_and_created_again(storage: FileSystemStorage, clock: ManualClock) -> None:
    await make_many(storage, 50)
    clock.advance(IDLE + RECLAIM_AFTER)

    await storage.sweep()

    assert sorted(path.name for path in Path(storage.directory).iterdir()) == [".gitignore", "locks"]
    assert (await storage.read(await make_session(storage, number=1)))["number"] == 1
    await storage.aclose()


async def test_creating_sessions_never_fails_while_folders_are_removed(storage: FileSystemStorage) -> None:
    """An empty folder can be removed after it was opened and before the first file is in it."""
    done = asyncio.Event()

    async def sweep_on() -> None:
        while not done.is_set():
            await storage.sweep()

    sweeper = asyncio.ensure_future(sweep_on())
    for _ in range(10):
        values = await make_many(storage, 20)
        for value in values:
            session = await storage.read(value)
            session.destroy()
            await storage.save(session)
    done.set()
    await sweeper
    await storage.aclose()


async def test_a_cancelled_sweep_is_completed_by_the_next(storage: FileSystemStorage, clock: ManualClock) -> None:
    await make_many(storage, 600)
    clock.advance(IDLE + RECLAIM_AFTER)
    files = list(Path(storage.directory).rglob("??/*"))
    task = asyncio.ensure_future(storage.sweep())
    async with asyncio.timeout(10):
        while all(path.exists() for path in files):
            await asyncio.sleep(0)

    task.cancel()
    await asyncio.wait([task])
    await storage.aclose()  # waits for a thread that may still remove a file
    left = sum(path.exists() for path in files)

    assert 0 < left < 600
    assert await storage.sweep() == left
    await storage.aclose()


async def test_a_sweep_returns_at_once_if_another_one_is_running(storage: FileSystemStorage) -> None:
    other = FileSystemStorage(storage.directory, clock=storage.clock, sweep_interval=None)
    storage._locks.acquire(SWEEP)

    assert await other.sweep() == 0

    storage._locks.release(SWEEP)
    await other.aclose()


def test_parallel_sweeps_in_several_processes_count_each_file_once(
    storage: FileSystemStorage, clock: ManualClock, tmp_path: Path
) -> None:
    async def fill() -> None:
        await make_many(storage, 400)
        await storage.aclose()

    asyncio.run(fill())
    clock.advance(IDLE + RECLAIM_AFTER)
    children = []
    for number in range(4):

        async def sweep_once(number: int = number) -> None:
            (tmp_path / str(number)).write_text(str(await storage.sweep()))
            await storage.aclose()

        children.append(run_in_child(sweep_once))

    assert [exit_code(child) for child in children] == [0] * 4
    assert sum(int((tmp_path / str(number)).read_text()) for number in range(4)) == 400


async def test_a_locked_file_stays_until_the_next_sweep(storage: FileSystemStorage, clock: ManualClock) -> None:
    value = await make_session(storage, number=1)
    session = await storage.read(value)
    clock.advance(IDLE + RECLAIM_AFTER)

    with record_locked_by_a_stranger(storage, session):
        assert await storage.sweep() == 0

    assert await storage.sweep() == 1
    await storage.aclose()


async def test_temporary_files_are_removed_once_they_are_old(
    storage: FileSystemStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = await make_session(storage, number=1)
    folder = file_of(storage, await storage.read(value)).parent
    (folder / ".tmp-0123456789abcdef").write_bytes(b"torn")

    await storage.sweep()
    assert len(temporary_files(storage)) == 1

    monkeypatch.setattr(sweep, "TEMPORARY_KEPT", -1)
    await storage.sweep()
    assert temporary_files(storage) == []
    await storage.aclose()


async def test_files_set_aside_long_ago_are_removed(
    storage: FileSystemStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = await make_session(storage, number=1)
    file_of(storage, await storage.read(value)).write_bytes(b"rubbish")
    await storage.read(value)
    aside = Path(storage.directory, "set-aside")

    await storage.sweep()
    assert len(list(aside.iterdir())) == 1

    monkeypatch.setattr(sweep, "SET_ASIDE_KEPT", -1)
    await storage.sweep()
    assert list(aside.iterdir()) == []
    await storage.aclose()


async def test_the_background_sweep_runs_by_itself(tmp_path: Path, clock: ManualClock) -> None:
    storage = FileSystemStorage(tmp_path / "sessions", clock=clock, sweep_interval=1)
    await make_session(storage, number=1)
    clock.advance(IDLE + RECLAIM_AFTER)
    await storage.start()

    async with asyncio.timeout(10):
        while list(Path(storage.directory).glob("??/*")):
            await asyncio.sleep(0.05)

    await storage.aclose()
