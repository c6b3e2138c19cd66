"""A cookie that gets another name: one of the old name opens its session, is sent under the new one, and cleared."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from aiohttp_session_store import (
    ConfigurationError,
    CookieStorage,
    MemoryStorage,
    Session,
    SessionCookie,
    SessionStorage,
    get_session,
    new_session,
    setup,
)
from tests.web.changes import Slow, changing, regenerate, regenerate_and_delete
from tests.web.storages import SECRET, CountingStorage, Handler, logout, read, write
from tests.web.visits import Client, ClientOf

OTHER = "other-secret-0123456789-abcdefghijklmnopqrstuvwxyz"
NEW = "__Host-session"


def app_with(storage: SessionStorage, handler: Handler = read, **cookie: Any) -> web.Application:
    app = web.Application()
    settings: dict[str, Any] = {"name": NEW, "secure": True, "secrets": SECRET, "old_names": ["session"]}
    setup(app, storage, cookie=SessionCookie(**(settings | cookie)))
    app.add_routes([web.get("/write", write), web.get("/read", read), web.get("/logout", logout)])
    app.add_routes([web.get("/", handler)])
    return app


async def asked(client: Client, path: str, cookies: dict[str, str]) -> tuple[str, dict[str, str]]:
    """Return the body, and the Set-Cookie headers by the name of the cookie."""
    sent = {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}
    async with client.get(path, headers=sent) as response:
        lines = [line.partition("=") for line in response.headers.getall("Set-Cookie", [])]
        assert len({name for name, _, _ in lines}) == len(lines)
        return await response.text(), {name: rest for name, _, rest in lines}


def kept(cookies: dict[str, str], answer: dict[str, str]) -> dict[str, str]:
    """Return what a browser that had *cookies* keeps after *answer*."""
    changed = {name: rest.partition(";")[0] for name, rest in answer.items()}
    return {name: value for name, value in (cookies | changed).items() if value}


async def named_before(client_of: ClientOf, storage: SessionStorage) -> dict[str, str]:
    """Return the cookies of a browser from the time before the cookie was renamed."""
    before = await client_of(app_with(storage, name="session", secure=None, old_names=[]))
    _, answer = await asked(before, "/write?user=ada", {})
    return kept({}, answer)


@pytest.mark.parametrize("kind", ["storage", "cookies"])
async def test_a_session_of_the_old_name_is_read_moved_and_the_old_cookie_cleared(
    client_of: ClientOf, storage: SessionStorage, kind: str
) -> None:
    if kind == "cookies":
        storage = CookieStorage()
    browser = await named_before(client_of, storage)
    client = await client_of(app_with(storage))

    body, answer = await asked(client, "/read", browser)

    assert body == '{"user": "ada"}'
    assert answer["session"] == "; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Lax"
    browser = kept(browser, answer)
    assert list(browser) == [NEW]
    assert await asked(client, "/read", browser) == ('{"user": "ada"}', {})


async def test_the_old_cookie_is_cleared_at_its_path_and_domain(client_of: ClientOf) -> None:
    place: dict[str, Any] = {"path": "/in", "domain": "example.org", "name": "new", "secure": None}
    storage = MemoryStorage()
    browser = await named_before(client_of, storage)

    _, answer = await asked(await client_of(app_with(storage, **place)), "/read", browser)

    assert answer["session"] == "; Max-Age=0; Path=/in; Domain=example.org; HttpOnly; SameSite=Lax"


async def test_moving_costs_one_call_and_a_moved_session_none(client_of: ClientOf) -> None:
    storage = CountingStorage()
    browser = await named_before(client_of, storage)
    client = await client_of(app_with(storage))
    storage.take_calls()

    browser = kept(browser, (await asked(client, "/read", browser))[1])
    assert storage.take_calls() == ["fetch", "touch"]
    await asked(client, "/read", browser)
    assert storage.take_calls() == ["fetch"]


@pytest.mark.parametrize("change", [regenerate, regenerate_and_delete, lambda session: session.login("ada")])
async def test_another_id_moves_the_session_too(
    client_of: ClientOf, storage: SessionStorage, change: Callable[[Session], None]
) -> None:
    browser = await named_before(client_of, storage)
    client = await client_of(app_with(storage, changing(change)))

    browser = kept(browser, (await asked(client, "/", browser))[1])

    assert list(browser) == [NEW]
    assert '"user": "ada"' in (await asked(client, "/read", browser))[0]


async def test_a_logout_ends_the_session_and_clears_both_names(client_of: ClientOf, storage: SessionStorage) -> None:
    browser = await named_before(client_of, storage)
    client = await client_of(app_with(storage))

    _, answer = await asked(client, "/logout", browser)

    assert set(answer) == {NEW, "session"}
    assert kept(browser, answer) == {}
    assert await asked(client, "/read", browser) == ("{}", {})


async def test_a_dead_cookie_of_the_old_name_is_cleared_when_a_new_session_is_sent(
    client_of: ClientOf, storage: SessionStorage
) -> None:
    browser = await named_before(client_of, storage)
    client = await client_of(app_with(storage))
    await asked(client, "/logout", browser)

    assert list(kept(browser, (await asked(client, "/write?user=bob", browser))[1])) == [NEW]


async def test_the_present_name_wins_over_an_old_one(client_of: ClientOf, storage: SessionStorage) -> None:
    browser = await named_before(client_of, storage)
    client = await client_of(app_with(storage))
    browser |= kept({}, (await asked(client, "/write?user=bob", {}))[1])

    assert await asked(client, "/read", browser) == ('{"user": "bob"}', {})


async def start_anew(request: web.Request) -> web.Response:
    (await new_session(request))["fresh"] = True
    return web.Response()


@pytest.mark.parametrize("handler", [logout, start_anew, changing(regenerate_and_delete)])
async def test_what_ends_a_session_ends_the_one_of_the_old_name_too(
    client_of: ClientOf, storage: SessionStorage, handler: Handler
) -> None:
    old = await named_before(client_of, storage)
    client = await client_of(app_with(storage, handler))
    browser = old | kept({}, (await asked(client, "/write?user=bob", {}))[1])

    _, answer = await asked(client, "/", browser)

    assert "session" not in kept(browser, answer)
    assert (await asked(client, "/read", old))[0] == "{}"


@pytest.mark.parametrize("login", [regenerate, regenerate_and_delete, lambda session: session.login("ada")])
async def test_a_slow_request_does_not_move_an_id_that_a_login_has_made_worthless(
    client_of: ClientOf, storage: SessionStorage, login: Callable[[Session], None]
) -> None:
    """The login's cookie has the new name already, and the slow response comes after it."""
    slow = Slow(lambda session: None)
    client = await client_of(app_with(storage, slow.__call__))
    logging_in = await client_of(app_with(storage, changing(login)))
    browser = await named_before(client_of, storage)
    running = asyncio.create_task(asked(client, "/", browser))
    await slow.loaded.wait()
    assert NEW in (await asked(logging_in, "/", browser))[1]

    slow.go_on.set()

    assert (await running)[1] == {}


async def test_a_server_error_moves_nothing(client_of: ClientOf, storage: SessionStorage) -> None:
    async def fail(request: web.Request) -> web.Response:
        await get_session(request)
        return web.Response(status=500)

    browser = await named_before(client_of, storage)

    assert (await asked(await client_of(app_with(storage, fail)), "/", browser))[1] == {}


async def test_an_old_name_and_an_old_secret_go_together(client_of: ClientOf, storage: SessionStorage) -> None:
    browser = await named_before(client_of, storage)
    client = await client_of(app_with(storage, secrets=[OTHER, SECRET]))

    body, answer = await asked(client, "/read", browser)

    assert body == '{"user": "ada"}'
    after = await client_of(app_with(storage, secrets=OTHER, old_names=[]))
    assert (await asked(after, "/read", kept(browser, answer)))[0] == '{"user": "ada"}'


async def test_without_old_names_a_renamed_cookie_is_not_read(client_of: ClientOf) -> None:
    storage = MemoryStorage()
    browser = await named_before(client_of, storage)

    assert await asked(await client_of(app_with(storage, old_names=[])), "/read", browser) == ("{}", {})


async def test_the_value_of_one_name_does_not_open_under_the_other(client_of: ClientOf) -> None:
    storage = MemoryStorage()
    browser = await named_before(client_of, storage)

    assert (await asked(await client_of(app_with(storage)), "/read", {NEW: browser["session"]}))[0] == "{}"


async def test_processes_that_name_the_cookie_in_either_order_share_a_visitor(
    client_of: ClientOf, storage: SessionStorage
) -> None:
    """While processes are updated one after the other, a request may reach either."""
    browser = await named_before(client_of, storage)
    prepared = await client_of(app_with(storage, name="session", old_names=[NEW]))
    updated = await client_of(app_with(storage))

    for client, name in [(prepared, "session"), (updated, NEW), (prepared, "session"), (updated, NEW)]:
        body, answer = await asked(client, "/read", browser)
        browser = kept(browser, answer)
        assert (body, list(browser)) == ('{"user": "ada"}', [name])


# --- settings


@pytest.mark.parametrize("old_names", ["session", b"session", None, 5])
def test_old_names_that_are_no_list_are_refused(old_names: Any) -> None:
    with pytest.raises(ConfigurationError, match=r'write old_names=\["session"\]'):
        SessionCookie("sid", old_names=old_names)


@pytest.mark.parametrize("old_names", [[""], ["a b"], [None], [5], ["session", "a;b"]])
def test_an_old_name_that_is_no_name_is_refused(old_names: Any) -> None:
    with pytest.raises(ConfigurationError, match="cookie name"):
        SessionCookie("sid", old_names=old_names)


def test_the_present_name_is_no_old_name() -> None:
    with pytest.raises(ConfigurationError, match="which is the present name"):
        SessionCookie("sid", old_names=["session", "sid"])


def test_an_old_name_that_browsers_would_not_clear_is_refused() -> None:
    """A Set-Cookie header that breaks the rule of a prefix is ignored, so the old cookie would stay."""
    with pytest.raises(ConfigurationError, match="__Host-session without Secure"):
        SessionCookie("session", old_names=["__Host-session"])
    with pytest.raises(ConfigurationError, match='__Host-session unless path is "/"'):
        SessionCookie("__Secure-session", secure=True, domain="example.org", old_names=["__Host-session"])


async def start(app: web.Application) -> None:
    server = TestServer(app)
    try:
        await server.start_server()
    finally:
        await server.close()


@pytest.mark.parametrize(
    ("outer", "inner"),
    [(("a", []), ("b", ["a"])), (("a", ["b"]), ("b", [])), (("a", ["c"]), ("b", ["c"]))],
)
async def test_an_app_and_a_subapp_must_not_share_an_old_name(
    outer: tuple[str, list[str]], inner: tuple[str, list[str]]
) -> None:
    storage = MemoryStorage()
    apps = [app_with(storage, name=name, old_names=old, secure=None) for name, old in (outer, inner)]
    apps[0].add_subapp("/in", apps[1])

    with pytest.raises(ConfigurationError, match="the app and a sub-app both use a session cookie"):
        await start(apps[0])


async def test_two_subapps_must_not_clear_each_others_cookie() -> None:
    app, storage = web.Application(), MemoryStorage()
    app.add_subapp("/one", app_with(storage, name="session", old_names=[], secure=None))
    app.add_subapp("/two", app_with(storage))

    with pytest.raises(ConfigurationError, match="two sub-apps both use a session cookie 'session'"):
        await start(app)


async def test_two_subapps_with_the_same_cookie_share_its_old_names(client_of: ClientOf) -> None:
    app, storage = web.Application(), MemoryStorage()
    browser = await named_before(client_of, storage)
    app.add_subapp("/one", app_with(storage))
    app.add_subapp("/two", app_with(storage))

    assert (await asked(await client_of(app), "/two/read", browser))[0] == '{"user": "ada"}'
