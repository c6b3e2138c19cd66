"""An app whose logins are bound, and its clock."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiohttp import web

from aiohttp_session_store import (
    KeyedStorage,
    Observer,
    SessionCookie,
    StorageError,
    get_session,
    get_storage,
    new_session,
    setup,
)
from aiohttp_session_store.device import bind_devices, device_state
from aiohttp_session_store.testing import ManualClock
from tests.device.browser import Browser, client_of
from tests.web.storages import CountingStorage

SECRET = "known-secret-0123456789-abcdefghijklmnopqrstuvwxyz"
LIFETIME = 600


async def act(request: web.Request) -> web.StreamResponse:
    """Do what the query says, in its order: ``?login=42&set=cart``."""
    session = await get_session(request)
    for step, value in request.query.items():
        if step == "login":
            session.login(value)
        elif step == "logout":
            session.logout()
        elif step == "set":
            session[value] = True
        elif step == "clear":
            session.clear()
        elif step == "renew":
            session.regenerate_id(value == "True")
        elif step == "confirm":
            session.confirm_login()
        elif step == "new":
            await new_session(request)
        elif step == "end":
            await get_storage(request).end_sessions(value)
    said = {"owner": session.owner, "state": device_state(request), "data": dict(session)}
    return web.json_response(said)


async def untouched(_: web.Request) -> web.Response:
    return web.Response(text="untouched")


def make_app(
    storage: KeyedStorage,
    *,
    cookie: SessionCookie | None = None,
    observer: Observer | None = None,
    **options: Any,
) -> web.Application:
    app = web.Application()
    app.router.add_route("*", "/", act)
    app.router.add_route("*", "/login", act)
    app.router.add_get("/untouched", untouched)
    setup(
        app, storage, cookie=cookie or SessionCookie("__Host-session", secure=True, secrets=SECRET), observer=observer
    )
    bind_devices(app, cookie_lifetime=LIFETIME, **options)
    return app


class LosingStorage(CountingStorage):
    """Loses the answer to the next replacement.

    Attributes:
        lost: Whether it does.
    """

    lost = False

    async def replace(self, key: str, data: bytes, expires_at: int, version: bytes) -> bytes | None:
        written = await super().replace(key, data, expires_at, version)
        if self.lost:
            self.lost = False
            raise StorageError("the answer was lost", maybe_stored=True)
        return written


BrowserOf = Callable[[web.Application], Awaitable[Browser]]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def storage(clock: ManualClock) -> CountingStorage:
    return CountingStorage(clock=clock)


@pytest.fixture
async def browser_of() -> AsyncIterator[BrowserOf]:
    async with AsyncExitStack() as stack:

        async def of(app: web.Application) -> Browser:
            client = await client_of(app)
            stack.push_async_callback(client.close)
            return Browser(client)

        yield of


@pytest.fixture
async def browser(browser_of: BrowserOf, storage: CountingStorage) -> Browser:
    """A browser without cookies, of an app that enforces."""
    return await browser_of(make_app(storage))


@pytest.fixture
async def owner(browser: Browser, clock: ManualClock) -> Browser:
    """One that has logged in a minute ago, and is bound."""
    await browser.post("/login?login=ada")
    assert browser.session.challenge
    clock.advance(60)
    return browser
