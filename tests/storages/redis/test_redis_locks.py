"""exclusive_session on a server: leases that are renewed, lost, left behind, and never trusted for too long."""

import asyncio
import logging
import subprocess
import sys
import time
from pathlib import Path

import pytest
from redis.asyncio import Redis

from aiohttp_session_store import SessionLockError
from aiohttp_session_store.session.session import state_of
from aiohttp_session_store.storages.redis import RedisStorage
from tests.servers.redis import RedisServer

KEY = "ab" * 32


async def until(condition: object, seconds: float = 10) -> None:
    """Wait until *condition*, a coroutine function, says true."""
    async with asyncio.timeout(seconds):
        while not await condition():  # type: ignore[operator]
            await asyncio.sleep(0.01)


async def test_a_lease_is_renewed_while_its_holder_lives(client: Redis, prefix: str) -> None:
    storage = RedisStorage(client, prefix=prefix, lock_lease=1)
    async with storage.lock(KEY) as lease:
        started, left, renewals = time.monotonic(), 1000, 0
        while time.monotonic() < started + 1.5:
            before, left = left, await client.pttl(f"{prefix}lock:{KEY}")
            renewals += left > before
            await lease()
            await asyncio.sleep(0.05)
    assert renewals >= 3
    assert not await client.exists(f"{prefix}lock:{KEY}")


async def test_a_lease_that_the_server_forgot_is_over_at_once_and_for_good(client: Redis, prefix: str) -> None:
    storage = RedisStorage(client, prefix=prefix)
    name = f"{prefix}lock:{KEY}"
    async with storage.lock(KEY) as lease:
        token = await client.get(name)
        assert token
        await client.delete(name)
        with pytest.raises(SessionLockError, match="was lost"):
            await lease()
        assert not await client.exists(name), "what is lost must not be taken again"
        await client.set(name, token)  # as a server that comes back may still have it
        with pytest.raises(SessionLockError, match="was lost"):
            await lease()


async def test_a_lease_that_the_server_forgot_is_not_renewed(client: Redis, prefix: str) -> None:
    storage = RedisStorage(client, prefix=prefix, lock_lease=1)
    async with storage.lock(KEY) as lease:
        await client.delete(f"{prefix}lock:{KEY}")
        forgotten = lease.__self__  # type: ignore[attr-defined]
        await until(lambda: asyncio.sleep(0, forgotten._valid_until == 0))
        assert not await client.exists(f"{prefix}lock:{KEY}"), "what is lost must not be taken again"


async def test_a_lease_is_of_no_use_when_the_server_is_away_and_ends_by_our_clock(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    storage = RedisStorage.from_url(server.url, lock_lease=1, timeout=0.2)
    async with storage.lock(KEY) as lease:
        ours = lease.__self__  # type: ignore[attr-defined]
        server.kill()
        started = time.monotonic()
        with pytest.raises(SessionLockError, match=r"try again \(Redis"):
            await lease()
        await until(lambda: asyncio.sleep(0, time.monotonic() >= ours._valid_until), 5)
        assert time.monotonic() - started <= 1.5
    assert "could not be renewed" in caplog.text
    assert "could not be released: it ends in 1 s" in caplog.text
    assert not any(record.exc_info or record.levelno > logging.DEBUG for record in caplog.records), (
        "the request says it"
    )
    await storage.aclose()


async def test_who_has_lost_the_lock_saves_nothing(client: Redis, prefix: str) -> None:
    storage = RedisStorage(client, prefix=prefix, lock_lease=1)
    session = await storage.read(None)
    session["balance"] = 10
    session_id = await storage.save(session)
    session = await storage.read(session_id)
    async with storage.lock(session.key) as lease:
        state_of(session).lease = lease
        await client.delete(f"{prefix}lock:{session.key}")
        other = RedisStorage(client, prefix=prefix, lock_lease=1)
        async with other.lock(session.key):  # which may have it now
            session["balance"] = 0
            with pytest.raises(SessionLockError):
                await storage.save(session)

    assert (await storage.read(session_id))["balance"] == 10


async def test_a_lock_that_the_server_forgot_lets_one_holder_save_not_two(client: Redis, prefix: str) -> None:
    """As after a failover: both think that they have it, and each counts on from what it read."""
    storages = [RedisStorage(client, prefix=prefix) for _ in range(2)]
    session = await storages[0].read(None)
    session["count"] = 0
    session_id = await storages[0].save(session)
    first, second = [await storage.read(session_id) for storage in storages]
    async with storages[0].lock(first.key) as lost:
        state_of(first).lease = lost
        await client.delete(f"{prefix}lock:{first.key}")
        async with storages[1].lock(second.key) as held:
            state_of(second).lease = held
            await storages[1].refresh(second)
            first["count"] += 1
            with pytest.raises(SessionLockError):
                await storages[0].save(first)
            second["count"] += 1
            await storages[1].save(second)

    assert (await storages[0].read(session_id))["count"] == 1


async def test_a_lock_is_given_back_only_by_its_holder(client: Redis, prefix: str) -> None:
    storage = RedisStorage(client, prefix=prefix)
    async with storage.lock(KEY):
        await client.set(f"{prefix}lock:{KEY}", b"somebody else's token")

    assert await client.get(f"{prefix}lock:{KEY}") == b"somebody else's token"


HOLDER = """
import asyncio, sys
from aiohttp_session_store.storages.redis import RedisStorage

async def hold(url, prefix, key):
    async with RedisStorage.from_url(url, prefix=prefix, lock_lease=1).lock(key):
        print("held", flush=True)
        await asyncio.sleep(60)

asyncio.run(hold(*sys.argv[1:]))
"""


async def test_a_holder_that_is_killed_frees_the_lock_when_the_lease_ends(
    shared_server: RedisServer, prefix: str, tmp_path: Path
) -> None:
    (tmp_path / "holder.py").write_text(HOLDER)
    command = [sys.executable, str(tmp_path / "holder.py"), shared_server.url, prefix, KEY]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert await asyncio.to_thread(process.stdout.readline) == b"held\n"
        storage = RedisStorage.from_url(shared_server.url, prefix=prefix)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.2), storage.lock(KEY):  # it is renewed while the holder lives
                pass
        process.kill()
        async with asyncio.timeout(5), storage.lock(KEY):
            pass
        await storage.aclose()


async def test_waiting_fails_loudly_when_the_server_goes_away(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    from aiohttp_session_store import StorageError

    caplog.set_level(logging.CRITICAL)
    first, second = (RedisStorage.from_url(server.url, timeout=0.3) for _ in range(2))

    async def wait() -> None:
        async with second.lock(KEY):
            pass

    async with first.lock(KEY):
        waiting = asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        server.kill()
        with pytest.raises(StorageError):
            await waiting
    for storage in (first, second):
        await storage.aclose()
