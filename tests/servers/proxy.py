"""A TCP proxy in front of a server, which loses, delays and forgets what the test tells it to.

A test describes a race as steps: it gives the next requests a *fate*, a coroutine function that takes the request and
decides at each step what happens.  Nothing depends on time.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

CHUNK = 1 << 20


class Request:
    """What a client has sent, which the proxy holds back until it is told otherwise."""

    def __init__(self, link: "Link", data: bytes) -> None:
        self.data = data
        self._link = link

    async def deliver(self) -> bytes:
        """Send the request to the server and return the answer, which the client does not get."""
        self._link.answer = asyncio.get_running_loop().create_future()
        self._link.to_server.write(self.data)
        return await self._link.answer

    def answer(self, data: bytes) -> None:
        """Send *data* to the client as the answer, and pass on again what comes over this connection."""
        self._link.forgotten = False
        self._link.to_client.write(data)

    def hang_up(self) -> None:
        """Reset the client's connection."""
        self._link.hang_up()

    def leave(self) -> None:
        """Reset the client's connection.  The request can still be delivered."""
        self._link.hang_up(with_server=False)


Fate = Callable[[Request], Awaitable[None]]


class Link:
    """One client's connection, and the proxy's own connection to the server."""

    def __init__(self, to_client: asyncio.StreamWriter, to_server: asyncio.StreamWriter) -> None:
        self.to_client = to_client
        self.to_server = to_server
        self.forgotten = False
        self.answer: asyncio.Future[bytes] | None = None

    def hang_up(self, *, with_server: bool = True) -> None:
        """Reset the client's connection, and close the one to the server."""
        connection = self.to_client.get_extra_info("socket")
        with suppress(OSError, ValueError):  # closed already
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.to_client.close()
        if with_server:
            self.to_server.close()


class Proxy:
    """Passes everything on between clients and a server, except for what a test decides.

    Attributes:
        port: Where it listens, on 127.0.0.1.
        target: The port of the server; may change for connections to come.
        connections: How many connections it has accepted.
        dropped: How many packets of clients came over connections that it had forgotten.
        requests: What clients have sent, one entry for each packet.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.connections = 0
        self.dropped = 0
        self.requests: list[bytes] = []
        self._links: set[Link] = set()
        self._fates: list[tuple[bytes, Fate]] = []
        self._tasks: set[asyncio.Future[None]] = set()
        self._server: asyncio.Server | None = None

    async def listen(self) -> None:
        """Accept connections, on the same port each time."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Refuse new connections."""
        if self._server is not None:
            self._server.close()
            self._server = None

    @property
    def url(self) -> str:
        """Return the argument for ``from_url``."""
        return f"redis://127.0.0.1:{self.port}"

    def next(self, *fates: Fate, word: bytes = b"EVAL") -> None:
        """Give the next requests that contain *word* these fates, one each."""
        self._fates += [(word, fate) for fate in fates]

    def shares_fates_with(self, other: "Proxy") -> None:
        """Let the fates that *other* is given also concern what comes this way."""
        self._fates = other._fates

    def forget(self) -> None:
        """Drop what comes over the connections that exist now, in both directions, and close none of them."""
        for link in self._links:
            link.forgotten = True

    def kill(self) -> None:
        """Reset all connections."""
        for link in list(self._links):
            link.hang_up()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        self.connections += 1
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self.target)
        link = Link(writer, to_server)
        self._links.add(link)
        back = asyncio.ensure_future(self._pump_back(link, from_server))
        self._tasks.add(back)
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                self.requests.append(data)
                await self._handle(link, data)
        if not link.forgotten:
            link.hang_up()

    async def _handle(self, link: Link, data: bytes) -> None:
        if link.forgotten:
            self.dropped += 1
            return
        for number, (word, fate) in enumerate(self._fates):
            if word in data:
                del self._fates[number]
                # A task of its own, because it may outlive the client's connection.
                task = asyncio.ensure_future(fate(Request(link, data)))
                self._tasks.add(task)
                link.forgotten = True
                await asyncio.wait([task])
                return
        link.to_server.write(data)

    async def _pump_back(self, link: Link, reader: asyncio.StreamReader) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                if link.answer is not None and not link.answer.done():
                    link.answer.set_result(data)
                elif not link.forgotten:
                    link.to_client.write(data)
        if not link.forgotten:
            link.hang_up()

    async def close(self) -> None:
        """End all connections, and raise what went wrong in a fate."""
        self.kill()
        for task in list(self._tasks):
            if not task.done():
                task.cancel()
        for task in list(self._tasks):
            with suppress(asyncio.CancelledError):
                await task


@asynccontextmanager
async def proxy(target: int) -> AsyncIterator[Proxy]:
    """Run a proxy in front of the server at port *target*."""
    one = Proxy(target)
    await one.listen()
    try:
        yield one
    finally:
        await one.refuse()
        await one.close()


# --- fates


async def lost_on_the_way(request: Request) -> None:
    """The server never gets the request, and the connection is reset."""
    request.hang_up()


async def answer_lost(request: Request) -> None:
    """The server carries the request out, and the connection is reset before the answer arrives."""
    await request.deliver()
    request.hang_up()


async def silence(request: Request) -> None:
    """The server never gets the request, and the client is not told."""


async def silence_after(request: Request) -> None:
    """The server carries the request out, and the client is not told."""
    await request.deliver()


def followed_by(fate: Fate, *others: Callable[[], Awaitable[object]]) -> Fate:
    """Return *fate* with something that happens in between: before the client learns of the loss."""

    async def both(request: Request) -> None:
        if fate in (answer_lost, silence_after):
            await request.deliver()
        for other in others:
            await other()
        if fate in (answer_lost, lost_on_the_way):
            request.hang_up()

    return both
