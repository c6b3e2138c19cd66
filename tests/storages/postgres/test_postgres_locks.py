"""exclusive_session on a server: a row that is renewed, lost, left behind, and never trusted for too long."""

import asyncio
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpClient

from aiohttp_session_store import (
    SessionCookie,
    SessionLockError,
    StorageError,
    exclusive_session,
    get_session,
    setup,
)
from aiohttp_session_store.session.session import state_of
from aiohttp_session_store.storages.postgres import PostgresStorage
from aiohttp_session_store.storages.postgres.lock import Looks, PostgresLock
from tests.servers.postgres import PostgresServer
from tests.servers.tcp_proxy import Fate, tcp_proxy
from tests.web.storages import SECRET

KEY = "ab" * 32


async def until(condition: Callable[[], Awaitable[object]], seconds: float = 20) -> None:
    """Wait until *condition* says true."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.01)


async def row(pool: asyncpg.Pool, storage: PostgresStorage, key: str = KEY) -> Any:
    """Return the row of the lock of *key*."""
    return await pool.fetchrow(
        f"SELECT token, ends_at - clock_timestamp() AS left, ends_at, ctid, xmax FROM {storage._statements.locks}"
        " WHERE key = $1",
        key,
    )


async def forget(pool: asyncpg.Pool, storage: PostgresStorage, key: str = KEY) -> None:
    """Delete the row of the lock of *key*, as a failover can."""
    assert await pool.execute(f"DELETE FROM {storage._statements.locks} WHERE key = $1", key) == "DELETE 1"


async def hold(storage: PostgresStorage, key: str, leave: asyncio.Event, entered: asyncio.Event | None = None) -> None:
    async with storage.lock(key):
        if entered is not None:
            entered.set()
        await leave.wait()


# --- the lease


async def test_a_lease_is_renewed_while_its_holder_lives(pool: asyncpg.Pool, schema: str) -> None:
    storage = PostgresStorage(pool, schema=schema, lock_lease=1)
    await storage.create_schema()
    async with storage.lock(KEY) as lease:
        first = (await row(pool, storage))["ends_at"]

        async def is_renewed_beyond_the_first_lease() -> bool:
            await lease()
            found = await row(pool, storage)
            return bool((found["ends_at"] - first).total_seconds() > 1.5)

        await until(is_renewed_beyond_the_first_lease)
    assert await row(pool, storage) is None


async def test_a_lease_is_renewed_in_the_background(pool: asyncpg.Pool, schema: str) -> None:
    """A slow handler does not ask."""
    storage = PostgresStorage(pool, schema=schema, lock_lease=1)
    await storage.create_schema()
    async with storage.lock(KEY) as lease:
        first = (await row(pool, storage))["ends_at"]

        async def has_outlived_the_first_lease() -> bool:
            return bool(await pool.fetchval("SELECT clock_timestamp() > $1", first))

        await until(has_outlived_the_first_lease)
        assert (await row(pool, storage))["left"].total_seconds() > 0
        await lease()


async def test_a_lease_that_the_server_forgot_is_over_at_once_and_for_good(
    storage: PostgresStorage, pool: asyncpg.Pool
) -> None:
    async with storage.lock(KEY) as lease:
        token = (await row(pool, storage))["token"]
        await forget(pool, storage)
        with pytest.raises(SessionLockError, match="was lost"):
            await lease()
        assert await row(pool, storage) is None, "what is lost must not be taken again"
        await pool.execute(
            f"INSERT INTO {storage._statements.locks} VALUES ($1, $2, now() + interval '1 minute')", KEY, token
        )
        with pytest.raises(SessionLockError, match="was lost"):  # although the server has it again
            await lease()


async def test_a_lease_that_the_server_forgot_is_not_renewed(pool: asyncpg.Pool, schema: str) -> None:
    storage = PostgresStorage(pool, schema=schema, lock_lease=1)
    await storage.create_schema()
    async with storage.lock(KEY) as lease:
        await forget(pool, storage)
        ours = lease.__self__  # type: ignore[attr-defined]
        await until(lambda: asyncio.sleep(0, ours._over))
        assert await row(pool, storage) is None, "what is lost must not be taken again"


async def test_a_lease_whose_row_has_ended_is_not_renewed_although_nobody_has_taken_it(
    storage: PostgresStorage, pool: asyncpg.Pool
) -> None:
    """By the server's clock: ours may have stood still, as that of a machine that slept does."""
    async with storage.lock(KEY) as lease:
        await pool.execute(f"UPDATE {storage._statements.locks} SET ends_at = clock_timestamp()")
        with pytest.raises(SessionLockError, match="was lost"):
            await lease()


async def test_a_lease_ends_by_our_clock_if_the_server_is_away(
    server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    storage = PostgresStorage.from_dsn(server.dsn, lock_lease=1, timeout=0.2)
    await storage.create_schema()
    async with storage.lock(KEY) as lease:
        ours = lease.__self__  # type: ignore[attr-defined]
        started = time.monotonic()
        server.stop()
        with pytest.raises(SessionLockError, match=r"try again \(PostgreSQL"):
            await lease()
        await until(lambda: asyncio.sleep(0, time.monotonic() >= ours._valid_until))
        assert ours._valid_until - started <= 1, "it must count from when the lock was taken or renewed"
        await asyncio.to_thread(server.start)
        with pytest.raises(SessionLockError, match="was lost"):
            await lease()
    assert "could not be renewed" in caplog.text
    assert not any(record.exc_info or record.levelno > logging.DEBUG for record in caplog.records), (
        "the request says it"
    )
    await storage.aclose()


async def test_parallel_checks_of_one_lease_all_stand(storage: PostgresStorage) -> None:
    async with storage.lock(KEY) as lease:
        await asyncio.gather(*(lease() for _ in range(30)))


async def test_who_has_lost_the_lock_saves_nothing(storage: PostgresStorage, pool: asyncpg.Pool) -> None:
    session = await storage.read(None)
    session["balance"] = 10
    session_id = await storage.save(session)
    session = await storage.read(session_id)
    async with storage.lock(session.key) as lease:
        state_of(session).lease = lease
        await lease()
        await forget(pool, storage, session.key)
        session["balance"] = 0
        with pytest.raises(SessionLockError, match="was lost"):
            await storage.save(session)

    assert (await storage.read(session_id))["balance"] == 10


async def test_a_lock_that_the_server_forgot_lets_one_holder_save_not_two(pool: asyncpg.Pool, schema: str) -> None:
    """As after a failover: both think that they have it, and each counts on from what it read."""
    storages = [PostgresStorage(pool, schema=schema) for _ in range(2)]
    await storages[0].create_schema()
    session = await storages[0].read(None)
    session["count"] = 0
    session_id = await storages[0].save(session)
    first, second = [await storage.read(session_id) for storage in storages]
    async with storages[0].lock(first.key) as lost:
        state_of(first).lease = lost
        await forget(pool, storages[0], first.key)
        async with storages[1].lock(second.key) as held:
            state_of(second).lease = held
            await storages[1].refresh(second)
            first["count"] += 1
            with pytest.raises(SessionLockError):
                await storages[0].save(first)
            second["count"] += 1
            await storages[1].save(second)

    assert (await storages[0].read(session_id))["count"] == 1


async def test_who_loses_the_lock_between_its_check_and_its_write_undoes_nothing(
    shared_server: PostgresServer, storage: PostgresStorage, pool: asyncpg.Pool, schema: str
) -> None:
    """The write is held back until the next holder has read the record, and given it another version."""
    async with tcp_proxy(shared_server.dsn) as proxy:
        far = PostgresStorage.from_dsn(proxy.dsn(shared_server.dsn), schema=schema, pool_size=1)
        session = await far.read(None)
        session["count"] = 0
        session_id = await far.save(session)
        first, second = await far.read(session_id), await storage.read(session_id)
        async with far.lock(first.key) as lease:

            async def check_and_hold() -> None:
                await lease()
                proxy.hold()

            state_of(first).lease = lease
            await far.refresh(first)
            state_of(first).lease = check_and_hold
            first["count"] += 1
            saving = asyncio.ensure_future(far.save(first))
            await proxy.held.wait()
            await forget(pool, storage, first.key)
            async with storage.lock(second.key) as held:
                state_of(second).lease = held
                await storage.refresh(second)
                second["count"] += 10
                proxy.resume()
                with pytest.raises(SessionLockError, match="was lost"):
                    await saving
                await storage.save(second)

        assert (await storage.read(session_id))["count"] == 10
        await far.aclose()


# --- taking and giving back


async def test_a_lock_is_taken_by_one_and_taken_over_when_it_has_ended(
    storage: PostgresStorage, pool: asyncpg.Pool
) -> None:
    """Step by step, by the server's clock; what is asked twice because the answer was lost is taken once."""
    sql, value = storage._statements, storage._connections.value
    assert await value(sql.take_lock, KEY, b"first", 60.0)
    assert not await value(sql.take_lock, KEY, b"second", 60.0)
    assert await value(sql.take_lock, KEY, b"first", 60.0)
    assert not await value(sql.renew_lock, KEY, b"second", 60.0)

    await pool.execute(f"UPDATE {sql.locks} SET ends_at = clock_timestamp() - interval '1 ms'")
    assert not await value(sql.renew_lock, KEY, b"first", 60.0)
    assert await value(sql.take_lock, KEY, b"second", 60.0)
    assert not await value(sql.take_lock, KEY, b"first", 60.0)
    await value(sql.release_lock, KEY, b"first")
    assert (await row(pool, storage))["token"] == b"second"
    await value(sql.release_lock, KEY, b"second")
    assert await row(pool, storage) is None


async def test_of_many_who_take_a_lock_that_has_ended_one_gets_it(storage: PostgresStorage, pool: asyncpg.Pool) -> None:
    sql, value = storage._statements, storage._connections.value
    for number in range(10):
        taking = [value(sql.take_lock, KEY, b"%d %d" % (number, one), 60.0) for one in range(10)]
        assert (await asyncio.gather(*taking)).count(True) == 1
        await pool.execute(f"UPDATE {sql.locks} SET ends_at = clock_timestamp()")


async def test_a_lock_is_given_back_only_by_its_holder(storage: PostgresStorage, pool: asyncpg.Pool) -> None:
    async with storage.lock(KEY):
        await pool.execute(f"UPDATE {storage._statements.locks} SET token = 'somebody'")

    assert (await row(pool, storage))["token"] == b"somebody"


async def test_who_waits_writes_nothing(storage: PostgresStorage, pool: asyncpg.Pool, schema: str) -> None:
    """Else a thousand who wait would write a row a thousand times a second, and hold up its renewal."""
    other = PostgresStorage(pool, schema=schema)
    async with storage.lock(KEY):
        before = await row(pool, storage)
        async with asyncio.timeout(5):
            assert not await other._connections.value(other._statements.take_lock, KEY, b"other", 10.0)
        after = await row(pool, storage)
    assert [after[name] for name in ("ctid", "xmax")] == [before[name] for name in ("ctid", "xmax")]


async def test_an_error_of_the_application_under_the_lock_stays_what_it_is(storage: PostgresStorage) -> None:
    """One of its own queries, perhaps."""
    for error in (asyncpg.UniqueViolationError("theirs"), TimeoutError("theirs"), StorageError("theirs")):
        with pytest.raises(type(error), match="theirs"):
            async with storage.lock(KEY):
                raise error
    async with storage.lock(KEY):
        pass


async def test_two_tables_do_not_share_locks(pool: asyncpg.Pool, schema: str) -> None:
    """Although their names differ only in the last of 48 bytes."""
    one, other = (PostgresStorage(pool, schema=schema, table="x" * 47 + last) for last in "ab")
    for storage in (one, other):
        await storage.create_schema()
    async with asyncio.timeout(5), one.lock(KEY), other.lock(KEY):
        pass


async def test_a_lock_that_is_taken_while_the_request_is_cancelled_is_given_back(
    shared_server: PostgresServer, storage: PostgresStorage, pool: asyncpg.Pool, schema: str
) -> None:
    """The statement reaches the server only after the cancellation: the release has to come later still."""
    async with tcp_proxy(shared_server.dsn) as proxy:
        late = PostgresStorage.from_dsn(proxy.dsn(shared_server.dsn), schema=schema, pool_size=2)
        await late.fetch(KEY)
        proxy.hold()  # what is sent on this connection, but not on the other one
        taking = asyncio.ensure_future(hold(late, KEY, asyncio.Event()))
        await proxy.held.wait()
        taking.cancel()
        await asyncio.wait([taking])
        assert taking.cancelled()
        for _ in range(20):
            assert await late.fetch(KEY) is None
            assert await row(pool, storage) is None
        proxy.resume()
        await late.aclose()  # which waits for releases
        assert late._releases == set()
        assert await row(pool, storage) is None


async def test_a_lock_whose_answer_is_lost_is_taken_or_given_back(
    shared_server: PostgresServer, storage: PostgresStorage, pool: asyncpg.Pool, schema: str
) -> None:
    async with tcp_proxy(shared_server.dsn) as proxy:
        far = PostgresStorage.from_dsn(proxy.dsn(shared_server.dsn), schema=schema, pool_size=1)
        async with far.lock(KEY):  # the connection knows the statement from now on
            pass
        proxy.doom(Fate.LOSE_ANSWERS)
        leave, entered = asyncio.Event(), asyncio.Event()
        holding = asyncio.ensure_future(hold(far, KEY, leave, entered))
        await proxy.lost.wait()
        token = (await row(pool, storage))["token"]
        assert not entered.is_set()
        proxy.cut()
        await entered.wait()
        assert (await row(pool, storage))["token"] == token
        leave.set()
        await holding
        assert await row(pool, storage) is None
        await far.aclose()


# --- holders that die


HOLDER = """
import asyncio, sys
from aiohttp_session_store.storages.postgres import PostgresStorage

async def hold(dsn, schema, key):
    async with PostgresStorage.from_dsn(dsn, schema=schema, lock_lease=1).lock(key) as lease:
        print("held", flush=True)
        await asyncio.sleep(60)

asyncio.run(hold(*sys.argv[1:]))
"""


async def started_holder(folder: Path, dsn: str, schema: str) -> "subprocess.Popen[bytes]":
    """Start a process that holds the lock of KEY."""
    (folder / "holder.py").write_text(HOLDER)
    command: list[Any] = [sys.executable, folder / "holder.py", dsn, schema, KEY]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout
    assert await asyncio.to_thread(process.stdout.readline) == b"held\n"
    return process


async def test_a_holder_that_is_killed_frees_the_lock_when_the_lease_ends(
    shared_server: PostgresServer, storage: PostgresStorage, schema: str, tmp_path: Path
) -> None:
    with await started_holder(tmp_path, shared_server.dsn, schema) as process:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5), storage.lock(KEY):  # it is renewed while the holder lives
                pass
        process.kill()
        async with asyncio.timeout(10), storage.lock(KEY):
            pass


async def test_a_holder_whose_machine_vanishes_frees_the_lock_when_the_lease_ends(
    shared_server: PostgresServer, storage: PostgresStorage, pool: asyncpg.Pool, schema: str, tmp_path: Path
) -> None:
    """Its connections stay open, as far as the server knows."""
    async with tcp_proxy(shared_server.dsn) as proxy:
        dsn = proxy.dsn(shared_server.dsn) + f"?application_name={schema}"
        with await started_holder(tmp_path, dsn, schema) as process:
            proxy.doom(Fate.VANISH)
            process.send_signal(signal.SIGSTOP)
            process.kill()
            async with asyncio.timeout(10), storage.lock(KEY):
                pass
            open_ = await pool.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name = $1", schema)
    assert open_ > 0


async def test_a_holder_that_was_stopped_finds_the_lock_lost(
    shared_server: PostgresServer, storage: PostgresStorage, schema: str, tmp_path: Path
) -> None:
    (tmp_path / "saver.py").write_text(
        HOLDER.replace("await asyncio.sleep(60)", "await asyncio.to_thread(input); await lease()")
    )
    command: list[Any] = [sys.executable, tmp_path / "saver.py", shared_server.dsn, schema, KEY]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert await asyncio.to_thread(process.stdout.readline) == "held\n"
        process.send_signal(signal.SIGSTOP)
        async with asyncio.timeout(10), storage.lock(KEY):
            process.send_signal(signal.SIGCONT)
            _, error = await asyncio.to_thread(process.communicate, "go on\n")
    assert "SessionLockError: the exclusive lock of the session was lost" in error


async def test_locks_of_holders_that_died_are_swept(storage: PostgresStorage, pool: asyncpg.Pool) -> None:
    locks = storage._statements.locks
    await pool.execute(f"INSERT INTO {locks} SELECT i::text, 'dead', now() FROM generate_series(1, 5000) AS i")
    async with storage.lock(KEY):
        assert await storage.sweep() == 0
        assert await pool.fetchval(f"SELECT array_agg(key) FROM {locks}") == [KEY]


async def test_the_sweep_works_without_a_table_of_locks(
    storage: PostgresStorage, pool: asyncpg.Pool, caplog: pytest.LogCaptureFixture
) -> None:
    """Of an app that was updated, and whose tables were not; it never uses exclusive_session, perhaps."""
    await pool.execute(f"DROP TABLE {storage._statements.locks}")
    await storage.insert(KEY, b"", 1)
    assert await storage.sweep() == 1
    assert await storage.sweep() == 0
    assert caplog.text.count("exclusive_session cannot work") == 1
    with pytest.raises(StorageError, match=r"_locks.* does not exist: await storage\.create_schema"):
        async with storage.lock(KEY):
            pass
    await storage.create_schema()
    async with storage.lock(KEY):
        pass


# --- what it costs others


async def test_a_hundred_hold_and_a_thousand_wait_and_everything_else_goes_on(
    shared_server: PostgresServer, schema: str
) -> None:
    """With no more connections than the two pools have."""
    async with tcp_proxy(shared_server.dsn) as proxy:
        first, second = (
            PostgresStorage.from_dsn(proxy.dsn(shared_server.dsn), schema=schema, pool_size=10) for _ in range(2)
        )
        await first.create_schema()
        leave = asyncio.Event()
        keys = [f"{number:064x}" for number in range(100)]
        holding = [asyncio.create_task(hold(first, key, leave)) for key in keys]
        async with asyncio.timeout(60):
            for key in keys:
                while await second._connections.value(second._statements.take_lock, key, b"other", 10.0):
                    await second._connections.row(second._statements.release_lock, key, b"other")
        waiting = [asyncio.create_task(hold(second, key, leave)) for key in keys for _ in range(10)]
        async with asyncio.timeout(60):
            for number in range(100):
                key = f"{number + 1000:064x}"
                version = await second.insert(key, b"", 4_000_000_000)
                assert version
                assert await second.replace(key, b"new", 4_000_000_000, version)
                async with second.lock(key):  # one that is free
                    pass
        assert not any(task.done() for task in (*holding, *waiting))
        leave.set()
        async with asyncio.timeout(60):
            await asyncio.gather(*holding, *waiting)
        assert proxy.most_open <= 20
        for storage in (first, second):
            await storage.aclose()


async def test_a_thousand_who_wait_for_a_thousand_keys_leave_connections_for_others(
    shared_server: PostgresServer, storage: PostgresStorage, pool: asyncpg.Pool, schema: str
) -> None:
    """Held by other processes: each of them has to look."""
    locks = storage._statements.locks
    await pool.execute(
        f"INSERT INTO {locks} SELECT lpad(i::text, 64, '0'), 'other', now() + interval '1 minute'"
        " FROM generate_series(1, 1000) AS i"
    )
    other = PostgresStorage.from_dsn(shared_server.dsn, schema=schema, pool_size=4)
    leave = asyncio.Event()
    leave.set()
    waiting = [asyncio.create_task(hold(other, f"{number:064d}", leave)) for number in range(1, 1001)]
    async with asyncio.timeout(60):
        for _ in range(300):
            assert await other.fetch(KEY) is None
    assert not any(task.done() for task in waiting)
    await pool.execute(f"DELETE FROM {locks}")
    async with asyncio.timeout(60):
        await asyncio.gather(*waiting)
    assert await pool.fetchval(f"SELECT count(*) FROM {locks}") == 0
    await other.aclose()


async def test_looks_that_hang_leave_half_of_the_connections_to_others(
    shared_server: PostgresServer, storage: PostgresStorage, pool: asyncpg.Pool, schema: str
) -> None:
    """Somebody has locked the table of locks."""
    other = PostgresStorage.from_dsn(shared_server.dsn, schema=schema, pool_size=4)
    leave = asyncio.Event()
    leave.set()
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(f"LOCK TABLE {storage._statements.locks}")
        asking = [asyncio.create_task(hold(other, f"{number:064x}", leave)) for number in range(20)]
        hanging = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = $1::text::regclass"

        async def two_hang() -> bool:
            return bool(await pool.fetchval(hanging, storage._statements.locks) == 2)

        await until(two_hang)
        async with asyncio.timeout(2):
            await asyncio.gather(*(other.fetch(KEY) for _ in range(20)))
        assert await two_hang()
        assert not any(task.done() for task in asking)
    await asyncio.gather(*asking)
    await other.aclose()


async def test_who_stops_waiting_has_nothing_to_give_back(storage: PostgresStorage) -> None:
    """A thousand who stop waiting at once send nothing."""
    said: list[str] = []

    async def run(statement: str, *arguments: Any, again: str) -> object:
        said.append(statement)
        return await storage._connections.value(statement, *arguments, again=again)

    sql = storage._statements
    refused = PostgresLock(run, sql, KEY, 10)
    async with storage.lock(KEY):
        assert not await refused._take()  # and is cancelled before the next look
        await refused.release()
    await PostgresLock(run, sql, KEY, 10).release()
    assert set(said) == {sql.take_lock}


def test_many_who_wait_look_less_often() -> None:
    looks = Looks(5)
    few = looks.first_pause(), looks.longest_pause()
    with ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(looks.waiting())
        assert (looks.first_pause(), looks.longest_pause()) == (0.1, 2.0)
    assert (looks.first_pause(), looks.longest_pause()) == few


async def test_slow_visitors_under_the_lock_hold_up_nobody_else(
    aiohttp_client: AiohttpClient, shared_server: PostgresServer, schema: str
) -> None:
    """Who send a form slowly: more of them than the pool has connections."""
    storage = PostgresStorage.from_dsn(shared_server.dsn, pool_size=10, schema=schema, timeout=5)
    await storage.create_schema()
    entered = 0
    leave = asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        nonlocal entered
        async with exclusive_session(request) as session:
            entered += 1
            await leave.wait()
            session["count"] = session.get("count", 0) + 1
        return web.Response(text=str(session["count"]))

    async def quick(request: web.Request) -> web.Response:
        (await get_session(request))["name"] = "ada"
        return web.Response()

    app = web.Application()
    app.router.add_get("/slow", slow)
    app.router.add_get("/quick", quick)
    setup(app, storage, cookie=SessionCookie(secrets=SECRET))
    client = await aiohttp_client(app, cookie_jar=aiohttp.DummyCookieJar())

    async def visit(path: str) -> int:
        async with client.get(path) as response:
            return response.status

    visiting = [asyncio.create_task(visit("/slow")) for _ in range(25)]
    await until(lambda: asyncio.sleep(0, entered == 25))
    assert set(await asyncio.gather(*(visit("/quick") for _ in range(60)))) == {200}
    leave.set()
    assert set(await asyncio.gather(*visiting)) == {200}


@pytest.mark.parametrize("size", [1, 2])
async def test_a_small_pool_serves_many_who_hold_locks(
    aiohttp_client: AiohttpClient, shared_server: PostgresServer, schema: str, size: int
) -> None:
    """Thirty visitors, all at once."""
    storage = PostgresStorage.from_dsn(shared_server.dsn, pool_size=size, schema=schema, timeout=10)
    await storage.create_schema()

    async def exclusive(request: web.Request) -> web.Response:
        async with exclusive_session(request, timeout=30) as session:
            session["count"] = session.get("count", 0) + 1
        return web.Response(text=str(session["count"]))

    app = web.Application()
    app.router.add_get("/", exclusive)
    setup(app, storage, cookie=SessionCookie(secrets=SECRET))
    client = await aiohttp_client(app, cookie_jar=aiohttp.DummyCookieJar())

    async def visit() -> None:
        async with client.get("/") as response:
            assert response.status == 200

    async with asyncio.timeout(30):
        await asyncio.gather(*(visit() for _ in range(30)))


@pytest.mark.parametrize("how", ["close", "terminate"])
async def test_a_pool_that_is_closed_under_a_holder_is_an_error_and_no_hang(
    shared_server: PostgresServer, storage: PostgresStorage, schema: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """By its owner, the application."""
    caplog.set_level(logging.DEBUG)
    pool = await asyncpg.create_pool(shared_server.dsn, min_size=0, max_size=2)
    holder = PostgresStorage(pool, schema=schema, lock_lease=1)
    async with asyncio.timeout(10):
        async with holder.lock(KEY) as lease:
            await pool.close() if how == "close" else pool.terminate()
            with pytest.raises(SessionLockError, match="pool is closed"):
                await lease()
            with pytest.raises(StorageError, match="pool is closed"):
                await holder.fetch(KEY)
        await holder.aclose()
        assert "could not be released: it ends in 1 s" in caplog.text
        async with storage.lock(KEY):
            pass


FORKING = """
import asyncio, os, sys, threading
from aiohttp_session_store.storages.postgres import PostgresStorage

dsn, schema, key = sys.argv[1:]
storage = PostgresStorage.from_dsn(dsn, schema=schema, pool_size=2, lock_lease=2)

async def child():
    assert await storage.fetch(key) is None
    try:
        async with asyncio.timeout(0.3), storage.lock(key):
            print("the child has its parent's lock")
    except TimeoutError:
        print("the child waits")
    async with storage.lock("cd" * 32):
        pass
    await storage.aclose()

async def parent():
    async with storage.lock(key) as lease:
        pid = os.fork()
        if pid == 0:  # an event loop of its own, which a thread without one can run
            thread = threading.Thread(target=asyncio.run, args=[child()])
            thread.start()
            thread.join()
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(pid, 0)
        await lease()
        await asyncio.gather(*(storage.fetch(key) for _ in range(20)))
        print("the parent goes on")
    await storage.aclose()

asyncio.run(parent())
"""


async def test_a_forked_child_has_connections_of_its_own_and_not_its_parents_locks(
    shared_server: PostgresServer, storage: PostgresStorage, schema: str, tmp_path: Path
) -> None:
    (tmp_path / "forking.py").write_text(FORKING)
    command: list[Any] = [sys.executable, tmp_path / "forking.py", shared_server.dsn, schema, KEY]
    finished = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False, timeout=60)

    assert finished.stdout == "the child waits\nthe parent goes on\n", finished.stderr
    async with asyncio.timeout(5), storage.lock(KEY):
        pass
