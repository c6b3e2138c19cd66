"""The shortest storage that keeps the contract, on a dict; tests break, delay and inspect it."""

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar

from aiohttp_session_store import Announcement, KeyedStorage, Stored
from aiohttp_session_store.engine.verbs import Found, Walked
from aiohttp_session_store.storages.base import RECLAIM_AFTER
from aiohttp_session_store.storages.keyed_lock import KeyedLock


class PlainStorage(KeyedStorage):
    suspends: ClassVar[bool] = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._records: dict[str, Stored] = {}
        self._owners: dict[str, dict[str, int]] = {}
        self._listening: set[asyncio.Queue[Announcement]] = set()
        self._exclusive = KeyedLock()

    def default_secrets(self) -> Sequence[str]:
        return ["plain-storage-secret-plain-storage"]

    async def fetch(self, key: str) -> Stored | None:
        return self._records.get(key)

    async def insert(self, key: str, data: bytes, expires_at: int) -> bytes | None:
        return None if key in self._records else self._put(key, data, expires_at)

    async def replace(self, key: str, data: bytes, expires_at: int, version: bytes) -> bytes | None:
        stored = self._records.get(key)
        return self._put(key, data, expires_at) if stored and stored.version == version else None

    async def touch(self, key: str, expires_at: int, version: bytes) -> bool:
        stored = self._records.get(key)
        if stored is None or stored.version != version:
            return False
        self._records[key] = Stored(stored.data, version, max(expires_at, stored.expires_at))
        return True

    async def delete(self, key: str, version: bytes | None = None) -> bool:
        stored = self._records.get(key)
        if stored is not None and version is not None and stored.version != version:
            return False
        self._records.pop(key, None)
        return True

    async def link(self, owner_key: str, key: str, until: int) -> None:
        self._owners.setdefault(owner_key, {})[key] = until

    async def unlink(self, owner_key: str, key: str) -> None:
        self._owners.get(owner_key, {}).pop(key, None)

    async def linked(self, owner_key: str) -> list[str]:
        return list(self._owners.get(owner_key, {}))

    async def announce(self, key: str, reason: str) -> None:
        for queue in self._listening:
            queue.put_nowait(Announcement(key, reason))

    async def announcements(self) -> AsyncGenerator[Announcement, None]:
        queue: asyncio.Queue[Announcement] = asyncio.Queue()
        self._listening.add(queue)
        try:
            yield Announcement("")
            while True:
                yield await queue.get()
        finally:
            self._listening.discard(queue)

    async def walk(self) -> AsyncGenerator[Walked, None]:
        keys = list(self._records)
        for start in range(0, len(keys), 100):
            found = [Found(key, self._records[key]) for key in keys[start : start + 100] if key in self._records]
            yield Walked(found, min(1.0, (start + 100) / len(keys)))

    async def rewrite(self, key: str, data: bytes, version: bytes) -> bytes | None:
        stored = self._records.get(key)
        return self._put(key, data, stored.expires_at) if stored and stored.version == version else None

    def lock(self, key: str) -> AbstractAsyncContextManager[Any]:
        return self._exclusive.holding(key)

    async def sweep(self) -> int:
        reclaimable = self.now() - RECLAIM_AFTER
        doomed = [key for key, stored in self._records.items() if stored.expires_at <= reclaimable]
        for key in doomed:
            del self._records[key]
        for entries in self._owners.values():
            for key in [key for key, until in entries.items() if until <= reclaimable]:
                del entries[key]
        return len(doomed)

    def _put(self, key: str, data: bytes, expires_at: int) -> bytes:
        version = os.urandom(8)
        self._records[key] = Stored(data, version, expires_at)
        return version
