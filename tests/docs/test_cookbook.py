"""The recipes of the cookbook do what their pages say.  Those that run processes are in test_deployment.py."""

import asyncio
import base64
import hashlib
import importlib
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from aiohttp import FormData, web
from aiohttp.test_utils import TestClient, TestServer
from pytest_aiohttp.plugin import AiohttpClient

from aiohttp_session_store import MemoryStorage, SessionCommittedError, get_session, setup
from aiohttp_session_store.testing import edit_session
from tests.docs.blocks import ROOT, blocks, write_files
from tests.examples.running import JINJA_WARNING

Client = TestClient[web.Request, web.Application]
Recipe = Callable[[str], ModuleType]

EVIL = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recipe]:
    """Return a function that imports a module of the cookbook, which is named ``page/module``."""
    imported: list[str] = []

    def load(path: str) -> ModuleType:
        page, name = path.split("/")
        if not imported:
            monkeypatch.syspath_prepend(tmp_path)
        write_files(f"docs/cookbook/{page}.md", tmp_path)
        imported.append(name)
        return importlib.import_module(name)

    yield load
    for name in imported:
        del sys.modules[name]


def app_of(module: ModuleType, **options: Any) -> web.Application:
    app = web.Application(**options)
    app.add_routes(module.routes)
    return app


async def client_of(
    aiohttp_client: AiohttpClient, app: web.Application, storage: MemoryStorage | None = None
) -> Client:
    setup(app, storage or MemoryStorage(sweep_interval=None))
    client: Client = await aiohttp_client(app)
    return client


async def text(client: Client, path: str, method: str = "GET", **options: Any) -> str:
    async with client.request(method, path, **options) as response:
        assert response.status < 300, f"{response.status} {await response.text()}"
        return await response.text()


async def status(client: Client, path: str, method: str = "GET", **options: Any) -> int:
    async with client.request(method, path, allow_redirects=False, **options) as response:
        return response.status


async def logged_in(client: Client, owner: str) -> None:
    async with edit_session(client) as session:
        session.login(owner)


def test_every_recipe_is_run_by_a_test() -> None:
    tests = "".join((ROOT / f"tests/docs/test_{name}.py").read_text() for name in ("cookbook", "deployment"))
    pages = sorted((ROOT / "docs/cookbook").glob("*.md"))

    for page in pages:
        for one in blocks(f"docs/cookbook/{page.name}"):
            if one.language == "python":
                assert f'"{page.stem}/{one.title.removesuffix(".py")}"' in tests, (page.name, one.title)
    assert len(pages) > 12


def test_the_front_page_of_the_cookbook_leads_to_every_page() -> None:
    front = (ROOT / "docs/cookbook/index.md").read_text()

    for page in (ROOT / "docs/cookbook").glob("*.md"):
        assert page.name == "index.md" or f"({page.name})" in front


# --- csrf.md


async def test_a_form_of_another_site_changes_nothing(recipe: Recipe, aiohttp_client: AiohttpClient) -> None:
    client = await client_of(aiohttp_client, recipe("csrf/csrf").make_app())
    form = {"email": "a@example.com"}

    assert await status(client, "/email", "POST", data=form, headers=EVIL) == 403
    assert await status(client, "/email", "POST", data=form, headers={"Origin": "https://admin.example.com"}) == 200
    assert await status(client, "/email", "POST", data=form) == 200
    assert await status(client, "/hooks/payment", "POST", headers=EVIL) == 200


# --- shopping-cart.md


async def test_tabs_that_add_at_once_lose_nothing(recipe: Recipe, aiohttp_client: AiohttpClient) -> None:
    cart = recipe("shopping-cart/cart")
    client = await client_of(aiohttp_client, app_of(cart))
    await status(client, "/cart/1/add", "POST")

    await asyncio.gather(*(status(client, f"/cart/{1 + number % 2}/add", "POST") for number in range(20)))
    async with client.get("/cart") as response:
        assert await response.json() == {"1": 11, "2": 10}
    await status(client, "/cart/2/remove", "POST")
    async with client.get("/cart") as response:
        assert await response.json() == {"1": 11}


async def test_of_two_clicks_on_order_one_orders(recipe: Recipe, aiohttp_client: AiohttpClient) -> None:
    cart = recipe("shopping-cart/cart")
    client = await client_of(aiohttp_client, app_of(cart))
    await status(client, "/cart/1/add", "POST")

    await asyncio.gather(*(status(client, "/order", "POST") for _ in range(5)))

    assert list(cart.ORDERS.values()) == [{"1": 1}]
    assert await text(client, "/cart") == "{}"
    async with edit_session(client) as session:
        assert session["last_order"] in cart.ORDERS


# --- oauth2.md


class Provider:
    """An OAuth2 provider with one user, whose endpoints check what they are sent."""

    def __init__(self) -> None:
        self.codes: dict[str, dict[str, str]] = {}
        self.fails = False
        self.site = ""
        self.app = web.Application()
        self.app.add_routes(
            [
                web.get("/authorize", self.authorize),
                web.post("/token", self.token),
                web.get("/userinfo", self.userinfo),
            ]
        )

    async def authorize(self, request: web.Request) -> web.Response:
        """Log the user in at once, and send them back."""
        code = f"code{len(self.codes)}"
        self.codes[code] = dict(request.query)
        back = {"code": code, "state": request.query["state"]}
        return web.json_response(back)

    async def token(self, request: web.Request) -> web.Response:
        if self.fails:
            raise web.HTTPBadGateway
        form = await request.post()
        asked = self.codes.pop(str(form["code"]))
        challenge = base64.urlsafe_b64encode(hashlib.sha256(str(form["code_verifier"]).encode()).digest())
        assert asked["code_challenge"] == challenge.decode().rstrip("=")
        assert asked["code_challenge_method"] == "S256"
        assert asked["redirect_uri"] == form["redirect_uri"]
        return web.json_response({"access_token": "t0ken", "token_type": "Bearer"})

    async def userinfo(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer t0ken"
        return web.json_response({"sub": "ada"})


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    one = Provider()
    async with TestServer(one.app) as server:
        one.site = str(server.make_url("")).rstrip("/")
        yield one


async def test_a_login_at_a_provider(
    recipe: Recipe,
    aiohttp_client: AiohttpClient,
    provider: Provider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    oauth2 = recipe("oauth2/oauth2")
    monkeypatch.setattr(oauth2, "PROVIDER", provider.site)
    app = app_of(oauth2)
    app.cleanup_ctx.append(oauth2.http_client)
    client = await client_of(aiohttp_client, app)

    async def sent_back() -> dict[str, str]:
        async with client.get("/login", allow_redirects=False) as response:
            place = response.headers["Location"]
        async with client.session.get(place) as answer:
            back: dict[str, str] = await answer.json()
            return back

    assert await status(client, "/login/callback", params={"state": "made up", "code": "code0"}) == 400

    first, second = await sent_back(), await sent_back()  # in two tabs
    provider.fails = True
    assert await status(client, "/login/callback", params=first) == 500
    provider.fails = False
    assert await status(client, "/login/callback", params=first) == 303
    async with edit_session(client) as session:
        assert session.owner == f"{provider.site}|ada"
        assert len(session) == 0
    assert await status(client, "/login/callback", params=second) == 400  # one login is enough
    assert await status(client, "/login/callback", params=first) == 400

    late = await sent_back()
    monkeypatch.setattr(oauth2.time, "time", lambda: 4e9)
    assert await status(client, "/login/callback", params=late) == 400


# --- flash-messages.md


@pytest.mark.filterwarnings(JINJA_WARNING)
async def test_a_message_is_shown_once_on_the_next_page(recipe: Recipe, aiohttp_client: AiohttpClient) -> None:
    client = await client_of(aiohttp_client, recipe("flash-messages/messages").make_app())

    page = await text(client, "/settings", "POST", data={"email": "<b>@x"})
    assert '<p class="notice">Saved &lt;b&gt;@x.</p>' in page
    assert "<p" not in await text(client, "/settings")
    assert '<p class="error">' in await text(client, "/settings", "POST", data={"email": "nobody"})


# --- file-upload.md

UPLOAD = "/upload/0b1c2d3e-0000-4000-8000-000000000000"
PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
END = b"\r\n--b--\r\n"


async def test_another_request_sees_how_far_an_upload_has_come(recipe: Recipe, aiohttp_client: AiohttpClient) -> None:
    client = await client_of(aiohttp_client, app_of(recipe("file-upload/upload")))
    data = b"x" * 4_000_000
    half = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield PART + data[: len(data) // 2]
        await half.wait()
        yield data[len(data) // 2 :] + END

    headers = {"Content-Type": "multipart/form-data; boundary=b", "Content-Length": str(len(PART + data + END))}
    assert await status(client, UPLOAD, "POST", data=FormData({"file": "x"})) == 400  # the page was not opened before
    await text(client, "/upload")
    uploading = asyncio.create_task(text(client, UPLOAD, "POST", data=body(), headers=headers))
    while int((await text(client, UPLOAD))[12:-1]) < 45:
        assert not uploading.done()
    assert await text(client, UPLOAD.replace("0b", "0c")) == '{"percent": 0}'
    half.set()

    assert await uploading == hashlib.sha256(data).hexdigest()
    assert await text(client, UPLOAD) == '{"percent": 0}'
    async with edit_session(client) as session:
        assert session["uploads"] == {}
        assert session["notice"].startswith("Uploaded: ")


async def test_a_logout_stops_an_upload(recipe: Recipe, aiohttp_client: AiohttpClient) -> None:
    client = await client_of(aiohttp_client, app_of(recipe("file-upload/upload")))
    await text(client, "/upload")
    gone = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield PART + b"x" * 500_000
        await gone.wait()
        yield b"x" * 500_000 + END

    headers = {"Content-Type": "multipart/form-data; boundary=b", "Content-Length": str(len(PART + END) + 1_000_000)}
    uploading = asyncio.create_task(status(client, UPLOAD, "POST", data=body(), headers=headers))
    while await text(client, UPLOAD) == '{"percent": 0}':
        assert not uploading.done()
    async with edit_session(client) as session:
        session.destroy()
    gone.set()

    assert await uploading == 401


# --- impersonation.md


async def test_an_administrator_acts_as_a_user_and_only_looks(
    recipe: Recipe, aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    acting = recipe("impersonation/acting_as")
    app = app_of(acting, middlewares=[acting.only_look])
    saved = []

    async def save(request: web.Request) -> web.Response:
        saved.append((await get_session(request)).owner)
        return web.Response()

    app.router.add_post("/save", save)
    client = await client_of(aiohttp_client, app)

    await logged_in(client, "1")
    assert await status(client, "/act-as/2", "POST") == 403
    await logged_in(client, "2")
    assert await status(client, "/act-as/7", "POST") == 403
    assert await text(client, "/act-as/1", "POST") == "The profile of ada"
    assert await status(client, "/save", "POST") == 403
    assert await text(client, "/act-as-myself", "POST") == "The profile of grace"
    assert await status(client, "/save", "POST") == 200
    assert saved == ["2"]

    await text(client, "/act-as/1", "POST")
    monkeypatch.setattr(acting, "ADMINS", set())
    assert await text(client, "/profile") == "The profile of grace"
    monkeypatch.undo()
    assert await text(client, "/profile") == "The profile of ada"
    monkeypatch.setattr(acting.time, "time", lambda: 4e9)
    assert await text(client, "/profile") == "The profile of grace"


# --- anonymous-sessions.md


async def test_an_address_begins_only_so_many_sessions_in_a_minute(
    recipe: Recipe, aiohttp_client: AiohttpClient
) -> None:
    anonymous = recipe("anonymous-sessions/anonymous")
    app, now = app_of(anonymous), [0.0]
    app[anonymous.LIMIT] = limit = anonymous.NewSessions(limit=2, clock=lambda: now[0])
    client = await client_of(aiohttp_client, app, anonymous.make_storage())

    def bot() -> Any:
        client.session.cookie_jar.clear()
        return status(client, "/cart/1", "POST")

    assert [await bot() for _ in range(3)] == [200, 200, 429]
    now[0] = 60
    assert await bot() == 200
    assert [await status(client, "/cart/1", "POST") for _ in range(3)] == [200, 200, 200]  # a visitor with a cookie
    assert [limit.allows_one_for(f"2001:db8::{number}") for number in range(3)] == [True, True, False]
    assert limit.allows_one_for("2001:db8:0:1::1")


# --- class-based-views.md


async def test_views_methods_and_a_guard(recipe: Recipe, aiohttp_client: AiohttpClient) -> None:
    client = await client_of(aiohttp_client, recipe("class-based-views/views").make_app())

    assert await text(client, "/name", "POST", data={"name": "Ada"}) == "Ada"
    assert await status(client, "/name", "POST", data={"name": "Eve"}, headers=EVIL) == 403
    assert await status(client, "/name", "PUT", headers=EVIL) == 200
    assert await text(client, "/visits") == "Welcome, visit 1"
    assert await text(client, "/visits") == "Welcome, visit 2"
    assert await status(client, "/members/profile") == 303
    await logged_in(client, "7")
    assert await text(client, "/members/profile") == "account 7"


# --- background-tasks.md


async def test_a_task_gives_its_result_to_its_visitor_only(recipe: Recipe, aiohttp_client: AiohttpClient) -> None:
    reports = recipe("background-tasks/reports")
    app = app_of(reports)
    app.cleanup_ctx.append(reports.tasks)
    client = await client_of(aiohttp_client, app)

    assert await status(client, "/report", "POST") == 401
    await logged_in(client, "7")
    async with client.post("/report") as response:
        job = (await response.json())["job"]
    await asyncio.gather(*app[reports.TASKS])
    assert await text(client, f"/report/{job}") == '{"result": "report for account 7"}'
    assert not app[reports.TASKS]
    client.session.cookie_jar.clear()
    assert await status(client, f"/report/{job}") == 404


async def test_a_change_after_the_request_raises_and_tasks_within_it_share_the_session(
    aiohttp_client: AiohttpClient,
) -> None:
    late: list[BaseException | None] = []
    answered = asyncio.Event()

    async def afterwards(request: web.Request) -> None:
        session = await get_session(request)
        await answered.wait()
        try:
            session["late"] = 1
        except SessionCommittedError as error:
            late.append(error)

    async def part(request: web.Request, name: str) -> None:
        (await get_session(request))[name] = 1

    async def handler(request: web.Request) -> web.Response:
        await asyncio.gather(part(request, "news"), part(request, "prices"))
        request.app[TASK].append(asyncio.create_task(afterwards(request)))
        return web.Response()

    app = web.Application()
    app[TASK] = []
    app.router.add_get("/", handler)
    client = await client_of(aiohttp_client, app)
    await text(client, "/")
    answered.set()
    await asyncio.gather(*app[TASK])

    assert len(late) == 1
    async with edit_session(client) as session:
        assert dict(session) == {"news": 1, "prices": 1}


TASK = web.AppKey("TASK", list[asyncio.Task[None]])


# --- several-apps.md


async def test_two_apps_on_one_host_keep_their_sessions_apart(
    recipe: Recipe, aiohttp_client: AiohttpClient, tmp_path: Path
) -> None:
    client: Client = await aiohttp_client(recipe("several-apps/separate").make_app(str(tmp_path / "var")))

    assert [await text(client, path) for path in ("/shop/", "/admin/", "/shop/")] == ["1", "1", "2"]
    async with edit_session(client, app=client.app._subapps[0]) as session:
        session.destroy()
    assert [await text(client, path) for path in ("/shop/", "/admin/")] == ["1", "2"]


async def test_two_apps_with_one_storage_share_a_login(
    recipe: Recipe, aiohttp_client: AiohttpClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SESSIONS", str(tmp_path / "var"))
    together = recipe("several-apps/together")
    shop: Client = await aiohttp_client(together.make_app())
    other: Client = await aiohttp_client(together.make_app())

    await text(shop, "/login", "POST")
    cookie = shop.session.cookie_jar.filter_cookies(shop.make_url("/"))["session"].value

    assert await text(other, "/") == "account None"
    assert await text(other, "/", headers={"Cookie": f"session={cookie}"}) == "account 1"
