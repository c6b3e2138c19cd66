"""secure=True over plain HTTP: browsers drop the cookie, so each request begins a new session. One warning says so."""

import logging

import pytest
from aiohttp import web

from aiohttp_session_store import MemoryStorage, SessionCookie, setup
from tests.web.storages import SECRET, logout, read, write
from tests.web.visits import Client, ClientOf, visit

LAN = "192.168.1.5:8080"
CHROME, FIREFOX = "Chrome of the tests", "Firefox of the tests"


@pytest.fixture
async def client(client_of: ClientOf) -> Client:
    return await serve(client_of, secure=True)


async def serve(client_of: ClientOf, secure: bool | None) -> Client:
    app = web.Application()
    setup(app, MemoryStorage(), cookie=SessionCookie(secure=secure, secrets=SECRET))
    app.add_routes([web.get("/write", write), web.get("/read", read), web.get("/logout", logout)])
    return await client_of(app)


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("host", [LAN, "intranet", "example.com", "[fe80::1]:8080"])
async def test_a_client_that_comes_back_without_its_cookie_is_warned_of_once(
    client: Client, caplog: pytest.LogCaptureFixture, host: str
) -> None:
    await visit(client, "/write?user=ada", Host=host, User_Agent=CHROME)
    assert not warnings_in(caplog)
    for _ in range(3):
        await visit(client, "/write?user=ada", Host=host, User_Agent=CHROME)

    [warning] = warnings_in(caplog)
    assert "the session cookie session is Secure" in warning
    assert "SessionCookie(secure=None)" in warning
    assert "X-Forwarded-Proto" in warning
    assert host not in warning
    assert CHROME not in warning


@pytest.mark.parametrize("host", ["localhost:8080", "app.localhost", "127.0.0.1:8080", "[::1]"])
async def test_a_host_that_browsers_trust_is_not_warned_of(
    client: Client, caplog: pytest.LogCaptureFixture, host: str
) -> None:
    for _ in range(3):
        await visit(client, "/write?user=ada", Host=host)

    assert not warnings_in(caplog)


async def test_a_proxy_that_says_https_is_not_warned_of(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        await visit(client, "/write?user=ada", Host="example.com", X_Forwarded_Proto="https")

    assert not warnings_in(caplog)


async def test_visitors_who_each_come_once_are_not_warned_of(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    await visit(client, "/write?user=ada", Host=LAN, User_Agent=CHROME)
    await visit(client, "/write?user=bob", Host=LAN, User_Agent=FIREFOX)
    await visit(client, "/write?user=cyd", Host=LAN, User_Agent=CHROME, X_Forwarded_For="192.0.2.7")

    assert not warnings_in(caplog)


@pytest.mark.parametrize("path", ["/read", "/write?more=1", "/logout"])
async def test_once_the_cookie_came_back_nobody_is_warned_of(
    client: Client, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    """A proxy serves HTTPS, but does not say so."""
    cookie = (await visit(client, "/write?user=ada", Host="example.com")).cookie
    await visit(client, path, cookie, Host="example.com")
    for _ in range(3):
        await visit(client, "/write?user=ada", Host="example.com")

    assert not warnings_in(caplog)


async def test_a_cookie_that_came_back_dead_came_back(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    cookie = (await visit(client, "/write?user=ada", Host="localhost")).cookie
    await visit(client, "/logout", cookie, Host="localhost")
    for _ in range(3):
        await visit(client, "/write?user=ada", cookie, Host="example.com")

    assert not warnings_in(caplog)


async def test_a_cookie_that_comes_back_on_this_machine_proves_nothing(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    await visit(client, "/write?user=ada", Host=LAN)
    cookie = (await visit(client, "/write?user=ada", Host="localhost")).cookie
    await visit(client, "/read", cookie, Host="localhost")
    await visit(client, "/read", cookie, Host=LAN, X_Forwarded_Proto="https")

    await visit(client, "/write?user=ada", Host=LAN)

    assert len(warnings_in(caplog)) == 1


async def test_a_cookie_that_is_not_secure_has_a_warning_of_its_own(
    client_of: ClientOf, caplog: pytest.LogCaptureFixture
) -> None:
    client = await serve(client_of, secure=False)
    for _ in range(3):
        await visit(client, "/write?user=ada", Host=LAN)

    [warning] = warnings_in(caplog)
    assert "over plain HTTP, where anybody" in warning
