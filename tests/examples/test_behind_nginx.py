"""Apps behind a real nginx that terminates TLS: docs/examples/behind_nginx and docs/examples/remotes.py."""

import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from pytest_aiohttp.plugin import AiohttpServer

from aiohttp_session_store import CookieStorage, FileSystemStorage, SessionCookie, get_session, setup
from docs.examples import remotes
from docs.examples.behind_nginx import app as behind_nginx
from tests.examples.behind_nginx import HOST, VISITOR, Answer, Site, visitors
from tests.servers.nginx import installed

CLAIMS = {
    "X_Forwarded_For": "192.0.2.1",
    "X_Forwarded_Proto": "http",
    "X_Forwarded_Host": "elsewhere.example",
    "Forwarded": "for=192.0.2.1;proto=http",
}
SECRET = "known-secret-0123456789-abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(scope="module")
def binary() -> str:
    found = installed()
    if found is None:
        reason = "there is no nginx on the PATH or in /usr/sbin: apt-get install nginx-light"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture
async def site(binary: str, tmp_path: Path, aiohttp_server: AiohttpServer) -> AsyncIterator[Site]:
    """The example behind its nginx."""
    server = await aiohttp_server(behind_nginx.make_app(FileSystemStorage(tmp_path / "sessions")))
    assert server.port
    async with visitors(server.port, binary, tmp_path) as site:
        yield site
        assert site.log.read_text() == ""


async def login(site: Site, cookie: str | None = None) -> Answer:
    return await site.ask("/login", cookie, method="POST", data={"name": "ada"})


async def test_the_cookie_sent_over_tls_is_secure_and_limited_to_this_host(site: Site) -> None:
    answer = await login(site)

    assert answer.status == 303
    (set_cookie,) = answer.set_cookies
    assert re.fullmatch(r"__Host-session=[\w-]{43}\.[\w-]+; Path=/; Secure; HttpOnly; SameSite=Lax", set_cookie)
    assert answer.headers["Cache-Control"] == "no-store"


async def test_a_visitor_logs_in_and_out_through_nginx(site: Site) -> None:
    cookie = (await login(site)).cookie
    pages = [(await site.ask("/", cookie)).text for _ in range(2)]

    goodbye = (await site.ask("/logout", cookie, method="POST")).cookie

    assert pages == ["Welcome, ada.\n", "Hello, ada.\n"]
    assert (await site.ask("/", goodbye)).text == "Goodbye, stranger.\n"
    assert (await site.ask("/", cookie)).text == "Hello, stranger.\n"


async def test_a_second_login_makes_the_first_cookie_worthless(site: Site) -> None:
    first = (await login(site)).cookie

    second = (await login(site, first)).cookie

    assert second != first
    assert (await site.ask("/", first)).text == "Hello, stranger.\n"
    assert (await site.ask("/", second)).text == "Welcome, ada.\n"


async def test_the_app_gets_forwarding_headers_from_nginx_and_none_from_the_visitor(
    binary: str, tmp_path: Path, aiohttp_server: AiohttpServer
) -> None:
    async def echo(request: web.Request) -> web.Response:
        return web.json_response([*request.headers.items()])

    app = web.Application()
    app.router.add_get("/", echo)
    server = await aiohttp_server(app)
    assert server.port

    async with visitors(server.port, binary, tmp_path) as site:
        answer = await site.ask("/", **CLAIMS)

    of_the_way = [(name, value) for name, value in json.loads(answer.text) if "Forwarded" in name or name == "Host"]
    assert sorted(of_the_way) == [
        ("Host", HOST),
        ("X-Forwarded-For", VISITOR),
        ("X-Forwarded-Host", HOST),
        ("X-Forwarded-Proto", "https"),
    ]


async def test_plain_http_is_redirected_to_https(site: Site) -> None:
    url = f"http://127.0.0.1:{site.http}/login?next=/"
    async with site.client.post(url, headers={"Host": HOST}, allow_redirects=False) as answer:
        assert answer.status == 308
        assert answer.headers["Location"] == f"https://{HOST}/login?next=/"
        assert "Set-Cookie" not in answer.headers


async def test_a_websocket_uses_the_session_until_the_visitor_logs_out_elsewhere(site: Site) -> None:
    cookie = (await login(site)).cookie

    async with site.websocket("/chat", cookie) as socket:
        for number in (1, 2):
            await socket.send_str("hello")
            assert await socket.receive_str(timeout=20) == f"{number}: hello"
        await site.ask("/logout", cookie, method="POST")
        last = await socket.receive(timeout=20)

    assert (last.type, last.data, last.extra) == (WSMsgType.CLOSE, 1008, "logout")


@pytest.mark.parametrize("origin", ["https://blog.example.org", f"http://{HOST}", "null"])
async def test_a_page_of_another_origin_opens_no_websocket(site: Site, origin: str) -> None:
    cookie = (await login(site)).cookie

    with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
        async with site.websocket("/chat", cookie, origin):
            pass


async def test_a_websocket_without_a_session_is_refused(site: Site) -> None:
    assert (await site.ask("/chat")).status == 403


# --- cookies of the largest size that browsers accept


async def grow(request: web.Request) -> web.Response:
    (await get_session(request))["data"] = "x" * 2900
    return web.Response()


async def measure(request: web.Request) -> web.Response:
    return web.json_response(len((await get_session(request)).get("data", "")))


@pytest.mark.parametrize(("without", "status"), [("", 200), ("proxy_buffer_size 16k;", 502)])
async def test_a_cookie_of_4_kb_needs_the_larger_proxy_buffer(
    without: str, status: int, binary: str, tmp_path: Path, aiohttp_server: AiohttpServer
) -> None:
    app = web.Application()
    app.add_routes([web.get("/grow", grow), web.get("/measure", measure)])
    setup(app, CookieStorage(), cookie=SessionCookie("__Host-session", secure=True, secrets=SECRET))
    server = await aiohttp_server(app)
    assert server.port

    async with visitors(server.port, binary, tmp_path, without) as site:
        answer = await site.ask("/grow")

        assert answer.status == status
        if status == 200:
            assert len(answer.cookie) > 3800
            assert (await site.ask("/measure", answer.cookie)).text == "2900"
        else:
            assert "upstream sent too big header" in site.log.read_text()


# --- the default of "secure", which depends on the proxy's headers


@pytest.mark.parametrize(("without", "secure"), [("", True), ("proxy_set_header X-Forwarded-Proto $scheme;", False)])
async def test_by_default_a_cookie_is_secure_if_nginx_reports_https(
    without: str, secure: bool, binary: str, tmp_path: Path, aiohttp_server: AiohttpServer
) -> None:
    app = web.Application()
    app.add_routes([web.get("/grow", grow)])
    setup(app, FileSystemStorage(tmp_path / "sessions"))
    server = await aiohttp_server(app)
    assert server.port

    async with visitors(server.port, binary, tmp_path, without) as site:
        answer = await site.ask("/grow")

    assert ("Secure" in answer.set_cookies[0].split("; ")) is secure


# --- remotes.py


@pytest.fixture
async def remote_site(binary: str, tmp_path: Path, aiohttp_server: AiohttpServer) -> AsyncIterator[Site]:
    server = await aiohttp_server(await remotes.make_app(FileSystemStorage(tmp_path / "sessions")))
    assert server.port
    async with visitors(server.port, binary, tmp_path) as site:
        yield site


async def test_the_app_sees_the_visitors_address_and_the_session_continues(remote_site: Site) -> None:
    first = await remote_site.ask("/")
    second = await remote_site.ask("/", first.cookie)

    assert "Secure" in first.set_cookies[0].split("; ")
    assert [json.loads(answer.text) for answer in (first, second)] == [
        {"visits": visits, "remote": VISITOR, "url": f"https://{HOST}/"} for visits in (1, 2)
    ]
    assert first.headers.getall("Strict-Transport-Security") == ["max-age=31536000"]


async def test_forwarding_headers_from_the_visitor_are_ignored(remote_site: Site) -> None:
    answer = await remote_site.ask("/", **CLAIMS)

    assert answer.status == 200
    assert json.loads(answer.text) == {"visits": 1, "remote": VISITOR, "url": f"https://{HOST}/"}
    assert "Secure" in answer.set_cookies[0].split("; ")
