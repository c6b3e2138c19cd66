"""Exclusive locks by key within one process.  They are fair, and are forgotten when nobody wants them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class KeyedLock:
    """One :class:`asyncio.Lock` for each key that a task holds or waits for.

    In another event loop, for example in a forked child, all keys start free.
    """

    def __init__(self) -> None:
        """Start without locks."""
        self._locks: dict[str, asyncio.Lock] = {}
        self._wanted: dict[str, int] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def __len__(self) -> int:
        """How many keys are held or waited for."""
        return len(self._locks)

    @asynccontextmanager
    async def holding(self, key: str) -> AsyncIterator[None]:
        """Hold *key* for the length of a block.  Tasks get it in the order in which they asked for it."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._locks, self._wanted = loop, {}, {}
        locks, wanted = self._locks, self._wanted
        lock = locks.setdefault(key, asyncio.Lock())
        wanted[key] = wanted.get(key, 0) + 1
        try:
            async with lock:
                yield
        finally:
            wanted[key] -= 1
            if not wanted[key]:
                del wanted[key], locks[key]
