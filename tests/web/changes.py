"""Handlers that change their session, at once or on a signal from the test."""

import asyncio
from collections.abc import Callable

from aiohttp import web

from aiohttp_session_store import Session, get_session
from tests.web.storages import Handler


def changing(change: Callable[[Session], None]) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        change(await get_session(request))
        return web.Response()

    return handler


def regenerate(session: Session) -> None:
    session.regenerate_id()
    session["since"] = "the change of id"


def regenerate_and_delete(session: Session) -> None:
    session.regenerate_id(True)
    session["since"] = "the change of id"


def write_late(session: Session) -> None:
    session["late"] = "written after the change of id"


class Slow:
    """A handler that loads its session, waits for ``go_on``, and then changes the session."""

    def __init__(self, change: Callable[[Session], None] = write_late) -> None:
        self._change = change
        self.loaded = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, request: web.Request) -> web.Response:
        session = await get_session(request)
        self.loaded.set()
        await self.go_on.wait()
        self._change(session)
        return web.Response()
