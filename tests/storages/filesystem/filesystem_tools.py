"""Helpers that the tests of the file storage share."""

import asyncio
import os
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from aiohttp_session_store import FileSystemStorage, Session


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


def open_files() -> int:
    """Return the number of open descriptors of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))
