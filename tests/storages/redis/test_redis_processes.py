"""One storage object in several event loops, in forked processes, and with a client that is closed meanwhile."""

import asyncio
import gc
import os
import socket
import traceback
import warnings
from collections.abc import Awaitable, Callable

import pytest
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from aiohttp_session_store import ConfigurationError, StorageError
from aiohttp_session_store.storages.redis import RedisStorage
from tests.servers.away import started
from tests.servers.proxy import Request, proxy
from tests.servers.redis import RedisServer

KEYS = [f"{number:064x}" for number in range(100)]
EXPIRES_AT = 4_000_000_000
PATIENCE = 20  # seconds, after which something hangs


def code_of_child(work: Callable[[], Awaitable[None]]) -> int:
    """Run *work* in a forked child, in an event loop of its own, and return the child's exit code."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            asyncio.events._set_running_loop(None)  # the parent's loop
            asyncio.run(asyncio.wait_for(work(), PATIENCE))
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def connected(storage: RedisStorage) -> list[socket.socket]:
    """Return the sockets of the idle connections."""
    pool = storage._client.connection_pool
    return [one._writer.get_extra_info("socket") for one in pool._available_connections if one.is_connected]


@pytest.mark.parametrize("client", ["from_url", "Redis"])
async def test_a_forked_child_leaves_the_connections_to_its_parent(
    shared_server: RedisServer, prefix: str, client: str
) -> None:
    """In the middle of a request, with connections that are idle and one that is in use."""
    ours = Redis(port=shared_server.port)
    storage = RedisStorage.from_url(shared_server.url) if client == "from_url" else RedisStorage(ours, prefix=prefix)
    async with started(storage), ours:
        await asyncio.gather(*map(storage.fetch, KEYS))
        before = [one.getsockname() for one in connected(storage)]
        assert len(before) >= 4
        under_way = asyncio.ensure_future(storage.insert(KEYS[0], b"parent", EXPIRES_AT))
        while not storage._calls._sending:
            await asyncio.sleep(0)
        await asyncio.sleep(0)

        async def child() -> None:
            for _ in range(3):
                version = await storage.insert(KEYS[1], b"child", EXPIRES_AT)
                assert version
                assert await storage.delete(KEYS[1], version)
            await asyncio.gather(*map(storage.fetch, KEYS))
            assert not {one.getsockname() for one in connected(storage)} & set(before)
            await storage.aclose()

        assert code_of_child(child) == 0
        async with asyncio.timeout(PATIENCE):
            assert await under_way
            await asyncio.gather(*map(storage.fetch, KEYS))
            assert await storage.delete(KEYS[0])
        assert {one.getsockname() for one in connected(storage)} >= set(before)


@pytest.mark.parametrize("ended", [True, False])
def test_a_client_that_was_used_in_another_loop_can_be_used(
    shared_server: RedisServer, prefix: str, ended: bool
) -> None:
    """For example, if a script has called ``asyncio.run(client.ping())`` before it runs the app."""
    client, first = Redis.from_url(shared_server.url), asyncio.new_event_loop()

    async def use() -> None:
        async with started(RedisStorage(client, prefix=prefix)) as storage:
            assert await storage.insert(KEYS[0], b"", EXPIRES_AT)
        await client.aclose()

    with warnings.catch_warnings(action="ignore", category=ResourceWarning):  # connections of the first loop
        try:
            first.run_until_complete(asyncio.wait_for(Redis.ping(client), PATIENCE))
            if ended:
                first.close()
            asyncio.run(asyncio.wait_for(use(), PATIENCE))
        finally:
            first.close()
        gc.collect()


@pytest.mark.parametrize("ended", [True, False])
def test_a_client_of_a_cluster_that_was_used_in_another_loop_is_refused_at_the_start(
    cluster: list[RedisServer], ended: bool
) -> None:
    client, first = RedisCluster.from_url(cluster[0].url, socket_timeout=1), asyncio.new_event_loop()
    first.run_until_complete(asyncio.wait_for(client.get("key"), PATIENCE))
    if ended:
        first.run_until_complete(asyncio.sleep(0))
        first.close()
    storage = RedisStorage(client)

    with pytest.raises(ConfigurationError, match=r"this RedisCluster was used in another event loop\. Make the client"):
        asyncio.run(asyncio.wait_for(storage.start(), PATIENCE))

    if not ended:
        first.run_until_complete(client.aclose())
        first.close()
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):  # connections of the first loop
        del client, storage
        gc.collect()


@pytest.mark.parametrize("client", ["from_url", "Redis"])
def test_connections_of_a_loop_that_has_ended_are_replaced(
    shared_server: RedisServer, prefix: str, client: str
) -> None:
    """As in a test suite with one storage for all tests, each with a loop of its own."""
    ours = Redis(port=shared_server.port)
    storage = RedisStorage.from_url(shared_server.url) if client == "from_url" else RedisStorage(ours, prefix=prefix)

    async def use() -> None:
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*map(storage.fetch, KEYS))
            version = await storage.insert(KEYS[0], b"", EXPIRES_AT)
            assert version
            version = await storage.replace(KEYS[0], b"", EXPIRES_AT, version)
            assert version
            async with storage.lock(KEYS[0]) as lease:
                await lease()
            assert await storage.delete(KEYS[0], version)

    with warnings.catch_warnings(action="ignore", category=ResourceWarning):  # those of the loops that have ended
        for _ in range(3):
            asyncio.run(use())
        asyncio.run(storage.aclose())
        ours.connection_pool.reset()  # type: ignore[no-untyped-call]
        gc.collect()


async def test_a_client_that_is_closed_meanwhile_lets_commands_end(shared_server: RedisServer, prefix: str) -> None:
    async with proxy(shared_server.port) as way:
        ours = Redis(port=way.port)
        storage = RedisStorage(ours, prefix=prefix, timeout=2)
        await storage.insert(KEYS[0], b"", EXPIRES_AT)

        async def close(request: Request) -> None:
            await request.deliver()
            await ours.aclose()

        way.next(close)
        writing = storage.insert(KEYS[1], b"", EXPIRES_AT)
        async with asyncio.timeout(PATIENCE):
            outcome = (await asyncio.gather(writing, return_exceptions=True))[0]
        await storage.aclose()
        await ours.aclose()
        await ours.connection_pool.disconnect()

    assert isinstance(outcome, bytes | StorageError)


@pytest.mark.parametrize("steps", range(12))
async def test_a_request_that_is_cancelled_at_any_step_leaves_the_connections_in_order(
    shared_server: RedisServer, prefix: str, steps: int
) -> None:
    """Afterwards each command gets the answer to itself, and to none before."""
    async with started(RedisStorage.from_url(shared_server.url, prefix=prefix)) as storage:
        for key in KEYS[:8]:
            await storage.insert(key, key.encode(), EXPIRES_AT)
        tasks: list[asyncio.Future[object]] = [asyncio.ensure_future(storage.fetch(key)) for key in KEYS[:8]]
        tasks += [asyncio.ensure_future(storage.insert(key, key.encode(), EXPIRES_AT)) for key in KEYS[8:16]]
        for _ in range(steps):
            await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.wait(tasks)
        for task in tasks[1::2]:
            assert task.exception() is None
        for key in KEYS[:8]:
            stored = await storage.fetch(key)
            assert stored is not None
            assert stored.data == key.encode()


@pytest.mark.parametrize("steps", range(12))
def test_a_loop_that_is_stopped_at_any_step_cancels_those_who_wait(
    shared_server: RedisServer, prefix: str, steps: int
) -> None:
    storage = RedisStorage.from_url(shared_server.url, prefix=prefix)
    ended: list[BaseException | None] = []

    async def ask() -> None:
        try:
            await storage.fetch(KEYS[0])
        except BaseException as error:
            ended.append(error)
            raise
        ended.append(None)

    async def stop() -> None:
        await storage.fetch(KEYS[1])
        task = asyncio.ensure_future(ask())
        for _ in range(steps):
            await asyncio.sleep(0)
        for one in asyncio.all_tasks() - {asyncio.current_task()}:
            one.cancel()
        await asyncio.wait([task], timeout=PATIENCE)
        await storage.aclose()

    asyncio.run(stop())

    assert len(ended) <= 1
    assert all(one is None or isinstance(one, asyncio.CancelledError) for one in ended)
