"""A server for all tests, which keep out of each other's way by the names of their schemas."""

import os
import secrets
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from aiohttp_session_store.storages.postgres import PostgresStorage
from tests.servers.pgbouncer import MISSING, installed, pgbouncer
from tests.servers.postgres import PostgresServer, new_postgres_server, postgres_server


@pytest.fixture(scope="session")
def new_server() -> Iterator[PostgresServer]:
    """Return a server that never runs, for others to be copies of."""
    with new_postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def shared_server(new_server: PostgresServer) -> Iterator[PostgresServer]:
    with postgres_server(like=new_server) as server:
        yield server


@pytest.fixture(scope="module")
def pooled_dsn(shared_server: PostgresServer) -> Iterator[str]:
    """Return the DSN of the shared server behind a PgBouncer with four connections to it."""
    binary = installed()
    if binary is None:
        if os.environ.get("CI") == "true":
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    with pgbouncer(binary, shared_server.dsn, 4) as dsn:
        yield dsn


@pytest.fixture
def server(new_server: PostgresServer) -> Iterator[PostgresServer]:
    """Return a server of the test's own, to be treated badly."""
    with postgres_server(like=new_server) as server:
        yield server


@pytest.fixture
def schema() -> str:
    return f"test_{secrets.token_hex(4)}"


@pytest.fixture
async def pool(shared_server: PostgresServer) -> AsyncIterator[asyncpg.Pool]:
    async with asyncpg.create_pool(shared_server.dsn, min_size=0, max_size=10) as pool:
        yield pool


@pytest.fixture
async def storage(pool: asyncpg.Pool, schema: str) -> AsyncIterator[PostgresStorage]:
    storage = PostgresStorage(pool, schema=schema)
    await storage.create_schema()
    yield storage
    await storage.aclose()
