"""What is found out when the app starts: a pool that cannot work is refused, and an unavailable server is not."""

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from pytest_aiohttp import AiohttpClient

from aiohttp_session_store import ConfigurationError, StorageError
from aiohttp_session_store.storages.postgres import PostgresStorage
from tests.docs.blocks import block
from tests.servers.away import EXPIRES_AT, KEY, silent_server, started
from tests.servers.postgres import PostgresServer

SECRET = "S3cr3t"
PATIENCE = 20  # seconds, after which something hangs


async def refused(storage: PostgresStorage, match: str) -> str:
    """Check that *storage* refuses to start and shows no password; return the message."""
    with pytest.raises(ConfigurationError, match=match) as caught:
        await storage.start()
    error = caught.value
    assert error.__cause__ is None
    assert error.__context__ is None, "logging shows it, and it may show a part of the DSN"
    assert SECRET not in str(error) + "".join(traceback.format_exception(error, limit=0))
    return str(error)


# --- pools


async def test_a_pool_that_is_not_open_is_refused(shared_server: PostgresServer) -> None:
    pool = asyncpg.create_pool(shared_server.dsn)

    said = await refused(PostgresStorage(pool), "is not open when the app starts")

    assert "cleanup_ctx that is appended before setup()" in said
    assert "PostgresStorage.from_dsn" in said


async def test_a_pool_that_is_closed_is_refused(shared_server: PostgresServer) -> None:
    async with asyncpg.create_pool(shared_server.dsn, min_size=0) as pool:
        pass

    await refused(PostgresStorage(pool), "is not open when the app starts")


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize("ended", [True, False])
def test_a_pool_of_another_loop_is_refused(shared_server: PostgresServer, size: int, ended: bool) -> None:
    """It fails only when it is used, and then says something about tasks and futures."""
    first = asyncio.new_event_loop()

    async def opened() -> Any:
        return await asyncpg.create_pool(shared_server.dsn, min_size=size, max_size=1)

    pool = first.run_until_complete(opened())
    if ended:
        first.run_until_complete(pool.close())
        first.close()
    asyncio.run(asyncio.wait_for(refused(PostgresStorage(pool), "made in another event loop"), PATIENCE))
    if not ended:
        first.run_until_complete(pool.close())
        first.close()


@pytest.mark.parametrize(
    "dsn",
    [
        f"postgresql+asyncpg://u:{SECRET}@127.0.0.1/db",
        f"postgresql://u:{SECRET}/x@127.0.0.1/db",
        f"postgresql://u:{SECRET}#x@127.0.0.1/db",
        f"postgresql://u:1234?{SECRET}@127.0.0.1/db",
        f"postgresql://u:{SECRET}@127.0.0.1/db?sslmode=maybe",
    ],
)
async def test_a_pool_whose_dsn_the_driver_cannot_use_is_refused_without_the_password(
    dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with asyncpg.create_pool(dsn, min_size=0) as pool:
        await refused(PostgresStorage(pool), "the driver (refuses|cannot use) the DSN")

    assert SECRET not in caplog.text


async def test_the_pool_in_the_documentation_is_open_when_the_app_starts(
    shared_server: PostgresServer, monkeypatch: pytest.MonkeyPatch, aiohttp_client: AiohttpClient
) -> None:
    monkeypatch.setenv("DATABASE_URL", shared_server.dsn)
    monkeypatch.setenv("SESSION_SECRET", "known-secret-0123456789-abcdefghijklmnopqrstuvwxyz")
    names: dict[str, Callable[[], Awaitable[Any]]] = {}
    exec(block("docs/postgres.md", "python", "open_pool"), names)

    client = await aiohttp_client(await names["make_app"]())

    assert (await client.get("/")).status == 404


# --- the settings of from_dsn


@pytest.mark.parametrize(
    "query", ["target_session_attrs=none", "gsslib=x", "sslmode=require&ssl_min_protocol_version=x"]
)
async def test_settings_that_the_driver_refuses_are_refused_at_the_start(
    query: str, caplog: pytest.LogCaptureFixture
) -> None:
    storage = PostgresStorage.from_dsn(f"postgresql://u:{SECRET}@127.0.0.1:1/db?{query}")

    await refused(storage, "the driver refuses the DSN, the arguments of the pool or the PG")

    assert not caplog.records
    await storage.aclose()


@pytest.mark.parametrize(("name", "value"), [("PGPORT", SECRET), ("PGSSLMODE", "maybe")])
async def test_an_environment_that_the_driver_cannot_use_is_refused_at_the_start(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    storage = PostgresStorage.from_dsn(f"postgresql://u:{SECRET}@/db")

    await refused(storage, r"PG\* variables")

    await storage.aclose()


async def test_the_environment_and_a_password_file_may_complete_a_dsn(
    shared_server: PostgresServer, monkeypatch: pytest.MonkeyPatch, schema: str
) -> None:
    monkeypatch.setenv("PGHOST", "127.0.0.1")
    monkeypatch.setenv("PGPORT", str(shared_server.port))
    monkeypatch.setenv("PGUSER", "postgres")
    monkeypatch.setenv("PGPASSFILE", "/nowhere")
    async with started(PostgresStorage.from_dsn("postgresql:///postgres", schema=schema)) as storage:
        await storage.create_schema()
        assert await storage.insert(KEY, b"", EXPIRES_AT)


# --- servers


async def test_an_app_starts_without_its_server_and_says_so_in_one_line(
    server: PostgresServer, caplog: pytest.LogCaptureFixture, schema: str
) -> None:
    server.stop()
    async with started(PostgresStorage.from_dsn(server.dsn, schema=schema)) as storage:
        [record] = [record for record in caplog.records if record.name == "aiohttp_session_store"]
        assert record.levelno == logging.WARNING
        assert record.getMessage().startswith("sessions are unavailable: PostgreSQL: ")
        assert not record.exc_info
        await asyncio.to_thread(server.start)

        await storage.create_schema()
        assert await storage.insert(KEY, b"", EXPIRES_AT)


async def test_an_app_starts_although_its_server_never_answers() -> None:
    async with silent_server() as port, asyncio.timeout(PATIENCE):
        storage = PostgresStorage.from_dsn(f"postgresql://u:{SECRET}@127.0.0.1:{port}/db", timeout=0.2)
        await storage.start()
        await storage.aclose()


async def test_a_password_that_the_server_refuses_is_shown_nowhere(
    server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    rules = server.folder / "data" / "pg_hba.conf"
    rules.write_text("host all ada 127.0.0.1/32 scram-sha-256\n" + rules.read_text())
    admin = await asyncpg.connect(server.dsn)
    await admin.execute("CREATE ROLE ada LOGIN PASSWORD 'another'; SELECT pg_reload_conf()")
    await admin.close()
    dsn = f"postgresql://ada:{SECRET}@127.0.0.1:{server.port}/postgres"
    async with started(PostgresStorage.from_dsn(dsn)) as storage:
        with pytest.raises(StorageError, match="password authentication failed") as caught:
            await storage.fetch(KEY)

    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in f"{error}{error!r}"
        error = error.__context__
    assert SECRET not in "".join(traceback.format_exception(caught.value)) + caplog.text


async def test_the_connection_of_the_start_is_used_again(shared_server: PostgresServer, schema: str) -> None:
    async with started(PostgresStorage.from_dsn(shared_server.dsn, schema=schema)) as storage:
        await storage.create_schema()
        await storage.fetch(KEY)
        pool = await storage._connections.pool()

        assert pool.get_size() == 1
