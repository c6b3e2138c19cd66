"""Memory storages that record their calls, fail on demand, or wait until a test lets them continue.

Also what the tests of streams share: an app, and requests over plain sockets.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, ClassVar

from aiohttp import web
from aiohttp.typedefs import Middleware

from aiohttp_session_store import MemoryStorage, SessionCookie, SessionStorage, StorageError, Stored, get_session, setup

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

SECRET = "known-secret-0123456789-abcdefghijklmnopqrstuvwxyz"
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
VERBS = frozenset({"fetch", "insert", "replace", "touch", "delete"})


class SceneStorage(MemoryStorage):
    """Calls :meth:`enter` before every verb; it never sweeps, so that every call comes from a request.

    Attributes:
        calls: The verbs called, in order.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"sweep_interval": None, **options})
        self.calls: list[str] = []

    async def enter(self, verb: str) -> None:
        """Do nothing."""

    async def _begin(self, verb: str) -> None:
        self.calls.append(verb)
        await self.enter(verb)

    async def fetch(self, key: str) -> Stored | None:
        await self._begin("fetch")
        return await super().fetch(key)

    async def insert(self, key: str, data: bytes, expires_at: int) -> bytes | None:
        await self._begin("insert")
        return await super().insert(key, data, expires_at)

    async def replace(self, key: str, data: bytes, expires_at: int, version: bytes) -> bytes | None:
        await self._begin("replace")
        return await super().replace(key, data, expires_at, version)

    async def touch(self, key: str, expires_at: int, version: bytes) -> bool:
        await self._begin("touch")
        return await super().touch(key, expires_at, version)

    async def delete(self, key: str, version: bytes | None = None) -> bool:
        await self._begin("delete")
        return await super().delete(key, version)


class CountingStorage(SceneStorage):
    """Tells which verbs were called."""

    def take_calls(self) -> list[str]:
        """Return the verbs called since the last time, and clear the list."""
        calls, self.calls = self.calls, []
        return calls

    def counted(self) -> Counter[str]:
        """Return how often each verb was called."""
        return Counter(self.calls)


class FailingStorage(CountingStorage):
    """Fails as on a full disk in the verbs that ``failing`` names.

    Attributes:
        failing: Any of ``VERBS``.
    """

    def __init__(self, failing: Iterable[str] = (), **options: Any) -> None:
        super().__init__(**options)
        self.failing: frozenset[str] = frozenset(failing)

    async def enter(self, verb: str) -> None:
        if verb in self.failing:
            try:
                raise OSError(28, "No space left on device")
            except OSError as error:
                raise StorageError(f"{verb} failed") from error


class GatedStorage(CountingStorage):
    """Suspends in every verb, as storages on disks and servers do, and waits there if a gate is shut.

    Attributes:
        reached: An event for each verb, set when a call waits at the gate of that verb.
    """

    suspends: ClassVar[bool] = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.gates: dict[str, asyncio.Event] = {}
        self.reached: dict[str, asyncio.Event] = {}

    def shut(self, *verbs: str) -> asyncio.Event:
        """Make *verbs* wait until the returned event is set; a waiting verb sets its event in ``reached``."""
        gate = asyncio.Event()
        for verb in verbs:
            self.gates[verb] = gate
            self.reached[verb] = asyncio.Event()
        return gate

    async def enter(self, verb: str) -> None:
        gate = self.gates.get(verb)
        if gate is None:
            await asyncio.sleep(0)
        else:
            self.reached[verb].set()
            await gate.wait()


async def write(request: web.Request) -> web.Response:
    """Store the query in the session."""
    (await get_session(request)).update(request.query)
    return web.Response()


async def read(request: web.Request) -> web.Response:
    return web.json_response(dict(await get_session(request)))


async def logout(request: web.Request) -> web.Response:
    (await get_session(request)).destroy()
    return web.Response()


def app_with(storage: SessionStorage, handler: Handler, *middlewares: Middleware) -> web.Application:
    """Return an app with *handler* at "/", and with /write, /read and /logout."""
    app = web.Application(middlewares=middlewares)
    setup(app, storage, cookie=SessionCookie(secrets=SECRET))
    app.add_routes([web.get("/write", write), web.get("/read", read), web.get("/logout", logout)])
    app.add_routes([web.get("/", handler)])
    return app


async def raw_get(
    port: int | None, *, version: str = "1.1", **headers: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a GET of "/" over a new connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = [f"{name}: {value}" for name, value in ({"Host": "localhost"} | headers).items()]
    writer.write("\r\n".join([f"GET / HTTP/{version}", *lines, "", ""]).encode())
    return reader, writer
