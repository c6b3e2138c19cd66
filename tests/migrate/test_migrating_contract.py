"""Two storages keep the contract of a storage while sessions move from one to the other."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from aiohttp_session_store import FileSystemStorage, KeyedStorage, MemoryStorage
from aiohttp_session_store.migrate import MigratingStorage
from aiohttp_session_store.testing import ManualClock, StorageContract
from aiohttp_session_store.testing.contract.sessions import load, stored_id
from aiohttp_session_store.testing.contract.verbs import HOUR, inserted, new_key
from tests.engine.suspending import SuspendingStorage
from tests.migrate.moving import OldResident

long = pytest.mark.long


class Moving(StorageContract):
    @pytest.fixture(
        params=["suspending", *(pytest.param(one, marks=long) for one in ("memory", "files", "files to memory"))]
    )
    def both(self, request: pytest.FixtureRequest, clock: ManualClock, tmp_path: Path) -> tuple[Any, Any]:
        options: dict[str, Any] = {"clock": clock, "sweep_interval": None}
        if request.param == "memory":
            return MemoryStorage(**options), MemoryStorage(**options)
        if request.param == "suspending":
            return SuspendingStorage(**options), SuspendingStorage(**options)
        old = FileSystemStorage(tmp_path / "old", **options)
        if request.param == "files":
            return FileSystemStorage(tmp_path / "new", **options), old
        return MemoryStorage(**options), old


async def running(storage: MigratingStorage) -> AsyncIterator[KeyedStorage]:
    await storage.start()
    yield storage
    await storage.aclose()


class TestSessionsThatAreCreatedWhileOthersMove(Moving):
    @pytest.fixture
    async def storage(self, both: tuple[Any, Any]) -> AsyncIterator[KeyedStorage]:
        async for storage in running(MigratingStorage(*both)):
            yield storage


class TestTheStepBefore(Moving):
    @pytest.fixture
    async def storage(self, both: tuple[Any, Any]) -> AsyncIterator[KeyedStorage]:
        async for storage in running(MigratingStorage(*both, moving=False)):
            yield storage


class TestSessionsThatMove(Moving):
    @pytest.fixture
    async def storage(self, both: tuple[Any, Any]) -> AsyncIterator[KeyedStorage]:
        async for storage in running(OldResident(*both)):
            yield storage

    # A touch moves the session and so gives it a new version; these tests of the contract are adapted to that.

    async def test_touching_extends_and_keeps_data_and_version(self, storage: KeyedStorage, clock: ManualClock) -> None:
        key, expires_at = new_key(), int(clock()) + HOUR
        version = await inserted(storage, key, b"data", expires_at)
        assert await storage.touch(key, expires_at + HOUR, version) is True
        stored = await storage.fetch(key)
        assert stored is not None
        assert (stored.data, stored.expires_at) == (b"data", expires_at + HOUR)
        assert await storage.replace(key, b"new", expires_at, version) is None
        assert await storage.replace(key, b"new", expires_at, stored.version)

    async def test_a_touch_that_races_a_replace_undoes_nothing(self, storage: KeyedStorage, clock: ManualClock) -> None:
        expires_at = int(clock()) + HOUR
        for _ in range(20):
            key = new_key()
            version = await inserted(storage, key, b"first", expires_at)
            touched, newer, again = await asyncio.gather(
                storage.touch(key, expires_at + 1, version),
                storage.replace(key, b"second", expires_at, version),
                storage.touch(key, expires_at + 2, version),
            )
            stored = await storage.fetch(key)
            assert stored is not None
            assert [touched, newer is not None, again].count(True) == 1
            assert stored.data == (b"first" if newer is None else b"second")

    async def test_of_racing_touches_the_latest_expiry_stands(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """At least the expiry of the successful touch stands, which is the one that moves the session."""
        expires_at = int(clock()) + HOUR
        for _ in range(20):
            key = new_key()
            version = await inserted(storage, key, b"data", expires_at)
            later = [expires_at + seconds for seconds in (2, 9, 4, 7, 1)]
            done = await asyncio.gather(*(storage.touch(key, each, version) for each in later))
            stored = await storage.fetch(key)
            assert stored is not None
            assert done.count(True) == 1
            assert later[done.index(True)] <= stored.expires_at <= max(later)

    async def test_reading_keeps_a_session_alive_without_rewriting_it(
        self, storage: KeyedStorage, clock: ManualClock
    ) -> None:
        """Only the first touch, which moves the session, rewrites it."""
        session_id = await stored_id(storage, user=5)
        versions = []
        for _ in range(4):
            clock.advance(timedelta(days=13))
            session = await load(storage, session_id)
            assert dict(session) == {"user": 5}
            await storage.save(session)
            stored = await storage.fetch(session.key)
            assert stored is not None
            versions.append(stored.version)
        assert len(set(versions)) == 1
