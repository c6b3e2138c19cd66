"""Connections that vanish, answers that are lost, and pools without a free connection."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import asyncpg
import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpClient

from aiohttp_session_store import (
    SessionCookie,
    SessionLockError,
    StorageError,
    Stored,
    exclusive_session,
    get_session,
    setup,
)
from aiohttp_session_store.storages.postgres import PostgresStorage
from tests.servers.postgres import PostgresServer
from tests.servers.tcp_proxy import Fate, TcpProxy, tcp_proxy
from tests.web.storages import SECRET

KEY = "ab" * 32
EXPIRES_AT = 4_000_000_000


@pytest.fixture
async def proxy(shared_server: PostgresServer) -> AsyncIterator[TcpProxy]:
    async with tcp_proxy(shared_server.dsn) as proxy:
        yield proxy


@pytest.fixture
async def far(
    shared_server: PostgresServer, storage: PostgresStorage, proxy: TcpProxy, schema: str
) -> AsyncIterator[PostgresStorage]:
    """A storage on the same table as ``storage``, behind the proxy, with one connection."""
    far = PostgresStorage.from_dsn(proxy.dsn(shared_server.dsn), schema=schema, pool_size=1, timeout=3)
    yield far
    await far.aclose()


def let_a_minute_pass(storage: PostgresStorage) -> None:
    """Let all connections of *storage* have been idle for a minute."""
    connections = storage._connections
    connections._answered = {pid: then - 60 for pid, then in connections._answered.items()}


# --- idle connections


async def leave(_: Any) -> None:
    """Send nothing when a connection comes back."""


async def test_a_busy_connection_is_not_tested_and_an_idle_one_once(
    shared_server: PostgresServer, storage: PostgresStorage, schema: str
) -> None:
    said: list[str] = []

    async def listen(connection: Any) -> None:
        connection.add_query_logger(lambda record: said.append(record.query))

    fetch = storage._statements.fetch.one
    async with asyncpg.create_pool(shared_server.dsn, min_size=1, max_size=1, init=listen, reset=leave) as pool:
        storage = PostgresStorage(pool, schema=schema)
        for _ in range(100):
            await storage.fetch(KEY)
        assert said == [fetch] * 100
        said.clear()
        let_a_minute_pass(storage)
        for _ in range(3):
            await storage.fetch(KEY)
        assert said == ["SELECT 1", fetch, fetch, fetch]


async def count(request: web.Request) -> web.Response:
    session = await get_session(request)
    session["visits"] = session.get("visits", 0) + 1
    return web.Response(text=str(session["visits"]))


@pytest.mark.parametrize("own", [True, False])
async def test_of_sixty_visitors_after_the_network_forgot_its_connections_one_waits(
    aiohttp_client: AiohttpClient, shared_server: PostgresServer, proxy: TcpProxy, schema: str, own: bool
) -> None:
    dsn = proxy.dsn(shared_server.dsn)
    pool = await asyncpg.create_pool(dsn, min_size=0, max_size=10)
    storage = PostgresStorage.from_dsn(dsn, schema=schema) if own else PostgresStorage(pool, schema=schema)
    await storage.create_schema()
    app = web.Application()
    app.router.add_get("/", count)
    setup(app, storage, cookie=SessionCookie(secrets=SECRET))
    client = await aiohttp_client(app, cookie_jar=aiohttp.DummyCookieJar())

    async def visit() -> tuple[int, float]:
        started = time.monotonic()
        async with client.get("/") as response:
            await response.read()
            return response.status, time.monotonic() - started

    async def visits() -> list[float]:
        """Return how long each of sixty took."""
        answers = await asyncio.gather(*(visit() for _ in range(60)))
        assert {status for status, _ in answers} == {200}
        return sorted(seconds for _, seconds in answers)

    await visits()
    usual = (await visits())[-1]
    accepted = proxy.accepted
    proxy.doom(Fate.VANISH)
    let_a_minute_pass(storage)
    took = await visits()

    assert proxy.accepted > accepted
    assert sum(seconds > usual + 0.8 for seconds in took) <= 1, took
    assert (await visits())[-1] < usual + 0.8
    pool.terminate()


async def test_after_one_test_failed_other_idle_connections_are_replaced_without_one(
    shared_server: PostgresServer, storage: PostgresStorage, proxy: TcpProxy, schema: str
) -> None:
    far = PostgresStorage.from_dsn(proxy.dsn(shared_server.dsn), schema=schema, pool_size=5)
    await asyncio.gather(*(far.linked(KEY) for _ in range(5)))
    assert proxy.accepted == 5
    proxy.doom(Fate.VANISH)
    let_a_minute_pass(far)
    started = time.monotonic()
    await far.linked(KEY)
    slow = time.monotonic() - started
    assert slow > 0.9, "the first one has to find out"

    started = time.monotonic()
    await asyncio.gather(*(far.linked(KEY) for _ in range(5)))
    assert time.monotonic() - started < slow
    assert proxy.accepted == 5 + 5 + 1, "five new ones, and one to cancel the test"
    await far.aclose()


def test_connections_that_were_replaced_are_forgotten() -> None:
    connections = PostgresStorage.from_dsn("postgresql://h/d", pool_size=5)._connections
    for pid in range(1000):
        connections._remember(pid)
    assert list(connections._answered) == list(range(980, 1000))


# --- busy connections


Ask = Callable[[PostgresStorage, bytes], Awaitable[Any]]
VERBS: dict[str, tuple[Ask, Callable[[Any, Stored | None, bytes], bool]]] = {
    "fetch": (lambda far, _: far.fetch(KEY), lambda answer, there, version: answer == there),
    "insert": (
        lambda far, _: far.insert("cd" * 32, b"data", EXPIRES_AT),
        lambda answer, there, version: isinstance(answer, bytes),
    ),
    "replace": (
        lambda far, version: far.replace(KEY, b"new", EXPIRES_AT, version),
        lambda answer, there, version: there == Stored(b"new", answer, EXPIRES_AT),
    ),
    "touch": (
        lambda far, version: far.touch(KEY, EXPIRES_AT + 1, version),
        lambda answer, there, version: answer is True and there == Stored(b"old", version, EXPIRES_AT + 1),
    ),
    "delete": (lambda far, _: far.delete(KEY), lambda answer, there, version: answer is True and there is None),
    "delete at a version": (
        lambda far, version: far.delete(KEY, version),
        lambda answer, there, version: answer is True and there is None,
    ),
}


async def know_all_statements(far: PostgresStorage) -> None:
    """Let the one connection of *far* prepare each statement, so that the next one is sent in one go."""
    await far.insert("ef" * 32, b"", EXPIRES_AT)
    await far.fetch("ef" * 32)
    await far.replace("ef" * 32, b"", EXPIRES_AT, b"")
    await far.touch("ef" * 32, EXPIRES_AT, b"")
    await far.delete("ef" * 32, b"")
    await far.delete("ef" * 32)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("how", ["the statement vanishes", "the answer vanishes", "cut after it", "cut before it"])
async def test_a_statement_without_an_answer_is_repeated_and_done_once(
    far: PostgresStorage, storage: PostgresStorage, proxy: TcpProxy, verb: str, how: str
) -> None:
    ask, done = VERBS[verb]
    version = await storage.insert(KEY, b"old", EXPIRES_AT) or b""
    await know_all_statements(far)
    if how == "the statement vanishes":
        proxy.doom(Fate.VANISH)
    elif how == "cut before it":
        proxy.hold()
    else:
        proxy.doom(Fate.LOSE_ANSWERS)
    asking = asyncio.ensure_future(ask(far, version))
    if how.startswith("cut"):
        await (proxy.lost if how == "cut after it" else proxy.held).wait()
        proxy.cut()
    answer = await asking

    assert done(answer, await storage.fetch(KEY), version), answer
    if verb == "insert":
        assert await storage.fetch("cd" * 32) == Stored(b"data", answer, EXPIRES_AT)


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "fetch"])
@pytest.mark.parametrize("how", ["the answer vanishes", "cut after it"])
async def test_if_the_repetition_fails_too_an_error_says_that_nobody_knows(
    far: PostgresStorage, storage: PostgresStorage, proxy: TcpProxy, verb: str, how: str
) -> None:
    far._connections.timeout = 0.8
    version = await storage.insert(KEY, b"old", EXPIRES_AT) or b""
    await know_all_statements(far)
    proxy.doom(Fate.LOSE_ANSWERS)
    proxy.refuses = True
    asking = asyncio.ensure_future(VERBS[verb][0](far, version))
    await proxy.lost.wait()
    if how == "cut after it":
        proxy.cut()
    with pytest.raises(StorageError, match="may have been carried out") as caught:
        await asking
    assert caught.value.maybe_stored

    proxy.refuses = False
    proxy.cut()
    await far.fetch(KEY)
    proxy.doom(Fate.LOSE_ANSWERS)
    proxy.refuses = True
    with pytest.raises(StorageError) as not_written:
        await far.fetch(KEY)
    assert not not_written.value.maybe_stored


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "fetch"])
async def test_if_the_repetition_is_refused_nobody_knows_either(
    far: PostgresStorage, storage: PostgresStorage, pool: asyncpg.Pool, proxy: TcpProxy, verb: str
) -> None:
    """The answer that was lost may have been a success."""
    version = await storage.insert(KEY, b"old", EXPIRES_AT) or b""
    await know_all_statements(far)
    proxy.doom(Fate.LOSE_ANSWERS)
    asking = asyncio.ensure_future(VERBS[verb][0](far, version))
    await proxy.lost.wait()
    await pool.execute(f"ALTER TABLE {storage._statements.table} RENAME TO elsewhere")
    proxy.cut()
    with pytest.raises(StorageError, match="does not exist") as caught:
        await asking
    assert caught.value.maybe_stored


async def test_a_statement_is_repeated_on_a_connection_that_works(
    shared_server: PostgresServer, storage: PostgresStorage, proxy: TcpProxy, schema: str
) -> None:
    """All connections have vanished, and have been in use until just now."""
    far = PostgresStorage.from_dsn(proxy.dsn(shared_server.dsn), schema=schema, pool_size=4, timeout=6)
    await asyncio.gather(*(far.linked(KEY) for _ in range(4)))
    proxy.doom(Fate.VANISH)
    assert await far.fetch(KEY) is None
    await asyncio.gather(*(far.linked(KEY) for _ in range(4)))
    proxy.doom(Fate.VANISH)
    shared = (far.fetch(KEY) for _ in range(10))
    await asyncio.gather(*shared, *(far.linked(KEY) for _ in range(10)))
    await far.aclose()


async def test_what_arrives_late_changes_nothing(
    far: PostgresStorage, storage: PostgresStorage, proxy: TcpProxy
) -> None:
    """The statement that was given up is carried out after its repetition, and after what came then."""
    version = await storage.insert(KEY, b"old", EXPIRES_AT) or b""
    await know_all_statements(far)
    proxy.hold()
    newer = await far.replace(KEY, b"new", EXPIRES_AT, version)
    assert newer
    assert await storage.touch(KEY, EXPIRES_AT + 5, newer)
    connections = proxy.accepted
    proxy.resume()  # its client has gone, and the server gets what it had sent
    await asyncio.sleep(0.1)
    assert await storage.fetch(KEY) == Stored(b"new", newer, EXPIRES_AT + 5)
    assert proxy.accepted == connections


async def test_a_repetition_finds_what_was_stored_and_extended_since(storage: PostgresStorage) -> None:
    sql, row = storage._statements, storage._connections.row
    version = await storage.insert(KEY, b"old", EXPIRES_AT) or b""
    assert await row(sql.replace.one, KEY, b"new", b"newer", EXPIRES_AT, version)
    assert await storage.touch(KEY, EXPIRES_AT + 5, b"newer")
    assert await row(sql.replace.again, KEY, b"new", b"newer", EXPIRES_AT, version)
    assert await storage.fetch(KEY) == Stored(b"new", b"newer", EXPIRES_AT + 5)
    assert await storage.replace(KEY, b"newest", EXPIRES_AT, b"newer")
    assert not await row(sql.replace.again, KEY, b"new", b"newer", EXPIRES_AT, version)
    assert not await row(sql.insert.again, KEY, b"new", b"newer", EXPIRES_AT)


async def test_a_repeated_rewrite_finds_what_was_stored_and_extended_since(storage: PostgresStorage) -> None:
    sql, row = storage._statements, storage._connections.row
    version = await storage.insert(KEY, b"old", EXPIRES_AT) or b""
    assert await row(sql.rewrite.one, KEY, b"new", b"newer", version)
    assert await storage.touch(KEY, EXPIRES_AT + 5, b"newer")
    assert await row(sql.rewrite.again, KEY, b"new", b"newer", version)
    assert await storage.fetch(KEY) == Stored(b"new", b"newer", EXPIRES_AT + 5)
    assert await storage.replace(KEY, b"newest", EXPIRES_AT, b"newer")
    assert not await row(sql.rewrite.again, KEY, b"new", b"newer", version)


async def test_connections_that_the_server_has_closed_cost_no_error(
    pool: asyncpg.Pool, shared_server: PostgresServer, storage: PostgresStorage, schema: str
) -> None:
    dsn = f"{shared_server.dsn}?application_name={schema}"
    victim = PostgresStorage.from_dsn(dsn, schema=schema, pool_size=4)
    version = await victim.insert(KEY, b"", EXPIRES_AT)
    for _ in range(20):
        assert version
        await asyncio.gather(*(victim.linked(KEY) for _ in range(4)))
        ended = pool.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1", schema
        )
        _, version = await asyncio.gather(ended, victim.replace(KEY, b"", EXPIRES_AT, version))
    await victim.aclose()


# --- what was stored


async def test_an_answer_that_is_an_error_means_that_nothing_was_stored(
    storage: PostgresStorage, pool: asyncpg.Pool
) -> None:
    table = storage._statements.table
    await pool.execute(f"ALTER TABLE {table} ADD CHECK (expires_at < 5)")
    with pytest.raises(StorageError, match="CheckViolation") as caught:
        await storage.insert(KEY, b"", EXPIRES_AT)
    assert not caught.value.maybe_stored
    with pytest.raises(StorageError) as refused:  # by the driver, before it sends anything
        await storage.insert(KEY, b"", 2**70)
    assert not refused.value.maybe_stored


async def test_a_server_that_is_away_means_that_nothing_was_stored(storage: PostgresStorage) -> None:
    away = PostgresStorage.from_dsn("postgresql://u@127.0.0.1:1/d")
    for ask, _ in VERBS.values():
        with pytest.raises(StorageError) as caught:
            await ask(away, b"")
        assert not caught.value.maybe_stored


@pytest.mark.parametrize("verb", VERBS)
async def test_a_pool_without_a_free_connection_says_so_and_that_nothing_was_stored(
    storage: PostgresStorage, pool: asyncpg.Pool, schema: str, verb: str
) -> None:
    patient, storage = storage, PostgresStorage(pool, schema=schema, timeout=0.2)
    taken = [await pool.acquire() for _ in range(pool.get_max_size())]
    with pytest.raises(
        StorageError, match=r"all 10 connections of the pool were in use .* nothing was stored"
    ) as caught:
        await VERBS[verb][0](storage, b"")
    assert not caught.value.maybe_stored
    for one in taken:
        await pool.release(one)

    assert await patient.fetch(KEY) is None


async def test_a_pool_without_a_free_connection_is_not_taken_for_a_lock_that_others_hold(
    aiohttp_client: AiohttpClient, pool: asyncpg.Pool, schema: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Although fifty ask at once, of whom only some may look at a time."""
    storage = PostgresStorage(pool, schema=schema, timeout=0.3)
    await storage.create_schema()
    raised: list[StorageError] = []

    async def exclusive(request: web.Request) -> web.Response:
        try:
            async with exclusive_session(request):
                return web.Response()
        except StorageError as error:
            raised.append(error)
            raise

    app = web.Application()
    app.router.add_get("/", exclusive)
    setup(app, storage, cookie=SessionCookie(secrets=SECRET))
    client = await aiohttp_client(app, cookie_jar=aiohttp.DummyCookieJar())

    async def visit() -> int:
        async with client.get("/") as response:
            return response.status

    taken = [await pool.acquire() for _ in range(pool.get_max_size())]
    assert await asyncio.gather(*(visit() for _ in range(50))) == [503] * 50
    assert len(raised) == 50
    assert all("all 10 connections of the pool were in use" in str(error) for error in raised)
    assert not any(isinstance(error, SessionLockError) or error.maybe_stored for error in raised)
    for one in taken:
        await pool.release(one)
    assert await visit() == 200


# --- keepalive


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux has these options")
async def test_the_kernel_tests_connections_of_our_own_pool(
    shared_server: PostgresServer, storage: PostgresStorage, schema: str
) -> None:
    own = PostgresStorage.from_dsn(shared_server.dsn, schema=schema, timeout=3)
    await own.fetch(KEY)
    async with (await own._connections.pool()).acquire() as connection:
        found = connection._transport.get_extra_info("socket")
        assert found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
        assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 1500
    await own.aclose()
