"""The exact Set-Cookie header: its attributes, when it is Secure, how it is cleared, how long it lasts."""

import logging
import re
from typing import Any

import pytest
from aiohttp import web

from aiohttp_session_store import CookieStorage, MemoryStorage, SessionCookie, get_session, setup
from aiohttp_session_store.storages.base import DEFAULT_LIFETIME
from aiohttp_session_store.testing import ManualClock
from aiohttp_session_store.web.request_headers import is_loopback, says_https
from tests.web.storages import SECRET, logout, write
from tests.web.visits import Client, ClientOf, visit

DAY = 86400
LOGGER = "aiohttp_session_store"
VALUE = r"[A-Za-z0-9_-]{43}\.[A-Za-z0-9_-]{43}"


async def read_user(request: web.Request) -> web.Response:
    return web.Response(text=(await get_session(request)).get("user", ""))


def app_of(storage: MemoryStorage | CookieStorage, cookie: SessionCookie | None = None) -> web.Application:
    app = web.Application()
    setup(app, storage, cookie=cookie)
    app.add_routes([web.get("/write", write), web.get("/read", read_user), web.get("/logout", logout)])
    return app


# --- attributes

ATTRIBUTES: list[tuple[dict[str, Any], str]] = [
    ({}, "; Path=/; HttpOnly; SameSite=Lax"),
    ({"secure": True}, "; Path=/; Secure; HttpOnly; SameSite=Lax"),
    ({"secure": False}, "; Path=/; HttpOnly; SameSite=Lax"),
    ({"path": "/app"}, "; Path=/app; HttpOnly; SameSite=Lax"),
    ({"domain": "example.com"}, "; Path=/; Domain=example.com; HttpOnly; SameSite=Lax"),
    ({"samesite": "Strict"}, "; Path=/; HttpOnly; SameSite=Strict"),
    ({"samesite": "strict"}, "; Path=/; HttpOnly; SameSite=Strict"),
    ({"samesite": None}, "; Path=/; HttpOnly"),
    ({"samesite": "None", "secure": True}, "; Path=/; Secure; HttpOnly; SameSite=None"),
    ({"partitioned": True, "secure": True}, "; Path=/; Secure; HttpOnly; SameSite=Lax; Partitioned"),
    ({"name": "__Host-session", "secure": True}, "; Path=/; Secure; HttpOnly; SameSite=Lax"),
    ({"name": "__Host-Http-session", "secure": True}, "; Path=/; Secure; HttpOnly; SameSite=Lax"),
]
EVERY_SETTING = pytest.mark.parametrize(("settings", "tail"), ATTRIBUTES)


@EVERY_SETTING
async def test_every_setting_is_sent_as_an_attribute(client_of: ClientOf, settings: dict[str, Any], tail: str) -> None:
    client = await client_of(app_of(MemoryStorage(), SessionCookie(**settings)))

    sent = (await visit(client, "/write?user=ada")).set_cookie

    name = re.escape(settings.get("name", "session"))
    assert sent is not None
    assert re.fullmatch(f"{name}={VALUE}{re.escape(tail)}", sent)


@EVERY_SETTING
async def test_clearing_repeats_the_attributes(client_of: ClientOf, settings: dict[str, Any], tail: str) -> None:
    client = await client_of(app_of(MemoryStorage(), SessionCookie(**settings)))
    name = settings.get("name", "session")
    value = (await visit(client, "/write?user=ada")).cookie

    sent = (await visit(client, "/logout", value, name)).set_cookie

    assert sent == f"{name}=; Max-Age=0{tail}"


async def test_a_cookie_that_scripts_may_read_has_no_httponly(client_of: ClientOf) -> None:
    with pytest.warns(UserWarning, match="steal"):
        cookie = SessionCookie(httponly=False)
    client = await client_of(app_of(MemoryStorage(), cookie))

    sent = (await visit(client, "/write?user=ada")).set_cookie

    assert sent is not None
    assert sent.endswith("; Path=/; SameSite=Lax")


# --- Secure, if it depends on the request

HTTPS = [
    {"X_Forwarded_Proto": "https"},
    {"X_Forwarded_Proto": "HTTPS, http"},
    {"X_Forwarded_Proto": " https "},
    {"X_Forwarded_Proto": "wss"},
    {"Forwarded": "proto=wss"},
    {"Forwarded": "proto=https"},
    {"Forwarded": "for=192.0.2.60;proto=https;by=203.0.113.43"},
    {"Forwarded": 'For="[2001:db8::1]"; Proto="https"'},
    {"Forwarded": "proto=https, for=10.0.0.1;proto=http"},
]
HTTP = [
    {},
    {"X_Forwarded_Proto": "http"},
    {"X_Forwarded_Proto": "http, https"},
    {"X_Forwarded_Proto": "httpsx"},
    {"X_Forwarded_Proto": ""},
    {"Forwarded": "proto=http"},
    {"Forwarded": "proto=httpsx"},
    {"Forwarded": "xproto=https"},
    {"Forwarded": "for=10.0.0.1;proto=http, proto=https"},
]


def is_secure(set_cookie: str | None) -> bool:
    assert set_cookie is not None
    return "Secure" in set_cookie.split("; ")


@pytest.mark.parametrize(("headers", "secure"), [(given, True) for given in HTTPS] + [(given, False) for given in HTTP])
async def test_the_cookie_is_secure_if_a_proxy_says_https(
    client_of: ClientOf, headers: dict[str, str], secure: bool
) -> None:
    client = await client_of(app_of(MemoryStorage()))

    response = await visit(client, "/write?user=ada", **headers)

    assert is_secure(response.set_cookie) is secure


@pytest.mark.parametrize("headers", HTTPS)
async def test_the_clearing_header_is_secure_if_the_cookie_was(client_of: ClientOf, headers: dict[str, str]) -> None:
    client = await client_of(app_of(MemoryStorage()))
    value = (await visit(client, "/write?user=ada", **headers)).cookie

    response = await visit(client, "/logout", value, **headers)

    assert is_secure(response.set_cookie)


@pytest.mark.parametrize("headers", HTTP)
async def test_a_proxy_that_says_http_cannot_make_a_cookie_less_secure(
    client_of: ClientOf, headers: dict[str, str]
) -> None:
    client = await client_of(app_of(MemoryStorage(), SessionCookie(secure=True)))

    response = await visit(client, "/write?user=ada", **headers)

    assert is_secure(response.set_cookie)


@pytest.mark.parametrize("headers", HTTP)
def test_headers_that_do_not_say_https_do_not_count_as_https(headers: dict[str, str]) -> None:
    assert not says_https(headers.get("X_Forwarded_Proto", ""), headers.get("Forwarded", ""))


@pytest.mark.parametrize("headers", HTTP)
async def test_a_request_over_https_gets_a_secure_cookie_whatever_its_headers_say(
    client_of: ClientOf, headers: dict[str, str]
) -> None:
    async def over_https(request: web.Request) -> web.Response:
        (await get_session(request))["user"] = "ada"
        response = web.Response()
        await response.prepare(request.clone(scheme="https"))
        return response

    app = app_of(MemoryStorage())
    app.router.add_get("/", over_https)
    client = await client_of(app)

    response = await visit(client, "/", **headers)

    assert is_secure(response.set_cookie)


async def test_with_secure_false_a_cookie_is_not_secure_even_over_https(client_of: ClientOf) -> None:
    client = await client_of(app_of(MemoryStorage(), SessionCookie(secure=False)))

    response = await visit(client, "/write?user=ada", X_Forwarded_Proto="https")

    assert not is_secure(response.set_cookie)


# --- the warning

LOOPBACK = ["localhost", "localhost:8080", "app.localhost:80", "LOCALHOST", "127.0.0.1", "127.1.2.3:80", "[::1]:8080"]
ELSEWHERE = [
    "example.com",
    "example.com:8080",
    "192.168.0.1",
    "[2001:db8::1]:80",
    "localhost.example.com",
    "xlocalhost",
]


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage() for record in caplog.records if record.name == LOGGER and record.levelno >= logging.WARNING
    ]


@pytest.mark.parametrize("host", ELSEWHERE)
async def test_a_cookie_that_leaves_the_machine_over_plain_http_logs_one_warning(
    client_of: ClientOf, caplog: pytest.LogCaptureFixture, host: str
) -> None:
    client = await client_of(app_of(MemoryStorage()))

    for _ in range(2):
        await visit(client, "/write?user=ada", Host=host)

    [warning] = warnings_in(caplog)
    assert "went to another machine over plain HTTP" in warning
    assert host not in warning  # the visitor has chosen that text


@pytest.mark.parametrize("host", LOOPBACK)
async def test_a_cookie_that_stays_on_the_machine_logs_no_warning(
    client_of: ClientOf, caplog: pytest.LogCaptureFixture, host: str
) -> None:
    client = await client_of(app_of(MemoryStorage()))

    await visit(client, "/write?user=ada", Host=host)

    assert not warnings_in(caplog)


@pytest.mark.parametrize("headers", HTTPS)
async def test_a_secure_cookie_logs_no_warning(
    client_of: ClientOf, caplog: pytest.LogCaptureFixture, headers: dict[str, str]
) -> None:
    client = await client_of(app_of(MemoryStorage()))

    await visit(client, "/write?user=ada", Host="example.com", **headers)

    assert not warnings_in(caplog)


@pytest.mark.parametrize("host", ["", "[::1", "]", ":", "127.0.0.1.example.com", "\udcff", "1" * 5000])
def test_an_invalid_host_does_not_count_as_loopback(host: str) -> None:
    assert not is_loopback(host)


# --- how long it lasts


async def lasting(client_of: ClientOf, clock: ManualClock, **options: Any) -> Client:
    return await client_of(app_of(MemoryStorage(clock=clock, **options), SessionCookie(persistent=True)))


@pytest.mark.parametrize(
    ("lifetime", "max_age"),
    [(DEFAULT_LIFETIME, 90 * DAY), (3600, 3600), (400 * DAY, 400 * DAY), (401 * DAY, 400 * DAY), (None, 400 * DAY)],
)
async def test_a_persistent_cookie_lasts_for_the_lifetime_but_at_most_400_days(
    client_of: ClientOf, clock: ManualClock, lifetime: int | None, max_age: int
) -> None:
    client = await lasting(client_of, clock, lifetime=lifetime)

    sent = (await visit(client, "/write?user=ada")).set_cookie

    assert sent is not None
    when = rf"\.\.{int(clock())}" if lifetime is None or lifetime > 400 * DAY else ""
    value = VALUE.replace(r"\.", when + r"\.")  # if it is to be sent again in time, it says when it was sent
    assert re.fullmatch(rf"session={value}; Max-Age={max_age}; Path=/; HttpOnly; SameSite=Lax", sent)


async def test_a_persistent_cookie_sent_again_lasts_for_the_rest_of_the_lifetime(
    client_of: ClientOf, clock: ManualClock
) -> None:
    storage = CookieStorage(clock=clock, lifetime=10 * DAY)
    client = await client_of(app_of(storage, SessionCookie(persistent=True, secrets=SECRET)))
    value = (await visit(client, "/write?user=ada")).cookie
    clock.advance(3 * DAY)

    sent = (await visit(client, "/write?user=bob", value)).set_cookie

    assert sent is not None
    assert f"; Max-Age={7 * DAY}; " in sent


async def test_a_persistent_cookie_is_cleared_like_any_other(client_of: ClientOf, clock: ManualClock) -> None:
    client = await lasting(client_of, clock)
    value = (await visit(client, "/write?user=ada")).cookie

    assert (await visit(client, "/logout", value)).set_cookie == "session=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax"
