"""An app, and visitors who hang up during a request."""

import asyncio
from typing import Any

from aiohttp import DummyCookieJar, web
from aiohttp.test_utils import TestClient, TestServer

from aiohttp_session_store import StorageError
from tests.web.storages import GatedStorage, Handler, app_with, raw_get
from tests.web.visits import Client


class FailingGatedStorage(GatedStorage):
    """Fails after its gates if ``fails`` is set."""

    fails = False

    async def enter(self, verb: str) -> None:
        await super().enter(verb)
        if self.fails:
            raise StorageError("the disk is full")


class PatientServer(TestServer):
    """Does not cancel handlers: that is the default of aiohttp's servers, but not of its test server."""

    async def _make_runner(self, **options: Any) -> web.AppRunner:
        return web.AppRunner(self.app, **{**options, "handler_cancellation": False})


class HangUp:
    """An app whose server cancels the handler when the visitor hangs up; events tell when that happens."""

    def __init__(self) -> None:
        self.storage = FailingGatedStorage()
        self.cancelled = asyncio.Event()
        self.finished = asyncio.Event()

    @web.middleware
    async def _notice(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        finally:
            self.finished.set()

    async def serve(self, handler: Handler, *, cancelling: bool = True) -> Client:
        app = app_with(self.storage, handler)
        app.middlewares.insert(0, self._notice)
        server = TestServer(app) if cancelling else PatientServer(app)
        self.client: Client = TestClient(server, cookie_jar=DummyCookieJar())
        await self.client.start_server()
        return self.client

    async def hang_up_at(self, moment: asyncio.Event, cookie: str) -> None:
        """Request "/", and hang up as soon as *moment* is set."""
        self.cancelled.clear()
        self.finished.clear()
        _, writer = await raw_get(self.client.port, Cookie=f"session={cookie}")
        await moment.wait()
        writer.close()
