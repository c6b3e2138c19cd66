"""A TCP proxy that treats connections as bad networks do, on command."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import Enum, auto
from urllib.parse import urlsplit

from tests.servers.ports import free_port


class Fate(Enum):
    """What happens to the bytes of a connection."""

    PASS = auto()
    #: Both ends wait for ever: as after a firewall has forgotten the connection.
    VANISH = auto()
    #: The server gets everything, and its answers vanish.
    LOSE_ANSWERS = auto()


class Passing:
    """One connection through the proxy."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client, self.server = client, server
        self.fate = Fate.PASS
        self.flows = asyncio.Event()
        self.flows.set()

    def cut(self) -> None:
        """Close both ends at once."""
        for writer in (self.client, self.server):
            writer.transport.abort()


class TcpProxy:
    """Passes connections on to a server.

    Attributes:
        port: Where it listens.
        accepted: How many connections it has accepted so far.
        refuses: Whether it closes new connections at once.
        lost: Set when an answer of the server has vanished.
        held: Set when something that a client sent is held back.
        most_open: How many connections were open at a time, at most.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self.port = free_port()
        self.accepted = self.most_open = 0
        self.refuses = False
        self.lost = asyncio.Event()
        self.held = asyncio.Event()
        self._passing: set[Passing] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def dsn(self, dsn: str) -> str:
        """Return *dsn*, whose server this proxy stands in front of, with the port of the proxy."""
        host, port = self._target
        return dsn.replace(f"{host}:{port}", f"127.0.0.1:{self.port}")

    def doom(self, fate: Fate) -> None:
        """Give all connections that are open *fate*; new ones are not concerned."""
        for passing in self._passing:
            passing.fate = fate

    def hold(self) -> None:
        """Hold back what clients send on connections that are open, until :meth:`resume`."""
        for passing in self._passing:
            passing.flows.clear()

    def resume(self) -> None:
        """Pass on what was held back, even if the client has gone meanwhile."""
        for passing in self._passing:
            passing.flows.set()

    def cut(self) -> None:
        """Close all connections that are open."""
        for passing in tuple(self._passing):
            passing.cut()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.accepted += 1
        if self.refuses:
            writer.transport.abort()
            return
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            server_reader, server_writer = await asyncio.open_connection(*self._target)
            passing = Passing(writer, server_writer)
            self._passing.add(passing)
            self.most_open = max(self.most_open, len(self._passing))
            try:
                await asyncio.gather(
                    self._pass(passing, reader, server_writer),
                    self._pass(passing, server_reader, writer, answers=True),
                )
            finally:
                self._passing.discard(passing)
                passing.cut()

    async def _pass(
        self, passing: Passing, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool = False
    ) -> None:
        while data := await reader.read(65536):
            if passing.fate is Fate.VANISH:
                continue
            if not answers and not passing.flows.is_set():
                self.held.set()
                await passing.flows.wait()
            if answers and passing.fate is Fate.LOSE_ANSWERS:
                self.lost.set()
                continue
            writer.write(data)
            await writer.drain()
        if passing.fate is Fate.VANISH:  # the other end never learns of it
            await asyncio.Event().wait()
        raise ConnectionResetError

    async def stop(self) -> None:
        """End all connections."""
        self.cut()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


@asynccontextmanager
async def tcp_proxy(dsn: str) -> AsyncIterator[TcpProxy]:
    """Run a proxy in front of the server of *dsn*, in this event loop."""
    parts = urlsplit(dsn)
    assert parts.hostname
    assert parts.port
    proxy = TcpProxy(parts.hostname, parts.port)
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", proxy.port)
    try:
        yield proxy
    finally:
        server.close()
        await proxy.stop()
        await server.wait_closed()
