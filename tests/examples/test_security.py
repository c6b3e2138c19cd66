"""Sessions with aiohttp-security: docs/examples/security.py."""

from pathlib import Path

import aiohttp_security
import pytest
from aiohttp import DummyCookieJar, web
from pytest_aiohttp.plugin import AiohttpClient

from aiohttp_session_store import FileSystemStorage, KeyedStorage, MemoryStorage, get_session
from docs.examples import security
from tests.web.visits import Client, Visit, visit

PASSWORDS = {"ada": "analytical-engine", "grace": "found-a-moth"}


@pytest.fixture(params=["memory", "files"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> KeyedStorage:
    if request.param == "memory":
        return MemoryStorage(sweep_interval=None)
    return FileSystemStorage(tmp_path / "sessions", sweep_interval=None)


async def remembers_after_forgetting(request: web.Request) -> web.Response:
    response = web.Response()
    await aiohttp_security.forget(request, response)
    await aiohttp_security.remember(request, response, "grace")
    return response


async def fill_cart(request: web.Request) -> web.Response:
    (await get_session(request))["cart"] = ["loom"]
    return web.Response()


async def show(request: web.Request) -> web.Response:
    session = await get_session(request)
    return web.json_response(dict(session) if session.owner is None else {**session, "owner": session.owner})


async def may_read(request: web.Request) -> web.Response:
    return web.json_response(await aiohttp_security.permits(request, "read books"))


@pytest.fixture
async def client(storage: KeyedStorage, aiohttp_client: AiohttpClient) -> Client:
    """A client of the example, with extra handlers that read and change the session."""
    app = security.make_app(storage)
    app.add_routes(
        [
            web.get("/fill", fill_cart),
            web.get("/show", show),
            web.get("/again", remembers_after_forgetting),
            web.get("/may", may_read),
        ]
    )
    client: Client = await aiohttp_client(app, cookie_jar=DummyCookieJar())
    return client


async def post(client: Client, path: str, cookie: str | None = None, **form: str) -> Visit:
    headers = {"Cookie": f"session={cookie}"} if cookie else {}
    async with client.post(path, data=form, headers=headers, allow_redirects=False) as response:
        return Visit(response.status, response.headers, await response.text(), response.headers.get("Set-Cookie"))


async def login(client: Client, name: str, cookie: str | None = None) -> str:
    answer = await post(client, "/login", cookie, name=name, password=PASSWORDS[name])
    assert answer.status == 303
    return answer.cookie


async def test_a_login_is_remembered(client: Client) -> None:
    cookie = await login(client, "ada")

    assert "You are ada." in (await visit(client, "/", cookie)).text


async def test_a_login_keeps_the_data_under_a_new_id_and_makes_the_old_id_worthless(client: Client) -> None:
    planted = (await visit(client, "/fill")).cookie

    cookie = await login(client, "ada", planted)

    assert cookie != planted
    assert (await visit(client, "/show", cookie)).text == '{"cart": ["loom"], "owner": "ada"}'
    assert (await visit(client, "/show", planted)).text == "{}"
    assert (await visit(client, "/books", planted)).status == 401


async def test_a_second_login_of_the_same_user_changes_the_id_again(client: Client) -> None:
    first = await login(client, "ada")

    second = await login(client, "ada", first)

    assert (await visit(client, "/books", second)).status == 200
    assert (await visit(client, "/books", first)).status == 401


async def test_a_login_as_another_user_inherits_nothing_and_ends_the_earlier_session(client: Client) -> None:
    of_ada = await login(client, "ada")
    await visit(client, "/fill", of_ada)

    of_grace = await login(client, "grace", of_ada)

    assert (await visit(client, "/show", of_grace)).text == '{"owner": "grace"}'
    assert (await visit(client, "/show", of_ada)).text == "{}"


async def test_remember_after_forget_in_the_same_request_starts_a_new_session(client: Client) -> None:
    of_ada = await login(client, "ada")

    of_grace = (await visit(client, "/again", of_ada)).cookie

    assert (await visit(client, "/show", of_grace)).text == '{"owner": "grace"}'
    assert (await visit(client, "/show", of_ada)).text == "{}"


@pytest.mark.parametrize(("name", "status"), [("ada", 200), ("grace", 403), (None, 401)])
async def test_a_page_requires_its_permission(client: Client, name: str | None, status: int) -> None:
    cookie = await login(client, name) if name else None

    assert (await visit(client, "/books", cookie)).status == status


@pytest.mark.parametrize(("name", "answer"), [("ada", "true"), ("grace", "false"), (None, "false")])
async def test_a_page_can_ask_whether_the_visitor_has_a_permission(
    client: Client, name: str | None, answer: str
) -> None:
    cookie = await login(client, name) if name else None

    assert (await visit(client, "/may", cookie)).text == answer


async def test_a_removed_user_is_logged_out_at_once(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    cookie = await login(client, "ada")

    monkeypatch.delitem(security.USERS, "ada")

    assert (await visit(client, "/books", cookie)).status == 401
    assert "Log in" in (await visit(client, "/", cookie)).text


@pytest.mark.parametrize(("name", "password"), [("ada", "wrong"), ("nobody", "analytical-engine"), ("", "")])
async def test_a_wrong_name_or_password_starts_no_session(client: Client, name: str, password: str) -> None:
    answer = await post(client, "/login", name=name, password=password)

    assert (answer.status, answer.set_cookie) == (403, None)


async def test_forget_ends_the_session_on_the_server_and_clears_the_cookie(
    client: Client, storage: KeyedStorage
) -> None:
    cookie = await login(client, "ada")
    session_id = cookie.partition(".")[0]
    assert not (await storage.read(session_id)).new

    answer = await post(client, "/logout", cookie)

    assert answer.cookie == ""
    assert answer.set_cookie is not None
    assert "Max-Age=0" in answer.set_cookie
    assert (await storage.read(session_id)).new
    assert (await visit(client, "/books", cookie)).status == 401
