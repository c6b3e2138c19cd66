"""What is peculiar to Redis: names of keys, round trips, expiry on the server, clients that are given or owned."""

import asyncio
import subprocess
import sys
import time
from collections import Counter
from typing import Any

import pytest
from redis.asyncio import Redis

from aiohttp_session_store import ConfigurationError, SessionCookie
from aiohttp_session_store.storages.base import RECLAIM_AFTER
from aiohttp_session_store.storages.redis import RedisStorage
from tests.servers.redis import RedisServer

KEY = "ab" * 32
EXPIRES_AT = 4_000_000_000


async def calls(client: Redis) -> Counter[str]:
    """Return how often each command was called, those within scripts included."""
    stats = await client.info("commandstats")
    return Counter({name.removeprefix("cmdstat_"): int(figures["calls"]) for name, figures in stats.items()})


async def test_a_record_is_one_string_under_prefix_and_key(storage: RedisStorage, client: Redis, prefix: str) -> None:
    version = await storage.insert(KEY, b"\xffdata", EXPIRES_AT)

    assert await client.keys(f"{prefix}[0-9a-f]*") == [f"{prefix}{KEY}".encode()]
    assert await client.get(f"{prefix}{KEY}") == (version or b"") + b"0000004000000000" + b"\xffdata"


async def test_the_last_versions_are_remembered_for_some_seconds(
    storage: RedisStorage, client: Redis, prefix: str
) -> None:
    recent = f"{prefix}recent:{{{prefix}{KEY}}}"
    versions = [await storage.insert(KEY, b"data", EXPIRES_AT) or b""]
    assert await client.get(recent) == versions[0] + bytes(8)
    for _ in range(20):
        versions.insert(0, await storage.replace(KEY, b"data", EXPIRES_AT, versions[0]) or b"")

    assert await client.get(recent) == b"".join(versions[:16])
    assert 10_000 < await client.pttl(recent) <= 15_000  # three times the time limit of a call


async def test_a_chain_of_versions_that_is_broken_begins_anew(
    storage: RedisStorage, client: Redis, prefix: str
) -> None:
    """An older release of this package replaces records without remembering their versions."""
    await storage.insert(KEY, b"data", EXPIRES_AT)
    await client.set(f"{prefix}{KEY}", b"version2" + b"%016d" % EXPIRES_AT + b"theirs")
    version = await storage.replace(KEY, b"ours", EXPIRES_AT, b"version2")

    assert await client.get(f"{prefix}recent:{{{prefix}{KEY}}}") == (version or b"") + b"version2"


async def test_the_server_expires_a_record_some_time_after_its_end(
    storage: RedisStorage, client: Redis, prefix: str
) -> None:
    async def expiry() -> float:
        return time.time() + await client.pttl(f"{prefix}{KEY}") / 1000

    version = await storage.insert(KEY, b"", EXPIRES_AT)
    assert await expiry() == pytest.approx(EXPIRES_AT + RECLAIM_AFTER, abs=5)

    newer = await storage.replace(KEY, b"", EXPIRES_AT + 100, version or b"")
    assert await expiry() == pytest.approx(EXPIRES_AT + 100 + RECLAIM_AFTER, abs=5)

    await storage.touch(KEY, EXPIRES_AT + 200, newer or b"")
    assert await expiry() == pytest.approx(EXPIRES_AT + 200 + RECLAIM_AFTER, abs=5)


async def test_each_verb_is_one_command_or_one_script(server: RedisServer) -> None:
    storage = RedisStorage.from_url(server.url)
    version = await storage.insert(KEY, b"", EXPIRES_AT) or b""
    for script in (storage.replace(KEY, b"", EXPIRES_AT, b"?"), storage.touch(KEY, EXPIRES_AT, b"?")):
        await script  # the server has met them all now
    async with Redis.from_url(server.url) as client:
        await client.config_resetstat()
        await storage.insert("cd" * 32, b"", EXPIRES_AT)
        await storage.replace(KEY, b"", EXPIRES_AT, version)
        await storage.touch(KEY, EXPIRES_AT, b"?")
        assert (await calls(client))["evalsha"] == 3
        await client.config_resetstat()
        await storage.fetch(KEY)
        await storage.delete(KEY)
        made = await calls(client)
        assert {
            name: count for name, count in made.items() if not name.startswith(("config", "info", "client", "hello"))
        } == {
            "get": 1,
            "del": 1,
        }
    await storage.aclose()


async def test_a_server_that_has_forgotten_the_scripts_is_told_again(storage: RedisStorage, client: Redis) -> None:
    version = await storage.insert(KEY, b"old", EXPIRES_AT)
    await client.script_flush()

    assert await storage.replace(KEY, b"new", EXPIRES_AT, version or b"")


@pytest.mark.parametrize("value", [b"", b"x", b"{}" * 20])
async def test_what_is_not_ours_is_no_record(
    storage: RedisStorage, client: Redis, prefix: str, value: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    await client.set(f"{prefix}{KEY}", value)

    assert await storage.fetch(KEY) is None
    assert "holds a value that is not ours" in caplog.text


async def test_two_prefixes_on_one_server_do_not_meet(client: Redis, prefix: str) -> None:
    one, other = RedisStorage(client, prefix=f"{prefix}1:"), RedisStorage(client, prefix=f"{prefix}2:")
    await one.insert(KEY, b"one", EXPIRES_AT)

    assert await other.fetch(KEY) is None


# --- clients


async def test_a_given_client_is_not_closed(client: Redis, prefix: str) -> None:
    storage = RedisStorage(client, prefix=prefix)
    await storage.start()
    await storage.aclose()

    assert client.connection_pool._available_connections
    assert await client.ping()


async def test_a_client_of_our_own_is_closed_with_the_last_app(shared_server: RedisServer, prefix: str) -> None:
    storage = RedisStorage.from_url(shared_server.url, prefix=prefix)
    pool = storage._client.connection_pool
    await storage.start()
    await storage.start()
    await storage.aclose()
    assert any(connection.is_connected for connection in pool._available_connections)
    await storage.aclose()

    assert not any(connection.is_connected for connection in pool._available_connections)


async def test_a_burst_of_parallel_requests_finds_connections(shared_server: RedisServer, prefix: str) -> None:
    """Whatever the driver's own limit is: a pool that is full would answer 503 at once."""
    storage = RedisStorage.from_url(shared_server.url, prefix=prefix)
    answers = await asyncio.gather(*(storage.fetch(KEY) for _ in range(300)))
    await storage.aclose()

    assert answers == [None] * 300


@pytest.mark.parametrize(
    "setting",
    [{"prefix": ""}, {"prefix": b"x"}, {"timeout": 0}, {"timeout": "5"}, {"timeout": True}, {"lock_lease": 0.5}],
)
def test_settings_that_make_no_sense_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(setting))):
        RedisStorage.from_url("redis://localhost", **setting)


def test_it_has_no_secret_of_its_own() -> None:
    """On several machines the developer has to hand it to each."""
    with pytest.raises(ConfigurationError, match="RedisStorage has no secret"):
        SessionCookie().bind(RedisStorage.from_url("redis://localhost"))


def test_without_the_driver_the_import_says_what_to_install() -> None:
    script = "import sys; sys.modules['redis'] = None; import aiohttp_session_store.storages.redis"
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)

    assert "pip install 'redis>=5.0.1'" in finished.stderr
