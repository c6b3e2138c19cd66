"""More than one server: a cluster, of which a node fails, and a Sentinel that knows which server is the master."""

import asyncio
import hashlib
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis as SyncRedis
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import RedisError, ResponseError

from aiohttp_session_store import StorageError, Stored
from aiohttp_session_store.storages.redis import RedisStorage
from tests.servers.away import started
from tests.servers.guard import guarded
from tests.servers.ports import free_port
from tests.servers.redis import RedisServer, installed, packaged, redis_cluster

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


async def fetch_from_busy_machine(storage: RedisStorage, key: str) -> Stored | None:
    """Fetch until there is an answer within the storage's timeout."""
    while True:
        try:
            return await storage.fetch(key)
        except StorageError:
            await asyncio.sleep(0.05)


async def test_a_node_that_fails_takes_its_slots_alone_and_comes_back() -> None:
    with redis_cluster() as servers:
        for server in servers:
            with server.client() as one:
                one.config_set("cluster-require-full-coverage", "no")
        client = RedisCluster.from_url(servers[0].url)
        storage = RedisStorage(client, prefix="session:", timeout=10)
        for key in KEYS:
            assert await storage.insert(key, b"", EXPIRES_AT)
        nodes = {key: client.get_node_from_key(f"session:{key}") for key in KEYS}
        its = {key for key, node in nodes.items() if node and node.port == servers[2].port}
        assert 0 < len(its) < len(KEYS)
        servers[2].kill()

        for asked in await asyncio.gather(*map(storage.fetch, its), return_exceptions=True):
            assert isinstance(asked, StorageError)
        async with asyncio.timeout(30):
            for key in set(KEYS) - its:
                assert await fetch_from_busy_machine(storage, key)

            servers[2].start()
            for key in its:
                assert await fetch_from_busy_machine(storage, key) is None  # it kept nothing on its disk
        await storage.aclose()
        await client.aclose()


async def all_succeed(storage: RedisStorage, key: str) -> None:
    """Check that every verb does its work on *key*, of which there is a record."""
    stored = await storage.fetch(key)
    assert stored is not None
    assert await storage.touch(key, stored.expires_at + 1, stored.version)
    version = await storage.replace(key, b"newer", EXPIRES_AT, stored.version)
    assert version
    assert await storage.replace(key, b"newest", EXPIRES_AT, version)
    assert await storage.replace(key, b"outdated", EXPIRES_AT, version) is None
    async with storage.lock(key) as lease:
        await lease()


async def test_while_a_slot_is_moved_to_another_node_nobody_notices() -> None:
    """Of the two keys of a record, the one with its last versions may be on the other node, or on none."""
    with redis_cluster() as servers:
        client = RedisCluster.from_url(servers[0].url)
        storage = RedisStorage(client)
        key, created = KEYS[0], KEYS[1]
        assert await storage.insert(key, b"data", EXPIRES_AT)
        slot = client.keyslot(f"session:{key}")
        source = client.get_node_from_key(f"session:{key}")
        assert source is not None
        admins = {server.port: SyncRedis(port=server.port) for server in servers}
        target = next(port for port in admins if port != source.port)
        ids = {port: admin.execute_command("CLUSTER", "MYID").decode() for port, admin in admins.items()}  # type: ignore[no-untyped-call]

        def move(name: str) -> None:
            moved = admins[int(source.port)].execute_command("MIGRATE", "127.0.0.1", target, name, 0, 5000)  # type: ignore[no-untyped-call]
            assert moved in (b"OK", "OK")

        admins[target].execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[int(source.port)])  # type: ignore[no-untyped-call]
        admins[int(source.port)].execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])  # type: ignore[no-untyped-call]
        await all_succeed(storage, key)  # both keys are on the source
        move(f"session:recent:{{session:{key}}}")
        await all_succeed(storage, key)
        move(f"session:{key}")
        await all_succeed(storage, key)  # both are on the target, and the source sends us there
        for admin in admins.values():
            admin.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[target])  # type: ignore[no-untyped-call]
        await all_succeed(storage, key)
        assert await storage.delete(key)
        assert await storage.insert(created, b"", EXPIRES_AT)
        for admin in admins.values():
            admin.close()
        await storage.aclose()
        await client.aclose()


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[RedisServer]:
    """Return a node that is to be a replica in a cluster."""
    found = installed() or packaged()
    assert found
    server = RedisServer(tmp_path, found, "--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
    server.start()
    yield server
    server.kill()


async def follows(replica: RedisServer, master: RedisServer, master_id: str, masters: list[RedisServer]) -> None:
    """Make *replica* one of *master*, and wait until it has all of its data and every master knows it.

    A master gives its vote only to a replica that it knows.  One that only the master of its data had heard of when
    that one stopped would never be elected.
    """
    with replica.client() as client:
        client.execute_command("CLUSTER", "MEET", "127.0.0.1", master.port)
        async with asyncio.timeout(20):
            while True:
                try:
                    client.execute_command("CLUSTER", "REPLICATE", master_id)
                    break
                except RedisError:  # they have not met yet
                    await asyncio.sleep(0.05)
            while client.info("replication").get("master_link_status") != "up":
                await asyncio.sleep(0.05)
            for one in masters:
                with one.client() as other:
                    while not knows_replica(other, replica.port):
                        await asyncio.sleep(0.05)


def knows_replica(client: SyncRedis, port: int) -> bool:
    """Whether the node behind *client* knows that the one at *port* is a replica."""
    nodes: dict[str, dict[str, str]] = client.execute_command("CLUSTER NODES")  # type: ignore[no-untyped-call]
    return any(address.endswith(f":{port}") and "slave" in node["flags"] for address, node in nodes.items())


async def test_a_node_that_hangs_is_left_for_the_replica_that_takes_over(replica: RedisServer) -> None:
    """It hangs up on nobody, so only the client's own time-out tells it to look for another node."""
    with redis_cluster() as servers:
        client = RedisCluster.from_url(servers[0].url, socket_timeout=0.5)
        storage = RedisStorage(client, timeout=2)
        assert await storage.insert(KEYS[0], b"data", EXPIRES_AT)
        port = client.get_node_from_key(f"session:{KEYS[0]}").port  # type: ignore[union-attr]
        master = next(server for server in servers if server.port == port)
        with master.client() as one:
            master_id = one.execute_command("CLUSTER", "MYID").decode()
        await follows(replica, master, master_id, servers)
        assert master.process is not None
        master.process.send_signal(signal.SIGSTOP)

        stored = None
        async with asyncio.timeout(40):
            while stored is None:
                try:
                    stored = await storage.fetch(KEYS[0])
                except StorageError:
                    await asyncio.sleep(0.05)
        assert stored.data == b"data"
        await storage.aclose()
        await client.aclose()


@pytest.mark.parametrize(("socket_timeout", "warned"), [(None, True), (5, True), (1.5, False)])
async def test_a_cluster_client_that_would_not_notice_is_warned_of(
    cluster: list[RedisServer], caplog: pytest.LogCaptureFixture, socket_timeout: float | None, warned: bool
) -> None:
    client = RedisCluster.from_url(cluster[0].url, socket_timeout=socket_timeout)
    async with started(RedisStorage(client)):
        pass
    await client.aclose()

    assert ("has taken over from one that hangs" in caplog.text) == warned


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
