"""A visitor whose session was just taken over logs out, in whatever way the app does that, and stays logged out."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import aiohttp_session
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from aiohttp_session.cookie_storage import EncryptedCookieStorage

from aiohttp_session_store import (
    CookieStorage,
    MemoryStorage,
    Session,
    SessionCookie,
    SessionStorage,
    get_session,
    new_session,
    setup,
)
from aiohttp_session_store.migrate import EncryptedCookieReader, ForgeableCookieReader, accept_old_sessions
from aiohttp_session_store.testing import FailingStorage, ManualClock
from tests.migrate.test_aiohttp_session import KEY, OLD, Visitor, cookie_of_old_app
from tests.web.storages import SECRET

# aiohttp warns about the keys that aiohttp-session uses to keep its state on requests.
pytestmark = pytest.mark.filterwarnings("ignore:It is recommended to use web.RequestKey")

DATA = {"user": "ada", "seen": 1}
CHANGES: dict[str, Callable[[Session], object]] = {
    "pop": lambda session: session.pop("user"),
    "del": lambda session: session.__delitem__("user"),
    "clear": Session.clear,
    "none": lambda session: session.update(user=None),
    "empty": lambda session: session.update(user=""),
    "false": lambda session: session.update(user=False),
    "set none": lambda session: session.set("user", None),
    "logout": Session.logout,
    "destroy": Session.destroy,
    "count": lambda session: session.update(seen=session["seen"] + 1),
    "keep": lambda session: session.get("user"),
    "discard": Session.discard,
}
LOGOUTS = ["pop", "del", "clear", "none", "empty", "false", "set none", "logout", "destroy", "new"]


async def show(request: web.Request) -> web.Response:
    session = await get_session(request)
    return web.json_response({**session, "new": session.new})


async def change(request: web.Request) -> web.Response:
    session = await get_session(request)
    if request.query["how"] == "new":
        await new_session(request)
    else:
        CHANGES[request.query["how"]](session)
    return web.json_response(dict(session), status=int(request.query.get("status", 200)))


async def write(request: web.Request) -> web.Response:
    session = await get_session(request)
    session["late"] = True
    return web.json_response(dict(session))


@asynccontextmanager
async def serving(storage: SessionStorage, reader: Any = None) -> AsyncIterator[TestClient[Any, Any]]:
    app = web.Application()
    app.add_routes([web.get(f"/{one.__name__}", one) for one in (show, change, write)])
    setup(app, storage, cookie=SessionCookie(secrets=SECRET))
    accept_old_sessions(app, reader or EncryptedCookieReader(KEY))
    async with TestClient(TestServer(app), cookie_jar=aiohttp.DummyCookieJar()) as client:
        yield client


@pytest.fixture
async def cookie() -> str:
    return await cookie_of_old_app(EncryptedCookieStorage(KEY), DATA)


@pytest.fixture(params=[MemoryStorage, FailingStorage], ids=["", "suspending"])
def storage(request: pytest.FixtureRequest) -> SessionStorage:
    made: SessionStorage = request.param()
    return made


@pytest.mark.parametrize("how", LOGOUTS)
@pytest.mark.parametrize("visits", [0, 1], ids=["at the first visit", "later"])
async def test_what_ends_the_identity_ends_the_old_cookie_too(
    how: str, visits: int, cookie: str, storage: SessionStorage
) -> None:
    async with serving(storage) as client:
        visitor = Visitor(client, cookie)
        for _ in range(visits):
            assert (await visitor.get("/show"))["user"] == "ada"
        await visitor.get(f"/change?how={how}")

        assert not (await Visitor(client, cookie).get("/show")).get("user")
        assert not (await visitor.get("/show")).get("user")


@pytest.mark.parametrize("how", LOGOUTS)
async def test_a_logout_by_the_old_cookie_ends_both_cookies(how: str, cookie: str) -> None:
    """Two requests came with the old cookie, and the second one was a logout."""
    async with serving(MemoryStorage()) as client:
        visitor, parallel = Visitor(client, cookie), Visitor(client, cookie)
        await visitor.get("/show")
        await parallel.get(f"/change?how={how}")

        assert not (await Visitor(client, cookie).get("/show")).get("user")
        assert not (await visitor.get("/show")).get("user")


async def test_a_slow_first_request_after_a_logout_neither_reads_nor_replaces_the_session(cookie: str) -> None:
    async with serving(MemoryStorage()) as client:
        visitor, slow = Visitor(client, cookie), Visitor(client, cookie)
        await visitor.get("/show")
        await visitor.get("/change?how=pop")

        assert await slow.get("/write") == {"late": True}
        assert "session" not in slow.cookies
        assert await visitor.get("/show") == {"seen": 1, "late": True, "new": False}


async def test_parallel_first_requests_still_read_the_session_if_one_has_changed_a_value(cookie: str) -> None:
    async with serving(MemoryStorage()) as client:
        visitor, parallel = Visitor(client, cookie), Visitor(client, cookie)
        await visitor.get("/change?how=count")

        assert await parallel.get("/write") == {"user": "ada", "seen": 1, "late": True}
        assert await visitor.get("/show") == {"user": "ada", "seen": 2, "late": True, "new": False}


async def test_who_logs_in_by_the_old_cookie_after_a_logout_gets_nothing_of_the_old_session(cookie: str) -> None:
    async def login(request: web.Request) -> web.Response:
        session = await get_session(request)
        session.login("grace")
        return web.json_response(dict(session))

    app = web.Application()
    app.add_routes([web.get("/login", login), web.get("/show", show), web.get("/change", change)])
    setup(app, MemoryStorage(), cookie=SessionCookie(secrets=SECRET))
    accept_old_sessions(app, EncryptedCookieReader(KEY))
    async with TestClient(TestServer(app), cookie_jar=aiohttp.DummyCookieJar()) as client:
        visitor, other = Visitor(client, cookie), Visitor(client, cookie)
        await visitor.get("/show")
        await visitor.get("/change?how=pop")

        assert await other.get("/login") == {}
        assert await other.get("/show") == {"new": False}


# --- sessions that are copied: anybody can write the old cookie, or ours is a cookie, too


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(int(time.time()))


@pytest.fixture(params=["forgeable", "to a cookie"])
async def copied(request: pytest.FixtureRequest, clock: ManualClock) -> tuple[SessionStorage, Any, str]:
    if request.param == "to a cookie":
        old = await cookie_of_old_app(EncryptedCookieStorage(KEY), DATA)
        return CookieStorage(clock=clock), EncryptedCookieReader(KEY), old
    with pytest.warns(UserWarning, match="anybody"):
        reader = ForgeableCookieReader()
    return MemoryStorage(clock=clock), reader, await cookie_of_old_app(aiohttp_session.SimpleCookieStorage(), DATA)


@pytest.mark.parametrize("how", LOGOUTS)
async def test_a_logout_at_the_first_visit_clears_a_cookie_that_cannot_be_recognised(how: str, copied: Any) -> None:
    """Nothing may be left to store, so that there is no cookie of ours in its place."""
    storage, reader, cookie = copied
    async with serving(storage, reader) as client:
        visitor = Visitor(client, cookie)
        await visitor.get(f"/change?how={how}")

        assert OLD not in visitor.cookies
        assert not (await visitor.get("/show")).get("user")


@pytest.mark.parametrize("how", ["logout", "destroy"])
async def test_a_logout_at_a_first_visit_that_fails_clears_it_too(how: str, copied: Any) -> None:
    storage, reader, cookie = copied
    async with serving(storage, reader) as client:
        visitor = Visitor(client, cookie)
        assert await visitor.get(f"/change?how={how}&status=500") == 500

        assert visitor.cookies == {}


async def test_nothing_is_cleared_if_the_first_visit_fails(copied: Any) -> None:
    storage, reader, cookie = copied
    async with serving(storage, reader) as client:
        visitor = Visitor(client, cookie)
        assert await visitor.get("/change?how=clear&status=500") == 500

        assert set(visitor.cookies) == {OLD}
        assert (await visitor.get("/show"))["user"] == "ada"


async def test_discarding_all_changes_of_the_first_visit_keeps_the_session(copied: Any) -> None:
    storage, reader, cookie = copied
    async with serving(storage, reader) as client:
        visitor = Visitor(client, cookie)
        assert await visitor.get("/change?how=discard") == DATA

        assert set(visitor.cookies) == {"session"}
        assert await visitor.get("/show") == {**DATA, "new": False}


# --- session.new


async def test_a_session_that_is_copied_is_not_new_either(copied: Any) -> None:
    """Apps send visitors whose session is new to the login page."""
    storage, reader, cookie = copied
    async with serving(storage, reader) as client:
        visitor = Visitor(client, cookie)

        assert [await visitor.get("/show") for _ in range(2)] == [{**DATA, "new": False}] * 2
        assert await Visitor(client, "").get("/show") == {"new": True}


async def test_a_session_that_is_taken_over_is_not_new(cookie: str, storage: SessionStorage) -> None:
    async with serving(storage) as client:
        assert await Visitor(client, cookie).get("/show") == {**DATA, "new": False}


async def test_after_a_logout_at_the_first_visit_the_session_is_new(copied: Any) -> None:
    async def logout(request: web.Request) -> web.Response:
        session = await get_session(request)
        session.logout()
        return web.json_response(session.new)

    storage, reader, cookie = copied
    app = web.Application()
    app.router.add_get("/logout", logout)
    setup(app, storage, cookie=SessionCookie(secrets=SECRET))
    accept_old_sessions(app, reader)
    async with TestClient(TestServer(app), cookie_jar=aiohttp.DummyCookieJar()) as client:
        assert await Visitor(client, cookie).get("/logout") is True


async def test_the_end_of_a_copied_session_is_known_at_the_first_visit_as_later(
    copied: Any, clock: ManualClock
) -> None:
    """Its lifetime counts from the last change of the old session, 80 days ago here."""
    storage, reader, cookie = copied
    seen: list[int] = []

    async def limits(request: web.Request) -> web.Response:
        session = await get_session(request)
        seen.append(session.expires_at)
        return web.json_response(session.created_at)

    app = web.Application()
    app.router.add_get("/limits", limits)
    setup(app, storage, cookie=SessionCookie(secrets=SECRET))
    accept_old_sessions(app, reader)
    clock.advance(80 * 86400)
    async with TestClient(TestServer(app), cookie_jar=aiohttp.DummyCookieJar()) as client:
        visitor = Visitor(client, cookie)
        first, second = await visitor.get("/limits"), await visitor.get("/limits")

    assert first == second
    assert seen == [first + 90 * 86400] * 2
