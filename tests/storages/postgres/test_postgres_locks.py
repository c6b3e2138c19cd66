"""exclusive_session on a server: held by a transaction, lost with its connection, and never left behind."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from aiohttp_session_store import SessionLockError, StorageError
from aiohttp_session_store.session.session import state_of
from aiohttp_session_store.storages.postgres import PostgresStorage
from tests.servers.postgres import PostgresServer

KEY = "ab" * 32
HOLDERS = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"


async def end_holder(pool: asyncpg.Pool, storage: PostgresStorage, key: str) -> None:
    """Have the server end the connection that has the lock of *key*."""
    number = storage._statements.session_lock(key) % 2**64
    ended = await pool.fetchval(
        f"SELECT pg_terminate_backend(pid) FROM ({HOLDERS} AND classid = $1 AND objid = $2) AS holder",
        number >> 32,
        number & 0xFFFFFFFF,
    )
    assert ended


async def test_who_has_lost_the_lock_saves_nothing(storage: PostgresStorage, pool: asyncpg.Pool) -> None:
    session = await storage.read(None)
    session["balance"] = 10
    session_id = await storage.save(session)
    session = await storage.read(session_id)
    async with storage.lock(session.key) as lease:
        state_of(session).lease = lease
        await lease()
        await end_holder(pool, storage, session.key)
        session["balance"] = 0
        with pytest.raises(SessionLockError, match="was lost"):
            await storage.save(session)

    assert (await storage.read(session_id))["balance"] == 10


async def test_a_lost_connection_is_replaced_and_the_lock_free(
    storage: PostgresStorage, pool: asyncpg.Pool, caplog: pytest.LogCaptureFixture
) -> None:
    async with storage.lock(KEY):
        await end_holder(pool, storage, KEY)
    assert "the connection of an exclusive lock was lost" in caplog.text

    for _ in range(20):  # more often than there are places for holders
        async with asyncio.timeout(5), storage.lock(KEY):
            pass


async def test_an_error_of_the_application_under_the_lock_stays_what_it_is(storage: PostgresStorage) -> None:
    """One of its own queries, perhaps."""
    for error in (asyncpg.UniqueViolationError("theirs"), TimeoutError("theirs"), StorageError("theirs")):
        with pytest.raises(type(error), match="theirs"):
            async with storage.lock(KEY):
                raise error
    async with storage.lock(KEY):
        pass


async def test_waiting_takes_no_connection(shared_server: PostgresServer, schema: str) -> None:
    first, second = (PostgresStorage.from_dsn(shared_server.dsn, schema=schema, pool_size=2) for _ in range(2))
    await first.create_schema()

    async def wait(key: str) -> None:
        async with second.lock(key):
            pass

    async with first.lock(KEY):
        waiting = asyncio.ensure_future(wait(KEY))
        for _ in range(20):
            assert await second.fetch(KEY) is None
        async with asyncio.timeout(5), second.lock("cd" * 32):  # although there is place for one holder
            pass
        assert not waiting.done()
    await waiting
    for storage in (first, second):
        await storage.aclose()


async def test_parallel_checks_of_one_lease_wait_for_each_other(storage: PostgresStorage) -> None:
    async with storage.lock(KEY) as lease:
        await asyncio.gather(*(lease() for _ in range(10)))


async def test_two_tables_do_not_share_locks(pool: asyncpg.Pool) -> None:
    one, other = PostgresStorage(pool, table="one"), PostgresStorage(pool, table="other")
    async with asyncio.timeout(5), one.lock(KEY), other.lock(KEY):
        pass


HOLDER = """
import asyncio, sys
from aiohttp_session_store.storages.postgres import PostgresStorage

async def hold(dsn, schema, key):
    async with PostgresStorage.from_dsn(dsn, schema=schema).lock(key):
        print("held", flush=True)
        await asyncio.sleep(60)

asyncio.run(hold(*sys.argv[1:]))
"""


async def test_a_holder_that_is_killed_frees_the_lock(
    shared_server: PostgresServer, storage: PostgresStorage, schema: str, tmp_path: Path
) -> None:
    (tmp_path / "holder.py").write_text(HOLDER)
    command: list[Any] = [sys.executable, tmp_path / "holder.py", shared_server.dsn, schema, KEY]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert await asyncio.to_thread(process.stdout.readline) == b"held\n"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3), storage.lock(KEY):
                pass
        process.kill()
        async with asyncio.timeout(5), storage.lock(KEY):
            pass
