"""A server is killed and restarted while many visitors write: no write that was answered is lost."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator

import pytest

from aiohttp_session_store import KeyedStorage, StorageError
from aiohttp_session_store.storages.postgres import PostgresStorage
from aiohttp_session_store.storages.redis import RedisStorage
from tests.servers.postgres import PostgresServer, postgres_server
from tests.servers.redis import RedisServer, redis_server

SESSIONS, WRITERS, RESTARTS = 4, 4, 2

Server = RedisServer | PostgresServer


@pytest.fixture(params=["redis", "postgres"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Return a server that never loses a write that it has acknowledged."""
    if request.param == "redis":
        with redis_server("--appendonly", "yes", "--appendfsync", "always") as redis:
            yield redis
    else:
        with postgres_server() as postgres:
            yield postgres


@pytest.fixture
async def storage(server: Server) -> AsyncIterator[KeyedStorage]:
    if isinstance(server, RedisServer):
        on_redis = RedisStorage.from_url(server.url, timeout=2)
        yield on_redis
        await on_redis.aclose()
    else:
        on_postgres = PostgresStorage.from_dsn(server.dsn, timeout=2)
        await on_postgres.create_schema()
        yield on_postgres
        await on_postgres.aclose()


async def test_two_restarts_of_the_server_during_writes_lose_no_answered_write(
    server: Server, storage: KeyedStorage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    ids = [await new_session(storage) for _ in range(SESSIONS)]
    answered: dict[tuple[int, str], int] = {}
    failed = 0
    over = asyncio.Event()

    async def write(number: int, key: str) -> None:
        nonlocal failed
        count = 0
        while not over.is_set():
            count += 1
            try:
                session = await storage.read(ids[number])
                session[key] = count
                await storage.save(session)
            except StorageError:
                failed += 1
                await asyncio.sleep(0.01)
            else:
                assert not session.destroyed
                answered[number, key] = count

    async def all_write_again() -> None:
        before = dict(answered)
        async with asyncio.timeout(30):
            while len(answered) < SESSIONS * WRITERS or any(answered[one] <= count for one, count in before.items()):
                await asyncio.sleep(0.01)

    writers = [asyncio.ensure_future(write(number, f"k{key}")) for number in range(SESSIONS) for key in range(WRITERS)]
    for _ in range(RESTARTS):
        await all_write_again()
        await asyncio.to_thread(server.kill if isinstance(server, RedisServer) else server.stop)
        await asyncio.to_thread(server.start)
    await all_write_again()
    over.set()
    await asyncio.gather(*writers)

    if not isinstance(server, RedisServer):  # it is back before the time for an answer is over
        assert failed
    for (number, key), count in answered.items():
        assert (await storage.read(ids[number]))[key] >= count


async def new_session(storage: KeyedStorage) -> str | None:
    session = await storage.read(None)
    session["user"] = 1
    return await storage.save(session)
