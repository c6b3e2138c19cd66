"""setup: where it may be called, its error messages, and what starts and stops with the app."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from aiohttp_session_store import (
    ConfigurationError,
    CookieStorage,
    MemoryStorage,
    SessionCommittedError,
    SessionCookie,
    SessionUsageError,
    exclusive_session,
    get_session,
    new_session,
    save_session,
    setup,
)
from aiohttp_session_store.storages.postgres import PostgresStorage
from aiohttp_session_store.storages.redis import RedisStorage
from tests.web.storages import SECRET, GatedStorage, app_with, read, write
from tests.web.visits import ClientOf, visit


class LifetimeStorage(MemoryStorage):
    """Records when it is started and closed."""

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self.events = events

    async def start(self) -> None:
        self.events.append("start")
        await super().start()

    async def aclose(self) -> None:
        await super().aclose()
        self.events.append("aclose")


# --- settings


def test_a_second_setup_of_an_app_is_refused() -> None:
    app = web.Application()
    setup(app, MemoryStorage())

    with pytest.raises(ConfigurationError, match=r"call setup\(\) once"):
        setup(app, MemoryStorage(), cookie=SessionCookie("other"))

    assert len(app.middlewares) == 1


def test_setup_of_a_running_app_is_refused() -> None:
    app = web.Application()
    app.freeze()

    with pytest.raises(ConfigurationError, match="has started"):
        setup(app, MemoryStorage())


@pytest.mark.parametrize("where", ["on_startup", "cleanup_ctx", "a handler"])
async def test_setup_of_a_starting_or_running_app_says_where_to_call_it_and_changes_nothing(
    where: str, client_of: ClientOf
) -> None:
    """aiohttp-session could be set up in ``on_startup``, where many apps make their Redis client."""
    app, found = web.Application(), []

    def late() -> None:
        signals = app.on_startup, app.on_response_prepare, app.cleanup_ctx, app.middlewares
        before = [list(one) for one in signals], list(app)
        with pytest.raises(ConfigurationError, match=r"where the app is made, .* not in on_startup") as refused:
            setup(app, MemoryStorage())
        found.append((str(refused.value), before == ([list(one) for one in signals], list(app))))

    async def on_startup(_: web.Application) -> None:
        late()

    async def cleanup_ctx(_: web.Application) -> AsyncIterator[None]:
        late()
        yield

    async def answer(_: web.Request) -> web.Response:
        return web.Response()

    async def handler(request: web.Request) -> web.Response:
        late()
        return await answer(request)

    if where == "on_startup":
        app.on_startup.append(on_startup)
    elif where == "cleanup_ctx":
        app.cleanup_ctx.append(cleanup_ctx)
    app.router.add_get("/", handler if where == "a handler" else answer)
    client = await client_of(app)

    assert (await visit(client, "/")).status == 200
    assert [unchanged for _, unchanged in found] == [True]


def test_a_storage_that_connects_can_be_made_before_there_is_an_event_loop() -> None:
    """The message of a late ``setup`` says so."""
    app = web.Application()

    setup(app, RedisStorage.from_url("redis://localhost"), cookie=SessionCookie(secrets=SECRET))
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
    assert PostgresStorage.from_dsn("postgresql://localhost/shop")


def test_setup_of_an_already_mounted_subapp_is_refused() -> None:
    app, subapp = web.Application(), web.Application()
    app.add_subapp("/in", subapp)

    with pytest.raises(ConfigurationError, match=r"before add_subapp\(\)"):
        setup(subapp, MemoryStorage())


def test_a_refused_setup_leaves_the_app_unchanged() -> None:
    app = web.Application()

    with pytest.raises(ConfigurationError, match=r"secrets\.token_urlsafe\(32\)"):
        setup(app, CookieStorage())

    assert not app.middlewares
    setup(app, CookieStorage(), cookie=SessionCookie(secrets=SECRET))


def test_the_middleware_is_added_outside_the_existing_ones() -> None:
    @web.middleware
    async def before(request: web.Request, handler: Any) -> web.StreamResponse:
        return web.Response()

    app = web.Application(middlewares=[before])
    setup(app, MemoryStorage())

    assert app.middlewares[1] is before


def test_apps_can_be_set_up_in_any_thread() -> None:
    """aiohttp names some keys after the module that creates them, and cannot determine that module in a thread."""
    failed: list[BaseException] = []

    def work() -> None:
        try:
            setup(web.Application(), MemoryStorage())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert not failed


# --- without setup


async def enter_exclusive(request: web.Request) -> None:
    async with exclusive_session(request):
        pass


@pytest.mark.parametrize("call", [get_session, new_session, save_session, enter_exclusive])
async def test_without_setup_every_function_says_what_to_call(call: Any) -> None:
    with pytest.raises(SessionUsageError, match=r"aiohttp_session_store\.setup\(app, storage\)"):
        await call(make_mocked_request("GET", "/"))


@pytest.mark.parametrize("call", [get_session, new_session, save_session, enter_exclusive])
@pytest.mark.parametrize("given", [web.Application, dict, object, type(None)])
async def test_with_anything_but_a_request_every_function_says_to_pass_the_request(call: Any, given: type) -> None:
    with pytest.raises(SessionUsageError) as caught:
        await call(given())

    assert f"not a value of type {given.__name__}: write get_session(request)" in str(caught.value)


async def test_a_view_or_a_session_in_place_of_the_request_is_a_clear_error(client_of: ClientOf) -> None:
    told: list[str] = []

    class View(web.View):
        async def get(self) -> web.Response:
            for wrong in (self, self.request.app, await get_session(self.request)):
                with pytest.raises(SessionUsageError) as error:
                    await get_session(wrong)  # type: ignore[arg-type]
                told.append(str(error.value))
            return web.Response()

    client = await client_of(app_with(MemoryStorage(), View))

    assert (await visit(client, "/")).status == 200
    assert ["get_session(self.request)" in one for one in told] == [True] * 3


async def test_a_middleware_outside_the_app_with_sessions_gets_an_error(client_of: ClientOf) -> None:
    told: list[str] = []

    @web.middleware
    async def outside(request: web.Request, handler: Any) -> web.StreamResponse:
        with pytest.raises(SessionUsageError) as error:
            await get_session(request)
        told.append(str(error.value))
        response: web.StreamResponse = await handler(request)
        return response

    app = web.Application(middlewares=[outside])
    app.add_subapp("/in", app_with(MemoryStorage(), read))
    client = await client_of(app)

    assert (await visit(client, "/in/")).status == 200
    assert "A middleware outside of that app cannot use sessions" in told[0]


async def test_after_the_request_a_middleware_outside_can_read_the_session_but_not_change_it(
    client_of: ClientOf,
) -> None:
    seen: list[object] = []

    @web.middleware
    async def outside(request: web.Request, handler: Any) -> web.StreamResponse:
        response: web.StreamResponse = await handler(request)
        session = await get_session(request)
        seen.append(dict(session))
        with pytest.raises(SessionCommittedError):
            session["late"] = True
        return response

    app = web.Application(middlewares=[outside])
    app.add_subapp("/in", app_with(MemoryStorage(), read))
    client = await client_of(app)

    cookie = (await visit(client, "/in/write?user=ada")).cookie
    assert (await visit(client, "/in/read", cookie)).text == '{"user": "ada"}'
    assert seen == [{"user": "ada"}] * 2


async def test_a_session_first_loaded_after_the_request_cannot_be_changed(client_of: ClientOf) -> None:
    seen: list[object] = []

    async def untouched(_: web.Request) -> web.Response:
        return web.Response()

    @web.middleware
    async def outside(request: web.Request, handler: Any) -> web.StreamResponse:
        response: web.StreamResponse = await handler(request)
        if request.path == "/in/":
            session = await get_session(request)
            seen.append(dict(session))
            with pytest.raises(SessionCommittedError):
                session["late"] = True
        return response

    app = web.Application(middlewares=[outside])
    app.add_subapp("/in", app_with(MemoryStorage(), untouched))
    client = await client_of(app)
    cookie = (await visit(client, "/in/write?user=ada")).cookie

    response = await visit(client, "/in/", cookie)

    assert seen == [{"user": "ada"}]
    assert response.headers["Vary"] == "Cookie"


# --- lifetime


async def test_the_storage_starts_before_the_first_request_and_closes_with_the_app(client_of: ClientOf) -> None:
    events: list[str] = []

    async def handler(_: web.Request) -> web.Response:
        events.append("request")
        return web.Response()

    client = await client_of(app_with(LifetimeStorage(events), handler))
    await visit(client, "/")
    await client.close()

    assert events == ["start", "request", "aclose"]


async def test_other_startup_and_cleanup_code_can_use_the_storage(client_of: ClientOf) -> None:
    events: list[str] = []

    async def other(_: web.Application) -> Any:
        events.append("other starts")
        yield
        events.append("other stops")

    app = web.Application()
    setup(app, LifetimeStorage(events))
    app.cleanup_ctx.append(other)
    client = await client_of(app)
    await client.close()

    assert events == ["start", "other starts", "other stops", "aclose"]


async def test_closing_the_storage_waits_for_a_running_save(client_of: ClientOf) -> None:
    storage = GatedStorage()
    client = await client_of(app_with(storage, write))
    cookie = (await visit(client, "/write?user=ada")).cookie
    gate = storage.shut("replace")
    running = asyncio.create_task(visit(client, "/write?user=bob", cookie))
    await storage.reached["replace"].wait()
    closing = asyncio.create_task(storage.aclose())
    await asyncio.sleep(0)

    assert not closing.done()
    gate.set()
    await closing
    await running
    assert dict(await storage.read(cookie.partition(".")[0])) == {"user": "bob"}


async def test_two_apps_can_share_a_storage_and_its_sessions(client_of: ClientOf) -> None:
    storage = MemoryStorage()
    one, other = await client_of(app_with(storage, write)), await client_of(app_with(storage, write))

    cookie = (await visit(one, "/write?user=ada")).cookie
    await one.close()

    assert (await visit(other, "/read", cookie)).text == '{"user": "ada"}'
    assert (await visit(other, "/write?user=bob", cookie)).status == 200


async def test_two_visitors_never_share_a_session(client_of: ClientOf, storage: Any) -> None:
    """Their requests are interleaved, in parallel and over shared connections."""
    client = await client_of(app_with(storage, write))
    names = [f"visitor{number}" for number in range(10)]
    cookies = {name: (await visit(client, f"/write?user={name}")).cookie for name in names}

    async def come_back(name: str) -> list[str]:
        answers = []
        for turn in range(3):
            await visit(client, f"/write?{name}={turn}", cookies[name])
            answers.append((await visit(client, "/read", cookies[name])).text)
        return answers

    answers = await asyncio.gather(*(come_back(name) for name in names))

    assert len(set(cookies.values())) == len(names)
    for name, texts in zip(names, answers, strict=True):
        assert texts == [f'{{"user": "{name}", "{name}": "{turn}"}}' for turn in range(3)]
