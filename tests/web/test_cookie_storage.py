"""Sessions in the cookie itself, as a browser sees them: when a cookie is sent, and what the server cannot revoke."""

import json
import logging

import pytest
from aiohttp import web

from aiohttp_session_store import CookieStorage, SessionCookie, get_session, new_session, save_session
from aiohttp_session_store.testing import ManualClock
from tests.web.storages import SECRET, app_with
from tests.web.visits import Client, ClientOf, Visit, visit

IDLE = 1000
LIFETIME = 10_000


async def flash(request: web.Request) -> web.Response:
    (await get_session(request)).flash("notice", "Saved.")
    return web.Response()


async def empty(request: web.Request) -> web.Response:
    (await get_session(request)).clear()
    return web.Response()


async def regenerate(request: web.Request) -> web.Response:
    (await get_session(request)).regenerate_id(delete_old_session=True)
    return web.Response()


async def renew(request: web.Request) -> web.Response:
    (await new_session(request))["user"] = "bob"
    return web.Response()


async def fail(request: web.Request) -> web.Response:
    (await get_session(request))["user"] = "bob"
    return web.Response(status=500)


async def save_and_fail(request: web.Request) -> web.Response:
    (await get_session(request))["user"] = "bob"
    await save_session(request)
    return web.Response(status=500)


async def stream(request: web.Request) -> web.StreamResponse:
    (await get_session(request))["user"] = "bob"
    response = web.StreamResponse()
    await response.prepare(request)
    return response


async def ignore(_: web.Request) -> web.Response:
    return web.Response()


@pytest.fixture
async def client(client_of: ClientOf, clock: ManualClock) -> Client:
    app = app_with(CookieStorage(idle_timeout=IDLE, lifetime=LIFETIME, clock=clock), ignore)
    handlers = (flash, empty, regenerate, renew, fail, save_and_fail, stream)
    app.add_routes([web.get(f"/{handler.__name__}", handler) for handler in handlers])
    return await client_of(app)


async def log_in(client: Client, user: str = "ada") -> str:
    return (await visit(client, f"/write?user={user}")).cookie


async def data_of(client: Client, cookie: str) -> object:
    return json.loads((await visit(client, "/read", cookie)).text)


def kept(response: Visit, cookie: str) -> str:
    """Return the cookie value of a browser after *response*, if it had *cookie* before."""
    return cookie if response.set_cookie is None else response.cookie


# --- when a cookie is sent


async def test_the_next_request_reads_what_one_request_writes(client: Client) -> None:
    assert await data_of(client, await log_in(client)) == {"user": "ada"}


async def test_a_change_sends_a_cookie_with_the_new_and_the_old_data(client: Client) -> None:
    cookie = await log_in(client)

    changed = (await visit(client, "/write?colour=red", cookie)).cookie

    assert await data_of(client, changed) == {"user": "ada", "colour": "red"}


@pytest.mark.parametrize("path", ["/", "/read", "/write", "/write?user=ada"])
async def test_a_request_that_changes_nothing_sends_no_cookie(client: Client, path: str) -> None:
    cookie = await log_in(client)

    assert (await visit(client, path, cookie)).set_cookie is None


@pytest.mark.parametrize("path", ["/", "/read", "/write", "/empty"])
async def test_a_visitor_whose_session_stays_empty_gets_no_cookie(client: Client, path: str) -> None:
    assert (await visit(client, path)).set_cookie is None


async def test_an_emptied_session_keeps_its_cookie(client: Client) -> None:
    cookie = (await visit(client, "/empty", await log_in(client))).cookie

    assert cookie
    assert await data_of(client, cookie) == {}


async def test_a_flash_is_read_once_by_a_browser_that_keeps_cookies(client: Client) -> None:
    cookie = (await visit(client, "/flash")).cookie

    first = await visit(client, "/read", cookie)
    second = await visit(client, "/read", kept(first, cookie))

    assert (json.loads(first.text), json.loads(second.text)) == ({"notice": "Saved."}, {})


async def test_a_stream_sends_its_cookie(client: Client) -> None:
    cookie = (await visit(client, "/stream")).cookie

    assert await data_of(client, cookie) == {"user": "bob"}


async def test_a_failed_request_sends_no_cookie(client: Client) -> None:
    response = await visit(client, "/fail", await log_in(client))

    assert (response.status, response.set_cookie) == (500, None)


async def test_a_failed_request_sends_the_cookie_of_an_earlier_save_session(client: Client) -> None:
    response = await visit(client, "/save_and_fail", await log_in(client))

    assert response.status == 500
    assert await data_of(client, response.cookie) == {"user": "bob"}


# --- limits


@pytest.mark.parametrize(("after", "sent"), [(IDLE // 10 - 1, False), (IDLE // 10, True)])
async def test_reading_sends_the_cookie_again_once_a_tenth_of_the_idle_timeout_has_passed(
    client: Client, clock: ManualClock, after: int, sent: bool
) -> None:
    cookie = await log_in(client)
    clock.advance(after)

    response = await visit(client, "/read", cookie)

    assert (response.set_cookie is not None) is sent


async def test_a_renewed_cookie_outlives_the_previous_one(client: Client, clock: ManualClock) -> None:
    cookie = await log_in(client)
    clock.advance(IDLE - 1)
    renewed = (await visit(client, "/read", cookie)).cookie
    clock.advance(1)

    assert await data_of(client, cookie) == {}
    assert await data_of(client, renewed) == {"user": "ada"}


async def test_a_session_in_steady_use_ends_with_its_lifetime(client: Client, clock: ManualClock) -> None:
    cookie = await log_in(client)
    for _ in range(LIFETIME // 500 - 1):
        clock.advance(500)
        cookie = kept(await visit(client, "/read", cookie), cookie)
    assert await data_of(client, cookie) == {"user": "ada"}

    clock.advance(500)

    assert await data_of(client, cookie) == {}


# --- what the server cannot revoke


async def test_of_two_parallel_requests_only_the_last_response_is_kept(client: Client) -> None:
    cookie = await log_in(client)

    first = (await visit(client, "/write?first=1", cookie)).cookie
    last = (await visit(client, "/write?last=1", cookie)).cookie

    assert await data_of(client, first) == {"user": "ada", "first": "1"}
    assert await data_of(client, last) == {"user": "ada", "last": "1"}


async def test_a_logout_clears_the_cookie_but_revokes_no_copy(client: Client) -> None:
    cookie = await log_in(client)

    assert (await visit(client, "/logout", cookie)).cookie == ""
    assert await data_of(client, cookie) == {"user": "ada"}


async def test_a_new_session_replaces_the_previous_one(client: Client) -> None:
    cookie = (await visit(client, "/renew", await log_in(client))).cookie

    assert await data_of(client, cookie) == {"user": "bob"}


async def test_regenerating_keeps_the_data_and_sends_a_new_cookie(client: Client) -> None:
    cookie = await log_in(client)

    regenerated = (await visit(client, "/regenerate", cookie)).cookie

    assert regenerated != cookie
    assert await data_of(client, regenerated) == {"user": "ada"}


async def test_regenerating_with_true_logs_one_warning(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    cookie = await log_in(client)

    for _ in range(2):
        cookie = (await visit(client, "/regenerate", cookie)).cookie

    [warning] = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "cannot revoke the old cookie" in warning


async def test_neither_the_cookie_nor_its_data_is_logged(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    response = await visit(client, "/stream", await log_in(client))

    opened = SessionCookie(secrets=SECRET).bind(CookieStorage()).open(response.cookie)
    assert opened is not None
    assert opened not in caplog.text
    assert "bob" not in caplog.text


async def test_a_logout_and_a_destroy_in_one_request_are_carried_out_by_one_save() -> None:
    """What is left undone would let new_session() save for ever."""
    storage = CookieStorage()
    session = await storage.read(None)
    session["user"] = "ada"
    session = await storage.read(await storage.save(session))
    session.logout()
    session.destroy()

    assert await storage.save(session) == ""
    assert not session.dirty
