"""new_session: replaces the current session with an empty one, for example for a logout that says goodbye.

The old session is deleted when the new one is saved.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from aiohttp_session_store import (
    KeyedStorage,
    MemoryStorage,
    Session,
    SessionCommittedError,
    get_session,
    new_session,
    save_session,
)
from tests.records import live_keys
from tests.web.storages import CountingStorage, FailingStorage, GatedStorage, Handler, app_with
from tests.web.visits import Client, ClientOf, visit


async def goodbye(request: web.Request) -> web.Response:
    await get_session(request)
    (await new_session(request)).flash("notice", "Bye.")
    return web.Response()


async def empty(request: web.Request) -> web.Response:
    await new_session(request)
    return web.Response()


async def data_of(client: Client, cookie: str) -> object:
    return json.loads((await visit(client, "/read", cookie)).text)


async def test_a_goodbye_is_seen_only_by_the_next_request(client_of: ClientOf, storage: KeyedStorage) -> None:
    client = await client_of(app_with(storage, goodbye))
    old = (await visit(client, "/write?user=ada")).cookie

    new = (await visit(client, "/", old)).cookie

    assert [await data_of(client, new) for _ in range(2)] == [{"notice": "Bye."}, {}]


async def test_the_old_id_is_worthless_after_a_goodbye(client_of: ClientOf, storage: KeyedStorage) -> None:
    client = await client_of(app_with(storage, goodbye))
    old = (await visit(client, "/write?user=ada")).cookie

    new = (await visit(client, "/", old)).cookie

    assert new.partition(".")[0] != old.partition(".")[0]
    assert await data_of(client, old) == {}


async def test_a_new_session_that_stays_empty_clears_the_cookie_and_stores_nothing(client_of: ClientOf) -> None:
    storage = CountingStorage()
    client = await client_of(app_with(storage, empty))
    old = (await visit(client, "/write?user=ada")).cookie

    response = await visit(client, "/", old)

    assert response.cookie == ""
    assert len(live_keys(storage)) == 0


async def test_a_new_session_for_a_visitor_without_a_session_costs_and_sends_nothing(client_of: ClientOf) -> None:
    storage = CountingStorage()
    client = await client_of(app_with(storage, empty))

    response = await visit(client, "/")

    assert response.set_cookie is None
    assert storage.calls == []


async def test_the_object_stays_the_same(client_of: ClientOf) -> None:
    async def handler(request: web.Request) -> web.Response:
        session = await get_session(request)
        fresh = await new_session(request)
        return web.json_response([session is fresh, session is await get_session(request), dict(session), fresh.new])

    client = await client_of(app_with(MemoryStorage(), handler))
    cookie = (await visit(client, "/write?user=ada")).cookie

    assert (await visit(client, "/", cookie)).text == "[true, true, {}, true]"


def assign(session: Session) -> None:
    session["late"] = True


def log_in(session: Session) -> None:
    session.login("bob")


def forget_flash(session: Session) -> None:
    if "user" in session:
        del session["user"]
    session["late"] = session.pop("flash", True)


@pytest.mark.parametrize(
    ("change", "stored"),
    [
        (assign, {"user": "bob", "late": True}),
        (forget_flash, {"late": True}),
        (lambda session: session.flash("late", 1), {"user": "bob", "late": 1}),
        (Session.regenerate_id, {"user": "bob"}),
        (log_in, {"user": "bob"}),
        (Session.clear, {}),
        (Session.destroy, {}),
        (Session.logout, {}),
    ],
    ids=["set", "unset", "flash", "regenerate", "login", "clear", "destroy", "logout"],
)
@pytest.mark.parametrize("begin", [new_session, Session.logout, log_in], ids=["new_session", "logout", "login"])
async def test_a_middleware_that_holds_the_session_reaches_what_the_handler_made_of_it(
    client_of: ClientOf,
    storage: KeyedStorage,
    change: Callable[[Session], None],
    stored: dict[str, object],
    begin: Callable[..., Any],
) -> None:
    """The handler begins a new session, for example at a login, and the middleware around it writes afterwards."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        session = await get_session(request)
        try:
            return await handler(request)
        finally:
            if request.path == "/":
                change(session)

    async def handler(request: web.Request) -> web.Response:
        if begin is new_session:
            await new_session(request)
        else:
            begin(await get_session(request))
        (await get_session(request))["user"] = "bob"
        return web.Response(text="welcome")

    client = await client_of(app_with(storage, handler, middleware))
    old = (await visit(client, "/write?user=ada")).cookie

    response = await visit(client, "/", old)

    assert (response.status, response.text) == (200, "welcome")
    assert await data_of(client, response.cookie) == stored
    assert await data_of(client, old) == {}


async def test_unsaved_changes_of_the_replaced_session_are_not_saved(
    client_of: ClientOf, storage: KeyedStorage
) -> None:
    async def handler(request: web.Request) -> web.Response:
        session = await get_session(request)
        session["card"] = "secret"
        session.regenerate_id()
        (await new_session(request))["since"] = "then"
        return web.Response()

    client = await client_of(app_with(storage, handler))
    cookie = (await visit(client, "/write?user=ada")).cookie

    new = (await visit(client, "/", cookie)).cookie

    assert await data_of(client, new) == {"since": "then"}
    assert await data_of(client, cookie) == {}


async def test_calling_new_session_twice_in_a_request_still_ends_the_original_session(
    client_of: ClientOf, storage: KeyedStorage
) -> None:
    async def handler(request: web.Request) -> web.Response:
        (await new_session(request))["lost"] = True
        (await new_session(request))["since"] = "then"
        return web.Response()

    client = await client_of(app_with(storage, handler))
    cookie = (await visit(client, "/write?user=ada")).cookie

    new = (await visit(client, "/", cookie)).cookie

    assert await data_of(client, new) == {"since": "then"}
    assert await data_of(client, cookie) == {}


async def raises(request: web.Request) -> web.Response:
    raise web.HTTPInternalServerError


async def answers_500(request: web.Request) -> web.Response:
    return web.Response(status=500)


async def answers_200(request: web.Request) -> web.Response:
    return web.Response()


@pytest.mark.parametrize("end", [raises, answers_500])
async def test_a_goodbye_in_a_failed_request_keeps_the_session(
    client_of: ClientOf, storage: KeyedStorage, end: Handler
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        await goodbye(request)
        return await end(request)

    client = await client_of(app_with(storage, handler))
    cookie = (await visit(client, "/write?user=ada")).cookie

    response = await visit(client, "/", cookie)

    assert response.set_cookie is None
    assert await data_of(client, cookie) == {"user": "ada"}


@pytest.mark.parametrize("end", [raises, answers_500, empty])
async def test_a_session_destroyed_before_new_session_stays_destroyed(
    client_of: ClientOf, storage: KeyedStorage, end: Handler
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        (await get_session(request)).destroy()
        (await new_session(request))["since"] = "then"
        return await end(request)

    client = await client_of(app_with(storage, handler))
    cookie = (await visit(client, "/write?user=ada")).cookie

    response = await visit(client, "/", cookie)

    assert response.cookie == ""
    assert await data_of(client, cookie) == {}


@pytest.mark.parametrize("end", [raises, answers_500, answers_200])
async def test_what_was_set_between_a_logout_and_new_session_is_replaced_too(
    client_of: ClientOf, storage: KeyedStorage, end: Handler
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        session = await get_session(request)
        session.logout()
        session["between"] = 1
        session.login("eve")
        assert dict(await new_session(request)) == {}
        assert session.owner is None
        return await end(request)

    client = await client_of(app_with(storage, handler))
    cookie = (await visit(client, "/write?user=ada")).cookie

    response = await visit(client, "/", cookie)

    assert response.cookie == ""
    assert await data_of(client, cookie) == {}
    assert await storage.sessions_of("eve") == []


@pytest.mark.parametrize("verb", ["insert", "replace"])
async def test_if_the_storage_fails_a_goodbye_keeps_the_session(client_of: ClientOf, verb: str) -> None:
    storage = FailingStorage()
    client = await client_of(app_with(storage, goodbye))
    cookie = (await visit(client, "/write?user=ada")).cookie
    storage.failing = frozenset({verb, "delete"})  # a record that cannot be replaced would be deleted

    response = await visit(client, "/", cookie)

    storage.failing = frozenset()
    assert (response.status, response.set_cookie) == (503, None)
    assert await data_of(client, cookie) == {"user": "ada"}


async def test_a_new_session_is_refused_after_the_headers(client_of: ClientOf, storage: KeyedStorage) -> None:
    refused: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with pytest.raises(SessionCommittedError) as error:
            await new_session(request)
        refused.append(str(error.value))
        return response

    client = await client_of(app_with(storage, handler))
    cookie = (await visit(client, "/write?user=ada")).cookie

    await visit(client, "/", cookie)

    assert len(refused) == 1
    assert await data_of(client, cookie) == {"user": "ada"}


# --- with parallel tasks of the request


@pytest.mark.parametrize("steps", range(8))
async def test_a_session_whose_first_save_is_running_is_replaced_as_well(client_of: ClientOf, steps: int) -> None:
    storage = GatedStorage()

    async def handler(request: web.Request) -> web.Response:
        (await get_session(request))["user"] = "ada"
        saving = asyncio.ensure_future(save_session(request))
        for _ in range(steps):
            await asyncio.sleep(0)
        await new_session(request)
        await saving
        return web.Response()

    client = await client_of(app_with(storage, handler))

    response = await visit(client, "/")

    assert not response.set_cookie or response.cookie == ""
    assert len(live_keys(storage)) == 0


async def test_two_tasks_that_call_new_session_both_write_to_the_last_one(client_of: ClientOf) -> None:
    async def handler(request: web.Request) -> web.Response:
        (await get_session(request)).destroy()
        one, other = await asyncio.gather(new_session(request), new_session(request))
        one["one"] = other["other"] = True
        return web.Response()

    client = await client_of(app_with(GatedStorage(), handler))
    cookie = (await visit(client, "/write?user=ada")).cookie

    response = await visit(client, "/", cookie)

    assert json.loads((await visit(client, "/read", response.cookie)).text) == {"one": True, "other": True}
    assert await data_of(client, cookie) == {}
