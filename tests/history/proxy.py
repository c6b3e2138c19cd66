"""A small TCP proxy that delays what passes, cuts connections, swallows answers, and falls silent."""

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass

PIECE = 65536


@dataclass
class Weather:
    """What befalls the pieces that pass.

    Attributes:
        delay: Seconds that a piece waits at most.
        late: The share of the pieces that wait.
        cut: The share of the pieces that are not passed on, and whose connection is cut instead.
        silent: Nothing passes, and nothing is said.
    """

    delay: float = 0.0
    late: float = 0.0
    cut: float = 0.0
    silent: bool = False


class Proxy:
    """Passes on what arrives at a port of its own.

    Attributes:
        port: Where it listens.
        weather: May be changed at any time.
    """

    def __init__(self, target: int, seed: int) -> None:
        self.port = 0
        self.weather = Weather()
        self._target, self._chance = target, random.Random(seed)
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close everything."""
        self._server.close()
        self.weather = Weather()
        while self._writers:  # a connection may just be coming in
            self.cut()
            await asyncio.sleep(0.05)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Cut all connections."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        ends = [writer]
        try:
            with suppress(OSError):
                there, back = await asyncio.open_connection("127.0.0.1", self._target)
                ends.append(back)
                self._writers.update(ends)
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pass(reader, back, ends))
                    group.create_task(self._pass(there, writer, ends))
        except* OSError:
            pass
        finally:
            for end in ends:
                end.transport.abort()
            self._writers.difference_update(ends)
            self._tasks.discard(task)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ends: list[asyncio.StreamWriter]
    ) -> None:
        while piece := await reader.read(PIECE):
            weather, chance = self.weather, self._chance
            if weather.late and chance.random() < weather.late:
                await asyncio.sleep(chance.uniform(0, weather.delay))
            while self.weather.silent:
                await asyncio.sleep(0.02)
            if weather.cut and chance.random() < weather.cut:
                break
            writer.write(piece)
            await writer.drain()
        for end in ends:  # half-closed connections are of no use to HTTP, Redis or PostgreSQL
            if not end.is_closing():
                end.close()
