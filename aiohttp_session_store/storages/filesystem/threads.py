"""Runs blocking transactions in threads of the storage's own, and tries again where a lock is busy."""

import asyncio
import os
import random
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from aiofiles.os import wrap

from ...errors import StorageError
from .atomic_files import MaybeDoneError
from .lock import BusyError

P = ParamSpec("P")
T = TypeVar("T")

# Enough to keep a disk busy. More threads would only compete for the interpreter.
_THREADS = 4
# In seconds. A record file is locked for a check and a rename, well under a millisecond. Pauses grow up to the longest.
_FIRST_PAUSE, _LONGEST_PAUSE, _MAX_WAIT = 0.0005, 0.02, 5.0


class Pauses:
    """The pauses between attempts at a lock: random, and growing."""

    def __init__(self) -> None:
        """Begin with short ones."""
        self._longest = _FIRST_PAUSE

    async def take(self) -> None:
        """Wait a little, on the event loop."""
        await asyncio.sleep(random.uniform(0, self._longest))  # noqa: S311  spreads retries, keeps no secret
        self._longest = min(2 * self._longest, _LONGEST_PAUSE)


class Threads:
    """The threads of one storage.  They start when they are first needed, and anew in a forked child."""

    def __init__(self, directory: str, forked: Callable[[], None]) -> None:
        """Start none yet.

        Args:
            directory: The path for messages.
            forked: Called in a forked child before it does anything else: it inherits neither threads nor locks.
        """
        self._directory = directory
        self._forked = forked
        self._executor: ThreadPoolExecutor | None = None
        self._pid = os.getpid()

    def adopt(self) -> ThreadPoolExecutor:
        """Return the threads of this process."""
        if self._executor is None or self._pid != os.getpid():
            if self._pid != os.getpid():
                self._forked()
                self._pid = os.getpid()
            self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="session files")
        return self._executor

    def hop(self, transaction: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
        """Return a coroutine function that runs *transaction* in a thread.

        If a lock is busy, the event loop waits and tries again.  No thread ever waits for a lock.  An OSError becomes a
        StorageError.
        """
        in_thread = wrap(transaction)

        async def run(*args: P.args, **kwargs: P.kwargs) -> T:
            deadline, pauses = time.monotonic() + _MAX_WAIT, Pauses()
            while True:
                try:
                    return await in_thread(*args, executor=self.adopt(), **kwargs)
                except BusyError as error:
                    if time.monotonic() > deadline:
                        raise StorageError(f"a session file stayed locked for {_MAX_WAIT:g} s") from error
                except OSError as error:
                    raise self._unavailable(error) from error
                except MaybeDoneError as error:
                    raise self._unavailable(error.__cause__, maybe_stored=True) from error.__cause__
                await pauses.take()

        return run

    def _unavailable(self, error: BaseException | None, *, maybe_stored: bool = False) -> StorageError:
        message = f"the sessions in {self._directory} are unavailable: {error}"
        return StorageError(message, maybe_stored=maybe_stored)

    async def close(self) -> None:
        """End the threads, after what they are doing."""
        executor, self._executor = self._executor, None
        if executor is not None:
            await asyncio.to_thread(executor.shutdown)
