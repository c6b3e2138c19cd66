"""Every storage that keeps its records on the server, on real files and servers."""

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from aiohttp_session_store import FileSystemStorage, KeyedStorage, MemoryStorage
from aiohttp_session_store.storages.postgres import PostgresStorage
from aiohttp_session_store.storages.redis import RedisStorage
from tests.engine.suspending import RacyStorage
from tests.servers.postgres import PostgresServer, postgres_server
from tests.servers.redis import RedisServer, redis_server

STORAGES = ["memory", "suspending", "files", "redis", "postgres"]


Server = RedisServer | PostgresServer | None


@pytest.fixture(scope="module", params=STORAGES)
def kind_and_server(request: pytest.FixtureRequest) -> Iterator[tuple[str, Server]]:
    """Return the kind of storage, and its server; started outside of the event loop, once for all tests of a module."""
    if request.param == "redis":
        with redis_server() as redis:
            yield request.param, redis
    elif request.param == "postgres":
        with postgres_server() as postgres:
            yield request.param, postgres
    else:
        yield request.param, None


@pytest.fixture
async def storage(kind_and_server: tuple[str, Server], tmp_path: Path) -> AsyncIterator[KeyedStorage]:
    kind, server = kind_and_server
    storage: KeyedStorage
    if isinstance(server, RedisServer):
        storage = RedisStorage.from_url(server.url, prefix=f"{secrets.token_hex(4)}:")
    elif isinstance(server, PostgresServer):
        storage = PostgresStorage.from_dsn(server.dsn, table=f"t{secrets.token_hex(4)}", pool_size=4, timeout=30)
        await storage.create_schema()
    elif kind == "memory":
        storage = MemoryStorage()
    elif kind == "suspending":
        storage = RacyStorage(seed=1)
    else:
        storage = FileSystemStorage(tmp_path / "sessions", sweep_interval=None)
    await storage.start()
    yield storage
    await storage.aclose()
