"""On a server that is full and evicts nothing, sessions can still be read, extended and ended."""

from collections.abc import AsyncIterator, Iterator

import pytest
from redis import Redis as SyncRedis
from redis.exceptions import OutOfMemoryError

from aiohttp_session_store import StorageError
from aiohttp_session_store.storages.redis import RedisStorage
from tests.servers.away import EXPIRES_AT, KEY, started
from tests.servers.redis import RedisServer, installed, packaged, redis_server

OTHER = "cd" * 32


@pytest.fixture(scope="module", params=["installed", "packaged"])
def any_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    binary = installed() if request.param == "installed" else packaged()
    if binary is None:
        pytest.skip(f"there is no Redis server that is {request.param}")
    with redis_server("--maxmemory-policy", "noeviction", binary=binary) as server:
        yield server


@pytest.fixture
def admin(any_server: RedisServer) -> Iterator[SyncRedis]:
    with any_server.client() as client:
        yield client
        client.config_set("maxmemory", 0)
        client.flushall()


@pytest.fixture
async def storage(any_server: RedisServer, admin: SyncRedis) -> AsyncIterator[RedisStorage]:
    async with started(RedisStorage.from_url(any_server.url)) as one:
        yield one


def fill(admin: SyncRedis) -> None:
    """Leave the server no memory."""
    admin.config_set("maxmemory", 1)
    with pytest.raises(OutOfMemoryError):
        admin.set("one more", "")


@pytest.mark.parametrize("knows_scripts", [True, False])
async def test_a_record_is_deleted_where_it_could_not_be_replaced(
    storage: RedisStorage, admin: SyncRedis, knows_scripts: bool
) -> None:
    version = await storage.insert(KEY, b"data", EXPIRES_AT) or b""
    await storage.delete(OTHER, version)
    fill(admin)
    with pytest.raises(StorageError, match="maxmemory"):
        await storage.replace(KEY, b"", EXPIRES_AT, version)
    if not knows_scripts:
        admin.script_flush()

    assert not await storage.delete(KEY, b"another one")
    assert await storage.fetch(KEY)
    assert await storage.delete(KEY, version)
    assert await storage.fetch(KEY) is None


async def test_a_record_is_extended(storage: RedisStorage, admin: SyncRedis) -> None:
    version = await storage.insert(KEY, b"data", EXPIRES_AT) or b""
    fill(admin)

    assert await storage.touch(KEY, EXPIRES_AT + 100, version)
    stored = await storage.fetch(KEY)
    assert stored is not None
    assert stored.expires_at == EXPIRES_AT + 100
    assert await storage.delete(KEY)


async def test_a_lock_that_is_held_is_renewed_and_released_and_no_other_one_is_taken(
    storage: RedisStorage, admin: SyncRedis
) -> None:
    async with storage.lock(KEY) as lease:
        fill(admin)
        await lease()
        with pytest.raises(StorageError, match="maxmemory"):
            await storage.lock(OTHER).__aenter__()

    assert not admin.exists(f"session:lock:{KEY}")
