"""Exclusive locks by key within one process: fair, and forgotten when nobody wants them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class KeyedLock:
    """One :class:`asyncio.Lock` for each key that somebody holds or waits for."""

    def __init__(self) -> None:
        """Start with none."""
        self._locks: dict[str, asyncio.Lock] = {}
        self._wanted: dict[str, int] = {}

    def __len__(self) -> int:
        """How many keys are held or waited for."""
        return len(self._locks)

    @asynccontextmanager
    async def holding(self, key: str) -> AsyncIterator[None]:
        """Hold *key* for the length of a block; who came first gets it first."""
        lock = self._locks.setdefault(key, asyncio.Lock())
        self._wanted[key] = self._wanted.get(key, 0) + 1
        try:
            async with lock:
                yield
        finally:
            self._wanted[key] -= 1
            if not self._wanted[key]:
                del self._wanted[key], self._locks[key]
