"""Responses that are prepared while the handler runs: what is saved before the headers are sent, and what after."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from http.cookies import SimpleCookie

import pytest
from aiohttp import ClientPayloadError, web
from aiohttp.test_utils import TestClient
from aiohttp.typedefs import Middleware
from pytest_aiohttp.plugin import AiohttpClient

from aiohttp_session_store import (
    CookieStorage,
    Session,
    SessionCommittedError,
    SessionStorage,
    get_session,
    new_session,
)
from tests.records import live_keys
from tests.web.storages import UPGRADE, CountingStorage, GatedStorage, Handler, app_with, raw_get

Client = TestClient[web.Request, web.Application]
Serve = Callable[..., Awaitable[Client]]


@pytest.fixture
def serve(aiohttp_client: AiohttpClient) -> Serve:
    async def serve(handler: Handler, storage: SessionStorage | None = None, *middlewares: Middleware) -> Client:
        return await aiohttp_client(app_with(CountingStorage() if storage is None else storage, handler, *middlewares))

    return serve


async def data_of(client: Client) -> object:
    return await (await client.get("/read")).json()


async def stream(request: web.Request) -> web.StreamResponse:
    """Prepare a response and send a part of it."""
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"part")
    return response


# --- before the headers are sent


async def file(_: web.Request) -> web.StreamResponse:
    return web.FileResponse(__file__)


async def prepared(request: web.Request) -> web.StreamResponse:
    response = web.Response(text="whole")
    await response.prepare(request)
    return response


async def websocket(request: web.Request) -> web.StreamResponse:
    response = web.WebSocketResponse()
    await response.prepare(request)
    return response


async def returned(_: web.Request) -> web.StreamResponse:
    return web.Response(text="whole")


async def redirected(_: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("/read")


RESPONSES = pytest.mark.parametrize("respond", [stream, file, prepared, websocket, returned, redirected])


def login_and(respond: Handler) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        (await get_session(request))["user"] = "ada"
        return await respond(request)

    return handler


@RESPONSES
async def test_a_change_before_the_headers_is_stored_and_its_cookie_is_sent_with_them(
    serve: Serve, respond: Handler
) -> None:
    client = await serve(login_and(respond))
    reader, writer = await raw_get(client.port, **UPGRADE)

    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    writer.close()

    [cookie] = [line.partition(": ")[2] for line in head.split("\r\n") if line.startswith("Set-Cookie: ")]
    client.session.cookie_jar.update_cookies({"session": SimpleCookie(cookie)["session"].value}, client.make_url("/"))
    assert await data_of(client) == {"user": "ada"}


@RESPONSES
async def test_no_byte_is_sent_before_the_session_is_stored(serve: Serve, respond: Handler) -> None:
    storage = GatedStorage()
    client = await serve(login_and(respond), storage)
    gate = storage.shut("insert")
    reader, writer = await raw_get(client.port, **UPGRADE)
    await storage.reached["insert"].wait()

    first = asyncio.create_task(reader.read(1))
    await client.get("/read")  # by the end of a whole request on another connection, anything sent would have arrived

    assert not first.done()
    gate.set()
    assert await first == b"H"
    writer.close()


async def change_id(request: web.Request) -> None:
    (await get_session(request)).regenerate_id(True)


async def begin_anew(request: web.Request) -> None:
    (await new_session(request))["user"] = "bob"


@pytest.mark.parametrize("steps", range(6))
@pytest.mark.parametrize("ask", [change_id, begin_anew])
async def test_a_new_id_or_session_from_a_parallel_task_during_the_save_is_sent_or_refused(
    serve: Serve, ask: Callable[[web.Request], Awaitable[None]], steps: int
) -> None:
    refused: list[Exception] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        (await get_session(request))["seen"] = True
        response = web.StreamResponse()
        preparing = asyncio.ensure_future(response.prepare(request))
        for _ in range(steps):
            await asyncio.sleep(0)
        try:
            await ask(request)
        except SessionCommittedError as error:
            refused.append(error)
        await preparing
        return response

    client = await serve(handler, GatedStorage())
    await client.get("/write?user=ada")

    await (await client.get("/")).read()

    whole = {"user": "ada", "seen": True}
    assert await data_of(client) == (whole if refused or ask is change_id else {"user": "bob"})


async def test_a_stream_clears_the_cookie_if_its_new_session_was_destroyed(serve: Serve) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        (await new_session(request)).destroy()
        return await stream(request)

    client = await serve(handler)
    await client.get("/write?user=ada")

    response = await client.get("/")
    await response.read()

    assert "Max-Age=0" in response.headers["Set-Cookie"]
    assert await data_of(client) == {}


# --- after the headers are sent


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (None, True),
        (ConnectionResetError(), True),
        (ExceptionGroup("of a task group", [ConnectionResetError()]), True),
        (RuntimeError(), False),
        (ExceptionGroup("of a task group", [ConnectionResetError(), RuntimeError()]), False),
    ],
    ids=["no error", "lost", "lost in a task group", "error", "lost and error"],
)
async def test_a_change_after_the_headers_is_stored_if_the_stream_ends_or_the_connection_is_lost(
    serve: Serve, error: Exception | None, kept: bool
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        session = await get_session(request)
        response = await stream(request)
        session["late"] = True
        if error is not None:
            raise error
        return response

    client = await serve(handler)
    await client.get("/write?user=ada")

    with pytest.raises(ClientPayloadError) if error else nullcontext():
        await (await client.get("/")).read()

    assert await data_of(client) == {"user": "ada"} | ({"late": True} if kept else {})


async def test_a_stream_with_status_503_stores_nothing_even_if_the_connection_is_lost(serve: Serve) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        session = await get_session(request)
        await web.StreamResponse(status=503).prepare(request)
        session["late"] = True
        raise ConnectionResetError

    client = await serve(handler)
    await client.get("/write?user=ada")

    with pytest.raises(ClientPayloadError):
        await (await client.get("/")).read()

    assert await data_of(client) == {"user": "ada"}


async def test_a_session_can_be_destroyed_after_the_headers(serve: Serve) -> None:
    async def destroy(request: web.Request) -> web.StreamResponse:
        session = await get_session(request)
        response = await stream(request)
        session.destroy()
        return response

    storage = CountingStorage()
    client = await serve(destroy, storage)
    await client.get("/write?user=ada")

    response = await client.get("/")
    await response.read()

    assert "Set-Cookie" not in response.headers
    assert len(live_keys(storage)) == 0
    assert await data_of(client) == {}


def assign(session: Session) -> None:
    session["late"] = True


@pytest.mark.parametrize(
    ("change", "stored", "storage_class"),
    [
        (assign, False, CountingStorage),
        (Session.regenerate_id, True, CountingStorage),
        (assign, True, CookieStorage),
        (Session.destroy, True, CookieStorage),
    ],
    ids=["first write", "new id", "cookie storage", "logout with cookie storage"],
)
async def test_after_the_headers_a_call_that_needs_a_cookie_is_refused(
    serve: Serve, change: Callable[[Session], None], stored: bool, storage_class: type[SessionStorage]
) -> None:
    refused: list[bool] = []

    async def too_late(request: web.Request) -> web.StreamResponse:
        session = await get_session(request)
        response = await stream(request)
        with pytest.raises(SessionCommittedError):
            change(session)
        refused.append(session.new)
        return response

    client = await serve(too_late, storage_class())
    if stored:
        await client.get("/write?user=ada")
    before = await data_of(client)

    await (await client.get("/")).read()

    assert refused == [not stored]
    assert await data_of(client) == before


async def test_a_write_by_a_task_that_outlives_its_request_is_refused(serve: Serve) -> None:
    over = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    async def background(session: Session) -> None:
        await over.wait()
        session["late"] = True

    async def handler(request: web.Request) -> web.Response:
        tasks.append(asyncio.create_task(background(await get_session(request))))
        return web.Response()

    client = await serve(handler)
    await client.get("/write?user=ada")
    await client.get("/")
    over.set()

    with pytest.raises(SessionCommittedError):
        await tasks[0]
