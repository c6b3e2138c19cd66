"""Remember me, shorter sessions and confirmed logins, as browsers see them: the cookie, and when it is sent again."""

import json
from typing import Any

import pytest
from aiohttp import web

from aiohttp_session_store import (
    CookieStorage,
    MemoryStorage,
    SessionCookie,
    SessionStorage,
    get_session,
    save_session,
    setup,
)
from aiohttp_session_store.testing import ManualClock
from tests.web.storages import SECRET, CountingStorage
from tests.web.visits import Client, ClientOf, visit

DAY = 86400
REMEMBER = 30 * DAY
STORAGES = [MemoryStorage, CookieStorage]


async def act(request: web.Request) -> web.Response:
    """Do what the query says, in its order: ``?login=42&remember=2592000&shorten=900``."""
    session = await get_session(request)
    for step, value in request.query.items():
        if step == "login":
            session.login(value, remember=float(request.query.get("remember", 0)) or False)
        elif step == "shorten":
            session.shorten(idle_timeout=float(value))
        elif step == "confirm":
            session.confirm_login()
        elif step == "renew":
            session.regenerate_id()
        elif step == "logout":
            session.logout()
            session.flash("notice", "goodbye")
    return web.json_response({"owner": session.owner, "fresh": session.authenticated_within(600)})


async def client_for(client_of: ClientOf, storage: SessionStorage, **cookie: Any) -> Client:
    app = web.Application()
    setup(app, storage, cookie=SessionCookie(secrets=SECRET, **cookie))
    app.router.add_get("/", act)
    return await client_of(app)


def age(set_cookie: str | None) -> int | None:
    """Return the Max-Age of a cookie that was set, or None if the browser keeps it until it is closed."""
    assert set_cookie is not None
    found = [part.partition("=")[2] for part in set_cookie.split("; ") if part.startswith("Max-Age=")]
    return int(found[0]) if found else None


@pytest.mark.parametrize("kind", STORAGES)
async def test_only_a_remembered_login_has_a_cookie_that_outlives_the_browser(
    client_of: ClientOf, clock: ManualClock, kind: Any
) -> None:
    client = await client_for(client_of, kind(clock=clock))
    plain = await visit(client, "/?login=42")
    remembered = await visit(client, f"/?login=42&remember={REMEMBER}", plain.cookie)
    renewed = await visit(client, "/?renew=", remembered.cookie)
    again = await visit(client, "/?login=42", renewed.cookie)
    gone = await visit(client, "/?logout=", renewed.cookie)

    ages = [age(one.set_cookie) for one in (plain, remembered, renewed, again, gone)]
    assert ages == [None, REMEMBER, REMEMBER, None, None]


@pytest.mark.parametrize("kind", STORAGES)
async def test_a_remembered_visitor_is_known_after_20_idle_days_and_not_after_31(
    client_of: ClientOf, clock: ManualClock, kind: Any
) -> None:
    client = await client_for(client_of, kind(clock=clock))
    cookie = (await visit(client, f"/?login=42&remember={REMEMBER}")).cookie
    clock.advance(20 * DAY)
    back = await visit(client, "/", cookie)
    assert json.loads(back.text)["owner"] == "42"
    assert age(back.set_cookie) == REMEMBER
    clock.advance(31 * DAY)

    assert json.loads((await visit(client, "/", back.cookie)).text)["owner"] is None


@pytest.mark.parametrize("kind", STORAGES)
@pytest.mark.parametrize("persistent", [False, True])
async def test_the_cookie_is_sent_again_when_a_tenth_has_passed_as_long_as_browsers_would_keep_it_longer(
    client_of: ClientOf, clock: ManualClock, kind: Any, persistent: bool
) -> None:
    """The lifetime is 90 days: after 60 of them, the browser keeps the cookie to its end."""
    client = await client_for(client_of, kind(clock=clock), persistent=persistent)
    cookie = (await visit(client, f"/?login=42&remember={REMEMBER}")).cookie
    sent = {}
    for day in range(1, 90):
        clock.advance(DAY)
        response = await visit(client, "/", cookie)
        assert json.loads(response.text)["owner"] == "42"
        if response.set_cookie is not None:
            cookie = response.cookie
            sent[day] = (age(response.set_cookie) or 0) // DAY

    assert sent == {day: min(30, 90 - day) for day in range(3, 61, 3)}
    clock.advance(DAY)
    assert json.loads((await visit(client, "/", cookie)).text)["owner"] is None


@pytest.mark.parametrize(("idle_timeout", "lifetime"), [(14 * DAY, None), (9000 * DAY, None), (None, 9000 * DAY)])
@pytest.mark.parametrize("kind", STORAGES)
@pytest.mark.parametrize("query", ["login=42", f"login=42&remember={REMEMBER}", f"login=42&remember={2000 * DAY}"])
async def test_a_login_that_is_used_daily_never_ends_without_a_lifetime(
    client_of: ClientOf, clock: ManualClock, kind: Any, query: str, idle_timeout: Any, lifetime: Any
) -> None:
    """And the browser has a cookie all the time."""
    storage = kind(clock=clock, idle_timeout=idle_timeout, lifetime=lifetime)
    client = await client_for(client_of, storage, persistent=True)
    first = await visit(client, f"/?{query}")
    cookie, gone = first.cookie, clock() + (age(first.set_cookie) or 0)
    for _ in range(170):
        clock.advance(5 * DAY)
        assert clock() < gone
        response = await visit(client, "/", cookie)
        assert json.loads(response.text)["owner"] == "42"
        if response.set_cookie is not None:
            cookie, gone = response.cookie, clock() + (age(response.set_cookie) or 0)


async def test_sending_the_cookie_again_costs_one_call_more_than_the_extension(
    client_of: ClientOf, clock: ManualClock
) -> None:
    """It asks whether the id is still that of the session."""
    storage = CountingStorage(clock=clock)
    client = await client_for(client_of, storage)
    cookie = (await visit(client, f"/?login=42&remember={REMEMBER}")).cookie
    storage.take_calls()
    clock.advance(2 * DAY)
    await visit(client, "/", cookie)
    assert storage.take_calls() == ["fetch"]
    clock.advance(DAY)

    assert (await visit(client, "/", cookie)).set_cookie is not None
    assert storage.take_calls() == ["fetch", "touch", "touch"]


@pytest.mark.parametrize("kind", STORAGES)
async def test_a_shortened_session_ends_on_time_also_if_it_is_remembered(
    client_of: ClientOf, clock: ManualClock, kind: Any
) -> None:
    client = await client_for(client_of, kind(clock=clock))
    cookie = (await visit(client, f"/?login=42&remember={REMEMBER}&shorten=900")).cookie
    clock.advance(800)
    back = await visit(client, "/?shorten=5000", cookie)
    assert json.loads(back.text)["owner"] == "42"
    assert age(back.set_cookie) == 900
    clock.advance(900)

    assert json.loads((await visit(client, "/", back.cookie)).text)["owner"] is None


@pytest.mark.parametrize("kind", STORAGES)
async def test_a_confirmed_login_is_fresh_for_as_long_as_was_asked(
    client_of: ClientOf, clock: ManualClock, kind: Any
) -> None:
    """The old id is not; with CookieStorage a copy of the old cookie works on as it was."""
    client = await client_for(client_of, kind(clock=clock))
    cookie = (await visit(client, "/?login=42")).cookie
    clock.advance(601)
    assert json.loads((await visit(client, "/", cookie)).text) == {"owner": "42", "fresh": False}
    confirmed = (await visit(client, "/?confirm=", cookie)).cookie
    assert confirmed != cookie
    assert json.loads((await visit(client, "/", cookie)).text) == {"owner": "42", "fresh": False}
    clock.advance(600)
    assert json.loads((await visit(client, "/", confirmed)).text)["fresh"] is True
    clock.advance(1)

    assert json.loads((await visit(client, "/", confirmed)).text)["fresh"] is False


async def test_a_failed_request_confirms_and_shortens_nothing(client_of: ClientOf, clock: ManualClock) -> None:
    async def fail(request: web.Request) -> web.Response:
        session = await get_session(request)
        session.confirm_login()
        session.shorten(idle_timeout=1)
        return web.Response(status=500)

    app = web.Application()
    setup(app, MemoryStorage(clock=clock), cookie=SessionCookie(secrets=SECRET))
    app.add_routes([web.get("/", act), web.get("/fail", fail)])
    client = await client_of(app)
    cookie = (await visit(client, "/?login=42")).cookie
    clock.advance(601)
    await visit(client, "/fail", cookie)
    clock.advance(601)

    assert json.loads((await visit(client, "/", cookie)).text) == {"owner": "42", "fresh": False}


async def test_a_stream_asks_whether_its_shortened_session_is_over(client_of: ClientOf, clock: ManualClock) -> None:
    async def wait(request: web.Request) -> web.Response:
        session = await get_session(request)
        session.shorten(lifetime=60)
        found = [await save_session(request)]
        clock.advance(60)
        return web.json_response([*found, await save_session(request)])

    app = web.Application()
    setup(app, MemoryStorage(clock=clock), cookie=SessionCookie(secrets=SECRET))
    app.add_routes([web.get("/", act), web.get("/wait", wait)])
    client = await client_of(app)
    cookie = (await visit(client, "/?login=42")).cookie

    assert (await visit(client, "/wait", cookie)).text == "[true, false]"
