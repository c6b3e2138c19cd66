"""Sub-apps that share the session of the outer app, and sub-apps with sessions of their own."""

import json
from collections.abc import Callable
from itertools import product

import pytest
from aiohttp import ServerDisconnectedError, web
from aiohttp.test_utils import TestServer

from aiohttp_session_store import ConfigurationError, MemoryStorage, SessionCookie, get_session, new_session, setup
from tests.web.storages import CountingStorage, FailingStorage, Handler, logout, read, write
from tests.web.visits import Client, ClientOf


def routes_of(app: web.Application) -> web.Application:
    app.add_routes([web.get("/write", write), web.get("/read", read), web.get("/logout", logout)])
    return app


def two_apps(outer: MemoryStorage, inner: MemoryStorage | None, *more: web.RouteDef) -> web.Application:
    """Return an app with a sub-app at /in; without an *inner* storage, the sub-app shares the outer sessions."""
    app, subapp = routes_of(web.Application()), routes_of(web.Application())
    setup(app, outer, cookie=SessionCookie("outer"))
    if inner is not None:
        setup(subapp, inner, cookie=SessionCookie("inner"))
    subapp.add_routes(more)
    app.add_subapp("/in", subapp)
    return app


async def ask(client: Client, path: str, cookies: dict[str, str]) -> tuple[int, str]:
    """Send a request with *cookies*, and update them from the response."""
    header = "; ".join(f"{name}={value}" for name, value in cookies.items())
    async with client.get(path, headers={"Cookie": header} if header else {}) as response:
        cookies.update({name: morsel.value for name, morsel in response.cookies.items()})
        return response.status, await response.text()


async def data_of(client: Client, path: str, cookies: dict[str, str]) -> object:
    return json.loads((await ask(client, path, cookies))[1])


# --- a sub-app without its own setup


async def test_a_subapp_shares_the_session_of_the_outer_app(client_of: ClientOf) -> None:
    client = await client_of(two_apps(MemoryStorage(), None))
    cookies: dict[str, str] = {}

    await ask(client, "/in/write?user=ada", cookies)

    assert cookies.keys() == {"outer"}
    assert await data_of(client, "/read", cookies) == {"user": "ada"}


# --- a sub-app with its own setup


async def test_a_subapp_with_its_own_sessions_does_not_see_the_outer_ones(client_of: ClientOf) -> None:
    client = await client_of(two_apps(MemoryStorage(), MemoryStorage()))
    cookies: dict[str, str] = {}

    await ask(client, "/write?user=ada", cookies)
    await ask(client, "/in/write?user=bob", cookies)

    assert cookies.keys() == {"outer", "inner"}
    assert await data_of(client, "/read", cookies) == {"user": "ada"}
    assert await data_of(client, "/in/read", cookies) == {"user": "bob"}


async def test_both_apps_can_use_one_storage(client_of: ClientOf) -> None:
    storage = MemoryStorage()
    client = await client_of(two_apps(storage, storage))
    cookies: dict[str, str] = {}

    await ask(client, "/write?user=ada", cookies)
    await ask(client, "/in/write?user=bob", cookies)

    assert await data_of(client, "/read", cookies) == {"user": "ada"}
    assert await data_of(client, "/in/read", cookies) == {"user": "bob"}


async def test_the_cookie_of_one_app_is_not_valid_for_the_other_even_with_one_storage(client_of: ClientOf) -> None:
    storage = MemoryStorage()
    client = await client_of(two_apps(storage, storage))
    cookies: dict[str, str] = {}
    await ask(client, "/write?user=ada", cookies)

    assert await data_of(client, "/in/read", {"inner": cookies["outer"]}) == {}


@pytest.mark.parametrize(("path", "left"), [("/logout", "/in/read"), ("/in/logout", "/read")])
async def test_a_logout_from_one_app_does_not_end_the_session_of_the_other(
    client_of: ClientOf, path: str, left: str
) -> None:
    client = await client_of(two_apps(MemoryStorage(), MemoryStorage()))
    cookies: dict[str, str] = {}
    await ask(client, "/write?user=ada", cookies)
    await ask(client, "/in/write?user=ada", cookies)

    await ask(client, path, cookies)

    assert await data_of(client, left, cookies) == {"user": "ada"}
    assert min(cookies.values()) == ""


@pytest.mark.parametrize(
    ("around", "source", "target"),
    [
        *((True, *pair) for pair in product(["", "/in", "/by"], repeat=2)),
        *((False, *pair) for pair in product(["/in", "/by"], repeat=2)),
    ],
)
async def test_kept_headers_give_no_session_cookie_of_any_app_away(
    client_of: ClientOf, around: bool, source: str, target: str
) -> None:
    """A page cache for all apps may answer in one of them with what another one has sent."""
    kept: list[str] = []

    async def cached(_: web.Request) -> web.Response:
        return web.Response(headers={"Set-Cookie": kept[0]})

    app = web.Application()
    apps = {"": app, "/in": web.Application(), "/by": web.Application()}
    for prefix, one in apps.items():
        if prefix or around:
            setup(routes_of(one), MemoryStorage(), cookie=SessionCookie(f"session{prefix[1:]}"))
        one.router.add_get("/cached", cached)
        if prefix:
            app.add_subapp(prefix, one)
    client = await client_of(app)
    async with client.get(f"{source}/write?user=ada") as response:
        [line] = response.headers.getall("Set-Cookie")
    kept.append(line)

    async with client.get(f"{target}/cached") as response:
        assert response.headers.getall("Set-Cookie", []) == []


async def test_a_session_that_is_not_used_costs_nothing_while_the_other_is_used(client_of: ClientOf) -> None:
    outer, inner = CountingStorage(), CountingStorage()
    client = await client_of(two_apps(outer, inner))
    cookies: dict[str, str] = {}
    await ask(client, "/write?user=ada", cookies)
    outer.take_calls()

    await ask(client, "/in/write?user=bob", cookies)

    assert outer.take_calls() == []
    assert inner.take_calls() == ["insert"]


def in_both(inner_handler: Handler) -> Callable[[MemoryStorage, MemoryStorage], web.Application]:
    """Return a function that makes two apps: the outer counts requests, the inner has *inner_handler* at /in/."""

    @web.middleware
    async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
        session = await get_session(request)
        session["requests"] = session.get("requests", 0) + 1
        return await handler(request)

    def make(outer: MemoryStorage, inner: MemoryStorage) -> web.Application:
        app = two_apps(outer, inner, web.get("/", inner_handler))
        app.middlewares.append(count)
        return app

    return make


async def answered(request: web.Request) -> web.StreamResponse:
    (await get_session(request))["user"] = "ada"
    return web.Response()


async def streamed(request: web.Request) -> web.StreamResponse:
    (await get_session(request))["user"] = "ada"
    response = web.StreamResponse()
    await response.prepare(request)
    return response


async def renewed(request: web.Request) -> web.StreamResponse:
    (await new_session(request))["user"] = "ada"
    return web.Response()


@pytest.mark.parametrize("handler", [answered, streamed, renewed])
async def test_both_sessions_are_stored_and_both_cookies_are_sent(client_of: ClientOf, handler: Handler) -> None:
    client = await client_of(in_both(handler)(MemoryStorage(), MemoryStorage()))
    cookies: dict[str, str] = {}

    await ask(client, "/in/", cookies)

    assert await data_of(client, "/in/read", cookies) == {"user": "ada"}
    assert await data_of(client, "/read", cookies) == {"requests": 3}


@pytest.mark.parametrize("handler", [answered, streamed])
@pytest.mark.parametrize("failing", ["outer", "inner"])
async def test_if_one_of_two_storages_fails_the_response_is_a_503_or_nothing(
    client_of: ClientOf, handler: Handler, failing: str
) -> None:
    outer, inner = FailingStorage(), FailingStorage()
    client = await client_of(in_both(handler)(outer, inner))
    (outer if failing == "outer" else inner).failing = frozenset({"insert"})
    cookies: dict[str, str] = {}

    try:
        status, _ = await ask(client, "/in/", cookies)
    except ServerDisconnectedError:
        status = None

    assert status == (503 if handler is answered else None)
    assert failing not in cookies


# --- cookies that would overwrite each other


@pytest.mark.parametrize("deep", [False, True])
async def test_the_same_cookie_name_for_an_app_and_a_subapp_is_refused_at_startup(deep: bool) -> None:
    app, between, subapp = web.Application(), web.Application(), web.Application()
    setup(app, MemoryStorage(), cookie=SessionCookie("sid"))
    setup(subapp, MemoryStorage(), cookie=SessionCookie("sid"))
    if deep:
        between.add_subapp("/deeper", subapp)
        app.add_subapp("/in", between)
    else:
        app.add_subapp("/in", subapp)
    server = TestServer(app)

    with pytest.raises(ConfigurationError, match=r"'sid'.*another name"):
        await server.start_server()

    await server.close()


async def test_the_same_cookie_name_is_refused_even_if_the_outer_app_is_set_up_last() -> None:
    app, subapp = web.Application(), web.Application()
    setup(subapp, MemoryStorage())
    app.add_subapp("/in", subapp)
    setup(app, MemoryStorage())
    server = TestServer(app)

    with pytest.raises(ConfigurationError, match="'session'"):
        await server.start_server()

    await server.close()


# --- sub-apps side by side, with no sessions around them


def side_by_side(
    first: SessionCookie, second: SessionCookie, *, shared: bool = False, deep: bool = False
) -> TestServer:
    app, storage = web.Application(), MemoryStorage()
    for path, cookie in (("/a", first), ("/b", second)):
        subapp = routes_of(web.Application())
        setup(subapp, storage if shared else MemoryStorage(), cookie=cookie)
        if deep:
            between = web.Application()
            between.add_subapp("/deep", subapp)
            subapp = between
        app.add_subapp(path, subapp)
    return TestServer(app)


@pytest.mark.parametrize("deep", [False, True])
async def test_subapps_that_would_log_each_other_out_are_refused_at_the_start(deep: bool) -> None:
    server = side_by_side(SessionCookie(), SessionCookie(), deep=deep)

    with pytest.raises(ConfigurationError, match="log each other's visitors out"):
        await server.start_server()
    await server.close()


async def test_subapps_with_one_storage_and_different_secrets_are_refused() -> None:
    cookies = [SessionCookie(secrets=secret * 8) for secret in ("abcd", "efgh")]
    server = side_by_side(*cookies, shared=True)

    with pytest.raises(ConfigurationError, match="do not share their sessions"):
        await server.start_server()
    await server.close()


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        (SessionCookie("a"), SessionCookie("b"), False),
        (SessionCookie(path="/a"), SessionCookie(path="/b"), False),
        (SessionCookie(), SessionCookie(), True),
    ],
    ids=["other names", "other paths", "shared sessions"],
)
async def test_subapps_that_do_not_meet_or_share_their_sessions_start(
    first: SessionCookie, second: SessionCookie, shared: bool
) -> None:
    server = side_by_side(first, second, shared=shared)
    await server.start_server()
    await server.close()


# --- sub-apps on hosts of their own


def on_hosts(hosts: dict[str, SessionCookie], *, deep: bool = False) -> TestServer:
    app = web.Application()
    for host, cookie in hosts.items():
        subapp = routes_of(web.Application())
        setup(subapp, MemoryStorage(), cookie=cookie)
        if deep:
            between = web.Application()
            between.add_subapp("/deep", subapp)
            subapp = between
        app.add_domain(host, subapp)
    return TestServer(app)


COVERING = SessionCookie(domain="example.org")


@pytest.mark.parametrize(
    "hosts",
    [
        {"a.example": SessionCookie(), "b.example": SessionCookie()},
        {"*.a.example": SessionCookie(), "*.b.example": SessionCookie(), "b.example:8080": SessionCookie()},
        {"a.example": SessionCookie(domain="a.example"), "b.example": SessionCookie(domain="b.example")},
        {"example.org": COVERING, "a.example.org": SessionCookie()},
    ],
    ids=["two hosts", "stars and a port", "domains", "one domain and one host"],
)
@pytest.mark.parametrize("deep", [False, True])
async def test_the_cookies_of_subapps_on_hosts_of_their_own_never_meet(
    hosts: dict[str, SessionCookie], deep: bool
) -> None:
    server = on_hosts(hosts, deep=deep)
    await server.start_server()
    await server.close()


@pytest.mark.parametrize(
    "hosts",
    [
        {"a.example.org": COVERING, "b.example.org": SessionCookie(domain="Example.org")},
        {"a.example": SessionCookie(), "A.example:8080": SessionCookie()},
        {"a.example": SessionCookie(), "*.example": SessionCookie()},
    ],
    ids=["one domain", "another port", "a star"],
)
@pytest.mark.parametrize("deep", [False, True])
async def test_subapps_whose_cookies_meet_on_another_host_or_port_are_refused(
    hosts: dict[str, SessionCookie], deep: bool
) -> None:
    server = on_hosts(hosts, deep=deep)

    with pytest.raises(ConfigurationError, match="log each other's visitors out"):
        await server.start_server()
    await server.close()
