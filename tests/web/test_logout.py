"""Logout is final: no slow request, error or old id brings a session back, and no log or repr shows its id."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import ServerDisconnectedError, web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from aiohttp_session_store import (
    Session,
    SessionDestroyedError,
    get_session,
    new_session,
    save_session,
    setup,
)
from tests.records import live_keys
from tests.web.storages import CountingStorage, FailingStorage, GatedStorage, SceneStorage

Client = TestClient[web.Request, web.Application]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[..., Awaitable[Client]]

LOGGER = "aiohttp_session_store"


async def login(request: web.Request) -> web.Response:
    session = await get_session(request)
    session["user"] = "ada"
    return web.Response(text=session.id)


async def read(request: web.Request) -> web.Response:
    return web.json_response(dict(await get_session(request)))


async def logout(request: web.Request) -> web.Response:
    (await get_session(request)).destroy()
    return web.Response()


@pytest.fixture
def serve(aiohttp_client: AiohttpClient) -> Serve:
    """Return a function that serves a handler at "/" to a visitor who is logged in."""

    async def serve(storage: SceneStorage, handler: Handler = read) -> Client:
        app = web.Application()
        setup(app, storage)
        app.add_routes([web.get("/login", login), web.get("/read", read), web.get("/logout", logout)])
        app.add_routes([web.get("/", handler)])
        client: Client = await aiohttp_client(app)
        await client.get("/login")
        return client

    return serve


def cookie_of(client: Client) -> dict[str, str]:
    """Return the visitor's Cookie header, as someone who copied the cookie would send it."""
    return {"Cookie": "; ".join(f"{cookie.key}={cookie.value}" for cookie in client.session.cookie_jar)}


def ids_in(headers: dict[str, str]) -> list[str]:
    return re.findall(r"[A-Za-z0-9_-]{43}", headers["Cookie"])


async def read_with(client: Client, headers: dict[str, str]) -> object:
    client.session.cookie_jar.clear()
    return await (await client.get("/read", headers=headers)).json()


class SlowRequest:
    """A handler that loads its session, sets ``loaded``, waits for ``go_on``, and then changes the session."""

    def __init__(self, change: Callable[[Session], None]) -> None:
        self._change = change
        self.loaded = asyncio.Event()
        self.go_on = asyncio.Event()

    async def handle(self, request: web.Request) -> web.Response:
        session = await get_session(request)
        self.loaded.set()
        await self.go_on.wait()
        self._change(session)
        return web.Response()


def write(session: Session) -> None:
    session["late"] = True


def regenerate(session: Session) -> None:
    session.regenerate_id()
    session["late"] = True


# --- slow requests


async def begin_anew(request: web.Request) -> None:
    (await new_session(request))["new"] = True


async def destroy(request: web.Request) -> None:
    (await get_session(request)).destroy()


async def log_out(request: web.Request) -> None:
    session = await get_session(request)
    session.logout()
    session.flash("notice", "Bye.")


@pytest.mark.parametrize("end", [begin_anew, destroy, log_out])
@pytest.mark.parametrize("saves", [False, True], ids=["", "after a save"])
async def test_an_ending_ends_the_login_that_a_parallel_request_made_of_the_session(
    serve: Serve, end: Callable[[web.Request], Awaitable[None]], saves: bool
) -> None:
    """Also if the request has saved before, and so found that its own id is worthless."""
    storage, loaded, go_on = CountingStorage(), asyncio.Event(), asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        session = await get_session(request)
        loaded.set()
        await go_on.wait()
        if saves:
            session["late"] = True
            assert not await save_session(request)
        await end(request)
        return web.Response()

    client = await serve(storage, slow)
    request = asyncio.create_task(client.get("/"))
    await loaded.wait()
    session = await storage.read(ids_in(cookie_of(client))[0])
    session.login("ada")
    await storage.save(session)
    go_on.set()

    assert (await request).status == 200
    assert await storage.sessions_of("ada") == []


async def test_a_session_that_the_request_has_ended_itself_is_not_ended_again(serve: Serve) -> None:
    storage, calls = CountingStorage(), []

    async def handler(request: web.Request) -> web.Response:
        await destroy(request)
        await begin_anew(request)
        calls.append(storage.take_calls())
        return web.Response()

    client = await serve(storage, handler)
    storage.take_calls()
    await client.get("/")

    assert calls == [["fetch", "replace"]]
    assert storage.take_calls() == ["insert"]


@pytest.mark.parametrize("change", [write, regenerate])
@pytest.mark.parametrize("storage_class", [CountingStorage, GatedStorage])
async def test_a_write_after_a_logout_does_not_log_the_visitor_in_again(
    serve: Serve,
    caplog: pytest.LogCaptureFixture,
    storage_class: type[SceneStorage],
    change: Callable[[Session], None],
) -> None:
    storage, slow = storage_class(), SlowRequest(change)
    client = await serve(storage, slow.handle)
    stolen = cookie_of(client)
    running = asyncio.create_task(client.get("/", headers=stolen))
    await slow.loaded.wait()
    await client.get("/logout")

    with caplog.at_level(logging.INFO, LOGGER):
        slow.go_on.set()
        response = await running

    assert response.status == 200
    assert "Set-Cookie" not in response.headers
    assert len(live_keys(storage)) == 0
    assert await read_with(client, stolen) == {}
    [line] = [record for record in caplog.records if record.name == LOGGER]
    assert line.levelno == logging.INFO
    assert "destroyed" in line.getMessage()
    assert all(value not in line.getMessage() for value in ids_in(stolen))


# --- a logout whose request fails


ENDS = [RuntimeError("oh no"), TimeoutError(), web.HTTPInternalServerError(), web.Response(status=502)]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: type(end).__name__)
async def test_a_logout_is_carried_out_even_if_its_request_fails(serve: Serve, end: web.Response | Exception) -> None:
    async def fail(request: web.Request) -> web.Response:
        session = await get_session(request)
        session["user"] = "bob"
        session.destroy()
        if isinstance(end, Exception):
            raise end
        return end

    storage = CountingStorage()
    client = await serve(storage, fail)
    stolen = cookie_of(client)

    response = await client.get("/")

    assert response.status >= 500
    assert response.headers["Set-Cookie"].startswith("session=; Max-Age=0;")
    assert response.headers["Cache-Control"] == "no-store"
    assert len(live_keys(storage)) == 0
    assert await read_with(client, stolen) == {}


@pytest.mark.parametrize("storage_class", [CountingStorage, GatedStorage])
async def test_a_logout_is_carried_out_even_if_its_request_is_cancelled(
    serve: Serve, storage_class: type[SceneStorage]
) -> None:
    async def cancelled(request: web.Request) -> web.Response:
        (await get_session(request)).destroy()
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.Event().wait()
        return web.Response()

    storage = storage_class()
    client = await serve(storage, cancelled)
    stolen = cookie_of(client)

    with pytest.raises(ServerDisconnectedError):
        await client.get("/")

    assert len(live_keys(storage)) == 0
    assert await read_with(client, stolen) == {}


async def test_if_the_storage_fails_the_logout_is_not_confirmed(serve: Serve) -> None:
    storage = FailingStorage()
    client = await serve(storage, logout)
    storage.failing = frozenset({"replace", "delete"})

    response = await client.get("/")

    assert response.status == 503
    assert "Set-Cookie" not in response.headers


async def test_if_both_the_storage_and_the_request_fail_the_logout_is_logged_and_not_confirmed(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async def leave_and_fail(request: web.Request) -> web.Response:
        (await get_session(request)).destroy()
        raise RuntimeError("oh no")

    storage = FailingStorage()
    client = await serve(storage, leave_and_fail)
    storage.failing = frozenset({"replace", "delete"})

    response = await client.get("/")

    [line] = [record for record in caplog.records if record.name == LOGGER]
    assert response.status == 500
    assert "Set-Cookie" not in response.headers
    assert line.levelno == logging.ERROR
    assert "could not be deleted" in line.getMessage()
    assert len(live_keys(storage)) == 1


# --- after a logout


async def test_a_destroyed_session_reads_as_empty_and_refuses_writes(serve: Serve) -> None:
    async def destroy_and_go_on(request: web.Request) -> web.Response:
        session = await get_session(request)
        session.destroy()
        session.destroy()
        with pytest.raises(SessionDestroyedError):
            session["user"] = "bob"
        return web.json_response(dict(await get_session(request)))

    client = await serve(CountingStorage(), destroy_and_go_on)

    response = await client.get("/")

    assert response.status == 200
    assert await response.json() == {}


async def test_a_cookie_from_before_the_logout_starts_a_session_with_another_id(serve: Serve) -> None:
    client = await serve(CountingStorage())
    stolen = cookie_of(client)
    await client.get("/logout")
    client.session.cookie_jar.clear()

    response = await client.get("/login", headers=stolen)

    assert await response.text() not in stolen["Cookie"]


async def test_neither_logs_nor_reprs_show_an_id(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    reprs: list[str] = []
    slow = SlowRequest(lambda session: reprs.append(repr(session)) or write(session))  # type: ignore[func-returns-value]
    storage = FailingStorage()
    client = await serve(storage, slow.handle)
    session_id = await (await client.get("/login")).text()
    running = asyncio.create_task(client.get("/", headers=cookie_of(client)))
    await slow.loaded.wait()
    storage.failing = frozenset({"replace", "delete"})
    assert (await client.get("/logout", headers=cookie_of(client))).status == 503
    storage.failing = frozenset()
    await client.get("/logout")
    slow.go_on.set()
    await running

    assert len(session_id) == 43
    assert len(reprs) == 1
    assert session_id not in caplog.text + reprs[0] + repr(storage)
    assert any(record.name == LOGGER for record in caplog.records)
