"""A server for all tests, which keep out of each other's way by the prefix of their keys."""

import secrets
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from aiohttp_session_store.storages.redis import RedisStorage
from aiohttp_session_store.testing import ManualClock
from tests.servers.redis import RedisServer, redis_cluster, redis_server


@pytest.fixture(scope="session")
def shared_server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(scope="session")
def cluster() -> Iterator[list[RedisServer]]:
    """Return three masters that share the slots."""
    with redis_cluster() as servers:
        yield servers


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """Return a server of the test's own, to be treated badly."""
    with redis_server() as server:
        yield server


@pytest.fixture
def prefix() -> str:
    return f"test-{secrets.token_hex(4)}:"


@pytest.fixture
async def client(shared_server: RedisServer) -> AsyncIterator[Redis]:
    client = Redis.from_url(shared_server.url)
    yield client
    await client.aclose()


@pytest.fixture
async def storage(client: Redis, prefix: str) -> AsyncIterator[RedisStorage]:
    storage = RedisStorage(client, prefix=prefix)
    yield storage
    await storage.aclose()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_900_000_000)
