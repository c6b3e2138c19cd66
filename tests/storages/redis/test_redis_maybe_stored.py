"""An error says whether nothing was stored, or whether nobody can know."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.cluster import RedisCluster

from aiohttp_session_store import StorageError
from aiohttp_session_store.storages.redis import RedisStorage
from tests.servers.away import EXPIRES_AT, KEY, started
from tests.servers.proxy import Fate, Proxy, answer_lost, followed_by, lost_on_the_way, proxy, silence
from tests.servers.redis import RedisServer

VERSION = b"version1"
TIMEOUT = 1.0

Write = Callable[[RedisStorage], Awaitable[object]]
WRITES: dict[str, Write] = {
    "insert": lambda storage: storage.insert(KEY, b"data", EXPIRES_AT),
    "replace": lambda storage: storage.replace(KEY, b"data", EXPIRES_AT, VERSION),
    "touch": lambda storage: storage.touch(KEY, EXPIRES_AT, VERSION),
    "delete": lambda storage: storage.delete(KEY),
    "delete at a version": lambda storage: storage.delete(KEY, VERSION),
}
each_write = pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)


@pytest.fixture
async def way(server: RedisServer) -> AsyncIterator[Proxy]:
    async with proxy(server.port) as one:
        yield one


@pytest.fixture
async def storage(way: Proxy) -> AsyncIterator[RedisStorage]:
    async with started(RedisStorage.from_url(way.url, timeout=TIMEOUT)) as one:
        yield one


async def error_of(storage: RedisStorage, write: Write) -> StorageError:
    with pytest.raises(StorageError) as caught:
        await write(storage)
    assert caught.value.__cause__ is not None
    return caught.value


# --- nobody can know


@each_write
@pytest.mark.parametrize("fate", [answer_lost, lost_on_the_way, silence])
async def test_a_write_whose_answers_were_all_lost(storage: RedisStorage, way: Proxy, write: Write, fate: Fate) -> None:
    for word in (b"EVALSHA", b"DEL\r\n"):
        way.next(*[fate] * 4, word=word)
    error = await error_of(storage, write)

    assert error.maybe_stored
    assert "may have been carried out" in str(error)


@each_write
async def test_a_write_whose_answer_was_lost_and_whose_server_then_refuses_connections(
    storage: RedisStorage, way: Proxy, write: Write
) -> None:
    for word in (b"EVALSHA", b"DEL\r\n"):
        way.next(followed_by(answer_lost, way.refuse), word=word)

    assert (await error_of(storage, write)).maybe_stored


async def test_a_write_whose_answer_was_lost_and_whose_server_is_then_full(
    storage: RedisStorage, way: Proxy, server: RedisServer
) -> None:
    await storage.insert("cd" * 32, b"", EXPIRES_AT)
    async with Redis.from_url(server.url) as client:
        way.next(followed_by(lost_on_the_way, lambda: client.config_set("maxmemory", 1)))
        error = await error_of(storage, WRITES["insert"])

    assert error.maybe_stored
    assert "maxmemory" in str(error)


async def test_a_write_whose_answer_was_lost_and_whose_server_is_then_a_replica(
    storage: RedisStorage, way: Proxy, server: RedisServer, shared_server: RedisServer
) -> None:
    await storage.insert("cd" * 32, b"", EXPIRES_AT)
    async with Redis.from_url(server.url) as client:
        way.next(followed_by(lost_on_the_way, lambda: client.replicaof("127.0.0.1", shared_server.port)))
        error = await error_of(storage, WRITES["insert"])

    assert error.maybe_stored
    assert "read only" in str(error)


async def test_a_write_whose_answer_was_lost_and_whose_server_then_has_to_learn_the_script(
    storage: RedisStorage, way: Proxy, server: RedisServer
) -> None:
    """That it does not know the script says nothing about the server that lost the answer."""
    await storage.insert("cd" * 32, b"", EXPIRES_AT)
    async with Redis.from_url(server.url) as client:

        async def forget_all() -> None:
            await client.script_flush()
            await client.delete(f"session:{KEY}", f"session:recent:{{session:{KEY}}}")
            await client.set(f"session:{KEY}", b"version9" + b"%016d" % EXPIRES_AT)

        way.next(followed_by(answer_lost, forget_all))
        with pytest.raises(StorageError) as caught:
            await storage.insert(KEY, b"data", EXPIRES_AT)

    assert caught.value.maybe_stored


# --- nothing was stored


@each_write
async def test_a_server_that_refuses_connections(storage: RedisStorage, way: Proxy, write: Write) -> None:
    await way.refuse()
    way.kill()
    await error_of(storage, lambda storage: storage.fetch(KEY))  # it has noticed that its connections are closed

    assert not (await error_of(storage, write)).maybe_stored


@each_write
async def test_a_server_that_is_a_replica(
    storage: RedisStorage, server: RedisServer, shared_server: RedisServer, write: Write
) -> None:
    version = await storage.insert(KEY, b"", EXPIRES_AT)
    async with Redis.from_url(server.url) as client:
        await client.set(f"session:{KEY}", VERSION + b"0" * 16)
        await client.replicaof("127.0.0.1", shared_server.port)
    if write is WRITES["insert"]:
        write = lambda storage: storage.insert("cd" * 32, b"", EXPIRES_AT)  # noqa: E731

    assert version
    assert not (await error_of(storage, write)).maybe_stored


@pytest.mark.parametrize("write", [WRITES["insert"], WRITES["replace"]], ids=["insert", "replace"])
async def test_a_server_that_is_full(storage: RedisStorage, server: RedisServer, write: Write) -> None:
    async with Redis.from_url(server.url) as client:
        if write is WRITES["replace"]:
            await client.set(f"session:{KEY}", VERSION + b"0" * 16)
        await client.config_set("maxmemory", 1)
    error = await error_of(storage, write)

    assert "maxmemory" in str(error)
    assert not error.maybe_stored


@each_write
async def test_a_server_that_wants_a_password(storage: RedisStorage, server: RedisServer, write: Write) -> None:
    async with Redis.from_url(server.url) as client:
        await client.config_set("requirepass", "secret")
        await client.client_kill_filter(_type="normal", skipme=True)
    await error_of(storage, lambda storage: storage.fetch(KEY))  # it has connected anew
    error = await error_of(storage, write)

    assert "AuthenticationError" in str(error)
    assert not error.maybe_stored


@each_write
async def test_a_user_who_may_not_write(server: RedisServer, write: Write) -> None:
    async with Redis.from_url(server.url) as client:
        await client.acl_setuser("app", enabled=True, passwords=["+pw"], keys=["*"], categories=["+@all", "-@write"])
        await client.set(f"session:{KEY}", VERSION + b"0" * 16)
    async with started(RedisStorage.from_url(f"redis://app:pw@127.0.0.1:{server.port}")) as storage:
        if write is WRITES["insert"]:
            write = lambda storage: storage.insert("cd" * 32, b"", EXPIRES_AT)  # noqa: E731
        error = await error_of(storage, write)

    assert "permission" in str(error) or "can't run this command" in str(error)
    assert not error.maybe_stored


@each_write
async def test_a_pool_that_is_full(way: Proxy, write: Write) -> None:
    pool = ConnectionPool.from_url(way.url, max_connections=1)
    storage = RedisStorage(Redis(connection_pool=pool), timeout=TIMEOUT)
    taken = await storage._calls._connections._get_connection()
    error = await error_of(storage, write)
    await pool.release(taken)
    await pool.disconnect()

    assert not error.maybe_stored


async def test_a_read_stores_nothing(storage: RedisStorage, way: Proxy) -> None:
    way.next(*[answer_lost] * 4, word=b"GET")

    assert not (await error_of(storage, lambda storage: storage.fetch(KEY))).maybe_stored


async def test_a_lock_stores_nothing(storage: RedisStorage, way: Proxy) -> None:
    async def take(storage: RedisStorage) -> None:
        async with storage.lock(KEY):
            pass

    way.next(*[answer_lost] * 4)

    assert not (await error_of(storage, take)).maybe_stored


# --- on a cluster


@each_write
async def test_on_a_cluster_it_is_the_same(cluster: list[RedisServer], prefix: str, write: Write) -> None:
    proxies = [Proxy(server.port) for server in cluster]
    for one in proxies:
        await one.listen()
        one.shares_fates_with(proxies[0])
    ports = {server.port: one.port for server, one in zip(cluster, proxies, strict=True)}
    client = RedisCluster(
        host="127.0.0.1",
        port=proxies[0].port,
        socket_timeout=TIMEOUT / 2,
        address_remap=lambda address: (address[0], ports.get(address[1], address[1])),
    )
    storage = RedisStorage(client, prefix=prefix, timeout=4)
    await storage.fetch(KEY)
    for word in (b"EVALSHA", b"DEL\r\n"):
        proxies[0].next(*[answer_lost] * 4, word=word)
    lost = await error_of(storage, write)
    await storage.fetch(KEY)
    for one in proxies:
        await one.refuse()
        one.kill()
    await error_of(storage, lambda storage: storage.fetch(KEY))
    refused = await error_of(storage, write)
    await storage.aclose()
    await client.aclose()
    for one in proxies:
        await one.close()

    assert (lost.maybe_stored, refused.maybe_stored) == (True, False)


async def test_of_writes_that_share_a_trip_those_with_an_answer_know_it(
    storage: RedisStorage, way: Proxy, server: RedisServer
) -> None:
    """One was refused, one was stored, and the answer to the last one was lost, like all that came after it."""
    keys = [f"{number:064x}" for number in range(3)]
    await storage.insert(keys[1], b"", EXPIRES_AT)
    async with Redis.from_url(server.url) as client:
        await client.lpush(f"session:{keys[0]}", "a list")

    async def two_answers_only(request) -> None:  # type: ignore[no-untyped-def]
        answers = await request.deliver()
        request.answer(b"\r\n".join(answers.split(b"\r\n")[:2]) + b"\r\n")
        request.hang_up()

    way.next(two_answers_only, *[lost_on_the_way] * 3)
    refused, known, lost = await asyncio.gather(
        *(storage.insert(key, b"", EXPIRES_AT) for key in keys), return_exceptions=True
    )

    assert isinstance(refused, StorageError)
    assert not refused.maybe_stored
    assert known is None
    assert isinstance(lost, StorageError)
    assert lost.maybe_stored
