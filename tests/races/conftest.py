"""Every storage that keeps its records on the server, on real files and servers."""

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from aiohttp_session_store import FileSystemStorage, KeyedStorage, MemoryStorage
from aiohttp_session_store.storages.postgres import PostgresStorage
from aiohttp_session_store.storages.redis import RedisStorage
from tests.engine.suspending import RacyStorage
from tests.servers.kinds import Server, server_of
from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer

STORAGES = ["memory", "suspending", "files", "redis", "postgres"]


@pytest.fixture(scope="module", params=STORAGES)
def kind_and_server(request: pytest.FixtureRequest) -> Iterator[tuple[str, Server]]:
    """Return the kind of storage, and its server; started outside of the event loop, once for all tests of a module."""
    with server_of(request.param) as server:
        yield request.param, server


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
