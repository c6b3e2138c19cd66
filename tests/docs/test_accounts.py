"""The recipes of the page on accounts do what the page says."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from aiohttp import web
from pytest_aiohttp.plugin import AiohttpClient

from aiohttp_session_store import MemoryStorage, setup
from aiohttp_session_store.testing import ManualClock
from tests.docs.blocks import write_files
from tests.web.visits import Client, without_jar

PAGE = "docs/accounts.md"
ADA = {"name": "ada", "password": "analytical-engine"}
GRACE = {"name": "grace", "password": "found-a-moth"}
DAY = 86400


class Recipes:
    """An app with all recipes of the page, and visitors with a cookie each."""

    def __init__(self, modules: dict[str, ModuleType], client: Client, clock: ManualClock) -> None:
        self.modules, self.client, self.clock = modules, client, clock
        self.last: Any = None

    async def ask(self, cookie: str | None, path: str, data: dict[str, str] | None = None) -> tuple[int, str, str]:
        """Visit *path*, with a form if there are *data*; return the status, the body, and the cookie from then on."""
        headers = {} if cookie is None else {"Cookie": f"session={cookie}"}
        call = self.client.get if data is None else self.client.post
        kwargs: dict[str, Any] = {} if data is None else {"data": data}
        async with call(path, headers=headers, allow_redirects=False, **kwargs) as response:
            self.last = response
            sent = response.cookies.get("session")
            text = response.headers.get("Location", await response.text())
            return response.status, text, cookie or "" if sent is None else sent.value

    async def logged_in(self, form: dict[str, str], path: str = "/login") -> str:
        status, place, cookie = await self.ask(None, path, form)
        assert (status, place) == (303, "/")
        return cookie

    async def is_in(self, cookie: str) -> bool:
        return (await self.ask(cookie, "/"))[0] == 200


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    names = [name.removesuffix(".py") for name in write_files(PAGE, tmp_path)]
    monkeypatch.syspath_prepend(tmp_path)
    yield {name: importlib.import_module(name) for name in names}
    for name in names:
        del sys.modules[name]


@pytest.fixture
async def recipes(modules: dict[str, ModuleType], aiohttp_client: AiohttpClient, clock: ManualClock) -> Recipes:
    app = web.Application(middlewares=[modules["password"].log_out_old_logins])
    setup(app, MemoryStorage(clock=clock, max_sessions_per_owner=5, sweep_interval=None))
    for module in modules.values():
        if hasattr(module, "routes"):
            app.add_routes(module.routes)
    return Recipes(modules, await without_jar(aiohttp_client, app), clock)


async def test_the_guard_lets_in_who_is_logged_in(recipes: Recipes) -> None:
    assert (await recipes.ask(None, "/"))[:2] == (303, "/login")
    status, page, _ = await recipes.ask(None, "/login")
    assert status == 200
    assert '<form method="post">' in page
    assert (await recipes.ask(None, "/login", {**ADA, "password": "wrong"}))[0] == 401
    cookie = await recipes.logged_in(ADA)
    assert (await recipes.ask(cookie, "/"))[:2] == (200, "Hello, account 1")
    assert (await recipes.ask(cookie, "/logout", {}))[:2] == (303, "/login")
    assert not await recipes.is_in(cookie)


async def test_nobody_is_logged_in_before_the_second_factor(recipes: Recipes, monkeypatch: pytest.MonkeyPatch) -> None:
    status, place, cookie = await recipes.ask(None, "/login/password", ADA)
    assert (status, place) == (303, "/login/code")
    assert not await recipes.is_in(cookie)
    assert (await recipes.ask(cookie, "/login/code", {"code": "000000"}))[0] == 401
    assert not await recipes.is_in(cookie)
    _, place, logged_in = await recipes.ask(cookie, "/login/code", {"code": "123456"})
    assert place == "/"
    assert await recipes.is_in(logged_in)
    assert not await recipes.is_in(cookie)

    _, _, slow = await recipes.ask(None, "/login/password", ADA)
    late = recipes.modules["second_factor"].time.time() + 301
    monkeypatch.setattr("second_factor.time.time", lambda: late)
    assert (await recipes.ask(slow, "/login/code", {"code": "123456"}))[:2] == (303, "/login")
    assert (await recipes.ask(None, "/login/code", {"code": "123456"}))[:2] == (303, "/login")


async def test_the_box_makes_the_session_and_its_cookie_last(recipes: Recipes) -> None:
    remembered = await recipes.logged_in({**ADA, "remember": "on"}, "/login/remember")
    assert recipes.last.cookies["session"]["max-age"] == str(30 * DAY)
    plain = await recipes.logged_in(ADA, "/login/remember")
    assert recipes.last.cookies["session"]["max-age"] == ""
    recipes.clock.advance(20 * DAY)

    assert await recipes.is_in(remembered)
    assert not await recipes.is_in(plain)


async def test_devices_are_listed_and_ended(recipes: Recipes) -> None:
    own, other, foreign = await recipes.logged_in(ADA), await recipes.logged_in(ADA), await recipes.logged_in(GRACE)
    await recipes.ask(own, "/devices")
    listed = await recipes.last.json()
    assert sorted(one["this_one"] for one in listed) == [False, True]
    key = next(one["key"] for one in listed if not one["this_one"])
    await recipes.ask(foreign, "/devices/end", {"key": key})
    assert await recipes.is_in(other)
    assert (await recipes.ask(own, "/devices/end", {"key": key}))[0] == 303

    assert [await recipes.is_in(one) for one in (own, other, foreign)] == [True, False, True]


async def test_one_logs_out_everywhere_else(recipes: Recipes) -> None:
    own, *others = [await recipes.logged_in(ADA) for _ in range(3)]
    assert (await recipes.ask(own, "/devices/end-others", {}))[1] == "Other devices that were logged out: 2"
    assert [await recipes.is_in(one) for one in (own, *others)] == [True, False, False]


async def test_a_changed_password_ends_the_other_sessions_and_those_that_begin_late(recipes: Recipes) -> None:
    own, other = await recipes.logged_in(ADA), await recipes.logged_in(ADA)
    assert (await recipes.ask(own, "/password", {"old": "wrong", "new": "n"}))[0] == 401
    _, text, changed = await recipes.ask(own, "/password", {"old": ADA["password"], "new": "difference"})
    assert text == "Your password was changed. Other devices that were logged out: 1"
    assert [await recipes.is_in(one) for one in (changed, other)] == [True, False]

    recipes.modules["users"].USERS["1"].password_number += 1  # as if this login had checked the password before
    assert not await recipes.is_in(changed)


async def test_an_administrator_disables_an_account(recipes: Recipes) -> None:
    ada, grace = await recipes.logged_in(ADA), await recipes.logged_in(GRACE)
    assert (await recipes.ask(ada, "/accounts/2/disable", {}))[0] == 403
    assert (await recipes.ask(grace, "/accounts/1/disable", {}))[1] == "ada is disabled. Sessions that were ended: 1"
    assert not await recipes.is_in(ada)
    assert (await recipes.ask(None, "/login", ADA))[0] == 401


async def test_a_payment_asks_for_the_password_if_the_login_is_old(recipes: Recipes) -> None:
    cookie = await recipes.logged_in(ADA)
    assert (await recipes.ask(cookie, "/pay", {}))[:2] == (200, "Paid.")
    recipes.clock.advance(601)
    assert (await recipes.ask(cookie, "/pay", {}))[:2] == (303, "/confirm")
    assert (await recipes.ask(cookie, "/confirm", {"password": "wrong"}))[0] == 401
    _, place, confirmed = await recipes.ask(cookie, "/confirm", {"password": ADA["password"]})
    assert place == "/pay"

    assert (await recipes.ask(confirmed, "/pay", {}))[1] == "Paid."
    assert (await recipes.ask(cookie, "/pay", {}))[1] == "/confirm"


async def test_an_administrator_has_a_shorter_session(recipes: Recipes) -> None:
    ada, grace = [await recipes.logged_in(one, "/admin/login") for one in (ADA, GRACE)]
    recipes.clock.advance(15 * 60)
    assert [await recipes.is_in(one) for one in (ada, grace)] == [True, False]
