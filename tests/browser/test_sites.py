"""What a real browser sends from our own pages and from those of other sites, and what becomes of it."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import Browser

from aiohttp_session_store import (
    MemoryStorage,
    close_when_session_ends,
    get_session,
    protect_from_csrf,
    setup,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Resolves to how the WebSocket ended, or to the answer to a POST.
OPEN = """url => new Promise(done => {
    const socket = new WebSocket(url);
    socket.onopen = () => done("open");
    socket.onerror = () => done("refused");
})"""
CLOSED = """url => new Promise(done => {
    const socket = new WebSocket(url);
    socket.onopen = () => fetch("/logout", {method: "POST"});
    socket.onclose = event => done(`${event.code} ${event.reason}`);
})"""
POST = """url => fetch(url, {method: "POST", mode: "no-cors", credentials: "include"})
    .then(response => String(response.status || "opaque"))"""


async def page(request: web.Request) -> web.Response:
    (await get_session(request))["visited"] = True
    return web.Response(text="<!doctype html><title>page</title>", content_type="text/html")


async def socket(request: web.Request) -> web.WebSocketResponse:
    await get_session(request)
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    close_when_session_ends(request, ws)
    async for _ in ws:
        pass
    return ws


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[tuple[int, list[str]]]:
    """The port of an app, and who has posted to it."""
    posted: list[str] = []

    async def post(request: web.Request) -> web.Response:
        posted.append(request.headers.get("Sec-Fetch-Site", "?"))
        return web.Response()

    async def logout(request: web.Request) -> web.Response:
        (await get_session(request)).logout()
        return web.Response()

    app = web.Application()
    app.add_routes([web.get("/", page), web.get("/ws", socket), web.post("/post", post), web.post("/logout", logout)])
    protect_from_csrf(app)
    setup(app, MemoryStorage())
    async with TestServer(app) as server:
        assert server.port is not None
        yield server.port, posted


@pytest.mark.parametrize(
    ("host", "to", "opened"),
    [
        ("localhost", "localhost", "open"),
        ("127.0.0.1", "127.0.0.1", "open"),
        ("127.0.0.1", "localhost", "refused"),
        ("blog.localhost", "localhost", "refused"),  # the same site, and so the cookie is sent
    ],
)
async def test_only_our_own_pages_open_a_websocket_or_post(
    browser: Browser, site: tuple[int, list[str]], host: str, to: str, opened: str
) -> None:
    port, posted = site
    posted.clear()
    context = await browser.new_context()
    tab = await context.new_page()
    await tab.goto(f"http://{host}:{port}/")

    assert await tab.evaluate(OPEN, f"ws://{to}:{port}/ws") == opened
    await tab.evaluate(POST, f"http://{to}:{port}/post")
    assert posted == (["same-origin"] if opened == "open" else [])
    await context.close()


async def test_a_logout_closes_the_websocket_with_its_reason(browser: Browser, site: tuple[int, list[str]]) -> None:
    context = await browser.new_context()
    tab = await context.new_page()
    await tab.goto(f"http://localhost:{site[0]}/")

    assert await tab.evaluate(CLOSED, f"ws://localhost:{site[0]}/ws") == "1008 logout"
    await context.close()
