"""Ends of sessions are announced by NOTIFY, and noticed without it, too."""

import asyncio
import logging
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import asyncpg
import pytest

from aiohttp_session_store import Announcement, StorageError
from aiohttp_session_store.engine.watching import Watching
from aiohttp_session_store.storages.postgres import PostgresStorage, announcing
from tests.docs.blocks import ROOT
from tests.servers.postgres import PostgresServer
from tests.servers.tcp_proxy import Fate, tcp_proxy
from tests.storages.watched_steps import AWAY, SOON, ended, log_out, stored, watch

KEY = secrets.token_hex(32)


@asynccontextmanager
async def watching(storage: PostgresStorage, interval: float) -> AsyncIterator[Watching]:
    watching = storage.watching(interval)
    yield watching
    await watching.stop()


@asynccontextmanager
async def from_dsn(dsn: str, schema: str, **options: object) -> AsyncIterator[PostgresStorage]:
    storage = PostgresStorage.from_dsn(dsn, schema=schema, **options)  # type: ignore[arg-type]
    await storage.create_schema()
    yield storage
    await storage.aclose()


async def listeners(pool: asyncpg.Pool, channel: str) -> list[int]:
    """Return the process ids of the backends whose last statement was to listen on *channel*."""
    rows = await pool.fetch("SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%' || $1 || '%'", channel)
    return [row["pid"] for row in rows]


async def until_one_listens(pool: asyncpg.Pool, storage: PostgresStorage, other_than: int = 0) -> int:
    async with asyncio.timeout(SOON):
        while True:
            found = [pid for pid in await listeners(pool, storage._statements.channel) if pid != other_than]
            if found:
                return found[0]
            await asyncio.sleep(0.01)


async def test_an_end_in_another_process_is_heard(shared_server: PostgresServer, schema: str) -> None:
    code = (
        "import asyncio, sys\n"
        "from aiohttp_session_store.storages.postgres import PostgresStorage\n"
        "async def main():\n"
        "    storage = PostgresStorage.from_dsn(sys.argv[1], schema=sys.argv[2])\n"
        "    session = await storage.read(sys.argv[3])\n"
        "    session.destroy()\n"
        "    await storage.save(session)\n"
        "    await storage.aclose()\n"
        "asyncio.run(main())\n"
    )
    async with (
        from_dsn(shared_server.dsn, schema) as storage,
        watching(storage, 3600) as sessions,
        aclosing(storage.announcements()) as announcements,
    ):
        session_id = await stored(storage)
        assert await anext(announcements) == Announcement("")
        watched = await watch(storage, sessions, session_id)
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, shared_server.dsn, schema, session_id, cwd=ROOT
        )
        assert await child.wait() == 0

        assert await ended(watched) == "logout"
        heard = await asyncio.wait_for(anext(announcements), SOON)
        assert (heard.is_whole, heard.reason) == (True, "logout")


async def test_after_the_listener_was_killed_everything_is_looked_at(
    shared_server: PostgresServer,
    pool: asyncpg.Pool,
    schema: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with from_dsn(shared_server.dsn, schema) as storage, watching(storage, 3600) as sessions:
        session_id = await stored(storage)
        watched = await watch(storage, sessions, session_id)
        pid = await until_one_listens(pool, storage)
        monkeypatch.setattr(PostgresStorage, "announces", False)  # a hint that nobody hears
        await log_out(storage, session_id)
        await pool.fetchval("SELECT pg_terminate_backend($1)", pid)

        assert await ended(watched) == "logout"
        await until_one_listens(pool, storage, pid)
    assert sum("are not announced for now" in one.message for one in caplog.records) == 1


async def test_a_connection_that_has_gone_silent_is_given_up(
    shared_server: PostgresServer, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcing, "_SILENT", 0.1)
    async with (
        tcp_proxy(shared_server.dsn) as between,
        from_dsn(between.dsn(shared_server.dsn), schema, timeout=1) as storage,
        aclosing(storage.announcements()) as announcements,
    ):
        assert await anext(announcements) == Announcement("")
        await asyncio.sleep(0.3)  # it is tested, and answers
        await storage.announce(KEY, "logout")
        assert await asyncio.wait_for(anext(announcements), SOON) == Announcement(KEY, "logout")

        between.doom(Fate.VANISH)

        with pytest.raises(StorageError):
            await asyncio.wait_for(anext(announcements), SOON)


@AWAY
async def test_a_server_that_is_away_closes_nothing_and_what_ends_after_is_noticed(
    server: PostgresServer, schema: str, caplog: pytest.LogCaptureFixture, seconds_away: int
) -> None:
    async with from_dsn(server.dsn, schema, timeout=2) as storage, watching(storage, 0.3) as sessions:
        ends, stays = await stored(storage), await stored(storage)
        one, other = await watch(storage, sessions, ends), await watch(storage, sessions, stays)
        await asyncio.to_thread(server.stop)
        async with asyncio.timeout(SOON):
            while not any("could not be looked at" in record.message for record in caplog.records):
                await asyncio.sleep(0.01)
        await asyncio.sleep(seconds_away)
        assert (one.reason, other.reason) == (None, None)

        await asyncio.to_thread(server.start)
        await log_out(storage, ends)

        assert await ended(one) == "logout"
        assert other.reason is None


async def test_a_pool_of_one_connection_keeps_it(
    shared_server: PostgresServer, schema: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with asyncpg.create_pool(shared_server.dsn, min_size=0, max_size=1) as pool:
        storage = PostgresStorage(pool, schema=schema)
        await storage.create_schema()
        session_id = await stored(storage)
        async with watching(storage, 0.2) as sessions:
            watched = await watch(storage, sessions, session_id)
            await log_out(storage, session_id)
            assert await ended(watched) == "logout"
        await storage.aclose()
    assert [one.levelno for one in caplog.records if "has one connection" in one.message] == [logging.WARNING]


async def test_a_pool_that_was_given_gets_its_connection_back(pool: asyncpg.Pool, storage: PostgresStorage) -> None:
    for _ in range(12):  # more often than the pool has connections
        async with aclosing(storage.announcements()) as announcements:
            assert await anext(announcements) == Announcement("")
    await storage.announce(KEY, "logout")


async def test_nothing_is_opened_for_an_app_that_watches_nothing(
    shared_server: PostgresServer, pool: asyncpg.Pool, schema: str
) -> None:
    async with from_dsn(shared_server.dsn, schema) as storage:
        await log_out(storage, await stored(storage))
        assert not await listeners(pool, storage._statements.channel)
        async with watching(storage, 0.1) as sessions:
            watched = await watch(storage, sessions, await stored(storage))
            await until_one_listens(pool, storage)
            watched.cancel()
            async with asyncio.timeout(SOON):
                while await listeners(pool, storage._statements.channel):
                    await asyncio.sleep(0.01)


async def test_messages_of_others_are_ignored(pool: asyncpg.Pool, storage: PostgresStorage) -> None:
    async with aclosing(storage.announcements()) as announcements:
        await anext(announcements)
        for message in ("", "\u00e4", "abc logout", KEY[:-1]):
            await pool.fetch("SELECT pg_notify($1, $2)", storage._statements.channel, message)
        await storage.announce(KEY, "revoked")

        assert await asyncio.wait_for(anext(announcements), SOON) == Announcement(KEY, "revoked")


async def test_behind_a_pooler_the_looks_do_the_work_and_it_is_said_once(
    pooled_dsn: str, schema: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with from_dsn(pooled_dsn, schema, prepared_statements=False, timeout=2) as storage:
        session_id, later = await stored(storage), await stored(storage)
        async with watching(storage, 0.2) as sessions:
            watched, other = await watch(storage, sessions, session_id), await watch(storage, sessions, later)
            await log_out(storage, session_id)
            assert await ended(watched) == "logout"
            async with asyncio.timeout(SOON):
                while not any("LISTEN does not work" in one.message for one in caplog.records):
                    await asyncio.sleep(0.05)
            await log_out(storage, later)
            assert await ended(other) == "logout"
    assert sum("noticed by looking alone" in one.message for one in caplog.records) == 1
