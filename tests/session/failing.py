"""A storage that fails once, at a chosen call."""

from typing import Any

from aiohttp_session_store import MemoryStorage, StorageError


class FailingStorage(MemoryStorage):
    """Fails once, at call number *countdown*."""

    countdown = 0

    def _tick(self) -> None:
        self.countdown -= 1
        if self.countdown == 0:
            raise StorageError("told to fail")

    async def fetch(self, key: str) -> Any:
        self._tick()
        return await super().fetch(key)

    async def insert(self, key: str, data: bytes, expires_at: int) -> bytes | None:
        self._tick()
        return await super().insert(key, data, expires_at)

    async def replace(self, key: str, data: bytes, expires_at: int, version: bytes) -> bytes | None:
        self._tick()
        return await super().replace(key, data, expires_at, version)

    async def touch(self, key: str, expires_at: int, version: bytes) -> bool:
        self._tick()
        return await super().touch(key, expires_at, version)

    async def delete(self, key: str, version: bytes | None = None) -> bool:
        self._tick()
        return await super().delete(key, version)
