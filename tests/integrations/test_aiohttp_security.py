"""The identity policy, with the real aiohttp-security; docs/examples/security.py has more of its tests."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import aiohttp_security
import aiohttp_session
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from aiohttp_security.abc import AbstractAuthorizationPolicy
from aiohttp_session.cookie_storage import EncryptedCookieStorage

from aiohttp_session_store import (
    CookieStorage,
    MemoryStorage,
    SessionCommittedError,
    SessionCookie,
    SessionStorage,
    get_session,
    get_storage,
    setup,
)
from aiohttp_session_store.integrations.aiohttp_security import SessionIdentityPolicy, identity_of
from aiohttp_session_store.migrate import EncryptedCookieReader, accept_old_sessions
from tests.migrate.test_aiohttp_session import KEY, OLD, Visitor
from tests.web.storages import SECRET

# aiohttp warns about the keys that aiohttp-session uses to keep its state on requests.
pytestmark = pytest.mark.filterwarnings("ignore:It is recommended to use web.RequestKey")


class Everybody(AbstractAuthorizationPolicy):
    async def authorized_userid(self, identity: str) -> str | None:
        return identity

    async def permits(self, identity: str | None, permission: Any, context: Any = None) -> bool:
        return identity is not None


async def who(request: web.Request) -> web.Response:
    return web.json_response(await aiohttp_security.authorized_userid(request))


async def login(request: web.Request) -> web.Response:
    response = web.json_response("welcome")
    await aiohttp_security.remember(request, response, request.query["user"])
    return response


async def logout(request: web.Request) -> web.Response:
    response = web.json_response("bye")
    await aiohttp_security.forget(request, response)
    return response


def with_handlers(policy: Any) -> web.Application:
    app = web.Application()
    app.add_routes([web.get(f"/{one.__name__}", one) for one in (who, login, logout)])
    aiohttp_security.setup(app, policy, Everybody())
    return app


def our_app(storage: SessionStorage, *, old_sessions: bool = True) -> web.Application:
    app = with_handlers(SessionIdentityPolicy())
    setup(app, storage, cookie=SessionCookie(secrets=SECRET), owner_of=identity_of if old_sessions else None)
    if old_sessions:
        accept_old_sessions(app, EncryptedCookieReader(KEY))
    return app


def client_of(app: web.Application) -> TestClient[Any, Any]:
    return TestClient(TestServer(app), cookie_jar=aiohttp.DummyCookieJar())


@pytest.fixture
async def old_cookie() -> AsyncIterator[str]:
    """Log in to a real app with aiohttp-security's policy on aiohttp-session; return the Cookie header after that."""
    app = with_handlers(aiohttp_security.SessionIdentityPolicy())
    aiohttp_session.setup(app, EncryptedCookieStorage(KEY))
    async with client_of(app) as client, client.get("/login?user=ada") as response:
        yield response.headers["Set-Cookie"].partition(";")[0]


@pytest.mark.parametrize("kind", [MemoryStorage, CookieStorage])
async def test_who_was_logged_in_with_the_old_policy_is_logged_in_with_ours(kind: Any, old_cookie: str) -> None:
    storage = kind()
    async with client_of(our_app(storage)) as client:
        visitor = Visitor(client, old_cookie)

        assert [await visitor.get("/who") for _ in range(2)] == ["ada", "ada"]
        assert set(visitor.cookies) == {"session"}
    if kind is MemoryStorage:
        assert len(await storage.sessions_of("ada")) == 1


async def test_a_visitor_who_was_not_logged_in_is_nobody() -> None:
    app = with_handlers(aiohttp_security.SessionIdentityPolicy())
    aiohttp_session.setup(app, EncryptedCookieStorage(KEY))

    async def anonymous(request: web.Request) -> web.Response:
        (await aiohttp_session.get_session(request))["cart"] = 1
        return web.Response()

    app.router.add_get("/cart", anonymous)
    async with client_of(app) as client, client.get("/cart") as response:
        cookie = response.headers["Set-Cookie"].partition(";")[0]
    async with client_of(our_app(MemoryStorage())) as client:
        assert await Visitor(client, cookie).get("/who") is None


async def test_forget_on_the_first_visit_ends_the_old_cookie_too(old_cookie: str) -> None:
    async with client_of(our_app(MemoryStorage())) as client:
        visitor = Visitor(client, old_cookie)
        assert await visitor.get("/logout") == "bye"

        assert visitor.cookies == {}
        assert await Visitor(client, old_cookie).get("/who") is None


async def test_forget_ends_the_session_and_every_copy_of_its_cookies(old_cookie: str) -> None:
    async with client_of(our_app(MemoryStorage())) as client:
        visitor = Visitor(client, old_cookie)
        await visitor.get("/who")
        copy = Visitor(client, "")
        copy.cookies = dict(visitor.cookies)
        assert await visitor.get("/logout") == "bye"

        assert await copy.get("/who") is None
        assert await Visitor(client, old_cookie).get("/who") is None


async def test_remember_gives_another_id_and_another_account_inherits_nothing(old_cookie: str) -> None:
    async with client_of(our_app(MemoryStorage())) as client:
        visitor = Visitor(client, old_cookie)
        await visitor.get("/who")
        before = visitor.cookies["session"]
        await visitor.get("/login?user=grace")

        assert visitor.cookies["session"] != before
        assert await visitor.get("/who") == "grace"
        visitor.cookies["session"] = before
        assert await visitor.get("/who") is None


async def test_remember_passes_its_arguments_on_to_login() -> None:
    async def labelled(request: web.Request) -> web.Response:
        response = web.Response()
        await aiohttp_security.remember(request, response, "ada", label="Phone")
        return response

    async def devices(request: web.Request) -> web.Response:
        return web.json_response([one.label for one in await get_storage(request).sessions_of("ada")])

    app = our_app(MemoryStorage(), old_sessions=False)
    app.add_routes([web.get("/labelled", labelled), web.get("/devices", devices)])
    async with client_of(app) as client:
        async with client.get("/labelled") as response:
            assert response.status == 200
        assert await Visitor(client, "").get("/devices") == ["Phone"]


async def test_remember_after_the_headers_is_refused_where_it_is_called() -> None:
    caught: list[type] = []

    async def late(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with pytest.raises(SessionCommittedError) as refused:
            await aiohttp_security.remember(request, response, "ada")
        caught.append(refused.type)
        return response

    app = our_app(MemoryStorage(), old_sessions=False)
    app.router.add_get("/late", late)
    async with client_of(app) as client, client.get("/late") as response:
        assert response.status == 200
    assert caught == [SessionCommittedError]


async def test_an_answer_that_is_raised_logs_in_as_well() -> None:
    async def redirects(request: web.Request) -> web.Response:
        response = web.HTTPSeeOther("/who")
        await aiohttp_security.remember(request, response, "ada")
        raise response

    app = our_app(MemoryStorage(), old_sessions=False)
    app.router.add_get("/redirects", redirects)
    async with client_of(app) as client:
        async with client.get("/redirects", allow_redirects=False) as response:
            cookie = response.headers["Set-Cookie"].partition(";")[0]
        async with client.get("/who", headers={"Cookie": cookie}) as response:
            assert await response.json() == "ada"


async def test_the_session_of_our_own_cookie_has_no_owner_by_the_key_of_the_old_policy_unless_asked() -> None:
    async def sets(request: web.Request) -> web.Response:
        (await get_session(request))["AIOHTTP_SECURITY"] = "ada"
        return web.json_response(None)

    for old_sessions, expected in ((False, None), (True, "ada")):
        app = our_app(MemoryStorage(), old_sessions=old_sessions)
        app.router.add_get("/sets", sets)
        async with client_of(app) as client:
            visitor = Visitor(client, "")
            await visitor.get("/sets")
            assert OLD not in visitor.cookies
            assert await visitor.get("/who") == expected
