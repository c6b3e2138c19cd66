"""new_session: replaces the current session with an empty one, for example for a logout that says goodbye.

The old session is deleted when the new one is saved.
"""

import asyncio
import json
from collections.abc import Callable

import pytest
from aiohttp import web

from aiohttp_session_store import (
    KeyedStorage,
    MemoryStorage,
    Session,
    SessionCommittedError,
    SessionDestroyedError,
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


async def test_get_session_returns_the_new_session_from_then_on(client_of: ClientOf) -> None:
    async def handler(request: web.Request) -> web.Response:
        old = await get_session(request)
        session = await new_session(request)
        return web.json_response([session is await get_session(request), session is not old, dict(session)])

    client = await client_of(app_with(MemoryStorage(), handler))
    cookie = (await visit(client, "/write?user=ada")).cookie

    assert (await visit(client, "/", cookie)).text == "[true, true, {}]"


def assign(session: Session) -> None:
    session["user"] = "bob"


@pytest.mark.parametrize(
    "change", [assign, Session.clear, Session.regenerate_id, Session.destroy, lambda session: session.flash("a", 1)]
)
async def test_the_replaced_session_can_be_read_but_not_written(
    client_of: ClientOf, storage: KeyedStorage, change: Callable[[Session], None]
) -> None:
    async def handler(request: web.Request) -> web.Response:
        old = await get_session(request)
        (await new_session(request))["since"] = "then"
        with pytest.raises(SessionDestroyedError):
            change(old)
        return web.json_response(dict(old))

    client = await client_of(app_with(storage, handler))
    cookie = (await visit(client, "/write?user=ada")).cookie

    response = await visit(client, "/", cookie)

    assert response.text == '{"user": "ada"}'
    assert await data_of(client, response.cookie) == {"since": "then"}


async def test_unsaved_changes_of_the_replaced_session_are_not_saved(
    client_of: ClientOf, storage: KeyedStorage
) -> None:
    async def handler(request: web.Request) -> web.Response:
        old = await get_session(request)
        old["card"] = "secret"
        old.regenerate_id()
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


async def test_of_two_tasks_that_call_new_session_one_can_write_and_the_other_gets_an_error(
    client_of: ClientOf,
) -> None:
    refused: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        (await get_session(request)).destroy()
        one, other = await asyncio.gather(new_session(request), new_session(request))
        for key, session in {"one": one, "other": other}.items():
            try:
                session[key] = True
            except SessionDestroyedError:
                refused.append(key)
        return web.Response()

    client = await client_of(app_with(GatedStorage(), handler))
    cookie = (await visit(client, "/write?user=ada")).cookie

    response = await visit(client, "/", cookie)

    data = json.loads((await visit(client, "/read", response.cookie)).text)
    assert len(refused) == 1
    assert {*data, *refused} == {"one", "other"}
