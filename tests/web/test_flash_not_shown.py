"""A flash message is not used up by a response that nobody reads."""

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from aiohttp_session_store import MemoryStorage, get_session, setup

NOT_SHOWN = {
    "a prefetch": ("GET", {"Sec-Purpose": "prefetch"}),
    "a prerendered page": ("GET", {"Sec-Purpose": "prefetch;prerender"}),
    "a prefetch of an older browser": ("GET", {"Purpose": "prefetch"}),
    "an image": ("GET", {"Sec-Fetch-Dest": "image"}),
    "a style sheet": ("GET", {"Sec-Fetch-Dest": "style"}),
    "a script": ("GET", {"Sec-Fetch-Dest": "script"}),
    "a font": ("GET", {"Sec-Fetch-Dest": "font"}),
    "a HEAD request": ("HEAD", {}),
}


async def save(request: web.Request) -> web.Response:
    (await get_session(request)).flash("notice", "Saved.")
    return web.Response()


async def show(request: web.Request) -> web.Response:
    session = await get_session(request)
    return web.Response(text=session.get("notice", "nothing"), status=int(request.query.get("status", 200)))


async def redirect(request: web.Request) -> web.Response:
    session = await get_session(request)
    session["seen"] = session.get("notice")
    session.keep_flashes()
    raise web.HTTPFound("/show")


def client() -> TestClient[web.Request, web.Application]:
    app = web.Application()
    app.add_routes([web.get("/save", save), web.get("/show", show), web.get("/redirect", redirect)])
    setup(app, MemoryStorage())
    return TestClient(TestServer(app))


@pytest.mark.parametrize(("method", "headers"), NOT_SHOWN.values(), ids=NOT_SHOWN)
async def test_a_response_that_nobody_reads_leaves_the_flash(method: str, headers: dict[str, str]) -> None:
    async with client() as visitor:
        await visitor.get("/save")
        await visitor.request(method, "/show", headers=headers)

        assert await (await visitor.get("/show")).text() == "Saved."
        assert await (await visitor.get("/show")).text() == "nothing"


async def test_a_304_leaves_the_flash() -> None:
    """The browser shows the page that it has."""
    async with client() as visitor:
        await visitor.get("/save")
        await visitor.get("/show?status=304")

        assert await (await visitor.get("/show")).text() == "Saved."


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Dest": "document"}, {"Sec-Fetch-Dest": "empty"}, {}])
async def test_a_page_or_a_fetch_uses_the_flash_up(headers: dict[str, str]) -> None:
    async with client() as visitor:
        await visitor.get("/save")
        assert await (await visitor.get("/show", headers=headers)).text() == "Saved."

        assert await (await visitor.get("/show")).text() == "nothing"


async def test_a_second_redirect_can_keep_the_flash() -> None:
    async with client() as visitor:
        await visitor.get("/save")

        assert await (await visitor.get("/redirect")).text() == "Saved."
        assert await (await visitor.get("/show")).text() == "nothing"
