"""protect_from_csrf: what pages of other sites cannot do.

The first three tables hold the cases of Go's http.CrossOriginProtection.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

import pytest
from aiohttp import WSServerHandshakeError, web

from aiohttp_session_store import (
    ConfigurationError,
    MemoryStorage,
    csrf_exempt,
    get_session,
    protect_from_csrf,
    setup,
)
from tests.web.visits import Client, ClientOf

HOST = "example.com"
Handler = Callable[[web.Request], Awaitable[web.Response]]
OWN, EVIL, TRUSTED = f"http://{HOST}", "https://attacker.example", "https://trusted.example"


async def ok(_: web.Request) -> web.Response:
    return web.Response(text="done")


@csrf_exempt
async def hook(_: web.Request) -> web.Response:
    return web.Response(text="done")


async def socket(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    await ws.send_str("hello")
    await ws.close()
    return ws


def protected(*routes: web.RouteDef, **options: Any) -> web.Application:
    app = web.Application()
    app.add_routes([web.route("*", "/", ok), web.route("*", "/hook", hook), web.get("/ws", socket), *routes])
    protect_from_csrf(app, **options)
    return app


async def status(client: Client, method: str, path: str = "/", **headers: str) -> int:
    sent = {"Host": HOST} | {name.replace("_", "-"): value for name, value in headers.items() if value}
    async with client.request(method, path, headers=sent) as response:
        return response.status


@pytest.mark.parametrize(
    ("method", "site", "origin", "expected"),
    [
        ("POST", "same-origin", "", 200),
        ("POST", "none", "", 200),
        ("POST", "cross-site", "", 403),
        ("POST", "same-site", "", 403),
        ("POST", "something-new", "", 403),
        ("POST", "", "", 200),
        ("POST", "", OWN, 200),
        ("POST", "", EVIL, 403),
        ("POST", "", "null", 403),
        ("POST", "same-origin", "null", 200),
        ("POST", "cross-site", OWN, 403),
        ("GET", "cross-site", "", 200),
        ("HEAD", "cross-site", "", 200),
        ("OPTIONS", "cross-site", "", 200),
        ("GET", "", EVIL, 200),
        ("PUT", "cross-site", "", 403),
        ("PATCH", "cross-site", "", 403),
        ("DELETE", "", EVIL, 403),
        ("POST", "", f"ftp://{HOST}", 403),
        ("POST", "", f"https://{HOST}", 403),
        ("POST", "", f"http://{HOST}:80", 200),
        ("POST", "", f"http://{HOST}:8080", 403),
        ("POST", "", "HTTP://Example.COM", 200),
        ("POST", "", f"http://{HOST}.attacker.example", 403),
        ("POST", "", f"http://attacker.example/{HOST}", 403),
        ("POST", "", f"http://{HOST}@attacker.example", 403),
        ("POST", "", HOST, 403),
        ("POST", "", f"http://{HOST}/", 403),
        ("POST", "Same-Origin", "", 403),
        ("POST", "same-origin, cross-site", OWN, 403),
        ("POST", "", f"http://{HOST}.", 403),
        ("POST", "", f"http://{HOST}:", 403),
        ("POST", "", f"http://{HOST}:80:80", 403),
        ("POST", "", f"{OWN}, {EVIL}", 403),
        ("POST", "", f"{OWN} {EVIL}", 403),
        ("TRACE", "cross-site", "", 403),
        ("PROPFIND", "", EVIL, 403),
    ],
)
async def test_a_change_is_only_taken_from_our_own_pages(
    client_of: ClientOf, method: str, site: str, origin: str, expected: int
) -> None:
    client = await client_of(protected())

    assert await status(client, method, Sec_Fetch_Site=site, Origin=origin) == expected


@pytest.mark.parametrize(
    ("site", "origin", "expected"),
    [
        ("", TRUSTED, 200),
        ("cross-site", TRUSTED, 200),
        ("", EVIL, 403),
        ("cross-site", EVIL, 403),
        ("cross-site", "", 403),
        ("", f"{TRUSTED}:8443", 403),
        ("", "http://trusted.example", 403),
        ("", "null", 403),
    ],
)
async def test_a_trusted_origin_may_do_what_our_own_pages_may(
    client_of: ClientOf, site: str, origin: str, expected: int
) -> None:
    client = await client_of(protected(trusted_origins=["HTTPS://Trusted.example:443"]))

    assert await status(client, "POST", Sec_Fetch_Site=site, Origin=origin) == expected


@pytest.mark.parametrize(
    ("path", "site", "expected"),
    [("/hook", "", 200), ("/hook", "cross-site", 200), ("/", "", 403), ("/", "cross-site", 403), ("/none", "", 403)],
)
async def test_a_handler_that_is_exempt_takes_changes_from_everywhere(
    client_of: ClientOf, path: str, site: str, expected: int
) -> None:
    client = await client_of(protected())

    assert await status(client, "POST", path, Sec_Fetch_Site=site, Origin=EVIL) == expected


@pytest.mark.parametrize(
    "origin",
    [
        "example.com",
        "https://",
        "https://example.com/",
        "https://example.com/path",
        "https://example.com?query=value",
        "https://example.com#fragment",
        "https://ex ample.com",
        "https://user@example.com",
        "https://example.com:",
        "https://example.com:https",
        "https://example.com:08443",
        "https://example.com:443:443",
        "https://:443",
        "https://::1",
        "https://[::1",
        "https://[::1]8443",
        "https://ex%61mple.com",
        "https://*.example.com",
        "https://b\u00fccher.example",
        "",
        "null",
        "*",
        5,
    ],
)
def test_a_trusted_origin_that_no_browser_could_send_is_refused(origin: Any) -> None:
    with pytest.raises(ConfigurationError, match="is no origin: write the scheme and the host"):
        protect_from_csrf(web.Application(), trusted_origins=[origin])


@pytest.mark.parametrize("origin", ["https://example.com", "https://example.com:8080", "http://[::1]:8080", "app://x"])
def test_every_origin_that_a_browser_sends_can_be_trusted(origin: str) -> None:
    protect_from_csrf(web.Application(), trusted_origins=[origin])


@pytest.mark.parametrize("origins", ["https://example.com", None, 5])
def test_one_string_is_no_list_of_origins(origins: Any) -> None:
    with pytest.raises(ConfigurationError, match="is a list of strings"):
        protect_from_csrf(web.Application(), trusted_origins=origins)


# --- WebSockets


@pytest.mark.parametrize(
    ("site", "origin", "expected"),
    [
        ("", OWN, 101),
        ("", "", 101),
        ("same-origin", OWN, 101),
        ("same-site", "http://other.example.com", 403),
        ("cross-site", EVIL, 403),
        ("", "http://other.example.com", 403),
        ("", EVIL, 403),
        ("", "null", 403),
        ("", TRUSTED, 101),
    ],
)
async def test_a_page_of_another_site_opens_no_websocket(
    client_of: ClientOf, site: str, origin: str, expected: int
) -> None:
    client = await client_of(protected(trusted_origins=[TRUSTED]))
    headers = {"Host": HOST} | ({"Sec-Fetch-Site": site} if site else {}) | ({"Origin": origin} if origin else {})

    try:
        async with client.ws_connect("/ws", headers=headers) as ws:
            assert await ws.receive_str() == "hello"
            answered = 101
    except WSServerHandshakeError as refused:
        answered = refused.status

    assert answered == expected


async def test_a_handshake_by_another_spelling_is_one(client_of: ClientOf) -> None:
    client = await client_of(protected())

    for upgrade in ("WebSocket", " websocket ", "foo, websocket"):
        assert await status(client, "GET", "/ws", Upgrade=upgrade, Connection="upgrade", Origin=EVIL) == 403
    assert await status(client, "GET", "/", Upgrade="h2c", Connection="upgrade", Origin=EVIL) == 200


# --- proxies


@pytest.mark.parametrize("path", ["/", "/ws"])
@pytest.mark.parametrize(
    ("headers", "origin", "expected"),
    [
        ({"X-Forwarded-Proto": "https"}, f"https://{HOST}", True),
        ({"X-Forwarded-Proto": "wss"}, f"https://{HOST}", True),
        ({"Forwarded": "proto=https"}, f"https://{HOST}", True),
        ({"X-Forwarded-Proto": "https"}, f"http://{HOST}", False),
        ({"X-Forwarded-Proto": "http"}, f"http://{HOST}", True),
        ({}, f"https://{HOST}", False),
        ({"Host": "192.168.1.5:8080"}, "http://192.168.1.5:8080", True),
        ({"Host": "192.168.1.5:8080"}, "http://192.168.1.6:8080", False),
        ({"Host": "[fe80::1]:8080"}, "http://[fe80::1]:8080", True),
        ({"Host": "nas.local"}, "http://nas.local", True),
        ({"Host": "nas.local"}, "http://printer.local", False),
    ],
)
async def test_the_origin_is_compared_with_what_the_proxy_says(
    client_of: ClientOf, path: str, headers: dict[str, str], origin: str, expected: bool
) -> None:
    client = await client_of(protected())
    sent = {"Host": HOST, "Origin": origin} | headers

    if path == "/":
        async with client.post(path, headers=sent) as response:
            assert (response.status == 200) is expected
    elif expected:
        await (await client.ws_connect(path, headers=sent)).close()
    else:
        with pytest.raises(WSServerHandshakeError, match="403"):
            await client.ws_connect(path, headers=sent)


async def test_a_proxy_that_hides_https_is_warned_of_once(
    client_of: ClientOf, caplog: pytest.LogCaptureFixture
) -> None:
    client = await client_of(protected())

    for origin in (EVIL, f"https://{HOST}", f"https://{HOST}"):
        assert await status(client, "POST", Origin=origin) == 403

    assert [one.levelno for one in caplog.records if "X-Forwarded-Proto" in one.message] == [logging.WARNING]


@pytest.mark.parametrize("origin", ["http://localhost", "null"])
@pytest.mark.parametrize("host", ["", "Host:\r\n", "Host: no host\r\n", "Host: a/b\r\n"])
async def test_a_request_that_names_no_host_has_no_origin_of_its_own(
    aiohttp_server: Any, host: str, origin: str
) -> None:
    server = await aiohttp_server(protected())
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(f"POST / HTTP/1.0\r\n{host}Origin: {origin}\r\n\r\n".encode())

    assert (await reader.readline()).split()[1] == b"403"
    writer.close()
    await writer.wait_closed()


# --- exempt handlers


async def test_views_and_methods_are_exempt_one_by_one(client_of: ClientOf) -> None:
    @csrf_exempt
    class Api(web.View):
        async def post(self) -> web.Response:
            return web.Response()

    class Page(Api):
        """Derived from a view that is exempt, but not marked itself."""

    class Mixed(web.View):
        @csrf_exempt
        async def post(self) -> web.Response:
            return web.Response()

        async def put(self) -> web.Response:
            return web.Response()

    class Methods:
        @csrf_exempt
        async def hook(self, _: web.Request) -> web.Response:
            return web.Response()

        async def other(self, _: web.Request) -> web.Response:
            return web.Response()

    methods = Methods()
    app = protected(
        web.view("/api", Api),
        web.view("/page", Page),
        web.view("/mixed", Mixed),
        web.post("/method", methods.hook),
        web.post("/bound", csrf_exempt(methods.other)),
    )
    client = await client_of(app)

    answers = {
        (method, path): await status(client, method, path, Origin=EVIL)
        for method, path in [
            ("POST", "/api"),
            ("POST", "/page"),
            ("POST", "/mixed"),
            ("PUT", "/mixed"),
            ("POST", "/method"),
            ("POST", "/bound"),
        ]
    }

    assert list(answers.values()) == [200, 403, 200, 403, 200, 200]


async def test_the_mark_is_seen_through_decorators_that_wrap(client_of: ClientOf) -> None:
    def logged(handler: Handler) -> Handler:
        @wraps(handler)
        async def inner(request: web.Request) -> web.Response:
            return await handler(request)

        return inner

    client = await client_of(protected(web.post("/wrapped", logged(hook))))

    assert await status(client, "POST", "/wrapped", Origin=EVIL) == 200


# --- in the app


async def test_it_covers_sub_apps(client_of: ClientOf) -> None:
    inner, app = web.Application(), web.Application()
    inner.add_routes([web.post("/x", ok), web.post("/hook", hook)])
    protect_from_csrf(app)
    app.add_subapp("/in", inner)
    client = await client_of(app)

    assert await status(client, "POST", "/in/x", Origin=EVIL) == 403
    assert await status(client, "POST", "/in/hook", Origin=EVIL) == 200


@pytest.mark.parametrize("first", ["setup", "protect"])
async def test_a_refused_request_does_not_reach_the_session(client_of: ClientOf, first: str) -> None:
    reads = 0

    class Counting(MemoryStorage):
        async def fetch(self, key: str) -> Any:
            nonlocal reads
            reads += 1
            return await super().fetch(key)

    async def write(request: web.Request) -> web.Response:
        session = await get_session(request)
        session["n"] = session.get("n", 0) + 1
        return web.Response(text=str(session["n"]))

    app = web.Application()
    app.router.add_post("/", write)
    for step in ("setup", "protect") if first == "setup" else ("protect", "setup"):
        if step == "setup":
            setup(app, Counting(sweep_interval=None))
        else:
            protect_from_csrf(app)
    client = await client_of(app)
    async with client.post("/") as response:
        cookie = response.headers["Set-Cookie"].partition(";")[0]

    assert await status(client, "POST", Cookie=cookie, Origin=EVIL) == 403
    assert reads == 0
    async with client.post("/", headers={"Cookie": cookie}) as response:
        assert await response.text() == "2"


async def test_a_middleware_from_before_makes_the_error_page(client_of: ClientOf) -> None:
    @web.middleware
    async def pages(request: web.Request, handler: Any) -> web.StreamResponse:
        try:
            return await handler(request)  # type: ignore[no-any-return]
        except web.HTTPForbidden:
            return web.Response(status=403, text="our own page")

    app = web.Application(middlewares=[pages])
    protect_from_csrf(app)
    client = await client_of(app)

    async with client.post("/", headers={"Origin": EVIL}) as response:
        assert (response.status, await response.text()) == (403, "our own page")


def test_an_app_is_protected_once_and_before_it_starts() -> None:
    app, outer = web.Application(), web.Application()
    protect_from_csrf(app)

    with pytest.raises(ConfigurationError, match=r"call protect_from_csrf\(\) once"):
        protect_from_csrf(app)
    late = web.Application()
    outer.add_subapp("/in", late)
    with pytest.raises(ConfigurationError, match=r"before add_subapp\(\)"):
        protect_from_csrf(late)
    with pytest.raises(ConfigurationError, match=r"must be a web\.Application"):
        protect_from_csrf("app")  # type: ignore[arg-type]
    assert len(app.middlewares) == 1
    assert not late.middlewares
