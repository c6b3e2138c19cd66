"""edit_session: a test can change its client's session, and can read what the app stored there."""

from contextlib import suppress
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer, TestClient
from pytest_aiohttp import AiohttpClient, AiohttpServer

from aiohttp_session_store import (
    CookieStorage,
    MemoryStorage,
    SessionCommittedError,
    SessionCookie,
    SessionStorage,
    SessionTooLargeError,
    SessionUsageError,
    StorageError,
    get_session,
    setup,
)
from aiohttp_session_store.testing import FailingStorage, edit_session
from tests.web.storages import SECRET


async def whoami(request: web.Request) -> web.Response:
    session = await get_session(request)
    return web.json_response({"user": session.get("user"), "notice": session.get("notice")})


async def login(request: web.Request) -> web.Response:
    session = await get_session(request)
    session.regenerate_id(True)
    session["user"] = 7
    session.flash("notice", "Welcome")
    return web.Response()


async def logout(request: web.Request) -> web.Response:
    (await get_session(request)).destroy()
    return web.Response()


def application(storage: SessionStorage, **cookie: Any) -> web.Application:
    app = web.Application()
    for handler in (whoami, login, logout):
        app.router.add_get(f"/{handler.__name__}", handler)
    setup(app, storage, cookie=SessionCookie(secrets=SECRET, **cookie))
    return app


@pytest.fixture(params=[MemoryStorage, CookieStorage, FailingStorage])
async def client(request: pytest.FixtureRequest, aiohttp_client: AiohttpClient) -> TestClient[Any, Any]:
    return await aiohttp_client(application(request.param()))


async def asked(client: TestClient[Any, Any], path: str = "/whoami") -> Any:
    async with client.get(path) as response:
        assert response.status == 200
        return await response.json()


async def test_the_app_reads_what_the_test_has_set(client: TestClient[Any, Any]) -> None:
    async with edit_session(client) as session:
        assert session.new
        session["user"] = 5

    assert (await asked(client))["user"] == 5


async def test_the_test_reads_what_the_app_has_set(client: TestClient[Any, Any]) -> None:
    await client.get("/login")

    async with edit_session(client) as session:
        assert dict(session) == {"user": 7, "notice": "Welcome"}


async def test_edit_session_uses_up_no_flash(client: TestClient[Any, Any]) -> None:
    await client.get("/login")
    async with edit_session(client) as session:
        session["seen"] = True

    assert (await asked(client))["notice"] == "Welcome"
    assert (await asked(client))["notice"] is None


async def test_a_test_can_add_a_flash(client: TestClient[Any, Any]) -> None:
    async with edit_session(client) as session:
        session.flash("notice", "from a test")

    assert (await asked(client))["notice"] == "from a test"


async def test_changes_made_meanwhile_are_kept(aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(application(MemoryStorage()))
    async with edit_session(client) as session:
        session["user"] = 5
    async with edit_session(client) as outer:
        async with edit_session(client) as inner:
            inner["inner"] = 1
        outer["outer"] = 1

    async with edit_session(client) as session:
        assert dict(session) == {"user": 5, "inner": 1, "outer": 1}


async def test_destroying_the_session_also_removes_the_cookie(client: TestClient[Any, Any]) -> None:
    await client.get("/login")
    async with edit_session(client) as session:
        session.destroy()

    assert (await asked(client))["user"] is None
    assert not list(client.session.cookie_jar)


async def test_a_regenerated_id_reaches_the_client(aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(application(MemoryStorage()))
    await client.get("/login")
    async with edit_session(client) as session:
        session.regenerate_id(True)

    assert (await asked(client))["user"] == 7


async def test_nothing_is_stored_if_nothing_was_changed(aiohttp_client: AiohttpClient) -> None:
    storage = MemoryStorage()
    client = await aiohttp_client(application(storage))
    async with edit_session(client) as session:
        assert not session

    assert len(storage) == 0
    assert not list(client.session.cookie_jar)


async def test_an_exception_in_the_block_stores_nothing_and_propagates(client: TestClient[Any, Any]) -> None:
    async def fail() -> None:
        async with edit_session(client) as session:
            session["user"] = 5
            raise LookupError

    with pytest.raises(LookupError):
        await fail()

    assert (await asked(client))["user"] is None


async def test_after_a_logout_the_test_gets_a_new_session(client: TestClient[Any, Any]) -> None:
    await client.get("/login")
    await client.get("/logout")

    async with edit_session(client) as session:
        assert session.new


async def test_the_path_of_the_cookie_is_respected(aiohttp_client: AiohttpClient) -> None:
    app = web.Application()
    app.add_subapp("/shop", application(MemoryStorage(), path="/shop"))
    client = await aiohttp_client(app)
    async with edit_session(client, app=app._subapps[0]) as session:
        session["user"] = 5

    assert (await asked(client, "/shop/whoami"))["user"] == 5


async def test_with_two_sessions_the_app_argument_selects_one(aiohttp_client: AiohttpClient) -> None:
    app, admin = application(MemoryStorage()), application(MemoryStorage(), name="admin")
    app.add_subapp("/admin", admin)
    client = await aiohttp_client(app)
    async with edit_session(client, app=admin) as session:
        session["user"] = "root"

    assert (await asked(client, "/admin/whoami"))["user"] == "root"
    assert (await asked(client))["user"] is None


@pytest.mark.parametrize("app", [web.Application, None])
async def test_an_app_without_sessions_is_an_error(aiohttp_client: AiohttpClient, app: Any) -> None:
    async def answer(_: web.BaseRequest) -> web.Response:
        return web.Response()

    client: TestClient[Any, Any] = await aiohttp_client(app() if app else RawTestServer(answer))
    with pytest.raises(SessionUsageError, match="has no sessions of its own"):
        async with edit_session(client):
            pass


async def test_a_secure_cookie_needs_a_cookie_jar_that_trusts_the_server(aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(application(MemoryStorage(), name="__Host-session", secure=True))
    with pytest.raises(SessionUsageError, match="treat_as_secure_origin"):
        async with edit_session(client) as session:
            session["user"] = 5
    with pytest.raises(SessionUsageError, match="treat_as_secure_origin"):  # now it is in the jar
        async with edit_session(client) as session:
            pass


async def test_a_secure_cookie_is_sent_to_a_trusted_server(
    aiohttp_server: AiohttpServer, aiohttp_client: AiohttpClient
) -> None:
    """This is the way out that the error above suggests."""
    server = await aiohttp_server(application(MemoryStorage(), name="__Host-session", secure=True))
    trusting = aiohttp.CookieJar(unsafe=True, treat_as_secure_origin=server.make_url("/").origin())
    client: TestClient[Any, Any] = await aiohttp_client(server, cookie_jar=trusting)
    async with edit_session(client) as session:
        session["user"] = 5

    assert (await asked(client))["user"] == 5


@pytest.mark.parametrize("domain", ["example.org", "EXAMPLE.org", "shop.example.org"])
async def test_a_cookie_of_another_domain_is_kept_for_the_test_server(
    aiohttp_client: AiohttpClient, domain: str
) -> None:
    client = await aiohttp_client(application(MemoryStorage(), domain=domain))
    async with edit_session(client) as session:
        session["user"] = 5

    assert (await asked(client))["user"] == 5
    async with edit_session(client) as session:
        assert session["user"] == 5
        session.destroy()
    assert not list(client.session.cookie_jar)


async def test_a_test_server_of_the_cookies_domain_gets_it_with_the_domain(aiohttp_server: AiohttpServer) -> None:
    server = await aiohttp_server(application(MemoryStorage(), domain="app.localhost"))
    server._root = server.make_url("/").with_host("shop.app.localhost")  # nothing is sent to it
    async with TestClient(server, cookie_jar=aiohttp.CookieJar()) as client:
        async with edit_session(client) as session:
            session["user"] = 5

        assert [morsel["domain"] for morsel in client.session.cookie_jar] == ["app.localhost"]


async def test_a_cookie_of_an_old_name_is_opened_and_moved(aiohttp_client: AiohttpClient) -> None:
    storage = MemoryStorage()
    before = await aiohttp_client(application(storage))
    async with edit_session(before) as session:
        session["user"] = 5
    client = await aiohttp_client(application(storage, name="sid", old_names=["session"]))
    client.session.cookie_jar.update_cookies({morsel.key: morsel for morsel in before.session.cookie_jar})

    async with edit_session(client) as session:
        assert session["user"] == 5
        session.regenerate_id(True)

    assert [morsel.key for morsel in client.session.cookie_jar] == ["sid"]
    assert (await asked(client))["user"] == 5


async def test_a_client_that_keeps_no_cookies_is_an_error(aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(application(MemoryStorage()), cookie_jar=aiohttp.DummyCookieJar())
    with pytest.raises(SessionUsageError, match="keeps no cookies"):
        async with edit_session(client) as session:
            session["user"] = 5


@pytest.mark.parametrize("error", [None, LookupError("on purpose")])
async def test_a_write_after_the_block_is_an_error(aiohttp_client: AiohttpClient, error: Exception | None) -> None:
    client = await aiohttp_client(application(MemoryStorage()))
    with suppress(LookupError):
        async with edit_session(client) as session:
            session["user"] = 5
            if error:
                raise error
    with pytest.raises(SessionCommittedError):
        session["user"] = 6
    assert "user" in session


async def test_a_session_too_large_for_the_cookie_is_an_error(aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(application(CookieStorage()))
    with pytest.raises(SessionTooLargeError):
        async with edit_session(client) as session:
            session["big"] = "x" * 5000


async def test_a_failing_storage_raises_a_storage_error(aiohttp_client: AiohttpClient) -> None:
    storage = FailingStorage()
    client = await aiohttp_client(application(storage))
    with storage.failing(), pytest.raises(StorageError):
        async with edit_session(client) as session:
            session["user"] = 5
