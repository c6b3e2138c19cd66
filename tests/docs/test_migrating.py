"""The applications, the middleware and the alias on the page about migrating from aiohttp-session do what it says."""

import importlib
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from aiohttp_session.cookie_storage import EncryptedCookieStorage
from aiohttp_session.redis_storage import RedisStorage as OldRedisStorage
from redis.asyncio import Redis

from aiohttp_session_store import KeyRing, MemoryStorage, SessionCookie, get_session, new_session, setup
from tests.docs.blocks import block, write_files
from tests.migrate.test_aiohttp_session import OLD, Visitor, cookie_of_old_app, show
from tests.servers.ports import free_port
from tests.servers.redis import redis_server
from tests.web.storages import SECRET

# aiohttp warns about the keys that aiohttp-session uses to keep its state on requests.
pytestmark = pytest.mark.filterwarnings("ignore:It is recommended to use web.RequestKey")

PAGE = "docs/migrating.md"
OLD_SECRET = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Write the files of the page, and return a function that imports one of them."""
    write_files(PAGE, tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("OLD_SECRET", OLD_SECRET)
    monkeypatch.setenv("SESSION_SECRET", SECRET)
    monkeypatch.setenv("SESSION_KEYS", KeyRing.new_key())

    def load(name: str) -> Any:
        monkeypatch.delitem(sys.modules, name, raising=False)
        loaded = importlib.import_module(name)
        monkeypatch.delitem(sys.modules, name)
        return loaded

    return load


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[TestClient[Any, Any]]:
    async with TestClient(TestServer(app), cookie_jar=aiohttp.DummyCookieJar()) as client:
        yield client


async def logged_in(app: web.Application, user: str) -> str:
    """Log *user* in to the old application, and return the Cookie header after that."""
    async with serving(app) as client, client.post("/login", data={"user": user}) as response:
        assert await response.text() == "welcome"
        return response.headers["Set-Cookie"].partition(";")[0]


async def test_who_is_logged_in_before_is_logged_in_after_until_the_logout(
    module: Callable[[str], Any], tmp_path: Path
) -> None:
    cookie = await logged_in(module("shop_before").make_app(), "ada")
    async with serving(module("app").make_app(str(tmp_path / "sessions"))) as client:
        visitor = Visitor(client, cookie)
        assert [await visitor.get("/") for _ in range(2)] == [{"user": "ada", "cart": []}] * 2
        assert set(visitor.cookies) == {"session"}

        sent = {"Cookie": f"session={visitor.cookies['session']}"}
        async with client.post("/logout", headers=sent) as response:
            assert await response.text() == "bye"
        for copy in (cookie, sent["Cookie"]):
            async with client.get("/", headers={"Cookie": copy}) as response:
                assert await response.json() == {"user": None, "cart": []}


async def test_a_login_after_the_migration_is_persistent_and_has_an_owner(
    module: Callable[[str], Any], tmp_path: Path
) -> None:
    async with serving(module("app").make_app(str(tmp_path / "sessions"))) as client:
        async with client.post("/login", data={"user": "ada"}) as response:
            cookie = response.headers["Set-Cookie"]
        assert "Max-Age=" in cookie
        async with client.get("/", headers={"Cookie": cookie.partition(";")[0]}) as response:
            assert (await response.json())["user"] == "ada"


async def test_an_encrypted_cookie_becomes_an_encrypted_cookie(module: Callable[[str], Any]) -> None:
    app = web.Application()
    app.router.add_get("/show", show)
    module("encrypted").add_sessions(app)
    cookie = await cookie_of_old_app(EncryptedCookieStorage(OLD_SECRET), {"user": "ada"})
    async with serving(app) as client:
        visitor = Visitor(client, cookie)
        assert [await visitor.get("/show") for _ in range(2)] == [{"user": "ada"}] * 2
        assert set(visitor.cookies) == {"session"}

        visitor.cookies["session"] = visitor.cookies["session"][:-1]
        assert await visitor.get("/show") == {}


async def test_a_session_in_redis_becomes_ours_in_the_same_redis(module: Callable[[str], Any]) -> None:
    with redis_server() as server:
        async with Redis.from_url(server.url) as client_of_old_app:
            cookie = await cookie_of_old_app(OldRedisStorage(client_of_old_app), {"user": "ada"})
            app = web.Application()
            app.router.add_get("/show", show)
            module("in_redis").add_sessions(app, server.url)
            async with serving(app) as client:
                visitor = Visitor(client, cookie)
                assert [await visitor.get("/show") for _ in range(2)] == [{"user": "ada"}] * 2
            assert [key async for key in client_of_old_app.scan_iter("session:*")]
            assert await client_of_old_app.exists(f"{OLD}_{cookie.partition('=')[2]}")


@pytest.mark.filterwarnings("ignore:It is recommended to use web.RequestKey")
@pytest.mark.parametrize("how", ["login", "logout", "new_session", "stream"])
async def test_the_middleware_on_the_page_breaks_no_answer(how: str) -> None:
    page: dict[str, Any] = {}
    exec(block(PAGE, "python", "flash_middleware"), page)

    async def handler(request: web.Request) -> web.StreamResponse:
        request["flash"] = ["hello"]
        if how == "stream":
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(b"answer")
            return response
        session = await get_session(request)
        if how == "login":
            session.login("ada")
        elif how == "logout":
            session.logout()
        else:
            await new_session(request)
        return web.Response(text="answer")

    app = web.Application(middlewares=[page["flash_middleware"]])
    app.add_routes([web.get("/", handler), web.get("/show", show)])
    setup(app, MemoryStorage(), cookie=SessionCookie(secrets=SECRET))
    async with serving(app) as client:
        visitor = Visitor(client, "")
        await visitor.get("/show")
        sent = {"Cookie": f"session={visitor.cookies['session']}"}
        for headers in ({}, sent):  # a new visitor, and one who has a session
            async with client.get("/", headers=headers) as response:
                assert (response.status, await response.text()) == (200, "answer")
                if how != "stream":
                    cookie = response.headers["Set-Cookie"].partition(";")[0]
                    async with client.get("/show", headers={"Cookie": cookie}) as shown:
                        assert await shown.json() == {"flash": ["hello"]}


# --- the alias, with the real packages

USES_THE_OLD_NAME = """
    import asyncio, json, warnings
    import {first}
    import aiohttp_security, aiohttp_csrf
    import aiohttp_session
    from aiohttp import web
    from aiohttp.test_utils import TestClient, TestServer
    from aiohttp_csrf.policy import FormPolicy
    from aiohttp_csrf.storage import SessionStorage
    from aiohttp_session_store import MemoryStorage, get_session, setup
    from aiohttp_security.abc import AbstractAuthorizationPolicy

    warnings.simplefilter("ignore")

    class Everybody(AbstractAuthorizationPolicy):
        async def authorized_userid(self, identity):
            return identity

        async def permits(self, identity, permission, context=None):
            return identity is not None

    async def form(request):
        return web.Response(text=await aiohttp_csrf.generate_token(request))

    async def login(request):
        response = web.Response(text="welcome")
        await aiohttp_security.remember(request, response, "ada")
        return response

    async def who(request):
        keys = sorted(await get_session(request))
        return web.json_response([await aiohttp_security.authorized_userid(request), keys])

    async def main():
        app = web.Application()
        app.add_routes([web.get("/form", form), web.post("/login", login), web.get("/who", who)])
        setup(app, MemoryStorage())
        aiohttp_security.setup(app, aiohttp_security.SessionIdentityPolicy(), Everybody())
        storage = SessionStorage("csrf", secret_phrase="0123456789abcdef0123456789abcdef")
        aiohttp_csrf.setup(app, policy=FormPolicy("token"), storage=storage)
        app.middlewares.append(aiohttp_csrf.csrf_middleware)
        async with TestClient(TestServer(app)) as client:
            await client.get("/form")
            refused = (await client.post("/login", data={{"token": "forged"}})).status
            token = await (await client.get("/form")).text()
            answer = await client.post("/login", data={{"token": token}})
            print(json.dumps([refused, answer.status, await (await client.get("/who")).json()]))

    asyncio.run(main())
"""


def run(first: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    (folder / "main.py").write_text(textwrap.dedent(USES_THE_OLD_NAME.format(first=first)))
    return subprocess.run(
        [sys.executable, "main.py"], cwd=folder, capture_output=True, text=True, check=False, timeout=100
    )


def test_packages_that_import_the_old_name_get_our_sessions(tmp_path: Path) -> None:
    write_files(PAGE, tmp_path)

    finished = run("old_name", tmp_path)

    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout) == [403, 200, ["ada", ["AIOHTTP_SECURITY", "csrf"]]]


def test_without_the_alias_they_ask_for_the_middleware_of_aiohttp_session(tmp_path: Path) -> None:
    """This is the failure that the page describes; the test also shows that the one above can fail."""
    finished = run("json", tmp_path)

    assert "Install aiohttp_session middleware" in finished.stderr


def test_what_a_package_imports_that_is_not_there_says_what_to_use(tmp_path: Path) -> None:
    write_files(PAGE, tmp_path)
    (tmp_path / "main.py").write_text("import old_name\nfrom aiohttp_session import AbstractStorage\n")

    command = [sys.executable, "main.py"]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100)

    assert "ImportError: 'AbstractStorage' is a name of aiohttp-session. Here, derive from Keyed" in finished.stderr


def test_the_commands_of_the_page_move_a_visitor(tmp_path: Path) -> None:
    write_files(PAGE, tmp_path)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    finished = subprocess.run(
        ["bash", "-e", "-c", block(PAGE, "sh", "OLD_SECRET").replace("8000", str(free_port()))],
        cwd=tmp_path,
        env={"PATH": path, "PYTHONUNBUFFERED": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert finished.returncode == 0, finished.stderr
    assert "welcome" in finished.stdout
    assert '{"user": "ada", "cart": []}' in finished.stdout
    assert "AIOHTTP_SESSION" not in (tmp_path / "jar").read_text()
