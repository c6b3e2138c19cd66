"""More than one server: a cluster, of which a node fails, and a Sentinel that knows which server is the master."""

import asyncio
import hashlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import RedisError, ResponseError

from aiohttp_session_store import StorageError
from aiohttp_session_store.storages.redis import RedisStorage
from tests.servers.guard import guarded
from tests.servers.redis import RedisServer, free_port, redis_cluster

EXPIRES_AT = 4_000_000_000
KEYS = [hashlib.sha256(b"%d" % number).hexdigest() for number in range(30)]


async def test_a_client_that_does_not_know_of_the_cluster_gets_a_storage_error(
    cluster: list[RedisServer], prefix: str
) -> None:
    """A MOVED that nobody follows."""
    storage = RedisStorage.from_url(cluster[0].url, prefix=prefix)
    said = set()
    for key in KEYS:
        try:
            await storage.insert(key, b"", EXPIRES_AT)
        except StorageError as error:
            said.add(isinstance(error.__cause__, ResponseError))  # its MovedError; redis-py 5 has this for scripts
    await storage.aclose()

    assert said == {True}


async def test_a_node_that_fails_takes_its_slots_alone_and_comes_back() -> None:
    with redis_cluster() as servers:
        for server in servers:
            with server.client() as one:
                one.config_set("cluster-require-full-coverage", "no")
        client = RedisCluster.from_url(servers[0].url)
        storage = RedisStorage(client, timeout=0.5)
        for key in KEYS:
            assert await storage.insert(key, b"", EXPIRES_AT)
        servers[2].kill()

        failed = set()
        for key in KEYS:
            try:
                assert await storage.fetch(key)
            except StorageError:
                failed.add(key)
        assert 0 < len(failed) < len(KEYS)

        servers[2].start()
        async with asyncio.timeout(30):
            for key in failed:
                while True:
                    try:
                        assert await storage.fetch(key) is None  # it kept nothing on its disk
                        break
                    except StorageError:
                        await asyncio.sleep(0.05)
        await storage.aclose()
        await client.aclose()


@pytest.fixture
def sentinel(shared_server: RedisServer, tmp_path: Path) -> Iterator[int]:
    port = free_port()
    config = tmp_path / "sentinel.conf"
    config.write_text(f"port {port}\nbind 127.0.0.1\nsentinel monitor sessions 127.0.0.1 {shared_server.port} 1\n")
    command = [shared_server.binary, str(config), "--sentinel"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process, guarded(process):
        yield port
        process.kill()
        process.wait()


async def test_a_sentinel_says_which_server_it_is(
    sentinel: int, shared_server: RedisServer, prefix: str, client: Redis
) -> None:
    watchers = Sentinel([("127.0.0.1", sentinel)])  # type: ignore[no-untyped-call]
    deadline = time.monotonic() + 20
    while True:
        try:
            assert await watchers.discover_master("sessions") == ("127.0.0.1", shared_server.port)
            break
        except RedisError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
    master = watchers.master_for("sessions")
    storage = RedisStorage(master, prefix=prefix)
    await storage.start()
    assert await storage.insert(KEYS[0], b"data", EXPIRES_AT)
    await storage.aclose()
    await master.aclose()
    for one in watchers.sentinels:
        await one.aclose()

    assert await client.exists(f"{prefix}{KEYS[0]}")
