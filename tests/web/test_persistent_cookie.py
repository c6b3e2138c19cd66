"""A persistent cookie is sent again in time: browsers keep no cookie for more than 400 days."""

import asyncio
from typing import Any

import pytest
from aiohttp import web

from aiohttp_session_store import CookieStorage, MemoryStorage, SessionCookie, SessionStorage, setup
from aiohttp_session_store.testing import ManualClock
from tests.web.changes import Slow, changing, regenerate_and_delete
from tests.web.storages import SECRET, CountingStorage, read, write
from tests.web.visits import Client, ClientOf, visit

DAY = 86400


async def client_for(client_of: ClientOf, storage: SessionStorage, slow: Any = read, **cookie: Any) -> Client:
    app = web.Application()
    settings: dict[str, Any] = {"secrets": SECRET, "persistent": True}
    setup(app, storage, cookie=SessionCookie(**(settings | cookie)))
    login = changing(regenerate_and_delete)
    app.add_routes([web.get("/write", write), web.get("/read", read), web.get("/login", login), web.get("/slow", slow)])
    return await client_of(app)


@pytest.mark.parametrize("kind", [MemoryStorage, CookieStorage])
@pytest.mark.parametrize(
    "limits", [{"lifetime": None}, {"lifetime": 5000 * DAY}, {"lifetime": 5000 * DAY, "idle_timeout": None}]
)
async def test_daily_use_keeps_a_cookie_for_more_than_400_days(
    client_of: ClientOf, clock: ManualClock, kind: Any, limits: dict[str, Any]
) -> None:
    client = await client_for(client_of, kind(clock=clock, **limits))
    cookie, ends = (await visit(client, "/write?user=ada")).cookie, clock() + 400 * DAY

    for _ in range(450):
        clock.advance(DAY)
        assert clock() < ends
        response = await visit(client, "/read", cookie)
        assert response.text == '{"user": "ada"}'
        if response.set_cookie is not None:
            assert "Max-Age=34560000;" in response.set_cookie
            cookie, ends = response.cookie, clock() + 400 * DAY


async def test_the_cookie_is_sent_again_only_when_a_tenth_of_its_age_has_passed(
    client_of: ClientOf, clock: ManualClock
) -> None:
    client = await client_for(client_of, MemoryStorage(clock=clock, lifetime=None))
    cookie = (await visit(client, "/write?user=ada")).cookie
    sent = []
    for day in range(1, 101):
        clock.advance(DAY)
        response = await visit(client, "/read", cookie)
        if response.set_cookie is not None:
            cookie = response.cookie
            sent.append(day)

    assert sent == [40, 80]


@pytest.mark.parametrize("lifetime", [90 * DAY, 400 * DAY])
async def test_a_cookie_that_browsers_keep_to_the_end_of_its_session_is_not_sent_again(
    client_of: ClientOf, clock: ManualClock, lifetime: int
) -> None:
    client = await client_for(client_of, MemoryStorage(clock=clock, lifetime=lifetime))
    cookie = (await visit(client, "/write?user=ada")).cookie
    for _ in range(8):
        clock.advance(10 * DAY)
        assert (await visit(client, "/read", cookie)).set_cookie is None


async def test_a_cookie_that_outlasts_the_rest_of_its_session_is_sent_once_more_for_that_rest(
    client_of: ClientOf, clock: ManualClock
) -> None:
    client = await client_for(client_of, MemoryStorage(clock=clock, lifetime=430 * DAY, idle_timeout=None))
    cookie = (await visit(client, "/write?user=ada")).cookie
    clock.advance(50 * DAY)

    response = await visit(client, "/read", cookie)
    assert response.set_cookie is not None
    assert f"Max-Age={380 * DAY};" in response.set_cookie
    clock.advance(100 * DAY)
    assert (await visit(client, "/read", response.cookie)).set_cookie is None


async def test_a_cookie_from_before_it_said_when_it_was_sent_is_sent_again_once(
    client_of: ClientOf, clock: ManualClock
) -> None:
    storage = MemoryStorage(clock=clock, lifetime=None)
    before = await client_for(client_of, storage, persistent=False)
    client = await client_for(client_of, storage)
    cookie = (await visit(before, "/write?user=ada")).cookie

    again = (await visit(client, "/read", cookie)).cookie
    assert (await visit(client, "/read", again)).set_cookie is None
    assert (await visit(before, "/read", again)).text == '{"user": "ada"}'


async def test_the_time_costs_no_call_except_when_the_cookie_is_sent_again(
    client_of: ClientOf, clock: ManualClock
) -> None:
    storage = CountingStorage(clock=clock, lifetime=None, idle_timeout=1000 * DAY)
    client = await client_for(client_of, storage)
    cookie = (await visit(client, "/write?user=ada")).cookie
    storage.take_calls()

    clock.advance(39 * DAY)
    await visit(client, "/read", cookie)
    assert storage.take_calls() == ["fetch"]
    clock.advance(DAY)
    assert (await visit(client, "/read", cookie)).set_cookie is not None
    assert storage.take_calls() == ["fetch", "touch"]


async def test_a_slow_request_does_not_send_the_old_id_again_after_a_login(
    client_of: ClientOf, clock: ManualClock
) -> None:
    slow = Slow(lambda session: None)
    client = await client_for(
        client_of, MemoryStorage(clock=clock, lifetime=None, idle_timeout=400 * DAY), slow.__call__
    )
    cookie = (await visit(client, "/write?user=ada")).cookie
    clock.advance(41 * DAY)
    running = asyncio.create_task(visit(client, "/slow", cookie))
    await slow.loaded.wait()
    await visit(client, "/login", cookie)

    slow.go_on.set()

    assert (await running).set_cookie is None


def test_the_time_is_no_part_of_the_value() -> None:
    cookie = SessionCookie(secrets=SECRET, persistent=True).bind(MemoryStorage())
    header = cookie.header("value", https=False, max_age=500 * DAY, now=1_700_000_000)
    sealed = header.partition(";")[0].partition("=")[2]

    assert (sealed.count("..1700000000."), cookie.open(sealed)) == (1, "value")


@pytest.mark.parametrize("value", ["a..5", "..", "a..", "a..1700000000", "a....7"])
def test_a_value_that_ends_like_a_time_is_kept_whole(value: str) -> None:
    cookie = SessionCookie(secrets=SECRET).bind(MemoryStorage())
    assert cookie.open(cookie.seal(value)) == value
