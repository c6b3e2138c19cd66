"""Sessions of WebSockets and event streams, which save while they run and share the session with other requests."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import ClientWebSocketResponse, web

from aiohttp_session_store import (
    KeyedStorage,
    Session,
    SessionCommittedError,
    SessionDestroyedError,
    get_session,
    save_session,
)
from aiohttp_session_store.testing import ManualClock
from tests.web.storages import CountingStorage, app_with
from tests.web.visits import Client, ClientOf, visit


async def saving_loop(request: web.Request) -> web.StreamResponse:
    """Store every message under its own name; answer whether the session still exists, and its data."""
    session = await get_session(request)
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for message in ws:
        session[message.data] = True
        session.setdefault("log", []).append(message.data)
        alive = await save_session(request)
        await ws.send_json([alive, dict(session)])
        if not alive:
            break
    return ws


async def data_of(client: Client, cookie: str) -> Any:
    return json.loads((await visit(client, "/read", cookie)).text)


async def connect(client: Client, cookie: str) -> ClientWebSocketResponse:
    socket: ClientWebSocketResponse = await client.ws_connect("/", headers={"Cookie": f"session={cookie}"})
    return socket


async def say(ws: ClientWebSocketResponse, message: str) -> Any:
    await ws.send_str(message)
    return await ws.receive_json()


async def test_after_each_save_a_websocket_also_sees_the_changes_of_other_requests(
    client_of: ClientOf, storage: KeyedStorage
) -> None:
    client = await client_of(app_with(storage, saving_loop))
    cookie = (await visit(client, "/write?user=ada")).cookie
    ws = await connect(client, cookie)

    first = await say(ws, "first")
    await visit(client, "/write?between=yes", cookie)
    second = await say(ws, "second")

    await ws.close()
    assert first == [True, {"user": "ada", "first": True, "log": ["first"]}]
    expected = {"user": "ada", "first": True, "between": "yes", "second": True, "log": ["first", "second"]}
    assert second == [True, expected]
    assert await data_of(client, cookie) == expected


async def test_two_websockets_of_one_session_lose_no_key(client_of: ClientOf, storage: KeyedStorage) -> None:
    client = await client_of(app_with(storage, saving_loop))
    cookie = (await visit(client, "/write?user=ada")).cookie
    one, other = await connect(client, cookie), await connect(client, cookie)

    for number in range(5):
        await asyncio.gather(say(one, f"one{number}"), say(other, f"other{number}"))

    await asyncio.gather(one.close(), other.close())
    data = await data_of(client, cookie)
    assert {f"{name}{number}" for name in ("one", "other") for number in range(5)} <= data.keys()


async def test_the_next_save_tells_a_websocket_that_its_session_is_gone(
    client_of: ClientOf, storage: KeyedStorage
) -> None:
    client = await client_of(app_with(storage, saving_loop))
    cookie = (await visit(client, "/write?user=ada")).cookie
    ws = await connect(client, cookie)
    await visit(client, "/logout", cookie)

    answer = await say(ws, "late")

    await ws.close()
    assert answer == [False, {}]
    assert await data_of(client, cookie) == {}


async def test_a_websocket_continues_when_another_request_changes_the_id(
    client_of: ClientOf, storage: KeyedStorage
) -> None:
    async def regenerate(request: web.Request) -> web.Response:
        (await get_session(request)).regenerate_id()
        return web.Response()

    app = app_with(storage, saving_loop)
    app.router.add_get("/regenerate", regenerate)
    client = await client_of(app)
    cookie = (await visit(client, "/write?user=ada")).cookie
    ws = await connect(client, cookie)
    new = (await visit(client, "/regenerate", cookie)).cookie

    alive = [(await say(ws, message))[0] for message in ("first", "second")]

    await ws.close()
    assert alive == [True, True]
    assert {"user", "first", "second"} <= (await data_of(client, new)).keys()


async def test_unsaved_changes_of_a_websocket_are_saved_when_it_is_closed(
    client_of: ClientOf, storage: KeyedStorage
) -> None:
    finished = asyncio.Event()

    async def unsaving(request: web.Request) -> web.StreamResponse:
        session = await get_session(request)
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for message in ws:
            session[message.data] = True
        finished.set()
        return ws

    client = await client_of(app_with(storage, unsaving))
    cookie = (await visit(client, "/write?user=ada")).cookie
    ws = await connect(client, cookie)
    await ws.send_str("unsaved")

    await ws.close()

    await finished.wait()
    await client.close()  # after this the server has finished all requests
    session = await storage.read(cookie.partition(".")[0])
    assert dict(session) == {"user": "ada", "unsaved": True}


async def test_a_websocket_without_a_session_cannot_start_one(client_of: ClientOf, storage: KeyedStorage) -> None:
    refused: list[Exception] = []

    async def late(request: web.Request) -> web.StreamResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        session = await get_session(request)
        try:
            session["user"] = "ada"
        except SessionCommittedError as error:
            refused.append(error)
        await ws.send_json(await save_session(request))
        return ws

    client = await client_of(app_with(storage, late))
    ws = await client.ws_connect("/")

    assert await ws.receive_json() is True
    await ws.close()
    assert "needs a cookie" in str(refused[0])


async def test_a_logout_inside_a_websocket_is_final(client_of: ClientOf, storage: KeyedStorage) -> None:
    async def leave(request: web.Request) -> web.StreamResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        session = await get_session(request)
        session.destroy()
        saved = await save_session(request)
        with pytest.raises(SessionDestroyedError):
            session["user"] = "bob"
        await ws.send_json(saved)
        return ws

    client = await client_of(app_with(storage, leave))
    cookie = (await visit(client, "/write?user=ada")).cookie
    ws = await connect(client, cookie)

    assert await ws.receive_json() is False
    await ws.close()
    assert await data_of(client, cookie) == {}


async def test_a_message_that_changes_nothing_costs_one_touch(client_of: ClientOf) -> None:
    storage = CountingStorage()

    async def idle(request: web.Request) -> web.StreamResponse:
        session = await get_session(request)
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for _ in ws:
            await ws.send_json([await save_session(request), session["user"]])
        return ws

    client = await client_of(app_with(storage, idle))
    cookie = (await visit(client, "/write?user=ada")).cookie
    ws = await connect(client, cookie)
    storage.take_calls()

    for _ in range(3):
        assert await say(ws, "hello") == [True, "ada"]

    assert storage.take_calls() == ["touch"] * 3
    await ws.close()


async def using(request: web.Request) -> web.StreamResponse:
    """Change nothing; every message still counts as a use of the session."""
    await get_session(request)
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for _ in ws:
        await ws.send_json(await save_session(request))
    return ws


async def test_a_websocket_keeps_its_session_alive_even_if_another_request_changed_it(
    client_of: ClientOf, storage: KeyedStorage, clock: ManualClock
) -> None:
    assert storage.timeouts.idle is not None
    client = await client_of(app_with(storage, using))
    cookie = (await visit(client, "/write?user=ada")).cookie
    ws = await connect(client, cookie)
    await visit(client, "/write?between=yes", cookie)

    for _ in range(3):
        clock.advance(storage.timeouts.idle - 1)
        assert await say(ws, "still here") is True

    await ws.close()
    assert await data_of(client, cookie) == {"user": "ada", "between": "yes"}


async def test_extending_the_session_tells_a_websocket_that_it_is_gone(
    client_of: ClientOf, storage: KeyedStorage, clock: ManualClock
) -> None:
    assert storage.timeouts.idle is not None
    client = await client_of(app_with(storage, using))
    cookie = (await visit(client, "/write?user=ada")).cookie
    ws = await connect(client, cookie)
    await visit(client, "/logout", cookie)
    clock.advance(storage.timeouts.idle // 2)

    answer = await say(ws, "still here")

    await ws.close()
    assert answer is False
    assert await data_of(client, cookie) == {}


async def test_an_event_stream_can_save_while_it_runs(client_of: ClientOf, storage: KeyedStorage) -> None:
    go_on, said = asyncio.Event(), asyncio.Event()
    sessions: list[Session] = []

    async def events(request: web.Request) -> web.StreamResponse:
        session = await get_session(request)
        sessions.append(session)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        session["seen"] = 1
        assert await save_session(request)
        said.set()
        await go_on.wait()
        session["seen"] = 2
        return response

    client = await client_of(app_with(storage, events))
    cookie = (await visit(client, "/write?user=ada")).cookie
    running = asyncio.create_task(visit(client, "/", cookie))
    await said.wait()

    meanwhile = await data_of(client, cookie)
    go_on.set()
    await running

    assert meanwhile == {"user": "ada", "seen": 1}
    assert await data_of(client, cookie) == {"user": "ada", "seen": 2}
