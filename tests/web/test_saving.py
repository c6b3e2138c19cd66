"""How many storage calls a request costs, and what is stored and sent, depending on how the request ends."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from aiohttp_session_store import get_session, setup
from aiohttp_session_store.testing import ManualClock
from tests.records import live_keys
from tests.web.storages import CountingStorage, SceneStorage

Client = TestClient[web.Request, web.Application]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[..., Awaitable[Client]]

HEADERS = ("Set-Cookie", "Vary", "Cache-Control")


async def write(request: web.Request) -> web.Response:
    """Store the query in the session."""
    (await get_session(request)).update(request.query)
    return web.Response()


async def read(request: web.Request) -> web.Response:
    return web.json_response(dict(await get_session(request)))


async def read_and_fail(request: web.Request) -> web.Response:
    return web.json_response(dict(await get_session(request)), status=500)


async def untouched(_: web.Request) -> web.Response:
    return web.Response()


@pytest.fixture
def serve(aiohttp_client: AiohttpClient) -> Serve:
    async def serve(storage: SceneStorage, handler: Handler = read) -> Client:
        app = web.Application()
        setup(app, storage)
        app.add_routes([web.get("/write", write), web.get("/read", read), web.get("/", handler)])
        app.add_routes([web.get("/fail", read_and_fail), web.get("/untouched", untouched)])
        return await aiohttp_client(app)

    return serve


async def data_of(client: Client) -> object:
    return await (await client.get("/read")).json()


def sent(response: ClientResponse) -> dict[str, str]:
    return {name: response.headers[name] for name in HEADERS if name in response.headers}


# --- what each kind of request costs


async def test_a_request_that_ignores_its_session_costs_and_sends_nothing(serve: Serve) -> None:
    storage = CountingStorage()
    client = await serve(storage)
    await client.get("/write?user=ada")
    storage.take_calls()

    response = await client.get("/untouched")

    assert storage.take_calls() == []
    assert sent(response) == {}


async def test_a_session_that_is_only_read_costs_one_fetch_and_is_private(serve: Serve) -> None:
    storage = CountingStorage()
    client = await serve(storage)
    await client.get("/write?user=ada")
    storage.take_calls()

    response = await client.get("/")

    assert await response.json() == {"user": "ada"}
    assert storage.take_calls() == ["fetch"]
    assert sent(response) == {"Vary": "Cookie", "Cache-Control": "private"}


async def test_a_first_write_costs_one_insert_and_sends_a_cookie(serve: Serve) -> None:
    storage = CountingStorage()
    client = await serve(storage)

    response = await client.get("/write?user=ada")

    assert storage.take_calls() == ["insert"]
    assert len(response.headers.getall("Set-Cookie")) == 1
    assert response.headers["Set-Cookie"].startswith("session=")
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Vary"] == "Cookie"


async def test_a_change_costs_two_calls_and_sends_no_cookie(serve: Serve) -> None:
    storage = CountingStorage()
    client = await serve(storage)
    await client.get("/write?user=ada")
    storage.take_calls()

    response = await client.get("/write?user=bob")

    assert storage.take_calls() == ["fetch", "replace"]
    assert "Set-Cookie" not in response.headers
    assert await data_of(client) == {"user": "bob"}


@pytest.mark.parametrize("delete_old", [False, True])
async def test_a_new_id_costs_three_calls_or_four_and_sends_a_cookie(serve: Serve, delete_old: bool) -> None:
    async def regenerate(request: web.Request) -> web.Response:
        (await get_session(request)).regenerate_id(delete_old)
        return web.Response()

    storage = CountingStorage()
    client = await serve(storage, regenerate)
    first = await client.get("/write?user=ada")
    storage.take_calls()

    response = await client.get("/")

    what_the_old_id_may_read = [] if delete_old else ["insert"]
    assert storage.take_calls() == ["fetch", "insert", *what_the_old_id_may_read, "replace"]
    assert response.cookies["session"].value != first.cookies["session"].value
    assert await data_of(client) == {"user": "ada"}


async def test_a_read_that_extends_the_session_costs_two_calls(serve: Serve) -> None:
    clock = ManualClock()
    storage = CountingStorage(clock=clock, idle_timeout=1000)
    client = await serve(storage)
    await client.get("/write?user=ada")
    storage.take_calls()
    clock.advance(500)

    await client.get("/")

    assert storage.take_calls() == ["fetch", "touch"]


async def test_destroying_a_session_costs_two_calls_and_clears_the_cookie(serve: Serve) -> None:
    async def logout(request: web.Request) -> web.Response:
        (await get_session(request)).destroy()
        return web.Response()

    storage = CountingStorage()
    client = await serve(storage, logout)
    await client.get("/write?user=ada")
    storage.take_calls()

    response = await client.get("/")

    assert storage.take_calls() == ["fetch", "replace"]
    assert response.headers["Set-Cookie"].startswith("session=; Max-Age=0;")
    assert len(live_keys(storage)) == 0


async def test_a_session_that_stays_empty_is_not_stored(serve: Serve) -> None:
    async def fill_and_empty(request: web.Request) -> web.Response:
        session = await get_session(request)
        session["user"] = "ada"
        del session["user"]
        return web.Response()

    storage = CountingStorage()
    client = await serve(storage, fill_and_empty)

    response = await client.get("/")

    assert len(live_keys(storage)) == 0
    assert "Set-Cookie" not in response.headers


# --- how the handler ends


async def test_a_change_before_a_raised_redirect_is_stored_and_sends_a_cookie(serve: Serve) -> None:
    async def login(request: web.Request) -> web.Response:
        (await get_session(request))["user"] = "ada"
        raise web.HTTPFound("/read")

    storage = CountingStorage()
    client = await serve(storage, login)

    response = await client.get("/", allow_redirects=False)

    assert response.status == 302
    assert "session" in response.cookies
    assert await data_of(client) == {"user": "ada"}


@pytest.mark.parametrize(
    "end",
    [RuntimeError("oh no"), ConnectionResetError("by a database"), web.Response(status=500), web.HTTPBadGateway()],
    ids=["error", "lost connection of the handler's own", "returned", "raised"],
)
async def test_a_failed_request_stores_and_sends_nothing(serve: Serve, end: web.Response | Exception) -> None:
    async def fail(request: web.Request) -> web.Response:
        session = await get_session(request)
        session["user"] = "bob"
        session.regenerate_id(True)
        if isinstance(end, Exception):
            raise end
        return end

    storage = CountingStorage()
    client = await serve(storage, fail)
    await client.get("/write?user=ada")
    storage.take_calls()

    response = await client.get("/")

    assert "Set-Cookie" not in response.headers
    assert storage.take_calls() == ["fetch"]
    assert await data_of(client) == {"user": "ada"}


async def test_a_handler_that_returns_nothing_gets_aiohttps_error_and_stores_nothing(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async def forgetful(request: web.Request) -> Any:
        (await get_session(request))["user"] = "ada"

    storage = CountingStorage()
    client = await serve(storage, forgetful)

    response = await client.get("/")

    assert response.status == 500
    assert "Missing return statement on request handler" in caplog.text
    assert storage.calls == []


# --- flash


async def flash(request: web.Request) -> web.Response:
    session = await get_session(request)
    session.flash("notice", "Saved.")
    return web.json_response(dict(session))


async def test_a_flash_is_readable_in_the_next_request_and_only_there(serve: Serve) -> None:
    client = await serve(CountingStorage(), flash)

    seen = [await (await client.get(path)).json() for path in ("/", "/read", "/read")]

    assert seen == [{}, {"notice": "Saved."}, {}]


async def test_a_request_that_does_not_load_its_session_uses_up_no_flash(serve: Serve) -> None:
    client = await serve(CountingStorage(), flash)
    await client.get("/")

    await client.get("/untouched")

    assert await data_of(client) == {"notice": "Saved."}


async def test_a_failed_request_uses_up_no_flash(serve: Serve) -> None:
    client = await serve(CountingStorage(), flash)
    await client.get("/")

    failed = await client.get("/fail")

    assert await failed.json() == {"notice": "Saved."}
    assert await data_of(client) == {"notice": "Saved."}
