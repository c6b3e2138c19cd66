"""Storages whose ``delete`` and ``retire`` are broken on purpose."""

from aiohttp_session_store import Stored
from tests.engine.suspending import SuspendingStorage
from tests.storages.plain import PlainStorage


class DeleteThatRaises(PlainStorage):
    async def delete(self, key: str, version: bytes | None = None) -> bool:
        del self._records[key]
        return True


class DeleteThatDoesNothing(PlainStorage):
    async def delete(self, key: str, version: bytes | None = None) -> bool:
        return True


class DeleteThatTakesAll(PlainStorage):
    async def delete(self, key: str, version: bytes | None = None) -> bool:
        self._records.clear()
        return True


class DeleteThatSaysNothing(PlainStorage):
    async def delete(self, key: str, version: bytes | None = None) -> bool:
        await super().delete(key, version)
        return None  # type: ignore[return-value]


class DeleteThatTakesNoVersion(PlainStorage):
    """It says that it takes one, and leaves the record."""

    async def delete(self, key: str, version: bytes | None = None) -> bool:
        return version is not None or await super().delete(key)


class DeleteAtAnyVersion(PlainStorage):
    async def delete(self, key: str, version: bytes | None = None) -> bool:
        return await super().delete(key)


class DeleteThatNeedsARecord(PlainStorage):
    async def delete(self, key: str, version: bytes | None = None) -> bool:
        return (version is None or key in self._records) and await super().delete(key, version)


class DeleteThatChecksThenActs(SuspendingStorage):
    async def delete(self, key: str, version: bytes | None = None) -> bool:
        stored = await self.fetch(key)
        if stored is not None and version is not None and stored.version != version:
            return False
        return await super().delete(key)


class RetireAtAnyVersion(PlainStorage):
    async def retire(self, key: str, data: bytes, expires_at: int, version: bytes) -> bytes | None:
        return self._put(key, data, expires_at) if key in self._records else None


class RetireThatCreates(PlainStorage):
    async def retire(self, key: str, data: bytes, expires_at: int, version: bytes) -> bytes | None:
        if key not in self._records:
            return await self.insert(key, data, expires_at)
        return await super().retire(key, data, expires_at, version)


class RetireThatKeepsTheVersion(PlainStorage):
    async def retire(self, key: str, data: bytes, expires_at: int, version: bytes) -> bytes | None:
        stored = self._records.get(key)
        if stored is None or stored.version != version:
            return None
        self._records[key] = Stored(data, version, expires_at)
        return version


class RetireThatChecksThenActs(SuspendingStorage):
    async def retire(self, key: str, data: bytes, expires_at: int, version: bytes) -> bytes | None:
        stored = await self.fetch(key)
        return self._put(key, data, expires_at) if stored and stored.version == version else None
