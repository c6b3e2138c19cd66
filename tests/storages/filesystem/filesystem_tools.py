"""Helpers that the tests of the file storage share."""

import asyncio
import gc
import os
import stat
import subprocess
import traceback
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aiohttp_session_store import FileSystemStorage, Session
from aiohttp_session_store.storages.filesystem import atomic_files
from aiohttp_session_store.storages.filesystem.directory import SessionDirectory
from aiohttp_session_store.storages.filesystem.lock import LockFile, record_locked

# Another user, and a group of the same number.
STRANGER = 12345
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as two users")


def run_in_child(work: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Fork a child that runs *work* on its own event loop; return its pid.  It exits with 0 if *work* succeeds."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        asyncio.events._set_running_loop(None)  # the parent's loop, if it forks during a request
        asyncio.run(work())
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def as_user(user: int, work: Callable[[], None]) -> int:
    """Run *work* in a child of another user, in a group of the same number; return its exit code."""
    pid = os.fork()
    if pid:
        return exit_code(pid)
    code = 1
    try:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def exit_code(pid: int) -> int:
    """Wait for a child and return its exit code; a negative one is the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


async def make_session(storage: FileSystemStorage, **data: object) -> str:
    """Store a session and return its id."""
    session = await storage.read(None)
    session.update(data)
    value = await storage.save(session)
    assert value
    return value


def file_of(storage: FileSystemStorage, session: Session) -> Path:
    """Return the file of a session."""
    return Path(storage.directory, session.key[:2], session.key[2:])


def temporary_files(storage: FileSystemStorage) -> list[Path]:
    """Return the temporary files that writers left behind."""
    return list(Path(storage.directory).rglob(".tmp-*"))


def lock_file(directory: str | Path) -> LockFile:
    """Return the lock file of *directory* as another process would use it."""
    return LockFile(SessionDirectory(directory))


@contextmanager
def record_locked_by_a_stranger(storage: FileSystemStorage, session: Session) -> Iterator[None]:
    """Lock the file of a session, as a writer in another process does."""
    folder = os.open(file_of(storage, session).parent, os.O_RDONLY)
    try:
        with record_locked(folder, session.key[2:]):
            yield
    finally:
        os.close(folder)


def open_files() -> int:
    """Return the number of open descriptors of this process, without those of forgotten storages."""
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


@contextmanager
def mounted(path: Path, options: str, kind: str = "tmpfs", device: str = "tmpfs") -> Iterator[Path]:
    """Mount a file system at *path*, or skip the test with the reason."""
    path.mkdir(mode=0o700)
    command = ["mount", "-t", kind, "-o", options, device, str(path)]
    mount = subprocess.run(command, capture_output=True, text=True, check=False)
    if mount.returncode:
        pytest.skip(f"mounting is not permitted here (run the tests as root): {mount.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the writes, syncs, changes of names and deletions in order."""
    calls: list[str] = []

    def record(module: Any, name: str, describe: Callable[..., str]) -> None:
        real = getattr(module, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            result = real(*args, **kwargs)
            calls.append(describe(*args))  # only what was done: a temporary file that was renamed is not there
            return result

        monkeypatch.setattr(module, name, call)

    def kind(descriptor: int) -> str:
        return "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"

    record(os, "pwrite", lambda *_: "write")
    record(os, "fsync", lambda descriptor: f"fsync {kind(descriptor)}")
    record(os, "unlink", lambda *_: "unlink")
    for name in ("rename", "exchange", "put_new"):
        record(atomic_files, name, lambda *_, name=name: name)
    return calls
