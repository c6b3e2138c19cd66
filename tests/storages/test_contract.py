"""The storages of the package and of the tests keep the contract (Redis and PostgreSQL have their own files)."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aiohttp_session_store import FileSystemStorage, KeyedStorage, MemoryStorage
from aiohttp_session_store.testing import ManualClock, StorageContract
from tests.engine.suspending import RacyStorage, SelfSweepingStorage, SuspendingStorage
from tests.storages.plain import PlainStorage


class TestMemoryStorage(StorageContract):
    @pytest.fixture
    async def storage(self, clock: ManualClock) -> AsyncIterator[KeyedStorage]:
        storage = MemoryStorage(clock=clock)
        yield storage
        await storage.aclose()


class TestPlainStorage(StorageContract):
    """The storage that is broken on purpose in ``broken.py``."""

    @pytest.fixture
    async def storage(self, clock: ManualClock) -> AsyncIterator[KeyedStorage]:
        storage = PlainStorage(clock=clock)
        yield storage
        await storage.aclose()


class TestStorageThatSuspends(StorageContract):
    @pytest.fixture
    async def storage(self, clock: ManualClock) -> AsyncIterator[KeyedStorage]:
        storage = SuspendingStorage(clock=clock)
        yield storage
        await storage.aclose()


class TestStorageThatSuspendsAtRandom(StorageContract):
    @pytest.fixture
    async def storage(self, clock: ManualClock) -> AsyncIterator[KeyedStorage]:
        storage = RacyStorage(seed=1, clock=clock)
        yield storage
        await storage.aclose()


class TestFileSystemStorage(StorageContract):
    @pytest.fixture
    async def storage(self, clock: ManualClock, tmp_path: Path) -> AsyncIterator[KeyedStorage]:
        storage = FileSystemStorage(tmp_path / "sessions", clock=clock)
        yield storage
        await storage.aclose()


class TestStorageThatSweepsItselfAndHasNoLocks(StorageContract):
    """Like a storage on a server that removes expired records itself, and without ``exclusive_session``."""

    locks = False
    sweeps = False

    @pytest.fixture
    async def storage(self, clock: ManualClock) -> AsyncIterator[KeyedStorage]:
        storage = SelfSweepingStorage(clock=clock)
        yield storage
        await storage.aclose()
