"""Refuses a second event loop that runs at the same time in another thread."""

import asyncio
import os
import threading
from collections.abc import Callable

from ...errors import SessionUsageError

__all__ = ["OneLoop", "running_loop"]

# It is in asyncio.__all__. The one without an underscore raises if no loop is running.
running_loop: Callable[[], asyncio.AbstractEventLoop | None] = asyncio._get_running_loop  # noqa: SLF001


class OneLoop:
    """Remembers the event loop that used a storage last.

    A storage in memory relies on this: between two waits of one loop, nothing else runs.  With two loops in two
    threads, a write would be lost without any error, and a lock would have two holders.

    Each verb compares :func:`running_loop` with :attr:`loop` and calls :meth:`change` if they differ.  A method that
    does both would take longer than the lookup of a session.

    Attributes:
        loop: The loop that used the storage last.
    """

    def __init__(self) -> None:
        """Start without a loop."""
        self.loop: asyncio.AbstractEventLoop | None = None
        self._pid = os.getpid()
        self._changing = threading.Lock()

    def change(self) -> None:
        """Note the running loop, if the one before it has ended.

        A loop that has ended may be followed by another one, and a forked child may use its copy.

        Raises:
            SessionUsageError: The one before is still running.
        """
        if self._pid != os.getpid():  # the loop and the threads are the parent's
            self._pid, self.loop, self._changing = os.getpid(), None, threading.Lock()
        alone = self._changing.acquire(blocking=False)
        try:
            if not alone or (self.loop is not None and self.loop.is_running()):
                raise SessionUsageError(
                    "a MemoryStorage is used by two event loops at once, which run in two threads, and would lose"
                    " writes. Use it in one of them only, or use FileSystemStorage"
                )
            self.loop = running_loop()
        finally:
            if alone:
                self._changing.release()
