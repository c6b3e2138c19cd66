"""The contract and the locks behind a real PgBouncer that gives each transaction another connection."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpClient

from aiohttp_session_store import KeyedStorage, SessionCookie, StorageError, exclusive_session, setup
from aiohttp_session_store.storages.postgres import PostgresStorage
from aiohttp_session_store.testing import ManualClock, StorageContract
from tests.web.storages import SECRET

KEY = "ab" * 32


@pytest.mark.long
class TestPostgresStorageBehindPgBouncer(StorageContract):
    announcements = False

    @pytest.fixture
    async def storage(self, pooled_dsn: str, schema: str, clock: ManualClock) -> AsyncIterator[KeyedStorage]:
        storage = PostgresStorage.from_dsn(pooled_dsn, schema=schema, clock=clock, prepared_statements=False)
        await storage.create_schema()
        await storage.start()
        yield storage
        await storage.aclose()


async def test_eight_visitors_who_hold_locks_share_four_connections(
    aiohttp_client: AiohttpClient, pooled_dsn: str, schema: str
) -> None:
    """All are inside at the same time; half of them in another process."""
    entered = asyncio.Barrier(8)

    async def exclusive(request: web.Request) -> web.Response:
        async with exclusive_session(request) as session:
            session["count"] = session.get("count", 0) + 1
            await entered.wait()
        return web.Response()

    clients = []
    for _ in range(2):
        storage = PostgresStorage.from_dsn(pooled_dsn, schema=schema, prepared_statements=False)
        await storage.create_schema()
        app = web.Application()
        app.router.add_get("/", exclusive)
        setup(app, storage, cookie=SessionCookie(secrets=SECRET))
        clients.append(await aiohttp_client(app, cookie_jar=aiohttp.DummyCookieJar()))

    async def visit(number: int) -> int:
        async with clients[number % 2].get("/") as response:
            return response.status

    async with asyncio.timeout(20):
        assert await asyncio.gather(*(visit(number) for number in range(8))) == [200] * 8


async def test_with_prepared_statements_an_error_says_what_to_set(pooled_dsn: str, schema: str) -> None:
    storage = PostgresStorage.from_dsn(pooled_dsn, schema=schema)
    await storage.create_schema()
    errors: list[object] = []
    async with asyncio.timeout(20):
        while not errors:  # until a statement reaches a connection that does not know it
            answers = await asyncio.gather(*(storage.linked(KEY) for _ in range(20)), return_exceptions=True)
            errors = [answer for answer in answers if answer != []]
    for error in errors:
        assert isinstance(error, StorageError)
        assert "use from_dsn(..., prepared_statements=False) or create_pool(..., statement_cache_size=0)" in str(error)
    await storage.aclose()
