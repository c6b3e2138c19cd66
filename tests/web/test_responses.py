"""Responses that aiohttp changes while it sends them: files, redirects, errors, responses without a body."""

import gzip
import json
from pathlib import Path

import pytest
from aiohttp import web
from multidict import CIMultiDict

from aiohttp_session_store import KeyedStorage, MemoryStorage, SessionCookie, get_session, setup
from tests.web.storages import SECRET, Handler, app_with, raw_get, read
from tests.web.visits import Client, ClientOf, Visit, visit


def login_and(respond: Handler) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        (await get_session(request))["user"] = "ada"
        return await respond(request)

    return handler


async def data_of(client: Client, cookie: str) -> object:
    return json.loads((await visit(client, "/read", cookie)).text)


def varies_by(response: Visit) -> list[str]:
    return sorted(value.strip() for line in response.headers.getall("Vary") for value in line.split(","))


@pytest.fixture
def page(tmp_path: Path) -> Handler:
    """A handler that returns a file for which there is a compressed version."""
    (tmp_path / "page.txt").write_text("a page")
    (tmp_path / "page.txt.gz").write_bytes(gzip.compress(b"a page"))

    async def page(_: web.Request) -> web.FileResponse:
        return web.FileResponse(tmp_path / "page.txt")

    return page


async def test_a_compressed_file_varies_by_encoding_and_cookie_each_once(client_of: ClientOf, page: Handler) -> None:
    client = await client_of(app_with(MemoryStorage(), login_and(page)))

    response = await visit(client, "/", **{"Accept-Encoding": "gzip"})

    assert varies_by(response) == ["Accept-Encoding", "Cookie"]
    assert response.text == "a page"
    assert await data_of(client, response.cookie) == {"user": "ada"}


async def test_a_304_for_an_unchanged_file_sends_the_cookie(client_of: ClientOf, page: Handler) -> None:
    client = await client_of(app_with(MemoryStorage(), login_and(page)))
    etag = (await visit(client, "/")).headers["ETag"]

    response = await visit(client, "/", **{"If-None-Match": etag})

    assert response.status == 304
    assert "Cookie" in varies_by(response)
    assert await data_of(client, response.cookie) == {"user": "ada"}


async def test_a_range_of_a_file_sends_the_cookie(client_of: ClientOf, page: Handler) -> None:
    client = await client_of(app_with(MemoryStorage(), login_and(page)))

    response = await visit(client, "/", Range="bytes=2-5", **{"Accept-Encoding": "identity"})

    assert (response.status, response.text) == (206, "page")
    assert await data_of(client, response.cookie) == {"user": "ada"}


async def test_a_404_for_a_missing_file_sends_the_cookie(client_of: ClientOf, tmp_path: Path) -> None:
    async def missing(_: web.Request) -> web.FileResponse:
        return web.FileResponse(tmp_path / "missing.txt")

    client = await client_of(app_with(MemoryStorage(), login_and(missing)))

    response = await visit(client, "/")

    assert response.status == 404
    assert await data_of(client, response.cookie) == {"user": "ada"}


async def test_a_head_request_sends_the_cookie_and_stores_the_session(client_of: ClientOf, page: Handler) -> None:
    client = await client_of(app_with(MemoryStorage(), login_and(page)))

    async with client.head("/") as response:
        value = response.cookies["session"].value

    assert await data_of(client, value) == {"user": "ada"}


@pytest.mark.parametrize("error", [web.HTTPNotFound, web.HTTPForbidden, web.HTTPNotModified, web.HTTPNoContent])
async def test_a_raised_response_sends_the_cookie(
    client_of: ClientOf, storage: KeyedStorage, error: type[web.HTTPException]
) -> None:
    async def respond(_: web.Request) -> web.StreamResponse:
        raise error

    client = await client_of(app_with(storage, login_and(respond)))

    response = await visit(client, "/")

    assert response.status == error.status_code
    assert varies_by(response) == ["Cookie"]
    assert await data_of(client, response.cookie) == {"user": "ada"}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", ["/nowhere", "/read"])
async def test_a_middleware_can_use_the_session_for_an_unknown_path_or_method(
    client_of: ClientOf, path: str, method: str
) -> None:
    @web.middleware
    async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
        session = await get_session(request)
        session["seen"] = request.path
        return await handler(request)

    client = await client_of(app_with(MemoryStorage(), read, count))

    async with client.request(method, path) as response:
        value = response.cookies["session"].value

    assert response.status == {"/nowhere": 404, "/read": 200 if method == "GET" else 405}[path]
    assert json.loads((await visit(client, "/read", value)).text) == {"seen": "/read"}


async def test_an_http_1_0_response_sends_the_cookie(client_of: ClientOf) -> None:
    async def text(_: web.Request) -> web.Response:
        return web.Response(text="old")

    client = await client_of(app_with(MemoryStorage(), login_and(text)))
    reader, writer = await raw_get(client.port, version="1.0", Connection="close")

    answer = (await reader.read()).decode()

    writer.close()
    assert answer.startswith("HTTP/1.0 200 OK\r\n")
    assert "\r\nSet-Cookie: session=" in answer


@pytest.mark.parametrize("touches", [True, False])
async def test_a_response_copied_from_a_sent_one_does_not_leak_its_session_cookie(
    client_of: ClientOf, caplog: pytest.LogCaptureFixture, touches: bool
) -> None:
    """An in-process page cache makes such copies; the response that it keeps has had the cookie since it was sent."""
    kept: dict[str, web.Response] = {}

    @web.middleware
    async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
        if "uncounted" not in request.query:
            session = await get_session(request)
            session["visits"] = session.get("visits", 0) + 1
        return await handler(request)

    async def page(_: web.Request) -> web.Response:
        if "page" in kept:
            return web.Response(body=kept["page"].body, headers=kept["page"].headers)
        kept["page"] = web.Response(text="a page", headers={"Set-Cookie": "theme=dark"})
        return kept["page"]

    client = await client_of(app_with(MemoryStorage(), page, count))
    own = (await visit(client, "/read")).cookie
    async with client.get("/") as first:
        sent = [line.partition("=")[0] for line in first.headers.getall("Set-Cookie")]

    second = await visit(client, "/" if touches else "/?uncounted", own)
    await visit(client, "/", own)

    assert sent == ["theme", "session"]
    assert (second.text, second.set_cookie) == ("a page", "theme=dark")
    assert await data_of(client, own) == {"visits": 4 if touches else 3}
    [warning] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "session cookie of another response" in warning.getMessage()


@pytest.mark.parametrize("https", [False, True])
@pytest.mark.parametrize("sends", ["a cookie", "an empty cookie"])
async def test_headers_that_were_kept_as_json_lose_the_session_cookie_in_any_process(
    client_of: ClientOf, caplog: pytest.LogCaptureFixture, sends: str, https: bool
) -> None:
    """A page cache in a file or a server gives them to another process, which knows the cookie by its signature."""
    kept: list[str] = []

    async def page(request: web.Request) -> web.Response:
        if kept:
            return web.Response(body=b"a page", headers=CIMultiDict(json.loads(kept[0])))
        session = await get_session(request)
        if sends == "a cookie":
            session.regenerate_id()
        else:
            session.destroy()
        return web.Response(body=b"a page")

    storage = MemoryStorage()
    here, elsewhere = await client_of(app_with(storage, page)), await client_of(app_with(MemoryStorage(), page))
    cookie = (await visit(here, "/write?user=bob")).cookie
    sent = await visit(here, "/", cookie, X_Forwarded_Proto="https" if https else "http")
    assert sent.set_cookie
    kept.append(json.dumps([*sent.headers.items(), ("Set-Cookie", "theme=dark")]))

    for client in (here, elsewhere):
        caplog.clear()
        second = await visit(client, "/")
        await visit(client, "/")

        assert (second.text, second.set_cookie) == ("a page", "theme=dark")
        [warning] = [record for record in caplog.records if record.levelname == "WARNING"]
        assert "session cookie of another response" in warning.getMessage()


@pytest.mark.parametrize("blanks", [(" ", ""), ("\t ", ""), ("", " "), (" ", "\t")], ids=repr)
async def test_a_kept_session_cookie_is_recognised_with_blanks_around_its_name(
    client_of: ClientOf, blanks: tuple[str, str]
) -> None:
    """A header that was cut at its colon begins with a blank, and browsers take it all the same."""
    kept: list[str] = []

    async def page(request: web.Request) -> web.Response:
        if kept:
            return web.Response(headers={"Set-Cookie": kept[0]})
        (await get_session(request))["user"] = "ada"
        return web.Response()

    client = await client_of(app_with(MemoryStorage(), page))
    name, _, rest = str((await visit(client, "/")).set_cookie).partition("=")
    kept.append(f"{blanks[0]}{name}{blanks[1]}={rest}")

    assert (await visit(client, "/")).set_cookie is None


async def test_a_session_cookie_passed_on_from_a_server_with_another_secret_is_kept(client_of: ClientOf) -> None:
    app = web.Application()
    setup(app, MemoryStorage(), cookie=SessionCookie(secrets="another" + SECRET))
    app.router.add_get("/", login_and(read))
    behind = await client_of(app)

    async def gateway(_: web.Request) -> web.Response:
        async with behind.get("/") as response:
            return web.Response(body=await response.read(), headers={"Set-Cookie": response.headers["Set-Cookie"]})

    client = await client_of(app_with(MemoryStorage(), gateway))

    assert (await visit(behind, "/", (await visit(client, "/")).cookie)).text == '{"user": "ada"}'
