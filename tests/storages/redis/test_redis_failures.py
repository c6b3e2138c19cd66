"""Servers that are away, slow, full or read-only, and come back: 503 in the meantime, and nothing to restart."""

import asyncio
import logging
import os
import time
from contextlib import AsyncExitStack, suppress

import pytest
from aiohttp import DummyCookieJar, web
from pytest_aiohttp import AiohttpClient
from redis.asyncio import Redis
from redis.exceptions import RedisError

from aiohttp_session_store import SessionCookie, StorageError, exclusive_session, get_session, setup
from aiohttp_session_store.storages.redis import RedisStorage
from tests.servers.away import EXPIRES_AT, KEY, all_fail, silent_server, started
from tests.servers.proxy import proxy
from tests.servers.redis import RedisServer, redis_server
from tests.web.storages import SECRET


async def test_a_server_that_is_away_is_a_storage_error_until_it_is_back(server: RedisServer) -> None:
    async with started(RedisStorage.from_url(server.url)) as storage:
        await storage.insert(KEY, b"", EXPIRES_AT)
        server.kill()
        await all_fail(storage)
        server.start()

        assert await storage.fetch(KEY) is None
        assert await storage.insert(KEY, b"", EXPIRES_AT)


async def test_an_app_starts_without_its_server_and_says_so(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.kill()
    async with started(RedisStorage.from_url(server.url)) as storage:
        assert "sessions are unavailable" in caplog.text
        server.start()

        assert await storage.fetch(KEY) is None


async def test_a_server_that_never_answers_is_given_up() -> None:
    async with (
        silent_server() as port,
        started(RedisStorage.from_url(f"redis://127.0.0.1:{port}", timeout=0.2)) as storage,
    ):
        before = time.monotonic()
        said = await all_fail(storage)

        assert time.monotonic() - before < 5 * 0.2 + 3
        assert all("did not answer" in one for one in said), said


async def test_a_server_that_is_full_keeps_what_it_has(server: RedisServer) -> None:
    async with started(RedisStorage.from_url(server.url)) as storage, Redis.from_url(server.url) as client:
        version = await storage.insert(KEY, b"old", EXPIRES_AT)
        await client.config_set("maxmemory", "1mb")
        await client.config_set("maxmemory", 1)
        with pytest.raises(StorageError, match="maxmemory"):
            await storage.replace(KEY, b"new", EXPIRES_AT, version or b"")
        stored = await storage.fetch(KEY)
        assert stored is not None
        assert stored.data == b"old"

        await client.config_set("maxmemory", 0)
        assert await storage.replace(KEY, b"new", EXPIRES_AT, version or b"")


async def test_a_read_only_replica_is_a_storage_error_until_it_is_promoted(
    server: RedisServer, shared_server: RedisServer
) -> None:
    async with started(RedisStorage.from_url(server.url)) as storage, Redis.from_url(server.url) as client:
        await client.replicaof("127.0.0.1", shared_server.port)
        with pytest.raises(StorageError, match="read only replica"):
            await storage.insert(KEY, b"", EXPIRES_AT)
        await client.replicaof("NO", "ONE")

        assert await storage.insert(KEY, b"", EXPIRES_AT)


async def test_after_a_failover_the_name_of_the_server_is_looked_up_again(
    server: RedisServer, shared_server: RedisServer, prefix: str
) -> None:
    """It may lead to another server by now, which only a new connection finds.  Nobody sees an error."""
    async with (
        proxy(server.port) as name,
        started(RedisStorage.from_url(name.url, prefix=prefix)) as storage,
        Redis.from_url(server.url) as client,
    ):
        await asyncio.gather(*(storage.fetch(f"{number:064x}") for number in range(100)))  # over four connections
        name.target = shared_server.port
        await client.replicaof("127.0.0.1", shared_server.port)
        assert await storage.insert(KEY, b"", EXPIRES_AT)
        with shared_server.client() as master:
            assert master.exists(f"{prefix}{KEY}")
        found = await asyncio.gather(*(storage.insert(f"{number:064x}", b"", EXPIRES_AT) for number in range(100)))

    assert all(found)


async def test_a_server_that_is_loading_is_a_storage_error_until_it_has_loaded(server: RedisServer) -> None:
    with server.client() as client:
        client.mset({f"filler:{number}": os.urandom(100_000) for number in range(800)})
        client.save()
    server.kill()
    server.options = ("--key-load-delay", "12000")  # ten seconds; it looks at its clients every 2 MB
    server.launch()

    said = set()
    async with started(RedisStorage.from_url(server.url, timeout=2)) as storage, asyncio.timeout(40):
        while True:
            try:
                await storage.fetch(KEY)
                break
            except StorageError as error:
                said.add(str(error))
                if "loading the dataset" in str(error):
                    with suppress(RedisError), server.client() as client:
                        client.config_set("key-load-delay", 0)  # seen; the rest may be quick
                await asyncio.sleep(0.02)

    assert any("loading the dataset" in one for one in said), said


@pytest.mark.parametrize("client", ["from_url", "Redis"])
async def test_connections_that_are_killed_amid_traffic_cost_no_error_and_no_write(
    shared_server: RedisServer, prefix: str, client: str
) -> None:
    """Sixteen visitors write to four sessions through two processes, and all connections are reset twenty times."""
    async with AsyncExitStack() as stack:
        way = await stack.enter_async_context(proxy(shared_server.port))
        storages = []
        for _ in range(2):
            if client == "from_url":
                storage = RedisStorage.from_url(way.url, prefix=prefix)
            else:
                storage = RedisStorage(await stack.enter_async_context(Redis(port=way.port)), prefix=prefix)
            storages.append(await stack.enter_async_context(started(storage)))
        ids = []
        for _ in range(4):
            session = await storages[0].read(None)
            session["started"] = True
            ids.append(await storages[0].save(session))
        written = [0] * 16
        over = False

        async def visit(number: int) -> None:
            storage = storages[number % 2]
            while not over:
                session = await storage.read(ids[number // 2 % 4])
                assert session.get(f"visitor {number}", 0) == written[number]
                session[f"visitor {number}"] = written[number] + 1
                await storage.save(session)
                written[number] += 1

        async with asyncio.TaskGroup() as visitors:
            for number in range(16):
                visitors.create_task(visit(number))
            for _ in range(20):
                before = list(written)
                while any(now < then + 3 for now, then in zip(written, before, strict=True)):
                    await asyncio.sleep(0)
                way.kill()
            over = True


# --- what may be evicted


@pytest.mark.parametrize(
    ("policy", "maxmemory", "warning"),
    [
        ("noeviction", "100mb", None),
        ("allkeys-lru", "0", None),
        ("allkeys-lru", "100mb", "evicts any key"),
        ("volatile-ttl", "100mb", "evicts keys that expire, as sessions do"),
    ],
)
async def test_a_server_that_may_evict_sessions_is_warned_of(
    server: RedisServer, caplog: pytest.LogCaptureFixture, policy: str, maxmemory: str, warning: str | None
) -> None:
    with server.client() as client:
        client.config_set("maxmemory", maxmemory)
        client.config_set("maxmemory-policy", policy)
    with caplog.at_level(logging.WARNING):
        async with started(RedisStorage.from_url(server.url)):
            pass

    assert (warning in caplog.text) if warning else not caplog.records


async def test_a_user_who_may_not_ask_that_has_sessions_all_the_same(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """INFO is a dangerous command, by Redis's own category, and often withheld."""
    with server.client() as client:
        client.acl_setuser(
            "app", enabled=True, passwords=["+pw"], keys=["session:*"], categories=["+@all", "-@dangerous"]
        )
    url = f"redis://app:pw@127.0.0.1:{server.port}"
    with caplog.at_level(logging.INFO):
        async with started(RedisStorage.from_url(url)) as storage:
            assert await storage.insert(KEY, b"", EXPIRES_AT)

    assert [(record.levelname, "could not ask the Redis server" in record.message) for record in caplog.records] == [
        ("INFO", True)
    ]


# --- an app in front of it


async def count(request: web.Request) -> web.Response:
    session = await get_session(request)
    session["visits"] = session.get("visits", 0) + 1
    return web.Response(text=str(session["visits"]))


async def test_a_server_that_restarts_amid_traffic_costs_503s_and_no_answered_write(
    aiohttp_client: AiohttpClient,
) -> None:
    """With a log that is synced at each write; without one it forgets everything, and all visitors start anew."""
    durable = ("--appendonly", "yes", "--appendfsync", "always")
    with redis_server(*durable) as server:
        app = web.Application()
        app.router.add_get("/", count)
        setup(app, RedisStorage.from_url(server.url, timeout=2), cookie=SessionCookie(secrets=SECRET))
        client = await aiohttp_client(app)
        answered, statuses = 0, set()

        async def ask() -> int:
            nonlocal answered
            async with client.get("/") as response:
                statuses.add(response.status)
                if response.status == 200:
                    visits = int(await response.text())
                    # a write whose answer was lost may have been stored: never fewer than were answered
                    assert visits > answered
                    answered = visits
                return response.status

        for _ in range(20):
            assert await ask() == 200
        server.kill()
        assert await ask() == 503
        server.start()
        for _ in range(20):
            assert await ask() == 200

        assert answered >= 40
        assert statuses == {200, 503}


async def test_a_server_that_is_away_costs_one_line_of_the_log_and_then_one_with_the_count(
    aiohttp_client: AiohttpClient, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether the request loads a session, stores its first one, or wants it exclusively."""

    async def count_exclusively(request: web.Request) -> web.Response:
        async with exclusive_session(request):
            return await count(request)

    app = web.Application()
    app.router.add_get("/", count)
    app.router.add_get("/exclusive", count_exclusively)
    storage = RedisStorage.from_url(server.url)
    setup(app, storage, cookie=SessionCookie(secrets=SECRET))
    client = await aiohttp_client(app, cookie_jar=DummyCookieJar())
    async with client.get("/") as response:
        known = {"Cookie": "session=" + response.cookies["session"].value}
    server.kill()
    caplog.clear()

    async def ask(path: str, headers: dict[str, str]) -> int:
        async with client.get(path, headers=headers) as response:
            return response.status

    asked = [ask(path, headers) for path in ("/", "/exclusive") for headers in ({}, known) for _ in range(25)]
    assert set(await asyncio.gather(*asked)) == {503}

    await client.close()  # the app stops, and tells what it has counted
    lines = [line for record in caplog.records for line in caplog.handler.format(record).splitlines()]
    assert len(lines) == 2
    assert "the storage failed 99 more times" in lines[1]
    assert all("sessions are unavailable: Redis: ConnectionError: Error" in line for line in lines)
