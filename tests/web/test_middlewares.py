"""Middlewares that clone the request or replace the response: the response that is sent has the cookie and headers."""

from collections.abc import Callable

import pytest
from aiohttp import web
from aiohttp.typedefs import Middleware
from aiohttp_remotes import XForwardedRelaxed

from aiohttp_session_store import KeyedStorage, MemoryStorage, SessionCookie, get_session, setup
from tests.records import live_keys
from tests.web.storages import SECRET, CountingStorage, Handler, app_with, read
from tests.web.visits import ClientOf, visit


@web.middleware
async def clone(request: web.Request, handler: Handler) -> web.StreamResponse:
    return await handler(request.clone())


@web.middleware
async def clone_twice(request: web.Request, handler: Handler) -> web.StreamResponse:
    return await handler(request.clone().clone(scheme="https"))


@web.middleware
async def replace(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        response = await handler(request)
    except web.HTTPException as raised:
        response = raised
    if response.prepared:
        return response
    return web.Response(status=response.status, text="a page of my own", headers={"Vary": "Accept"})


@web.middleware
async def clone_and_replace(request: web.Request, handler: Handler) -> web.StreamResponse:
    async def cloned(request: web.Request) -> web.StreamResponse:
        return await handler(request.clone())

    return await replace(request, cloned)


x_forwarded: Middleware = XForwardedRelaxed().middleware
MIDDLEWARES: list[Middleware] = [clone, clone_twice, replace, clone_and_replace, x_forwarded]
EVERY_MIDDLEWARE = pytest.mark.parametrize(
    "middleware", MIDDLEWARES, ids=["clone", "clone twice", "replace", "clone and replace", "aiohttp-remotes"]
)


async def returns(_: web.Request) -> web.StreamResponse:
    return web.Response(text="returned")


async def raises(_: web.Request) -> web.StreamResponse:
    raise web.HTTPForbidden


async def streams(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"streamed")
    return response


EVERY_ANSWER = pytest.mark.parametrize("respond", [returns, raises, streams])


def login_and(respond: Handler) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        (await get_session(request))["user"] = "ada"
        return await respond(request)

    return handler


async def login_if_asked(request: web.Request) -> web.Response:
    if "user" in request.query:
        (await get_session(request))["user"] = request.query["user"]
    return web.Response()


def id_in(cookie: str) -> str:
    return cookie.partition(".")[0]


# --- positions of the middleware: each function returns an app whose sessions are at /in


def around_the_app(storage: KeyedStorage, handler: Handler, middleware: Middleware) -> web.Application:
    app = web.Application(middlewares=[middleware])
    app.add_subapp("/in", app_with(storage, handler))
    return app


def before_ours(storage: KeyedStorage, handler: Handler, middleware: Middleware) -> web.Application:
    inner = app_with(storage, handler)
    inner.middlewares.insert(0, middleware)
    app = web.Application()
    app.add_subapp("/in", inner)
    return app


def after_ours(storage: KeyedStorage, handler: Handler, middleware: Middleware) -> web.Application:
    app = web.Application()
    app.add_subapp("/in", app_with(storage, handler, middleware))
    return app


def above_a_subapp(storage: KeyedStorage, handler: Handler, middleware: Middleware) -> web.Application:
    app = web.Application(middlewares=[middleware])
    setup(app, storage, cookie=SessionCookie(secrets=SECRET))
    inner = web.Application()
    inner.router.add_get("/", handler)
    inner.router.add_get("/read", read)
    app.add_subapp("/in", inner)
    return app


Layout = Callable[[KeyedStorage, Handler, Middleware], web.Application]
EVERY_LAYOUT = pytest.mark.parametrize("layout", [around_the_app, before_ours, after_ours, above_a_subapp])


@EVERY_MIDDLEWARE
@EVERY_ANSWER
@EVERY_LAYOUT
async def test_the_session_is_stored_once_and_its_cookie_is_on_the_sent_response(
    client_of: ClientOf, layout: Layout, respond: Handler, middleware: Middleware
) -> None:
    storage = CountingStorage()
    client = await client_of(layout(storage, login_and(respond), middleware))

    response = await visit(client, "/in/", X_Forwarded_Proto="https", X_Forwarded_For="10.0.0.1")

    assert storage.take_calls() == ["insert"]
    assert dict(await storage.read(id_in(response.cookie))) == {"user": "ada"}
    assert "Cookie" in [value.strip() for value in response.headers["Vary"].split(",")]
    assert response.headers["Cache-Control"] == "no-store"


@EVERY_MIDDLEWARE
@EVERY_LAYOUT
async def test_a_session_that_was_only_read_makes_the_sent_response_private(
    client_of: ClientOf, layout: Layout, middleware: Middleware
) -> None:
    client = await client_of(layout(MemoryStorage(), read, middleware))

    response = await visit(client, "/in/")

    assert "Cookie" in [value.strip() for value in response.headers["Vary"].split(",")]
    assert response.headers["Cache-Control"] == "private"
    assert response.set_cookie is None


@EVERY_MIDDLEWARE
@EVERY_LAYOUT
async def test_a_request_that_ignores_its_session_is_sent_unchanged(
    client_of: ClientOf, layout: Layout, middleware: Middleware
) -> None:
    client = await client_of(layout(MemoryStorage(), returns, middleware))

    for _ in range(2):
        response = await visit(client, "/in/")

    assert "Cookie" not in response.headers.get("Vary", "")
    assert "Cache-Control" not in response.headers
    assert response.set_cookie is None


@EVERY_LAYOUT
async def test_an_error_that_a_middleware_turns_into_a_page_stores_nothing(client_of: ClientOf, layout: Layout) -> None:
    async def fail(_: web.Request) -> web.StreamResponse:
        raise RuntimeError("oh no")

    @web.middleware
    async def apologise(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except RuntimeError:
            return web.Response(status=500, text="sorry")

    storage = CountingStorage()
    client = await client_of(layout(storage, login_and(fail), apologise))

    response = await visit(client, "/in/")

    assert (response.status, response.text, response.set_cookie) == (500, "sorry", None)
    assert len(live_keys(storage)) == 0


@EVERY_MIDDLEWARE
@EVERY_LAYOUT
async def test_a_logout_clears_the_cookie_even_if_its_handler_fails(
    client_of: ClientOf, layout: Layout, middleware: Middleware
) -> None:
    async def leave_and_fail(request: web.Request) -> web.StreamResponse:
        (await get_session(request)).destroy()
        raise RuntimeError("oh no")

    storage = CountingStorage()
    client = await client_of(layout(storage, leave_and_fail, middleware))
    session = await storage.read(None)
    session["user"] = "ada"
    cookie = SessionCookie(secrets=SECRET).bind(storage).seal(await storage.save(session) or "")

    response = await visit(client, "/in/", cookie)

    assert (response.status, response.cookie) == (500, "")
    assert len(live_keys(storage)) == 0


@EVERY_MIDDLEWARE
async def test_an_app_and_its_subapp_both_send_their_session_cookies(
    client_of: ClientOf, middleware: Middleware
) -> None:
    async def login_to_both(request: web.Request) -> web.StreamResponse:
        (await get_session(request))["user"] = "ada"
        return web.Response()

    @web.middleware
    async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        (await get_session(request))["seen"] = request.path
        return response

    outer, inner = CountingStorage(), CountingStorage()
    app = web.Application(middlewares=[count, middleware])
    setup(app, outer)
    subapp = web.Application()
    setup(subapp, inner, cookie=SessionCookie("inner"))
    subapp.router.add_get("/", login_to_both)
    app.add_subapp("/in", subapp)
    client = await client_of(app)

    async with client.get("/in/") as response:
        cookies = {name: morsel.value for name, morsel in response.cookies.items()}

    assert dict(await outer.read(id_in(cookies["session"]))) == {"seen": "/in/"}
    assert dict(await inner.read(id_in(cookies["inner"]))) == {"user": "ada"}


async def test_a_cookie_is_secure_even_if_only_a_clone_of_the_request_has_the_https_scheme(client_of: ClientOf) -> None:
    """The response is prepared with the original request, whose proxy header says https."""
    client = await client_of(around_the_app(MemoryStorage(), login_and(returns), x_forwarded))

    response = await visit(client, "/in/", X_Forwarded_Proto="https", X_Forwarded_For="10.0.0.1")

    assert response.set_cookie is not None
    assert "Secure" in response.set_cookie.split("; ")


async def test_nothing_leaks_between_requests_on_one_connection(client_of: ClientOf) -> None:
    """A proxy may send the requests of many visitors over one connection."""
    client = await client_of(around_the_app(MemoryStorage(), login_if_asked, clone_and_replace))

    first = await visit(client, "/in/?user=ada")
    others = [await visit(client, path) for path in ("/in/", "/in/nowhere", "/in/", "/nowhere")]

    assert first.set_cookie
    assert [other.set_cookie for other in others] == [None] * 4
    assert all("Cookie" not in other.headers.get("Vary", "") for other in others)
