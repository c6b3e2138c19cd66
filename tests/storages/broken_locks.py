"""Storages whose locks, leases and upkeep are broken on purpose."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from aiohttp_session_store import SessionLockError, SessionUsageError, Stored
from aiohttp_session_store.engine.verbs import Lease
from tests.engine.suspending import SuspendingStorage
from tests.storages.plain import PlainStorage


class _Locking(SuspendingStorage):
    """Correct locks; each subclass breaks one thing."""

    def lock(self, key: str) -> AbstractAsyncContextManager[Any]:
        return self.locking(key)

    @asynccontextmanager
    async def locking(self, key: str) -> AsyncIterator[Lease | None]:
        async with self._exclusive.holding(key):
            yield None


class LockThatLetsAllIn(_Locking):
    @asynccontextmanager
    async def locking(self, key: str) -> AsyncIterator[Lease | None]:
        yield None


class LockThatRefuses(_Locking):
    def lock(self, key: str) -> AbstractAsyncContextManager[Any]:
        raise SessionUsageError("no locks here")


class OneLockForAll(_Locking):
    @asynccontextmanager
    async def locking(self, key: str) -> AsyncIterator[Lease | None]:
        async with self._exclusive.holding("all"):
            yield None


class LockOfTheRecord(_Locking):
    @asynccontextmanager
    async def locking(self, key: str) -> AsyncIterator[Lease | None]:
        async with self._exclusive.holding(key):
            assert self._records[key]
            yield None


class LockThatGoesWithTheRecord(_Locking):
    async def delete(self, key: str, version: bytes | None = None) -> bool:
        self._exclusive._locks.pop(key, asyncio.Lock())
        return await super().delete(key, version)

    @asynccontextmanager
    async def locking(self, key: str) -> AsyncIterator[Lease | None]:
        async with self._exclusive._locks.setdefault(key, asyncio.Lock()):
            yield None


class LockThatStopsWriters(_Locking):
    async def replace(self, key: str, data: bytes, expires_at: int, version: bytes) -> bytes | None:
        async with self._exclusive.holding(key):
            return await super().replace(key, data, expires_at, version)


class WaitersThatUseUpThePool(_Locking):
    """Every waiter takes a connection and keeps it while it waits."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.pool = asyncio.Semaphore(5)

    @asynccontextmanager
    async def locking(self, key: str) -> AsyncIterator[Lease | None]:
        async with self.pool, self._exclusive.holding(key):
            yield None

    async def replace(self, key: str, data: bytes, expires_at: int, version: bytes) -> bytes | None:
        async with self.pool:
            return await super().replace(key, data, expires_at, version)


class _TakenInTwoSteps(_Locking):
    """Sets a mark, as on a server, some steps before the caller learns that it has the lock."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.held: set[str] = set()

    async def take(self, key: str) -> None:
        while key in self.held:
            await asyncio.sleep(0)
        self.held.add(key)
        for _ in range(2):
            await self.pause()


class LockForOneUse(_TakenInTwoSteps):
    @asynccontextmanager
    async def locking(self, key: str) -> AsyncIterator[Lease | None]:
        await self.take(key)
        yield None


class LockThatAnExceptionKeeps(_TakenInTwoSteps):
    @asynccontextmanager
    async def locking(self, key: str) -> AsyncIterator[Lease | None]:
        await self.take(key)
        yield None
        self.held.discard(key)


class LockWhoseAnswerIsLost(_TakenInTwoSteps):
    @asynccontextmanager
    async def locking(self, key: str) -> AsyncIterator[Lease | None]:
        await self.take(key)
        try:
            yield None
        finally:
            self.held.discard(key)


class LockThatIgnoresCancellation(_TakenInTwoSteps):
    """Waits in a task that continues after its request was cancelled, and then takes the lock for nobody."""

    @asynccontextmanager
    async def locking(self, key: str) -> AsyncIterator[Lease | None]:
        await asyncio.shield(asyncio.ensure_future(self.take(key)))
        try:
            yield None
        finally:
            self.held.discard(key)


class LeaseThatIsOverAtOnce(_Locking):
    @asynccontextmanager
    async def locking(self, key: str) -> AsyncIterator[Lease | None]:
        async def over() -> None:
            raise SessionLockError("over")

        async with self._exclusive.holding(key):
            yield over


class LeaseThatNeverEnds(_Locking):
    @asynccontextmanager
    async def locking(self, key: str) -> AsyncIterator[Lease | None]:
        async def stands() -> None:
            pass

        async with self._exclusive.holding(key):
            yield stands


# --- upkeep


class SetAsideThatDoesNothing(PlainStorage):
    async def set_aside(self, key: str, stored: Stored) -> None:
        pass


class SetAsideThatDeletes(PlainStorage):
    async def set_aside(self, key: str, stored: Stored) -> None:
        await self.delete(key)


class CloseForAll(PlainStorage):
    async def aclose(self) -> None:
        self._records.clear()
        await super().aclose()


class CloseThatWaitsForNobody(SuspendingStorage):
    async def aclose(self) -> None:
        self._users = max(0, self._users - 1)
