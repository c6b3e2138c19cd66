"""A run: servers, workers, visitors, and if asked for, chaos."""

import asyncio
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path

from tests.history.broken import UnreliableStorage
from tests.history.chaos import Chaos
from tests.history.history import History
from tests.history.proxy import Proxy
from tests.history.visitors import Crowd
from tests.history.worker import make_storage
from tests.servers.guard import Guard
from tests.servers.ports import free_port
from tests.servers.postgres import PostgresServer, postgres_server
from tests.servers.redis import RedisServer, redis_server

ROOT = Path(__file__).parents[2]
STORAGES = ["memory", "files", "redis", "postgres"]
WORKERS = 3
# Seconds that a visitor waits for an answer.
PATIENCE = 8.0

Server = RedisServer | PostgresServer | None


@dataclass
class Settings:
    """What to run."""

    storage: str
    seconds: float
    seed: int
    chaos: bool = False
    broken: str = ""
    visitors: int = 4


class Worker:
    """A process of the app."""

    def __init__(self, place: str, clock: Path, ring: int, broken: str) -> None:
        self.port = free_port()
        self._arguments = [place, str(self.port), str(clock), str(ring), *([broken] if broken else [])]
        self.process: subprocess.Popen[bytes]
        self._guard: Guard

    def start(self) -> None:
        """Start the process."""
        self.process = subprocess.Popen([sys.executable, "-m", "tests.history.worker", *self._arguments], cwd=ROOT)
        self._guard = Guard(self.process)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill the process."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._guard.dismiss()

    async def answers(self) -> None:
        """Wait until it accepts connections."""
        deadline = time.monotonic() + 300  # on a machine that is busy with other things, too
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("a worker does not start") from None
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


class Clock:
    """The clock of the workers, which can be moved forward."""

    def __init__(self, path: Path) -> None:
        self.path, self.moved = path, 0.0
        path.write_bytes(struct.pack("d", 0.0))

    def move(self, seconds: float) -> None:
        """Move it forward."""
        self.moved += seconds
        with self.path.open("r+b") as file:
            file.write(struct.pack("d", self.moved))


@contextmanager
def server_of(storage: str) -> Iterator[Server]:
    """Start the server of a storage, if it has one; what it has acknowledged survives a restart."""
    if storage == "redis":
        with redis_server("--appendonly", "yes", "--appendfsync", "always") as redis:
            yield redis
    elif storage == "postgres":
        with postgres_server() as postgres:
            asyncio.run(_prepare(postgres.dsn))
            yield postgres
    else:
        yield None


async def _prepare(dsn: str) -> None:
    storage = make_storage(dsn, time.time)
    await storage.create_schema()  # type: ignore[attr-defined]
    await storage.aclose()


def run(settings: Settings) -> tuple[History, Chaos]:
    """Run it, and return the history and the chaos that there was."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="history-")))
        server = stack.enter_context(server_of(settings.storage))
        return asyncio.run(_run(settings, folder, server))


async def _run(settings: Settings, folder: Path, server: Server) -> tuple[History, Chaos]:
    clock = Clock(folder / "clock")
    chance = random.Random(settings.seed)
    behind = Proxy(server.port, settings.seed) if server is not None and settings.chaos else None
    if behind is not None:
        await behind.start()
    place = _place(settings, folder, server, behind)
    alone = settings.storage == "memory" or settings.broken
    # With odd seeds, sessions are encrypted, and each worker is at another step of a change of the key.
    rings = [1 + at if settings.seed % 2 else 0 for at in range(1 if alone else WORKERS)]
    workers = [Worker(place, clock.path, ring, settings.broken) for ring in rings]
    before = [Proxy(worker.port, settings.seed + 1 + at) for at, worker in enumerate(workers)] if settings.chaos else []

    def address(chooser: random.Random) -> tuple[int, str]:
        at = chooser.randrange(len(workers))
        through = bool(before) and chooser.random() < 0.3
        return at, f"http://127.0.0.1:{before[at].port if through else workers[at].port}"

    for worker in workers:
        worker.start()
    try:
        for worker in workers:
            await worker.answers()
        for proxy in before:
            await proxy.start()
        crowd = Crowd(address, settings.seed, PATIENCE)
        if settings.broken == UnreliableStorage.__name__:
            crowd.history.faults.append(("unreliable", 0.0, inf))
        chaos = Chaos(settings.storage, workers, before, behind, server, clock, crowd, chance)
        rioting = asyncio.create_task(chaos.run()) if settings.chaos else None
        await crowd.run(settings.seconds, settings.visitors)
        if rioting is not None:
            await chaos.stop(rioting)
        return crowd.history, chaos
    finally:
        for worker in workers:
            worker.kill()
        for proxy in [*before, *([behind] if behind else [])]:
            await proxy.stop()


def _place(settings: Settings, folder: Path, server: Server, behind: Proxy | None) -> str:
    if isinstance(server, RedisServer):
        return f"redis://127.0.0.1:{behind.port if behind else server.port}"
    if isinstance(server, PostgresServer):
        return f"postgresql://postgres@127.0.0.1:{behind.port if behind else server.port}/postgres"
    return "memory" if settings.storage == "memory" else str(folder / "sessions")
