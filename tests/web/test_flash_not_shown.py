"""A flash message is not used up by a response that nobody reads."""

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from aiohttp_session_store import MemoryStorage, exclusive_session, get_session, save_session, setup

NOT_SHOWN = {
    "a prefetch": ("GET", {"Sec-Purpose": "prefetch"}),
    "a prerendered page": ("GET", {"Sec-Purpose": "prefetch;prerender"}),
    "a prefetch of an older browser": ("GET", {"Purpose": "prefetch"}),
    "an image": ("GET", {"Sec-Fetch-Dest": "image"}),
    "a style sheet": ("GET", {"Sec-Fetch-Dest": "style"}),
    "a script": ("GET", {"Sec-Fetch-Dest": "script"}),
    "a font": ("GET", {"Sec-Fetch-Dest": "font"}),
    "a service worker": ("GET", {"Sec-Fetch-Dest": "serviceworker"}),
    "a module of JSON": ("GET", {"Sec-Fetch-Dest": "json"}),
    "a style sheet of XSLT": ("GET", {"Sec-Fetch-Dest": "xslt"}),
    "a report": ("POST", {"Sec-Fetch-Dest": "report"}),
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


async def save_early(request: web.Request) -> web.Response:
    """Save before the request is over, then end as it is told to."""
    if request.query["by"] == "exclusive_session":
        async with exclusive_session(request) as session:
            session["seen"] = True
    else:
        session = await get_session(request)
        session["seen"] = True
        await save_session(request)
    if request.query["then"] == "keep":
        session.keep_flashes()
    elif request.query["then"] == "fail":
        raise RuntimeError
    return web.Response(status=int(request.query.get("status", 200)))


def client() -> TestClient[web.Request, web.Application]:
    app = web.Application()
    app.add_routes([web.get("/save", save), web.get("/show", show), web.get("/redirect", redirect)])
    app.add_routes([web.post("/show", show), web.get("/early", save_early)])
    setup(app, MemoryStorage())
    return TestClient(TestServer(app))


@pytest.mark.parametrize(("method", "headers"), NOT_SHOWN.values(), ids=NOT_SHOWN)
async def test_a_response_that_nobody_reads_leaves_the_flash(method: str, headers: dict[str, str]) -> None:
    async with client() as visitor:
        await visitor.get("/save")
        await visitor.request(method, "/show", headers=headers)

        assert await (await visitor.get("/show")).text() == "Saved."
        assert await (await visitor.get("/show")).text() == "nothing"


@pytest.mark.parametrize("status", [204, 205, 304])
async def test_a_response_that_leaves_the_page_in_place_leaves_the_flash(status: int) -> None:
    """The browser shows the page that it has."""
    async with client() as visitor:
        await visitor.get("/save")
        await visitor.get(f"/show?status={status}")

        assert await (await visitor.get("/show")).text() == "Saved."


@pytest.mark.parametrize(
    "headers", [{"Sec-Fetch-Dest": "document"}, {"Sec-Fetch-Dest": "iframe"}, {"Sec-Fetch-Dest": "empty"}, {}]
)
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


@pytest.mark.parametrize("by", ["exclusive_session", "save_session"])
@pytest.mark.parametrize("then", ["then=keep", "then=fail", "then=answer&status=500", "then=answer&status=304"])
async def test_a_save_in_the_middle_of_a_request_uses_no_flash_up(by: str, then: str) -> None:
    """The request may still fail, keep the flash, or show nothing."""
    async with client() as visitor:
        await visitor.get("/save")
        await visitor.get(f"/early?by={by}&{then}")

        assert await (await visitor.get("/show")).text() == "Saved."
        assert await (await visitor.get("/show")).text() == "nothing"


@pytest.mark.parametrize("by", ["exclusive_session", "save_session"])
async def test_a_request_that_saved_early_and_succeeds_uses_the_flash_up(by: str) -> None:
    async with client() as visitor:
        await visitor.get("/save")
        await visitor.get(f"/early?by={by}&then=answer")

        assert await (await visitor.get("/show")).text() == "nothing"
