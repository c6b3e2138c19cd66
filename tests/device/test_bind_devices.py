"""What ``bind_devices`` refuses, and what it costs to have it."""

import subprocess
import sys
from typing import Any

import pytest
from aiohttp import web

from aiohttp_session_store import (
    ConfigurationError,
    CookieStorage,
    MemoryStorage,
    SessionCookie,
    SessionUsageError,
    setup,
)
from aiohttp_session_store.device import bind_devices, device_state
from tests.device.browser import Browser
from tests.device.conftest import SECRET, BrowserOf
from tests.storages.plain import PlainStorage


def app_on(storage: Any = None, cookie: SessionCookie | None = None) -> web.Application:
    app = web.Application()
    setup(app, MemoryStorage() if storage is None else storage, cookie=cookie)
    return app


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cookie_lifetime": 299}, "at least 300"),
        ({"cookie_lifetime": True}, "number of seconds"),
        ({"cookie_lifetime": float("nan")}, "number of seconds"),
        ({"enforce": 1}, "enforce"),
        ({"login_paths": ["login"]}, "slash"),
        ({"login_paths": "/login"}, "lists"),
        ({"login_paths": []}, "lists"),
        ({"login_paths": [5]}, "slash"),
        ({"login_paths": ['/log"in']}, "slash"),
        ({"path": ""}, "slash"),
        ({"path": "/{name}"}, "slash"),
        ({"exclude": ["static"]}, "slash"),
        ({"exclude": "/static"}, "lists"),
        ({"cookie_name": "bound"}, "__Host-"),
        ({"cookie_name": "__Host-a;b"}, "name"),
        ({"cookie_name": "session"}, "__Host-"),
    ],
)
def test_wrong_settings_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        bind_devices(app_on(), **options)


def test_a_name_that_the_session_cookie_has_is_refused() -> None:
    app = app_on(cookie=SessionCookie("__Host-bound", secure=True))

    with pytest.raises(ConfigurationError, match="another name"):
        bind_devices(app)


def test_an_app_without_sessions_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="setup"):
        bind_devices(web.Application())
    with pytest.raises(ConfigurationError, match="setup"):
        bind_devices("app")  # type: ignore[arg-type]


@pytest.mark.parametrize("storage", ["cookie", "without an index"])
def test_a_storage_that_cannot_do_it_is_refused(storage: str) -> None:
    class Unindexed(PlainStorage):
        has_index = False

    Unindexed.has_index = False
    app = app_on(CookieStorage() if storage == "cookie" else Unindexed(), SessionCookie(secrets=SECRET))

    with pytest.raises(ConfigurationError, match="index of owners"):
        bind_devices(app)


def test_a_cookie_for_several_hosts_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="domain"):
        bind_devices(app_on(cookie=SessionCookie(domain="example.com")))


def test_a_partitioned_cookie_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="partitioned"):
        bind_devices(app_on(cookie=SessionCookie(secure=True, samesite="None", partitioned=True)))


def bound_app(cookie_name: str, session: str, storage: Any = None, path: str = "/") -> web.Application:
    cookie = SessionCookie(session, secure=True, secrets=SECRET, path=path)
    app = app_on(storage, cookie)
    bind_devices(app, cookie_name=cookie_name)
    return app


@pytest.mark.parametrize("nested", [False, True])
async def test_two_apps_of_one_host_need_bound_cookies_of_their_own(nested: bool) -> None:
    """A browser keeps one cookie of a name, so each refresh for one app would log the visitor out of the other."""

    def both(second: str, path: str = "/", session: str = "two") -> web.Application:
        inner = bound_app(second, session, path=path)
        app = bound_app("__Host-bound", "one") if nested else web.Application()
        app.add_subapp("/two", inner)
        if not nested:
            app.add_subapp("/one", bound_app("__Host-bound", "one", path=path))
        return app

    for app in (both("__Host-bound"), both("__Host-bound", path="/two")):
        app.freeze()
        with pytest.raises(ConfigurationError, match="cookie_name of its own"):
            await app.startup()

    app = both("__Host-other")
    app.freeze()
    await app.startup()
    await app.cleanup()


async def test_two_apps_that_share_their_sessions_or_not_their_host_may_have_one_bound_cookie() -> None:
    storage = MemoryStorage()
    shared, apart = web.Application(), web.Application()
    for prefix in ("/one", "/two"):
        shared.add_subapp(prefix, bound_app("__Host-bound", "session", storage))
    for host in ("one.example", "two.example"):
        apart.add_domain(host, bound_app("__Host-bound", "session"))
    for app in (shared, apart):
        app.freeze()
        await app.startup()
        await app.cleanup()


def test_it_is_called_once_and_before_the_app_runs() -> None:
    app = app_on()
    bind_devices(app)
    with pytest.raises(ConfigurationError, match="once"):
        bind_devices(app)

    late = app_on()
    late.freeze()
    with pytest.raises(ConfigurationError, match="before the app runs"):
        bind_devices(late)


async def test_the_state_of_a_session_that_is_not_loaded_is_not_known(browser_of: BrowserOf) -> None:
    async def index(request: web.Request) -> web.Response:
        with pytest.raises(SessionUsageError, match="not loaded"):
            device_state(request)
        return web.Response(text="ok")

    app = app_on()
    app.router.add_get("/", index)
    bind_devices(app)

    assert (await (await browser_of(app)).get("/")).text == "ok"


async def test_the_endpoints_take_nothing_but_post(browser: Browser) -> None:
    for path in ("register", "refresh"):
        for method in ("GET", "PUT", "DELETE", "OPTIONS"):
            assert (await browser.send(method, f"/device-session/{path}")).status == 405


def test_the_package_does_not_load_it() -> None:
    code = "import sys, aiohttp_session_store; print('aiohttp_session_store.device' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
