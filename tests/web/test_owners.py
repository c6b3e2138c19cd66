"""Login, logout and devices in handlers: whose session it is, and what is left of it."""

import asyncio
import json
from collections.abc import Sequence
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web

from aiohttp_session_store import (
    ConfigurationError,
    KeyedStorage,
    MemoryStorage,
    SessionDestroyedError,
    SessionStorage,
    SessionUsageError,
    StorageError,
    get_session,
    get_storage,
    save_session,
    setup,
)
from aiohttp_session_store.engine.verbs import Verbs
from aiohttp_session_store.record.head import owner_key
from aiohttp_session_store.testing import ManualClock
from tests.web.storages import CountingStorage, GatedStorage
from tests.web.visits import Client, ClientOf, visit

OWNER_STEPS = ["set", "flash", "login", "logout", "clear", "fail", "crash", "stream"]


async def act(request: web.Request) -> web.StreamResponse:
    """Do what the query says, in its order: ``?set=cart&login=42&fail=``."""
    session = await get_session(request)
    response: web.StreamResponse = web.Response()
    for step, value in request.query.items():
        assert step in OWNER_STEPS
        if step == "set":
            session[value] = True
        elif step == "flash":
            session.flash("notice", value)
        elif step == "login":
            session.login(value)
        elif step == "logout":
            session.logout()
        elif step == "clear":
            session.clear()
        elif step == "fail":
            return web.Response(status=500)
        elif step == "crash":
            raise RuntimeError("told to crash")
        elif step == "stream":
            response = web.StreamResponse()
            await response.prepare(request)
    return response


async def read(request: web.Request) -> web.Response:
    session = await get_session(request)
    return web.json_response({"owner": session.owner, "data": dict(session), "new": session.new, "key": session.key})


async def end_others(request: web.Request) -> web.Response:
    session = await get_session(request)
    assert session.owner is not None
    return web.Response(text=str(await get_storage(request).end_sessions(session.owner, keep=session)))


def owners_app(storage: SessionStorage, **settings: Any) -> web.Application:
    app = web.Application()
    app.add_routes([web.get("/act", act), web.get("/read", read), web.get("/end_others", end_others)])
    setup(app, storage, **settings)
    return app


async def seen(client: Client, cookie: str | None) -> dict[str, Any]:
    """Return what a visitor with this cookie finds."""
    found: dict[str, Any] = json.loads((await visit(client, "/read", cookie)).text)
    return found


async def cookie_after(client: Client, query: str, cookie: str | None = None) -> str:
    return (await visit(client, f"/act?{query}", cookie)).cookie


# --- login


async def test_a_login_keeps_the_cart_and_leaves_nothing_to_who_planted_the_id(
    storage: KeyedStorage, client_of: ClientOf
) -> None:
    client = await client_of(owners_app(storage))
    planted = await cookie_after(client, "set=cart")

    cookie = await cookie_after(client, "login=42&set=private", planted)

    found = await seen(client, cookie)
    assert (found["owner"], found["data"]) == ("42", {"cart": True, "private": True})
    thief = await seen(client, planted)
    assert (thief["owner"], thief["data"], thief["new"]) == (None, {}, True)
    assert list(await storage.linked(owner_key("42"))) == [found["key"]]


async def test_a_login_as_somebody_else_hands_nothing_over(storage: KeyedStorage, client_of: ClientOf) -> None:
    """Neither what the first one stored nor what this request has set; and the first one's session is over."""
    client = await client_of(owners_app(storage))
    first = await cookie_after(client, "login=42&set=private")

    second = await cookie_after(client, "set=meant_for_42&flash=for-42&login=7&set=own", first)

    found = await seen(client, second)
    assert (found["owner"], found["data"]) == ("7", {"own": True})
    assert (await seen(client, first))["new"]
    assert await storage.sessions_of("42") == []


class User:
    id = 42


@pytest.mark.parametrize(
    "owner",
    [7, UUID(int=7), None, User(), "", "x" * 256, b"42", True],
    ids=["int", "UUID", "None", "user", "empty", "too long", "bytes", "bool"],
)
async def test_what_is_no_owner_is_refused_with_the_fix(owner: Any) -> None:
    session = await MemoryStorage().read(None)
    with pytest.raises(TypeError, match=r"str\(user\.id\)"):
        session.login(owner)
    assert session.owner is None


class Account(str, Enum):  # noqa: UP042  str() of a StrEnum is its value
    ADA = "42"


async def test_an_owner_is_the_text_itself() -> None:
    """``str()`` of such a member is ``Account.ADA``, under which nobody would look for the sessions."""
    storage = MemoryStorage()
    session = await storage.read(None)
    session.login(Account.ADA, label=Account.ADA)
    await storage.save(session)
    assert [(info.owner, info.label) for info in await storage.sessions_of("42")] == [("42", "42")]


async def test_a_failed_request_logs_nobody_in(storage: KeyedStorage, client_of: ClientOf) -> None:
    client = await client_of(owners_app(storage))
    cookie = await cookie_after(client, "set=cart")

    assert (await visit(client, "/act?login=42&fail=", cookie)).set_cookie is None

    found = await seen(client, cookie)
    assert (found["owner"], found["data"]) == (None, {"cart": True})
    assert await storage.sessions_of("42") == []


# --- logout


@pytest.mark.parametrize("end", ["fail", "crash"])
async def test_a_logout_holds_even_if_its_request_fails(storage: KeyedStorage, client_of: ClientOf, end: str) -> None:
    client = await client_of(owners_app(storage))
    cookie = await cookie_after(client, "login=42&set=private")

    failed = await visit(client, f"/act?logout=&flash=Goodbye&{end}=", cookie)

    assert failed.status == 500
    assert failed.cookie == ""
    assert (await seen(client, cookie))["new"]
    assert await storage.sessions_of("42") == []


async def test_a_goodbye_is_shown_in_a_new_anonymous_session(storage: KeyedStorage, client_of: ClientOf) -> None:
    client = await client_of(owners_app(storage))
    cookie = await cookie_after(client, "login=42&set=private")

    following = await cookie_after(client, "logout=&flash=Goodbye", cookie)

    found = await seen(client, following)
    assert (found["owner"], found["data"], found["new"]) == (None, {"notice": "Goodbye"}, False)
    assert (await seen(client, cookie))["new"]
    assert await storage.sessions_of("42") == []


async def test_a_logout_in_a_stream_ends_the_record(storage: KeyedStorage, client_of: ClientOf) -> None:
    """The cookie can no longer be cleared; it is worthless."""
    client = await client_of(owners_app(storage))
    cookie = await cookie_after(client, "login=42&set=private")

    assert (await visit(client, "/act?stream=&logout=", cookie)).set_cookie is None

    assert (await seen(client, cookie))["new"]
    assert await storage.sessions_of("42") == []


async def test_after_a_logout_in_a_stream_nothing_new_can_be_stored(client_of: ClientOf) -> None:
    """A new session would need a cookie, and the headers are sent."""
    refused = []

    async def handler(request: web.Request) -> web.StreamResponse:
        session = await get_session(request)
        response = web.StreamResponse()
        await response.prepare(request)
        session.logout()
        with pytest.raises(SessionDestroyedError):
            session.flash("notice", "Goodbye")
        refused.append((session.owner, await save_session(request)))
        return response

    storage = CountingStorage()
    app = owners_app(storage)
    app.router.add_get("/stream", handler)
    client = await client_of(app)
    cookie = await cookie_after(client, "login=42")
    await visit(client, "/stream", cookie)
    assert refused == [(None, False)], "a loop that asks save_session() has to end"
    assert (await seen(client, cookie))["new"]


async def test_a_logout_beside_the_save_of_its_login_holds(client_of: ClientOf) -> None:
    """Two tasks of one request: the new session is just being stored."""
    storage = GatedStorage()

    async def handler(request: web.Request) -> web.Response:
        session = await get_session(request)
        session.login("42")
        session["private"] = True
        gate = storage.shut("insert")
        saving = asyncio.create_task(save_session(request))
        await storage.reached["insert"].wait()
        session.logout()
        gate.set()
        await saving
        assert (session.owner, dict(session)) == (None, {})
        return web.Response()

    app = owners_app(storage)
    app.router.add_get("/both", handler)
    client = await client_of(app)
    assert (await visit(client, "/both")).status == 200
    assert await storage.sessions_of("42") == []


async def test_a_destroyed_session_belongs_to_nobody() -> None:
    session = await MemoryStorage().read(None)
    session.login("42")
    session.destroy()
    assert (session.owner, session.authenticated_at) == (None, None)


async def test_clear_takes_the_data_and_leaves_the_owner(storage: KeyedStorage, client_of: ClientOf) -> None:
    client = await client_of(owners_app(storage))
    cookie = await cookie_after(client, "login=42&set=private")

    await visit(client, "/act?clear=", cookie)

    found = await seen(client, cookie)
    assert (found["owner"], found["data"]) == ("42", {})


# --- all devices


async def test_a_visitor_ends_all_other_devices(storage: KeyedStorage, client_of: ClientOf) -> None:
    """And nobody else's; a logout ends its own device alone."""
    client = await client_of(owners_app(storage))
    own, phone, lost = [await cookie_after(client, "login=42") for _ in range(3)]
    foreign = await cookie_after(client, "login=7")
    await visit(client, "/act?logout=", lost)
    assert [(await seen(client, cookie))["owner"] for cookie in (own, phone, lost)] == ["42", "42", None]

    assert (await visit(client, "/end_others", own)).text == "1"

    owners = [(await seen(client, cookie))["owner"] for cookie in (own, phone, foreign)]
    assert owners == ["42", None, "7"]


async def test_the_limit_of_sessions_holds(clock: ManualClock, client_of: ClientOf) -> None:
    client = await client_of(owners_app(MemoryStorage(max_sessions_per_owner=2, clock=clock)))
    cookies = []
    for _ in range(4):
        cookies.append(await cookie_after(client, "login=42"))
        clock.advance(1)

    assert [(await seen(client, cookie))["owner"] for cookie in cookies] == [None, None, "42", "42"]


class FailingCount(MemoryStorage):
    """The index cannot be read after a login was stored."""

    fails = False

    async def linked(self, owner_key: str) -> Sequence[str]:
        found = await super().linked(owner_key)
        if found and self.fails:
            raise StorageError("told to fail")
        return found


async def test_a_login_whose_owners_sessions_cannot_be_counted_keeps_the_cart(client_of: ClientOf) -> None:
    """The old id is worthless already, so the browser gets the new one with the error."""
    storage = FailingCount(max_sessions_per_owner=1)
    client = await client_of(owners_app(storage))
    cookie = await cookie_after(client, "set=cart")
    storage.fails = True

    failed = await visit(client, "/act?login=42", cookie)

    assert failed.status == 503
    found = await seen(client, failed.cookie)
    assert (found["owner"], found["data"]) == ("42", {"cart": True})


class WithoutIndex(CountingStorage):
    """A storage whose author has written the five verbs alone."""

    link, unlink, linked = Verbs.link, Verbs.unlink, Verbs.linked


async def test_a_storage_without_an_index_works_and_says_what_it_lacks() -> None:
    storage = WithoutIndex()
    session = await storage.read(None)
    session.login("42")
    session = await storage.read(await storage.save(session))
    assert session.owner == "42"
    session.regenerate_id(True)
    session = await storage.read(await storage.save(session))
    assert session.owner == "42"
    lacks = "WithoutIndex has no index of owners.*link, unlink and linked"
    with pytest.raises(SessionUsageError, match=lacks):
        await storage.sessions_of("42")
    with pytest.raises(SessionUsageError, match=lacks):
        await storage.end_sessions("42")
    with pytest.raises(SessionUsageError, match=lacks):
        await storage.end_session("42", session.key)
    with pytest.raises(ConfigurationError, match="WithoutIndex has no index of owners"):
        WithoutIndex(max_sessions_per_owner=3)


async def test_get_storage_needs_setup(client_of: ClientOf) -> None:
    async def handler(request: web.Request) -> web.Response:
        with pytest.raises(SessionUsageError, match="setup"):
            get_storage(request)
        return web.Response()

    app = web.Application()
    app.router.add_get("/", handler)
    assert (await visit(await client_of(app), "/")).status == 200
