"""A firewall or proxy forgets connections without closing them: nobody gets a 503, and few wait."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpClient
from redis.asyncio import BlockingConnectionPool, Redis

from aiohttp_session_store import SessionCookie, get_session, setup
from aiohttp_session_store.storages.redis import RedisStorage, connections
from tests.servers.away import started
from tests.servers.proxy import Proxy, Request, proxy
from tests.servers.redis import RedisServer
from tests.storages.redis.test_redis_storage import calls
from tests.web.storages import SECRET

KEYS = [f"{number:064x}" for number in range(100)]
EXPIRES_AT = 4_000_000_000
PATIENCE = 30  # seconds, after which something hangs

CLIENTS: dict[str, Callable[[Proxy], Redis]] = {
    "Redis": lambda way: Redis(port=way.port),
    "Redis.from_url": lambda way: Redis.from_url(way.url, socket_timeout=None),
    "one that checks its health": lambda way: Redis(port=way.port, health_check_interval=1),
    "a pool that waits": lambda way: Redis(connection_pool=BlockingConnectionPool.from_url(way.url)),
    "one connection": lambda way: Redis(port=way.port, single_connection_client=True),
}


@pytest.fixture
async def way(shared_server: RedisServer) -> AsyncIterator[Proxy]:
    async with proxy(shared_server.port) as one:
        yield one


async def count(request: web.Request) -> web.Response:
    session = await get_session(request)
    session["visits"] = session.get("visits", 0) + 1
    return web.Response(text=str(session["visits"]))


@pytest.mark.parametrize("client", ["from_url", *CLIENTS])
async def test_of_sixty_visitors_at_once_none_gets_a_503(
    way: Proxy, prefix: str, aiohttp_client: AiohttpClient, client: str
) -> None:
    ours = None if client == "from_url" else CLIENTS[client](way)
    storage = RedisStorage.from_url(way.url, prefix=prefix) if ours is None else RedisStorage(ours, prefix=prefix)
    app = web.Application()
    app.router.add_get("/", count)
    setup(app, storage, cookie=SessionCookie(secrets=SECRET))
    visitors = await aiohttp_client(app)

    async def visit(cookie: str | None) -> tuple[int, str]:
        async with visitors.get("/", headers={"Cookie": cookie} if cookie else {}) as response:
            return response.status, response.headers.get("Set-Cookie", "").partition(";")[0]

    cookies = [cookie for _, cookie in await asyncio.gather(*(visit(None) for _ in range(60)))]
    way.forget()
    statuses = [status for status, _ in await asyncio.gather(*map(visit, cookies))]
    dropped = way.dropped
    statuses += [status for status, _ in await asyncio.gather(*map(visit, cookies))]
    await visitors.close()
    if ours is not None:
        await ours.aclose()
        await ours.connection_pool.disconnect()

    assert statuses == [200] * 120
    assert dropped > 0
    assert way.dropped == dropped, "only the first visit may have to wait"


async def test_after_one_connection_has_gone_silent_no_other_one_is_waited_for(way: Proxy, prefix: str) -> None:
    async with started(RedisStorage.from_url(way.url, prefix=prefix, timeout=2)) as storage:
        await asyncio.gather(*map(storage.fetch, KEYS))  # over four connections
        way.forget()
        await storage.fetch(KEYS[0])
        await asyncio.gather(*map(storage.fetch, KEYS))

    assert way.dropped == 1


async def test_a_connection_that_was_idle_is_given_up_sooner(
    way: Proxy, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long before a busy one would be."""
    monkeypatch.setattr(connections, "_IDLE", 0)
    async with started(RedisStorage.from_url(way.url, prefix=prefix, timeout=PATIENCE)) as storage:
        await storage.fetch(KEYS[0])
        way.forget()
        async with asyncio.timeout(PATIENCE / 3):
            assert await storage.insert(KEYS[0], b"", EXPIRES_AT)


async def test_a_server_that_takes_its_time_is_not_asked_again(way: Proxy, prefix: str) -> None:
    async def take_time(request: Request) -> None:
        answer = await request.deliver()
        await asyncio.sleep(0.5)
        request.answer(answer)

    async with started(RedisStorage.from_url(way.url, prefix=prefix, timeout=PATIENCE)) as storage:
        await storage.fetch(KEYS[0])
        way.next(take_time, word=b"GET")
        sent = len(way.requests)
        await storage.fetch(KEYS[0])
        connections_made = way.connections
        await storage.fetch(KEYS[0])

    assert len(way.requests) == sent + 2
    assert way.connections == connections_made


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_connection_that_works_is_not_asked_whether_it_does(
    server: RedisServer, way: Proxy, client: str
) -> None:
    """Each command is one round trip, even if a connection was idle for as long as you like."""
    way.target = server.port
    ours = CLIENTS[client](way)
    storage = RedisStorage(ours)
    version = await storage.insert(KEYS[0], b"", EXPIRES_AT) or b""
    async with Redis.from_url(server.url) as other:
        await other.config_resetstat()
        sent = len(way.requests)
        for _ in range(10):
            await storage.fetch(KEYS[0])
            version = await storage.replace(KEYS[0], b"", EXPIRES_AT, version) or b""
        made = await calls(other)
    await ours.aclose()
    await ours.connection_pool.disconnect()

    assert len(way.requests) - sent == 20
    assert made["ping"] == 0


async def test_idle_connections_are_kept_alive_and_late_packets_are_dropped(shared_server: RedisServer) -> None:
    """By the kernel: it proves idle connections, and delivers nothing after we have given it up."""
    async with started(RedisStorage.from_url(shared_server.url, timeout=4)) as storage:
        await storage.fetch(KEYS[0])
        (connection,) = storage._client.connection_pool._available_connections
        one = connection._writer.get_extra_info("socket")
        assert one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
        assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 4000
