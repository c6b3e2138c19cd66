"""save_session: stores the session at once, whatever happens to the request."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from aiohttp_session_store import KeyedStorage, StorageError, get_session, save_session
from tests.web.storages import CountingStorage, FailingStorage, GatedStorage, Handler, app_with
from tests.web.visits import Client, ClientOf, visit


async def data_of(client: Client, cookie: str) -> Any:
    return json.loads((await visit(client, "/read", cookie)).text)


async def save_and(request: web.Request) -> bool:
    session = await get_session(request)
    session["saved"] = True
    return await save_session(request)


async def raises(request: web.Request) -> web.Response:
    assert await save_and(request)
    (await get_session(request))["unsaved"] = True
    raise RuntimeError("after the save")


async def answers_500(request: web.Request) -> web.Response:
    assert await save_and(request)
    (await get_session(request))["unsaved"] = True
    return web.Response(status=500)


@pytest.mark.parametrize("handler", [raises, answers_500])
async def test_if_the_request_fails_later_only_the_changes_before_the_save_are_kept(
    client_of: ClientOf, storage: KeyedStorage, handler: Handler
) -> None:
    client = await client_of(app_with(storage, handler))
    cookie = (await visit(client, "/write?user=ada")).cookie

    response = await visit(client, "/", cookie)

    assert response.status == 500
    assert await data_of(client, cookie) == {"user": "ada", "saved": True}


@pytest.mark.parametrize("handler", [raises, answers_500])
async def test_a_saved_new_session_gets_its_cookie_even_on_an_error(
    client_of: ClientOf, storage: KeyedStorage, handler: Handler
) -> None:
    client = await client_of(app_with(storage, handler))

    response = await visit(client, "/")

    assert response.status == 500
    assert await data_of(client, response.cookie) == {"saved": True}


async def test_the_cookie_of_a_save_that_a_failing_handler_cancelled_is_sent(client_of: ClientOf) -> None:
    """Otherwise the visitor would keep an id that the save has made worthless."""
    storage = GatedStorage()
    gate = storage.shut("replace")

    async def give_up(request: web.Request) -> web.Response:
        (await get_session(request)).regenerate_id(True)
        saving = asyncio.ensure_future(save_session(request))
        await storage.reached["replace"].wait()
        saving.cancel()
        asyncio.get_running_loop().call_soon(gate.set)
        raise TimeoutError

    client = await client_of(app_with(storage, give_up))
    cookie = (await visit(client, "/write?user=ada")).cookie

    response = await visit(client, "/", cookie)

    assert response.status == 504  # aiohttp's response to a TimeoutError
    assert await data_of(client, response.cookie) == {"user": "ada"}


async def test_the_session_is_stored_before_the_call_returns(client_of: ClientOf, storage: KeyedStorage) -> None:
    stored: list[dict[str, object]] = []

    async def handler(request: web.Request) -> web.Response:
        assert await save_and(request)
        stored.append(dict(await storage.read((await get_session(request)).id)))
        return web.Response()

    client = await client_of(app_with(storage, handler))

    await visit(client, "/")

    assert stored == [{"saved": True}]


async def test_with_nothing_to_save_it_returns_true_and_costs_one_touch(client_of: ClientOf) -> None:
    storage = CountingStorage()

    async def handler(request: web.Request) -> web.Response:
        return web.json_response([await save_session(request), await save_session(request)])

    client = await client_of(app_with(storage, handler))
    cookie = (await visit(client, "/write?user=ada")).cookie
    storage.take_calls()

    assert (await visit(client, "/", cookie)).text == "[true, true]"
    assert storage.take_calls() == ["fetch", "touch", "touch"]
    assert (await visit(client, "/")).text == "[true, true]"
    assert storage.take_calls() == []


async def test_after_a_logout_in_the_same_request_it_returns_false_and_the_cookie_is_cleared(
    client_of: ClientOf, storage: KeyedStorage
) -> None:
    async def handler(request: web.Request) -> web.Response:
        (await get_session(request)).destroy()
        return web.json_response(await save_session(request))

    client = await client_of(app_with(storage, handler))
    cookie = (await visit(client, "/write?user=ada")).cookie

    response = await visit(client, "/", cookie)

    assert response.text == "false"
    assert response.cookie == ""
    assert await data_of(client, cookie) == {}


@pytest.mark.parametrize("ask", [save_and, save_session])
async def test_after_a_logout_by_another_request_it_returns_false_and_no_cookie_is_sent(
    client_of: ClientOf, storage: KeyedStorage, ask: Callable[[web.Request], Awaitable[bool]]
) -> None:
    """With and without a change to save."""
    loaded, go_on = asyncio.Event(), asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        await get_session(request)
        loaded.set()
        await go_on.wait()
        return web.json_response(await ask(request))

    client = await client_of(app_with(storage, handler))
    cookie = (await visit(client, "/write?user=ada")).cookie
    running = asyncio.create_task(visit(client, "/", cookie))
    await loaded.wait()
    await visit(client, "/logout", cookie)

    go_on.set()
    response = await running

    assert (response.text, response.set_cookie) == ("false", None)
    assert await data_of(client, cookie) == {}


async def test_after_a_logout_by_another_request_it_returns_false_although_only_a_flash_was_used_up(
    client_of: ClientOf, storage: KeyedStorage
) -> None:
    """The history checker found that the removal of a flash was taken for an answer."""
    loaded, go_on = asyncio.Event(), asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        session = await get_session(request)
        if "leave" in request.query:
            session["user"] = "ada"
            session.flash("notice", "hello")
            return web.Response()
        assert session["notice"] == "hello"
        loaded.set()
        await go_on.wait()
        return web.json_response(await save_session(request))

    client = await client_of(app_with(storage, handler))
    cookie = (await visit(client, "/?leave=1")).cookie
    running = asyncio.create_task(visit(client, "/", cookie))
    await loaded.wait()
    await visit(client, "/logout", cookie)

    go_on.set()
    response = await running

    assert (response.text, response.set_cookie) == ("false", None)


async def test_after_a_write_by_another_request_it_returns_true_without_writing(client_of: ClientOf) -> None:
    storage = CountingStorage()
    loaded, go_on = asyncio.Event(), asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        session = await get_session(request)
        loaded.set()
        await go_on.wait()
        stands = [await save_session(request), await save_session(request)]
        return web.json_response([*stands, session.get("name")])

    client = await client_of(app_with(storage, handler))
    cookie = (await visit(client, "/write?user=ada")).cookie
    running = asyncio.create_task(visit(client, "/", cookie))
    await loaded.wait()
    await visit(client, "/write?name=countess", cookie)
    storage.take_calls()
    go_on.set()

    assert (await running).text == '[true, true, "countess"]'
    assert storage.take_calls() == ["touch", "touch", "fetch", "touch", "touch"]


@pytest.mark.parametrize("leave_a_flash", [False, True])
async def test_it_raises_if_it_cannot_find_out_whether_the_session_still_exists(
    client_of: ClientOf, leave_a_flash: bool
) -> None:
    """Also if only a flash was used up, whose removal may fail otherwise."""
    storage = FailingStorage()

    async def handler(request: web.Request) -> web.Response:
        session = await get_session(request)
        if session.new:
            session["user"] = "ada"
            if leave_a_flash:
                session.flash("notice", "hello")
            return web.Response()
        storage.failing = frozenset({"touch", "replace"})
        with pytest.raises(StorageError):
            await save_session(request)
        return web.Response()

    client = await client_of(app_with(storage, handler))
    cookie = (await visit(client, "/")).cookie

    assert (await visit(client, "/", cookie)).status == 200


async def test_a_logout_after_a_first_save_leaves_no_session_and_clears_the_cookie(
    client_of: ClientOf, storage: KeyedStorage
) -> None:
    ids: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        await save_and(request)
        session = await get_session(request)
        ids.append(session.id)
        session.destroy()
        return web.Response()

    client = await client_of(app_with(storage, handler))

    response = await visit(client, "/")

    assert response.cookie == ""
    assert (await storage.read(ids[0])).new


async def test_a_failed_save_raises_at_the_call_and_keeps_the_changes_for_the_next_save(client_of: ClientOf) -> None:
    storage = FailingStorage()

    async def handler(request: web.Request) -> web.Response:
        storage.failing = frozenset({"replace"})
        with pytest.raises(StorageError) as error:
            await save_and(request)
        assert isinstance(error.value.__cause__, OSError)
        storage.failing = frozenset()
        return web.Response()

    client = await client_of(app_with(storage, handler))
    cookie = (await visit(client, "/write?user=ada")).cookie

    assert (await visit(client, "/", cookie)).status == 200
    assert await data_of(client, cookie) == {"user": "ada", "saved": True}


async def test_a_value_that_cannot_be_stored_raises_at_the_call(client_of: ClientOf, storage: KeyedStorage) -> None:
    async def handler(request: web.Request) -> web.Response:
        session = await get_session(request)
        session["cart"] = []
        session["cart"].append(frozenset({1, 2}))
        with pytest.raises(TypeError, match="cart"):
            await save_session(request)
        session["cart"].clear()
        return web.json_response(await save_session(request))

    client = await client_of(app_with(storage, handler))

    response = await visit(client, "/")

    assert response.text == "true"
    assert await data_of(client, response.cookie) == {"cart": []}


async def test_parallel_saves_of_one_request_lose_no_change(client_of: ClientOf) -> None:
    storage = GatedStorage()

    async def store(request: web.Request, key: str) -> bool:
        (await get_session(request))[key] = True
        return await save_session(request)

    async def handler(request: web.Request) -> web.Response:
        return web.json_response(await asyncio.gather(*(store(request, key) for key in "abc")))

    client = await client_of(app_with(storage, handler))

    response = await visit(client, "/")

    assert json.loads(response.text) == [True, True, True]
    assert await data_of(client, response.cookie) == {"a": True, "b": True, "c": True}
    assert storage.counted()["insert"] == 1
