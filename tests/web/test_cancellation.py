"""When a visitor hangs up, a save that has started is finished and one that has not started is dropped."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from aiohttp_session_store import get_session, save_session
from tests.records import live_keys
from tests.web.hang_up import HangUp
from tests.web.visits import Client, visit

LOGGER = "aiohttp_session_store"


@pytest.fixture
async def scene() -> AsyncIterator[HangUp]:
    scene = HangUp()
    yield scene
    scene.storage.gates.clear()
    await scene.client.close()


async def data_of(client: Client, cookie: str) -> object:
    return json.loads((await visit(client, "/read", cookie)).text)


async def change(request: web.Request) -> web.Response:
    (await get_session(request))["user"] = "bob"
    return web.Response()


async def regenerate(request: web.Request) -> web.Response:
    (await get_session(request)).regenerate_id(True)
    return web.Response()


async def leave(request: web.Request) -> web.Response:
    (await get_session(request)).destroy()
    return web.Response()


# --- the save has started


async def test_a_change_whose_save_has_started_is_stored(scene: HangUp) -> None:
    client = await scene.serve(change)
    cookie = (await visit(client, "/write?user=ada")).cookie
    gate = scene.storage.shut("replace")
    await scene.hang_up_at(scene.storage.reached["replace"], cookie)
    await scene.cancelled.wait()

    gate.set()
    await scene.storage.aclose()  # waits for the running save

    assert await data_of(client, cookie) == {"user": "bob"}


async def test_a_first_save_that_has_started_is_stored(scene: HangUp) -> None:
    client = await scene.serve(change)
    gate = scene.storage.shut("insert")
    await scene.hang_up_at(scene.storage.reached["insert"], "")
    await scene.cancelled.wait()

    gate.set()
    await scene.storage.aclose()

    assert len(scene.storage) == 1
    assert await data_of(client, "") == {}


@pytest.mark.parametrize("verb", ["insert", "replace"])
async def test_a_change_of_id_that_has_started_is_completed(scene: HangUp, verb: str) -> None:
    """Although nobody gets the new id, the old one must not stay valid."""
    client = await scene.serve(regenerate)
    cookie = (await visit(client, "/write?user=ada")).cookie
    gate = scene.storage.shut(verb)
    await scene.hang_up_at(scene.storage.reached[verb], cookie)
    await scene.cancelled.wait()

    gate.set()
    await scene.storage.aclose()

    assert await data_of(client, cookie) == {}


async def test_a_logout_that_has_started_is_completed(scene: HangUp) -> None:
    client = await scene.serve(leave)
    cookie = (await visit(client, "/write?user=ada")).cookie
    gate = scene.storage.shut("replace")
    await scene.hang_up_at(scene.storage.reached["replace"], cookie)
    await scene.cancelled.wait()

    gate.set()
    await scene.storage.aclose()

    assert live_keys(scene.storage) == []


async def test_a_logout_that_waits_for_an_earlier_save_is_completed(scene: HangUp) -> None:
    """The handler has cancelled its call of save_session, but the save goes on; then the visitor hangs up."""
    left = asyncio.Event()

    async def save_and_leave(request: web.Request) -> web.Response:
        session = await get_session(request)
        session["user"] = "bob"
        saving = asyncio.ensure_future(save_session(request))
        await scene.storage.reached["replace"].wait()
        saving.cancel()
        session.destroy()
        left.set()
        return web.Response()

    client = await scene.serve(save_and_leave)
    cookie = (await visit(client, "/write?user=ada")).cookie
    gate = scene.storage.shut("replace")
    await scene.hang_up_at(left, cookie)
    await scene.cancelled.wait()

    gate.set()
    await scene.storage.aclose()

    assert live_keys(scene.storage) == []
    assert await data_of(client, cookie) == {}


async def test_the_save_after_a_cancelled_one_that_logs_out_waits_for_it(scene: HangUp) -> None:
    """Otherwise each of the two would make a session, and the browser would get the one without the changes."""

    async def handler(request: web.Request) -> web.Response:
        session = await get_session(request)
        session.logout()
        session.login("eve")
        session["cart"] = [1]
        gate = scene.storage.shut("replace")
        saving = asyncio.create_task(save_session(request))
        await scene.storage.reached["replace"].wait()
        saving.cancel()
        await asyncio.wait([saving])
        asyncio.get_running_loop().call_soon(gate.set)
        return web.Response()

    client = await scene.serve(handler)
    cookie = (await visit(client, "/write?user=ada")).cookie

    new = (await visit(client, "/", cookie)).cookie

    assert await data_of(client, new) == {"cart": [1]}
    assert len(await scene.storage.sessions_of("eve")) == 1


async def test_requests_that_share_the_write_of_a_cancelled_save_are_stored(scene: HangUp) -> None:
    client = await scene.serve(change)
    cookie = (await visit(client, "/write?user=ada")).cookie
    gate = scene.storage.shut("replace")
    await scene.hang_up_at(scene.storage.reached["replace"], cookie)
    await scene.cancelled.wait()

    waiting = asyncio.create_task(visit(client, "/write?late=yes", cookie))
    gate.set()

    assert (await waiting).status == 200
    assert await data_of(client, cookie) == {"user": "bob", "late": "yes"}


async def test_a_save_that_fails_after_its_request_was_cancelled_is_logged_once(
    scene: HangUp, caplog: pytest.LogCaptureFixture
) -> None:
    client = await scene.serve(change)
    cookie = (await visit(client, "/write?user=ada")).cookie
    gate = scene.storage.shut("replace")
    await scene.hang_up_at(scene.storage.reached["replace"], cookie)
    await scene.cancelled.wait()

    scene.storage.fails = True
    gate.set()
    await scene.storage.aclose()

    [record] = [record for record in caplog.records if record.name == LOGGER]
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith("the session of a cancelled request was not stored: ")
    assert not record.exc_info


# --- the save has not started


async def test_a_change_whose_save_has_not_started_is_dropped(scene: HangUp) -> None:
    changed = asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        (await get_session(request))["user"] = "bob"
        changed.set()
        await asyncio.Event().wait()
        return web.Response()

    client = await scene.serve(slow)
    cookie = (await visit(client, "/write?user=ada")).cookie
    scene.storage.take_calls()

    await scene.hang_up_at(changed, cookie)
    await scene.cancelled.wait()

    assert scene.storage.take_calls() == ["fetch"]
    assert await data_of(client, cookie) == {"user": "ada"}


async def test_a_change_after_the_headers_whose_save_has_not_started_is_dropped(scene: HangUp) -> None:
    changed = asyncio.Event()

    async def stream(request: web.Request) -> web.StreamResponse:
        session = await get_session(request)
        session["before"] = "the headers"
        response = web.StreamResponse()
        await response.prepare(request)
        session["user"] = "bob"
        changed.set()
        await asyncio.Event().wait()
        return response

    client = await scene.serve(stream)
    cookie = (await visit(client, "/write?user=ada")).cookie

    await scene.hang_up_at(changed, cookie)
    await scene.cancelled.wait()

    assert await data_of(client, cookie) == {"user": "ada", "before": "the headers"}


async def test_a_cancelled_load_does_no_harm(scene: HangUp) -> None:
    client = await scene.serve(change)
    cookie = (await visit(client, "/write?user=ada")).cookie
    gate = scene.storage.shut("fetch")
    await scene.hang_up_at(scene.storage.reached["fetch"], cookie)
    await scene.cancelled.wait()

    gate.set()

    assert await data_of(client, cookie) == {"user": "ada"}


async def test_a_logout_is_carried_out_even_if_the_visitor_hangs_up_before_its_save(scene: HangUp) -> None:
    left = asyncio.Event()

    async def leave_slowly(request: web.Request) -> web.Response:
        (await get_session(request)).destroy()
        left.set()
        await asyncio.Event().wait()
        return web.Response()

    client = await scene.serve(leave_slowly)
    cookie = (await visit(client, "/write?user=ada")).cookie

    await scene.hang_up_at(left, cookie)
    await scene.finished.wait()

    assert live_keys(scene.storage) == []
    assert await data_of(client, cookie) == {}


# --- the server lets handlers finish


async def test_a_handler_that_is_not_cancelled_stores_its_change_after_the_visitor_hung_up(scene: HangUp) -> None:
    loaded = asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        session = await get_session(request)
        loaded.set()
        while request.transport is not None:
            await asyncio.sleep(0)
        session["user"] = "bob"
        return web.Response()

    client = await scene.serve(slow, cancelling=False)
    cookie = (await visit(client, "/write?user=ada")).cookie

    await scene.hang_up_at(loaded, cookie)
    await scene.finished.wait()

    assert await data_of(client, cookie) == {"user": "bob"}


async def test_a_stream_whose_visitor_hangs_up_keeps_the_changes_made_while_it_ran(scene: HangUp) -> None:
    """Writing to a closed connection raises ConnectionError in the handler, which does not count as its failure."""
    changed = asyncio.Event()
    errors: list[type[BaseException]] = []

    async def stream(request: web.Request) -> web.StreamResponse:
        session = await get_session(request)
        response = web.StreamResponse()
        await response.prepare(request)
        session["user"] = "bob"
        changed.set()
        try:
            while True:
                await response.write(b"part")
                await asyncio.sleep(0)
        except ConnectionError as error:
            errors.append(type(error))
            raise

    client = await scene.serve(stream, cancelling=False)
    cookie = (await visit(client, "/write?user=ada")).cookie

    await scene.hang_up_at(changed, cookie)
    await scene.finished.wait()

    assert len(errors) == 1
    assert await data_of(client, cookie) == {"user": "bob"}
