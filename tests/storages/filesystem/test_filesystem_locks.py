"""Locks when somebody removes the lock file of a running app, and writers that meet in the middle of a write."""

import asyncio
import fcntl
import os
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import pytest

from aiohttp_session_store import FileSystemStorage, Session, SessionLockError
from aiohttp_session_store.session.session import state_of
from aiohttp_session_store.storages.filesystem import atomic_files, record_file, swap
from aiohttp_session_store.storages.filesystem.atomic_files import RecordFiles
from aiohttp_session_store.storages.filesystem.directory import SessionDirectory
from aiohttp_session_store.storages.filesystem.lock import BusyError, offset_of
from tests.storages.filesystem.filesystem_tools import exit_code, lock_file, make_session, run_in_child

KEY = "ab" + 62 * "0"
NAME = KEY[2:]
LATER = 4_000_000_000


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[FileSystemStorage]:
    storage = FileSystemStorage(tmp_path / "sessions", sweep_interval=None)
    yield storage
    await storage.aclose()


def remove_the_lock_file(storage: FileSystemStorage) -> None:
    Path(storage.directory, "locks").unlink()


def replace_the_lock_file(storage: FileSystemStorage) -> None:
    remove_the_lock_file(storage)
    Path(storage.directory, "locks").touch()


def move_the_lock_file(storage: FileSystemStorage) -> None:
    Path(storage.directory, "locks").rename(Path(storage.directory, "locks.old"))


# --- the lease


@pytest.mark.parametrize("fault", [remove_the_lock_file, replace_the_lock_file, move_the_lock_file])
async def test_the_lease_ends_when_the_lock_file_is_not_at_its_path_any_more(
    storage: FileSystemStorage, fault: Callable[[FileSystemStorage], None]
) -> None:
    async with storage.lock(KEY) as lease:
        await lease()
        fault(storage)

        with pytest.raises(SessionLockError, match="was lost"):
            await lease()


async def test_of_two_holders_after_the_lock_file_was_removed_only_the_second_one_saves(
    storage: FileSystemStorage,
) -> None:
    """Otherwise each of them would add one to the same number, and one addition would be lost."""
    value = await make_session(storage, count=0)

    async def add_one(first: Session, lease: Any, holder: FileSystemStorage) -> None:
        state_of(first).lease = lease
        await holder.refresh(first)
        first["count"] += 1

    other = FileSystemStorage(storage.directory, sweep_interval=None)
    async with storage.lock(KEY) as lease:
        session = await storage.read(value)
        await add_one(session, lease, storage)
        remove_the_lock_file(storage)
        async with asyncio.timeout(5), other.lock(KEY) as second_lease:
            second = await other.read(value)
            await add_one(second, second_lease, other)
            with pytest.raises(SessionLockError):
                await storage.save(session)
            await other.save(second)

    assert (await storage.read(value))["count"] == 1
    await other.aclose()


async def test_a_write_of_a_former_holder_that_comes_after_its_last_check_fails(storage: FileSystemStorage) -> None:
    """The next holder has given the record a new version."""
    value = await make_session(storage, count=0)
    other = FileSystemStorage(storage.directory, sweep_interval=None)
    async with storage.lock(KEY) as lease:
        session = await storage.read(value)
        state_of(session).lease = lease
        await storage.refresh(session)
        version = state_of(session).place.stored.version  # type: ignore[union-attr]
        await lease()  # still good
        remove_the_lock_file(storage)
        async with other.lock(KEY) as second_lease:
            second = await other.read(value)
            state_of(second).lease = second_lease
            await other.refresh(second)

            assert await storage.replace(session.key, b"late", LATER, version) is None
    await other.aclose()


async def test_the_lease_ends_when_the_byte_is_not_locked_any_more(storage: FileSystemStorage) -> None:
    """For example, after a network file server has forgotten its locks.  It makes no difference who has it since."""
    unlock = struct.pack("hhqqi", fcntl.F_UNLCK, os.SEEK_SET, offset_of(KEY), 1, 0)
    for taken in (False, True):
        async with storage.lock(KEY) as lease:
            fcntl.fcntl(storage._locks._held[offset_of(KEY)], fcntl.F_OFD_SETLK, unlock)
            if taken:
                stranger = lock_file(storage.directory)
                stranger.acquire(offset_of(KEY))

            with pytest.raises(SessionLockError):
                await lease()


async def test_the_lease_ends_when_somebody_has_closed_all_descriptors(storage: FileSystemStorage) -> None:
    async with storage.lock(KEY) as lease:
        os.close(storage._locks._held[offset_of(KEY)])

        with pytest.raises(SessionLockError):
            await lease()

    async with storage.lock(KEY) as lease:
        await lease()


async def test_a_forked_child_has_not_the_lease_of_its_parent(storage: FileSystemStorage) -> None:
    async with storage.lock(KEY) as lease:

        async def ask() -> None:
            with pytest.raises(SessionLockError):
                await lease()

        assert exit_code(run_in_child(ask)) == 0
        await lease()


async def test_a_process_that_waits_for_a_lock_gets_it_in_the_new_lock_file(storage: FileSystemStorage) -> None:
    """Its descriptor of the old one would give it a lock that means nothing."""
    other = FileSystemStorage(storage.directory, sweep_interval=None)
    holding = AsyncExitStack()
    async with storage.lock(KEY):
        waiting = asyncio.ensure_future(holding.enter_async_context(other.lock(KEY)))
        while other._locks._descriptor is None:
            await asyncio.sleep(0)
        remove_the_lock_file(storage)

    lease = await asyncio.wait_for(waiting, 5)
    await lease()
    with pytest.raises(BusyError):
        storage._locks.acquire(offset_of(KEY))
    await holding.aclose()
    await other.aclose()


# --- writers


@pytest.fixture
def files(storage: FileSystemStorage) -> RecordFiles:
    return RecordFiles(SessionDirectory(storage.directory), durable=False)


@pytest.fixture
def others(storage: FileSystemStorage) -> RecordFiles:
    """Return the files as another process sees them."""
    return RecordFiles(SessionDirectory(storage.directory), durable=False)


async def test_no_writer_gets_between_the_check_and_the_rename_of_another_one(
    storage: FileSystemStorage, files: RecordFiles, others: RecordFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever happens to the lock file: a record is locked by its own file."""
    seen = files.insert(KEY, b"old", LATER)
    assert seen is not None
    version = seen.stored.version
    real = swap.exchange
    met: list[str] = []

    def exchange(source: str, target: str, folder: int) -> None:
        for path in Path(storage.directory).glob("locks*"):
            path.unlink()
        for intruder in (
            lambda: others.replace(KEY, b"new", LATER, version),
            lambda: others.replace(KEY, b"new", LATER, version, lasting=True),
            lambda: others.touch(KEY, LATER + 1, version),
            lambda: others.delete(KEY),
            lambda: others.delete(KEY, version),
        ):
            with pytest.raises(BusyError):
                intruder()
            met.append("busy")
        real(source, target, folder)

    with monkeypatch.context() as patched:
        patched.setattr(atomic_files, "exchange", exchange)
        assert files.replace(KEY, b"mine", LATER, version) is not None

    assert len(met) == 5
    assert others.replace(KEY, b"new", LATER, version) is None
    assert others.delete(KEY, version) is False


async def test_of_two_inserts_at_once_one_succeeds(
    files: RecordFiles, others: RecordFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They need no lock: the kernel lets a name be given once."""
    real = swap.put_new
    first: list[object] = []

    def put_new(source: str, target: str, folder: int) -> None:
        if not first:
            first.append("on the way")
            first.append(others.insert(KEY, b"theirs", LATER))
        real(source, target, folder)

    monkeypatch.setattr(atomic_files, "put_new", put_new)

    assert files.insert(KEY, b"mine", LATER) is None
    assert first[1] is not None
    seen = files.fetch(KEY)
    assert seen is not None
    assert seen.stored.data == b"theirs"


@pytest.mark.parametrize("call", ["put_new", "exchange"])
async def test_a_system_that_does_not_know_these_renames_uses_others(
    files: RecordFiles, others: RecordFiles, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr("aiohttp_session_store.storages.filesystem.swap._call", None)
    seen = files.insert(KEY, b"old", LATER)
    assert seen is not None
    assert others.insert(KEY, b"again", LATER) is None

    assert files.replace(KEY, b"new", LATER, seen.stored.version) is not None

    newest = files.fetch(KEY)
    assert newest is not None
    assert newest.stored.data == b"new"


async def test_a_record_that_is_replaced_between_its_opening_and_its_locking_is_opened_again(
    files: RecordFiles, others: RecordFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock of the file that has lost its name would protect nothing."""
    seen = files.insert(KEY, b"old", LATER)
    assert seen is not None
    real = fcntl.flock
    between: list[object] = []

    def flock(descriptor: int, operation: int) -> None:
        if not between:
            between.append("on the way")
            between.append(others.replace(KEY, b"theirs", LATER, seen.stored.version))
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)

    assert files.replace(KEY, b"mine", LATER, seen.stored.version) is None
    assert between[1] is not None
    newest = files.fetch(KEY)
    assert newest is not None
    assert newest.stored.data == b"theirs"


async def test_a_child_that_is_forked_during_a_write_does_not_keep_the_record_locked(
    files: RecordFiles, others: RecordFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a process pool that a handler starts.  The child has the descriptor, too, and lives on."""
    seen = files.insert(KEY, b"old", LATER)
    assert seen is not None
    ended, end = os.pipe()
    children: list[int] = []
    real = record_file.header_of

    def fork(descriptor: int) -> Any:
        if not children:
            pid = os.fork()
            if pid == 0:
                os.close(end)
                os.read(ended, 1)
                os._exit(0)
            children.append(pid)
        return real(descriptor)

    monkeypatch.setattr(atomic_files, "header_of", fork)
    with ExitStack() as at_the_end:
        at_the_end.callback(lambda: exit_code(children[0]))
        at_the_end.callback(lambda: os.close(end))
        assert files.touch(KEY, LATER + 1, seen.stored.version)

        assert others.replace(KEY, b"new", LATER, seen.stored.version) is not None
    os.close(ended)


def test_three_processes_lose_no_key_while_a_fourth_one_removes_the_lock_file_all_the_time(tmp_path: Path) -> None:
    storage = FileSystemStorage(tmp_path / "sessions", sweep_interval=None)

    async def make() -> str:
        value = await make_session(storage, made=True)
        await storage.aclose()
        return value

    value = asyncio.run(make())

    async def write(number: int) -> None:
        for index in range(100):
            session = await storage.read(value)
            session[f"{number}.{index}"] = index
            await storage.save(session)
            async with storage.lock(KEY):
                pass

    children = {run_in_child(lambda number=number: write(number)) for number in range(3)}  # type: ignore[misc]
    codes = []
    while children:
        for path in Path(storage.directory).glob("locks"):
            path.unlink(missing_ok=True)
        for pid in list(children):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                children.remove(pid)
                codes.append(os.waitstatus_to_exitcode(status))

    async def read() -> dict[str, object]:
        session = dict(await storage.read(value))
        await storage.aclose()
        return session

    assert codes == [0, 0, 0]
    assert asyncio.run(read()).keys() == {"made", *(f"{number}.{index}" for number in range(3) for index in range(100))}
