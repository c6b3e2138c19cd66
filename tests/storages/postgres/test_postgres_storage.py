"""What is peculiar to PostgreSQL: statements, the table and its names, pools that are given or owned, the sweep."""

import asyncio
import secrets
import subprocess
import sys
import time
from typing import Any

import asyncpg
import pytest

from aiohttp_session_store import ConfigurationError, SessionCookie, StorageError
from aiohttp_session_store.storages.base import RECLAIM_AFTER
from aiohttp_session_store.storages.postgres import PostgresStorage
from aiohttp_session_store.testing import ManualClock
from tests.servers.postgres import PostgresServer

KEY = "ab" * 32
EXPIRES_AT = 4_000_000_000
LONG_AGO = 1_600_000_000
DSN = "postgresql://127.0.0.1:1/nothing"


def new_key() -> str:
    return secrets.token_hex(32)


async def test_each_verb_is_one_statement(shared_server: PostgresServer, schema: str) -> None:
    said: list[str] = []

    async def listen(connection: Any) -> None:
        connection.add_query_logger(lambda record: said.append(record.query))

    async with asyncpg.create_pool(shared_server.dsn, min_size=1, max_size=2, init=listen, reset=leave) as pool:
        storage = PostgresStorage(pool, schema=schema)
        await storage.create_schema()
        said.clear()
        version = await storage.insert(KEY, b"", EXPIRES_AT) or b""
        await storage.fetch(KEY)
        await storage.touch(KEY, EXPIRES_AT, version)
        await storage.replace(KEY, b"", EXPIRES_AT, version)
        await storage.delete(KEY)

        await storage.delete(KEY, version)

        await storage.sweep()

    verbs = ["INSERT", "SELECT", "UPDATE", "UPDATE", "DELETE", "WITH"]
    assert [one.split()[0] for one in said] == [*verbs, "WITH", "DELETE", "WITH"], "the sweep has one for each table"


async def leave(_: Any) -> None:
    """Send nothing when a connection comes back."""


# --- the table


async def test_a_missing_table_says_what_to_call(pool: asyncpg.Pool) -> None:
    storage = PostgresStorage(pool, schema="nowhere", table="nothing")
    with pytest.raises(StorageError, match=r'relation "nowhere.nothing" does not exist: await storage.create_schema'):
        await storage.fetch(KEY)


async def test_the_table_can_be_created_again_and_by_many_at_once(pool: asyncpg.Pool, schema: str) -> None:
    storages = [PostgresStorage(pool, schema=schema) for _ in range(5)]
    await asyncio.gather(*(storage.create_schema() for storage in storages))
    assert await storages[0].insert(KEY, b"data", EXPIRES_AT)
    await storages[1].create_schema()

    assert await storages[1].fetch(KEY)


async def test_a_table_that_is_there_is_left_alone(pool: asyncpg.Pool, schema: str) -> None:
    """Every process asks at its start: what it does not create it must not lock, or writers would wait for it."""
    storage = PostgresStorage(pool, schema=schema, timeout=1)
    await storage.create_schema()
    async with pool.acquire() as vacuum, vacuum.transaction():
        await vacuum.execute(f"LOCK TABLE {storage._statements.table} IN SHARE UPDATE EXCLUSIVE MODE")
        await storage.create_schema()


async def test_a_table_of_a_version_before_gets_its_locks_and_is_left_alone(pool: asyncpg.Pool, schema: str) -> None:
    """While an old process writes to it, and a vacuum is at work."""
    storage = PostgresStorage(pool, schema=schema, timeout=1)
    await pool.execute(storage._statements.make_schema + storage._statements.create)
    version = await storage.insert(KEY, b"old", EXPIRES_AT)
    table = storage._statements.table
    async with pool.acquire() as old, old.transaction():
        await old.execute(f"LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE")
        await old.execute(f"UPDATE {table} SET data = 'newer'")
        await asyncio.gather(*(PostgresStorage(pool, schema=schema).create_schema() for _ in range(5)))
        async with storage.lock(KEY):
            pass

    stored = await storage.fetch(KEY)
    assert stored
    assert (stored.data, stored.version) == (b"newer", version)


async def test_a_table_without_its_index_is_completed(pool: asyncpg.Pool, schema: str) -> None:
    storage = PostgresStorage(pool, schema=schema)
    await storage.create_schema()
    await pool.execute(f"DROP INDEX {schema}.aiohttp_sessions_expires_at_idx")
    await storage.create_schema()

    indexes = await pool.fetch("SELECT indexname FROM pg_indexes WHERE schemaname = $1 ORDER BY 1", schema)
    names = [
        "aiohttp_sessions_expires_at_idx",
        "aiohttp_sessions_locks_pkey",
        "aiohttp_sessions_owners_pkey",
        "aiohttp_sessions_pkey",
        "aiohttp_sessions_until_idx",
    ]
    assert [row["indexname"] for row in indexes] == names


async def test_a_role_that_may_only_use_the_table_can_ask_for_it(
    shared_server: PostgresServer, storage: PostgresStorage, pool: asyncpg.Pool, schema: str
) -> None:
    """Where a migration of the owner has made it."""
    await pool.execute(
        f"CREATE ROLE {schema}_app LOGIN; GRANT USAGE ON SCHEMA {schema} TO {schema}_app;"
        f" GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {schema}_app"
    )
    dsn = shared_server.dsn.replace("postgres@", f"{schema}_app@")
    restricted = PostgresStorage.from_dsn(dsn, schema=schema)
    await restricted.create_schema()
    version = await restricted.insert(KEY, b"", EXPIRES_AT) or b""
    assert await restricted.touch(KEY, EXPIRES_AT + 1, version)
    assert await restricted.sweep() == 0
    async with restricted.lock(KEY):
        pass
    await restricted.delete(KEY)
    await restricted.aclose()


async def test_the_sql_that_is_printed_makes_the_table_that_is_used(pool: asyncpg.Pool, schema: str) -> None:
    storage = PostgresStorage(pool, schema=schema)
    await pool.execute(storage.schema_sql)

    assert await storage.insert(KEY, b"data", EXPIRES_AT)
    rows = await pool.fetch("SELECT indexdef FROM pg_indexes WHERE schemaname = $1 ORDER BY indexname", schema)
    assert [row["indexdef"].partition(" USING ")[2] for row in rows] == [
        "btree (expires_at)",
        "btree (key)",
        "btree (owner, key)",
        "btree (key)",
        "btree (until)",
    ]
    async with storage.lock(KEY):
        pass


@pytest.mark.parametrize("odd", ['"; DROP TABLE x; --', "Ünï cödé", "select", "a.b", "%s", "x" * 48])
async def test_odd_names_are_names(pool: asyncpg.Pool, schema: str, odd: str) -> None:
    storage = PostgresStorage(pool, schema=schema, table=odd)
    await storage.create_schema()
    version = await storage.insert(KEY, b"old", EXPIRES_AT) or b""
    assert await storage.replace(KEY, b"new", EXPIRES_AT, version)
    assert await storage.sweep() == 0
    async with storage.lock(KEY):
        pass

    names = await pool.fetch("SELECT tablename FROM pg_tables WHERE schemaname = $1", schema)
    assert {row["tablename"] for row in names} == {odd, odd + "_locks", odd + "_owners"}


async def test_a_schema_can_have_an_odd_name(pool: asyncpg.Pool, schema: str) -> None:
    storage = PostgresStorage(pool, schema=f'{schema} "quoted"; DROP')
    await storage.create_schema()

    assert await storage.insert(KEY, b"", EXPIRES_AT)


async def test_without_a_schema_the_search_path_decides(shared_server: PostgresServer, schema: str) -> None:
    async with asyncpg.create_pool(
        shared_server.dsn, min_size=0, max_size=2, server_settings={"search_path": schema}
    ) as pool:
        await pool.execute(f"CREATE SCHEMA {schema}")
        storage = PostgresStorage(pool)
        await storage.create_schema()
        found = await pool.fetch("SELECT tablename FROM pg_tables WHERE schemaname = $1", schema)
        async with storage.lock(KEY):
            pass

    assert {row["tablename"] for row in found} == {
        "aiohttp_sessions",
        "aiohttp_sessions_locks",
        "aiohttp_sessions_owners",
    }


async def test_a_table_further_down_the_search_path_is_not_taken_for_ours(
    shared_server: PostgresServer, storage: PostgresStorage, schema: str
) -> None:
    """Two apps on one database, each with a schema of its own before a common one."""
    path = {"search_path": f"{schema}_own, {schema}"}
    async with asyncpg.create_pool(shared_server.dsn, min_size=0, max_size=2, server_settings=path) as pool:
        await pool.execute(f"CREATE SCHEMA {schema}_own")
        own = PostgresStorage(pool)
        await own.create_schema()
        await own.insert(KEY, b"", EXPIRES_AT)

    assert await storage.fetch(KEY) is None


async def test_a_key_in_the_table_is_the_one_in_the_log(storage: PostgresStorage, pool: asyncpg.Pool) -> None:
    session = await storage.read(None)
    session["user"] = 5
    await storage.save(session)

    table = storage._statements.table
    assert await pool.fetchval(f"SELECT key FROM {table}") == session.key


# --- the sweep


async def test_the_sweep_works_in_batches_by_one_process_at_a_time(
    shared_server: PostgresServer, pool: asyncpg.Pool, schema: str
) -> None:
    storage = PostgresStorage(pool, schema=schema)
    await storage.create_schema()
    rows = [(new_key(), b"", b"", LONG_AGO) for _ in range(2500)]
    table = storage._statements.table
    await pool.executemany(f"INSERT INTO {table} (key, data, version, expires_at) VALUES ($1, $2, $3, $4)", rows)
    async with pool.acquire() as other, other.transaction():
        await other.execute("SELECT pg_advisory_xact_lock($1)", storage._statements.sweep_lock)
        assert await storage.sweep() == 0
    reclaimable = storage.now() - RECLAIM_AFTER
    assert [await storage._sweep_batch(reclaimable) for _ in range(4)] == [1000, 1000, 500, 0]


async def test_the_sweep_does_not_wait_for_a_row_that_is_being_written(pool: asyncpg.Pool, schema: str) -> None:
    storage = PostgresStorage(pool, schema=schema, timeout=5)
    await storage.create_schema()
    keys = [new_key(), new_key()]
    for key in keys:
        await storage.insert(key, b"", LONG_AGO)
    table = storage._statements.table
    async with pool.acquire() as writer, writer.transaction():
        await writer.execute(f"UPDATE {table} SET expires_at = $1 WHERE key = $2", EXPIRES_AT, keys[0])
        async with asyncio.timeout(2):
            assert await storage.sweep() == 1

    assert await storage.fetch(keys[0])
    assert await storage.fetch(keys[1]) is None


async def test_a_process_whose_clock_is_ahead_removes_no_live_session(pool: asyncpg.Pool, schema: str) -> None:
    """Ten minutes ahead: by its clock, the other process's session ended long ago."""
    others = PostgresStorage(pool, schema=schema, idle_timeout=120)
    await others.create_schema()
    session = await others.read(None)
    session["user"] = 5
    session_id = await others.save(session)
    ahead = PostgresStorage(pool, schema=schema, idle_timeout=120, clock=ManualClock(time.time() + 600))
    await ahead.insert(KEY, b"", LONG_AGO)

    assert await ahead.sweep() == 1, "what has ended by both clocks"
    assert (await others.read(session_id))["user"] == 5


async def test_a_process_whose_clock_is_behind_removes_what_has_ended_by_its_clock(
    pool: asyncpg.Pool, schema: str
) -> None:
    """The server may be ahead of all processes."""
    behind = PostgresStorage(pool, schema=schema, clock=ManualClock(LONG_AGO + RECLAIM_AFTER))
    await behind.create_schema()
    ended, alive = new_key(), new_key()
    await behind.insert(ended, b"", LONG_AGO)
    await behind.insert(alive, b"", LONG_AGO + 1)

    assert await behind.sweep() == 1
    assert await behind.fetch(alive)


async def test_the_sweep_finds_expired_rows_by_the_index(pool: asyncpg.Pool, schema: str) -> None:
    """Both clocks in its condition can be compared with it."""
    storage = PostgresStorage(pool, schema=schema)
    await storage.create_schema()
    table = storage._statements.table
    await pool.execute(
        f"INSERT INTO {table} SELECT i::text, '', '', {EXPIRES_AT} FROM generate_series(1, 20000) AS i; ANALYZE {table}"
    )
    plan = await pool.fetch(f"EXPLAIN {storage._statements.sweep}", storage.now(), 1000, 1)
    assert any("Index Cond: (expires_at <=" in row[0] for row in plan), plan


# --- pools


async def test_a_given_pool_is_not_closed(pool: asyncpg.Pool, schema: str) -> None:
    storage = PostgresStorage(pool, schema=schema)
    await storage.start()
    await storage.aclose()

    assert await pool.fetchval("SELECT 1") == 1


async def test_a_pool_of_our_own_is_closed_with_the_last_app(shared_server: PostgresServer, schema: str) -> None:
    storage = PostgresStorage.from_dsn(shared_server.dsn, schema=schema)
    await storage.create_schema()
    pool = await storage._connections.pool()
    await storage.start()
    await storage.start()
    await storage.aclose()
    assert await pool.fetchval("SELECT 1") == 1
    await storage.aclose()

    assert pool.is_closing()


@pytest.mark.parametrize("closed", [True, False])
def test_one_storage_serves_one_event_loop_after_another(
    shared_server: PostgresServer, schema: str, closed: bool
) -> None:
    """As that of a module does, whose tests each have a loop of their own."""
    storage = PostgresStorage.from_dsn(shared_server.dsn, schema=schema)

    async def hold(number: int) -> None:
        async with storage.lock(f"{number:064x}"):
            await storage.fetch(KEY)

    async def serve() -> None:
        await storage.create_schema()
        await asyncio.gather(*(hold(number) for number in range(20)))
        pool = await storage._connections.pool()
        await (storage.aclose() if closed else pool.close())  # what is not closed the collector complains about

    for _ in range(3):
        asyncio.run(serve())


@pytest.mark.parametrize(
    "setting",
    [
        {"pool_size": 0},
        {"pool_size": True},
        {"timeout": 0},
        {"timeout": "5"},
        {"lock_lease": 0.5},
        {"lock_lease": True},
        {"table": ""},
        {"table": "x" * 49},
        {"table": "a\0b"},
        {"table": None},
        {"schema": ""},
        {"schema": "x" * 64},
    ],
)
def test_settings_that_make_no_sense_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(setting)).partition("_")[0]):
        PostgresStorage.from_dsn(DSN, **setting)


def test_what_is_no_pool_is_named_by_its_type_alone() -> None:
    """It may be a DSN with a password."""
    for wrong in ("postgresql://u:secret@h/d", b"secret", {"dsn": "secret"}, None):
        with pytest.raises(ConfigurationError, match=r"not \w+: for a DSN, call PostgresStorage\.from_dsn") as caught:
            PostgresStorage(wrong)  # type: ignore[arg-type]
        assert "secret" not in str(caught.value)


def test_it_has_no_secret_of_its_own() -> None:
    with pytest.raises(ConfigurationError, match="PostgresStorage has no secret"):
        SessionCookie().bind(PostgresStorage.from_dsn(DSN))


def test_without_the_driver_the_import_says_what_to_install() -> None:
    script = "import sys; sys.modules['asyncpg'] = None; import aiohttp_session_store.storages.postgres"
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)

    assert "pip install 'asyncpg>=0.30'" in finished.stderr
