"""The contract on a real server: with a given pool, with one of our own, and under a stricter isolation."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from aiohttp_session_store import KeyedStorage
from aiohttp_session_store.storages.postgres import PostgresStorage
from aiohttp_session_store.testing import ManualClock, StorageContract
from tests.servers.postgres import PostgresServer


class TestPostgresStorage(StorageContract):
    @pytest.fixture
    async def storage(self, pool: asyncpg.Pool, schema: str, clock: ManualClock) -> AsyncIterator[KeyedStorage]:
        storage = PostgresStorage(pool, schema=schema, clock=clock)
        await storage.create_schema()
        await storage.start()
        yield storage
        await storage.aclose()


@pytest.mark.long
class TestPostgresStorageWithAPoolOfItsOwn(StorageContract):
    @pytest.fixture
    async def storage(
        self, shared_server: PostgresServer, schema: str, clock: ManualClock
    ) -> AsyncIterator[KeyedStorage]:
        storage = PostgresStorage.from_dsn(shared_server.dsn, schema=schema, clock=clock)
        await storage.create_schema()
        await storage.start()
        yield storage
        await storage.aclose()


@pytest.mark.long
class TestPostgresStorageUnderRepeatableRead(StorageContract):
    """Where the loser of a race is told to ask again."""

    @pytest.fixture
    async def storage(
        self, shared_server: PostgresServer, schema: str, clock: ManualClock
    ) -> AsyncIterator[KeyedStorage]:
        settings = {"default_transaction_isolation": "repeatable read"}
        async with asyncpg.create_pool(shared_server.dsn, min_size=0, max_size=10, server_settings=settings) as pool:
            storage = PostgresStorage(pool, schema=schema, clock=clock)
            await storage.create_schema()
            await storage.start()
            yield storage
            await storage.aclose()
