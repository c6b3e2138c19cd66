"""Trouble: workers that are stopped, continued and killed, servers that are restarted, bad weather on the network."""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from tests.history.proxy import Proxy, Weather
from tests.history.visitors import Crowd
from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer

if TYPE_CHECKING:
    from tests.history.running import Clock, Worker

# Longer than the grace, in which an id that was changed stays readable.
JUMP = 70.0
CALM = (0.3, 1.5)
# The history notes a fault for so much longer: calls that it met may still be waiting.
AFTERMATH = 4.0


class Chaos:
    """Makes trouble, and notes it in the history.

    Attributes:
        count: How often there was trouble of each kind.
    """

    def __init__(
        self,
        storage: str,
        workers: "list[Worker]",
        before: list[Proxy],
        behind: Proxy | None,
        server: RedisServer | PostgresServer | None,
        clock: "Clock",
        crowd: Crowd,
        chance: random.Random,
    ) -> None:
        self.count: Counter[str] = Counter()
        self._workers, self._before, self._behind, self._server = workers, before, behind, server
        self._clock, self._crowd, self._chance = clock, crowd, chance
        self._over = asyncio.Event()
        self._kinds: list[tuple[Callable[[], Awaitable[None]], float]] = [
            (self._freeze, 4),
            (self._storm_before, 3),
            (self._jump, 2),
        ]
        if storage != "memory":  # it would end with its process
            self._kinds.append((self._kill, 2))
        if behind is not None:
            self._kinds += [(self._storm_behind, 4), (self._silence, 1), (self._restart, 1.5)]

    async def run(self) -> None:
        """Make trouble until :meth:`stop`."""
        kinds, weights = zip(*self._kinds, strict=True)
        while not self._over.is_set():
            kind = self._chance.choices(kinds, weights)[0]
            await kind()
            await self._wait(self._chance.uniform(*CALM))

    async def stop(self, running: "asyncio.Task[None]") -> None:
        """End the trouble, and put everything in order."""
        self._over.set()
        await running

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._over.wait()
        except TimeoutError:
            pass

    def _fault(self, kind: str, begun: float) -> None:
        self._crowd.history.faults.append((kind, begun, self._crowd.now() + AFTERMATH))

    # --- workers

    async def _freeze(self) -> None:
        """Stop a worker for a while, at times for longer than a lock lives."""
        self.count["freezes"] += 1
        worker = self._chance.choice(self._workers)
        begun = self._crowd.now()
        worker.signal(signal.SIGSTOP)
        try:
            await self._wait(self._chance.choice([0.05, 0.3, 1.0, 1.0, 6.0]))
        finally:
            worker.signal(signal.SIGCONT)
        if self._behind is not None:  # calls to the server may have timed out
            self._fault("freeze", begun)

    async def _kill(self) -> None:
        self.count["kills"] += 1
        worker = self._chance.choice(self._workers)
        worker.kill()
        worker.start()
        await worker.answers()

    async def _jump(self) -> None:
        self.count["clock jumps"] += 1
        self._crowd.history.jumps.append((self._crowd.now(), JUMP))
        self._clock.move(JUMP)

    # --- the network

    async def _storm_before(self) -> None:
        """Delay and cut what visitors send and get."""
        self.count["storms before the app"] += 1
        weather = Weather(delay=0.2, late=0.5, cut=0.1)
        for proxy in self._before:
            proxy.weather = weather
        await self._wait(self._chance.uniform(0.3, 2))
        for proxy in self._before:
            proxy.weather = Weather()

    async def _storm_behind(self) -> None:
        """Delay and cut what workers and server say to each other."""
        self.count["storms before the server"] += 1
        assert self._behind is not None
        begun = self._crowd.now()
        self._behind.weather = Weather(delay=0.1, late=0.3, cut=self._chance.choice([0.0, 0.01, 0.05]))
        await self._wait(self._chance.uniform(0.3, 2))
        self._behind.weather = Weather()
        self._fault("storm", begun)

    async def _silence(self) -> None:
        """Let nothing pass to the server or back, and deliver it afterwards."""
        self.count["silences of the server"] += 1
        assert self._behind is not None
        begun = self._crowd.now()
        self._behind.weather = Weather(silent=True)
        await self._wait(self._chance.choice([0.5, 1.5, 3.0]))
        self._behind.weather = Weather()
        self._fault("silence", begun)

    async def _restart(self) -> None:
        self.count["restarts of the server"] += 1
        begun = self._crowd.now()
        server = self._server
        assert server is not None
        await asyncio.to_thread(server.kill if isinstance(server, RedisServer) else server.stop)
        await self._wait(self._chance.uniform(0, 0.5))
        await asyncio.to_thread(server.start)
        self._fault("restart", begun)
