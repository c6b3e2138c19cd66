"""If PostgreSQL fails, nobody learns an id or data, neither from the driver's frames nor from the server's words."""

from typing import Any

import asyncpg
import pytest
from aiohttp import DummyCookieJar, web
from pytest_aiohttp import AiohttpClient

from aiohttp_session_store import StorageError, get_session
from aiohttp_session_store.errors import one_line
from aiohttp_session_store.storages.postgres import PostgresStorage
from tests.servers.postgres import PostgresServer
from tests.web.storages import app_with
from tests.web.tracker import sentry

DATA = "diagnosis-of-ada"


async def index(request: web.Request) -> web.Response:
    visitor = await get_session(request)
    if "kill" in request.query:
        request.app[SERVER].stop()
    if "write" in request.query:
        visitor["note"] = visitor["cart"] = [DATA]
    return web.Response()


SERVER = web.AppKey("SERVER", PostgresServer)


@pytest.mark.parametrize("away", ["before it is loaded", "before it is saved"])
async def test_an_unavailable_postgres_shows_no_id_and_no_data(
    server: PostgresServer, aiohttp_client: AiohttpClient, away: str
) -> None:
    storage = PostgresStorage.from_dsn(server.dsn, timeout=2)
    await storage.create_schema()
    app = app_with(storage, index)
    app[SERVER] = server
    client: Any = await aiohttp_client(app, cookie_jar=DummyCookieJar())
    async with client.get("/?write") as response:
        cookie = response.cookies["session"].value

    with sentry() as tracker:
        if away == "before it is loaded":
            server.stop()
        async with client.get("/?kill&write", headers={"Cookie": f"session={cookie}"}) as response:
            assert response.status == 503

    assert {"get_session" if away == "before it is loaded" else "commit"} <= tracker.functions()
    for secret in (DATA, cookie, cookie.partition(".")[0]):
        assert secret not in tracker.text


async def test_the_row_that_a_constraint_refuses_is_not_shown(storage: PostgresStorage, pool: asyncpg.Pool) -> None:
    """The server sends the beginning of each column with its refusal, and the driver makes it a part of its text."""
    table = storage.schema_sql.partition("CREATE TABLE IF NOT EXISTS ")[2].partition(" ")[0]
    await pool.execute(f"ALTER TABLE {table} ADD CHECK (length(data) < 1)")
    session = await storage.read(None)
    session["note"] = DATA

    with pytest.raises(StorageError, match="violates check constraint") as caught:
        await storage.save(session)

    beginning = b"1 ".hex()
    for text in (one_line(caught.value), str(caught.value), str(caught.value.__cause__)):
        assert f"x{beginning}" not in text
        assert session.key not in text
