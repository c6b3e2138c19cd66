"""Servers that are away, slow, read-only or out of connections, and come back: 503 meanwhile, nothing to restart."""

import asyncio
import logging
import time
import traceback
from typing import Any

import asyncpg
import pytest
from aiohttp import DummyCookieJar, web
from pytest_aiohttp import AiohttpClient

from aiohttp_session_store import SessionCookie, SessionLockError, StorageError, exclusive_session, get_session, setup
from aiohttp_session_store.storages.postgres import PostgresStorage
from tests.servers.away import EXPIRES_AT, KEY, all_fail, silent_server, started
from tests.servers.postgres import PostgresServer
from tests.web.storages import SECRET


async def test_a_server_that_is_away_is_a_storage_error_until_it_is_back(server: PostgresServer) -> None:
    async with started(PostgresStorage.from_dsn(server.dsn)) as storage:
        await storage.create_schema()
        await storage.insert(KEY, b"data", EXPIRES_AT)
        server.stop()
        await all_fail(storage)
        await asyncio.to_thread(server.start)

        assert await storage.fetch(KEY)
        assert await storage.sweep() == 0


async def test_a_server_that_never_answers_is_given_up() -> None:
    async with (
        silent_server() as port,
        started(PostgresStorage.from_dsn(f"postgresql://u@127.0.0.1:{port}/d", timeout=0.2)) as storage,
    ):
        before = time.monotonic()
        said = await all_fail(storage)

        assert time.monotonic() - before < 5 * 0.2 + 3
        assert all("did not answer" in one for one in said), said


async def test_a_server_that_stops_answering_is_given_up(server: PostgresServer) -> None:
    """In the midst of a connection: here because somebody has locked the table."""
    async with started(PostgresStorage.from_dsn(server.dsn, timeout=0.3)) as storage:
        await storage.create_schema()
        connection = await asyncpg.connect(server.dsn)
        async with connection.transaction():
            await connection.execute(f"LOCK TABLE {storage._statements.table} IN ACCESS EXCLUSIVE MODE")
            before = time.monotonic()
            await all_fail(storage)
            assert time.monotonic() - before < 5 * 0.3 + 3
        await connection.close()

        assert await storage.fetch(KEY) is None


async def ready(storage: PostgresStorage) -> None:
    """Wait until it has a table and a connection in its pool, however busy this machine is."""
    async with asyncio.timeout(30):
        while True:
            try:
                await storage.create_schema()
                await storage.fetch(KEY)
            except StorageError:
                continue
            return


@pytest.mark.parametrize("owned", [True, False])
async def test_a_server_that_freezes_is_given_up_whatever_was_asked(server: PostgresServer, owned: bool) -> None:
    """Between two statements, too; each wait is bounded: for a connection, for the answer, for its coming back."""
    pool = await asyncpg.create_pool(server.dsn, min_size=0, max_size=4)
    storage = PostgresStorage.from_dsn(server.dsn, timeout=0.3) if owned else PostgresStorage(pool, timeout=0.3)

    async def lock() -> None:
        async with storage.lock(KEY):
            pass

    for ask in (lambda: storage.fetch(KEY), storage.sweep, storage.create_schema, lock):
        await ready(storage)
        with server.frozen():
            asking: asyncio.Future[object] = asyncio.ensure_future(ask())
            given_up, _ = await asyncio.wait([asking], timeout=3 * 0.3 + 5)
        assert given_up
        with pytest.raises(StorageError, match="did not answer"):
            await asking
    await ready(storage)
    await storage.aclose()
    pool.terminate()


@pytest.mark.parametrize("verb", ["fetch", "sweep"])
async def test_who_is_cancelled_while_the_server_is_frozen_is_cancelled(server: PostgresServer, verb: str) -> None:
    """Not told of a StorageError: the sweep of an app that stops would go on for ever."""
    async with started(PostgresStorage.from_dsn(server.dsn, timeout=2)) as storage:
        await ready(storage)
        async with asyncpg.create_pool(server.dsn, min_size=0, max_size=2) as pool, pool.acquire() as other:
            await other.execute(f"BEGIN; LOCK TABLE {storage._statements.table}")
            asking: asyncio.Future[object] = asyncio.ensure_future(
                storage.fetch(KEY) if verb == "fetch" else storage.sweep()
            )
            async with asyncio.timeout(5):
                while not await pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                    await asyncio.sleep(0.01)
            with server.frozen():
                asking.cancel()
                await asyncio.wait([asking], timeout=10)
            assert asking.cancelled()
            await other.execute("ROLLBACK")


async def test_a_lease_on_a_server_that_freezes_is_lost(server: PostgresServer) -> None:
    async with started(PostgresStorage.from_dsn(server.dsn, timeout=1)) as storage:
        await ready(storage)
        async with storage.lock(KEY) as lease:
            assert lease is not None
            for _ in range(2):
                with server.frozen():
                    asking = asyncio.ensure_future(lease())
                    given_up, _ = await asyncio.wait([asking], timeout=1 + 5)
                assert given_up
                with pytest.raises(SessionLockError, match=r"try again \(PostgreSQL"):
                    await asking
        await ready(storage)
        async with asyncio.timeout(5), storage.lock(KEY):
            pass


async def test_a_holder_leaves_in_time_although_the_server_is_frozen(
    server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def visit(entered: asyncio.Event, leave: asyncio.Event) -> None:
        async with storage.lock(KEY):
            entered.set()
            await leave.wait()

    caplog.set_level(logging.DEBUG)
    async with started(PostgresStorage.from_dsn(server.dsn, timeout=1, lock_lease=1)) as storage:
        await ready(storage)
        entered, leave = asyncio.Event(), asyncio.Event()
        visiting = asyncio.ensure_future(visit(entered, leave))
        await entered.wait()
        with server.frozen():
            leave.set()
            left, _ = await asyncio.wait([visiting], timeout=3 * 1 + 5)
        assert left
        await visiting
        assert "an exclusive lock could not be released: it ends in 1 s" in caplog.text
        await ready(storage)
        async with asyncio.timeout(5), storage.lock(KEY):
            pass


async def test_a_server_without_connections_to_spare_is_a_storage_error(server: PostgresServer) -> None:
    others: list[Any] = []

    async def connect() -> None:
        while True:
            others.append(await asyncpg.connect(server.dsn))

    with pytest.raises(asyncpg.TooManyConnectionsError):
        await connect()
    async with started(PostgresStorage.from_dsn(server.dsn)) as storage:
        with pytest.raises(StorageError, match="TooManyConnectionsError"):
            await storage.fetch(KEY)
        for one in others:
            await one.close()

        await storage.create_schema()
        assert await storage.fetch(KEY) is None


async def test_a_read_only_server_is_a_storage_error_and_connections_are_let_go(server: PostgresServer) -> None:
    """Its name may lead to the new primary by now, which only a new connection finds."""
    async with started(PostgresStorage.from_dsn(server.dsn)) as storage:
        await storage.create_schema()
        connection = await asyncpg.connect(server.dsn)
        await connection.execute("ALTER DATABASE postgres SET default_transaction_read_only = on")
        await (await storage._connections.pool()).expire_connections()
        with pytest.raises(StorageError, match="read-only"):
            await storage.insert(KEY, b"", EXPIRES_AT)
        await connection.execute("SET default_transaction_read_only = off")
        await connection.execute("ALTER DATABASE postgres SET default_transaction_read_only = off")

        assert await storage.insert(KEY, b"", EXPIRES_AT)
        await connection.close()


# --- an app in front of it


async def count(request: web.Request) -> web.Response:
    session = await get_session(request)
    session["visits"] = session.get("visits", 0) + 1
    return web.Response(text=str(session["visits"]))


async def test_a_server_that_restarts_amid_traffic_costs_503s_and_no_answered_write(
    aiohttp_client: AiohttpClient, server: PostgresServer
) -> None:
    storage = PostgresStorage.from_dsn(server.dsn, timeout=2)
    await storage.create_schema()
    app = web.Application()
    app.router.add_get("/", count)
    setup(app, storage, cookie=SessionCookie(secrets=SECRET))
    client = await aiohttp_client(app)

    async def ask() -> tuple[int, str]:
        async with client.get("/") as response:
            return response.status, await response.text()

    for number in range(20):
        assert await ask() == (200, str(number + 1))
    server.stop()
    assert (await ask())[0] == 503
    await asyncio.to_thread(server.start)
    for number in range(20, 40):
        assert await ask() == (200, str(number + 1))


async def test_a_server_that_is_away_costs_one_line_of_the_log_and_then_one_with_the_count(
    aiohttp_client: AiohttpClient, server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether the request loads a session, stores its first one, or wants it exclusively."""

    async def count_exclusively(request: web.Request) -> web.Response:
        async with exclusive_session(request):
            return await count(request)

    app = web.Application()
    app.router.add_get("/", count)
    app.router.add_get("/exclusive", count_exclusively)
    storage = PostgresStorage.from_dsn(server.dsn)
    await storage.create_schema()
    setup(app, storage, cookie=SessionCookie(secrets=SECRET))
    client = await aiohttp_client(app, cookie_jar=DummyCookieJar())
    async with client.get("/") as response:
        known = {"Cookie": "session=" + response.cookies["session"].value}
    server.stop()
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
    assert all("sessions are unavailable" in line and "Connect call failed" in line for line in lines)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("ADD CHECK (octet_length(data) < 10)", "violates check constraint"),
        ("ADD CHECK (octet_length(data) < 10 OR data::text::int > 0)", "a value was refused"),
        ("ALTER data TYPE jsonb USING '{}'", "a value was refused.*compare the table with storage.schema_sql"),
    ],
    ids=["constraint", "expression", "type"],
)
async def test_a_table_that_was_changed_shows_no_data(
    storage: PostgresStorage, pool: asyncpg.Pool, change: str, said: str
) -> None:
    """The server or the driver repeats the value that it refuses, or the whole row."""
    version = await storage.insert(KEY, b"short", EXPIRES_AT)
    assert version
    await pool.execute(f"ALTER TABLE {storage._statements.table} {change}")
    await pool.expire_connections()

    for call in (
        storage.insert(KEY[::-1], b"hunter2hunter2", EXPIRES_AT),
        storage.replace(KEY, b"hunter2hunter2", EXPIRES_AT, version),
    ):
        with pytest.raises(StorageError, match=said) as caught:
            await call
        assert not caught.value.maybe_stored
        shown = "".join(traceback.format_exception(caught.value))
        assert "hunter2" not in shown
        assert b"hunter2".hex() not in shown
        assert KEY not in shown
