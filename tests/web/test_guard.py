"""A module on top may refuse the session of a request, give the handler another one, and add headers to a login."""

from collections.abc import Sequence
from typing import Any

import pytest
from aiohttp import web

from aiohttp_session_store import KeyedStorage, Session, get_session, setup
from aiohttp_session_store.web.app_sessions import APP
from tests.web.storages import CountingStorage
from tests.web.visits import ClientOf


class Guard:
    """Does to sessions that have data what the header ``Admit`` of the request says."""

    cookie_name = "guard"

    def __init__(self, storage: KeyedStorage) -> None:
        self.storage, self.asked = storage, 0

    async def admit(self, session: Session, request: Any) -> Session:
        self.asked += 1
        if session.new or "Admit" not in request.headers:
            return session
        if request.headers["Admit"] == "other":
            return await self.storage.read(None)
        raise web.HTTPUnauthorized(text="no")

    def admits(self, session: Session, cookies: Sequence[str]) -> bool:
        return not any("Refused" in line for line in cookies)

    def logged_in(self, session: Session, headers: Any, request: Any) -> None:
        headers["Logged-In"] = f"{session.owner} {request.path}"


async def act(request: web.Request) -> web.Response:
    for step in request.path.strip("/").split("-"):
        session = await get_session(request)
        if step == "set":
            session["a"] = 1
        elif step == "login":
            session.login("ada")
        elif step == "logout":
            session.logout()
        elif step == "fail":
            return web.Response(status=500)
    session = await get_session(request)
    return web.Response(text=f"{session.owner} {dict(session)}")


def guarded() -> tuple[web.Application, CountingStorage, Guard]:
    app, storage = web.Application(), CountingStorage()
    app.router.add_get("/{steps}", act)
    setup(app, storage)
    guard = app[APP].guard = Guard(storage)
    return app, storage, guard


async def test_a_refused_request_gets_the_response_and_changes_nothing(aiohttp_client: ClientOf) -> None:
    app, _, _ = guarded()
    client = await aiohttp_client(app)
    await client.get("/set")

    response = await client.get("/logout", headers={"Admit": "no"})

    assert (response.status, await response.text()) == (401, "no")
    assert "Set-Cookie" not in response.headers
    assert await (await client.get("/x")).text() == "None {'a': 1}"


async def test_a_handler_that_catches_the_refusal_still_gets_no_session(aiohttp_client: ClientOf) -> None:
    app, _, guard = guarded()
    client = await aiohttp_client(app)
    await client.get("/set")

    async def stubborn(request: web.Request) -> web.Response:
        for _ in range(2):
            with pytest.raises(web.HTTPUnauthorized):
                await get_session(request)
        return web.Response(text="went on")

    app2 = web.Application()
    app2.router.add_get("/", stubborn)
    setup(app2, guard.storage)
    app2[APP].guard = guard
    other = await aiohttp_client(app2)
    other.session.cookie_jar.update_cookies(client.session.cookie_jar.filter_cookies(client.make_url("/")))

    assert await (await other.get("/", headers={"Admit": "no"})).text() == "went on"


async def test_another_session_in_its_place_does_not_end_the_one_that_the_browser_came_with(
    aiohttp_client: ClientOf,
) -> None:
    app, _, _ = guarded()
    client = await aiohttp_client(app)
    await client.get("/set")
    (cookie,) = client.session.cookie_jar
    thief = await aiohttp_client(app)

    for steps in ("/login", "/login-logout", "/logout", "/set-logout"):
        response = await thief.get(steps, headers={"Admit": "other", "Cookie": f"session={cookie.value}"})
        assert response.status == 200

    assert await (await client.get("/x")).text() == "None {'a': 1}"


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ("/login", "ada /login"),
        ("/set-login", "ada /set-login"),
        ("/set", None),
        ("/login-fail", None),
        ("/login-logout", None),
        ("/x", None),
    ],
)
async def test_a_login_that_is_stored_can_add_headers(aiohttp_client: ClientOf, steps: str, says: str | None) -> None:
    app, _, _ = guarded()
    client = await aiohttp_client(app)

    response = await client.get(steps)

    assert response.headers.get("Logged-In") == says
    assert "Logged-In" not in (await client.get("/x")).headers


async def test_a_guard_costs_no_call_to_the_storage(aiohttp_client: ClientOf) -> None:
    app, storage, guard = guarded()
    client = await aiohttp_client(app)
    await client.get("/set")
    storage.calls.clear()

    await client.get("/x")

    assert storage.calls == ["fetch"]
    assert guard.asked == 2


@pytest.mark.parametrize("mark", ["", "; Refused=1"])
async def test_a_logout_ends_a_second_session_of_the_browser_only_if_it_may(
    aiohttp_client: ClientOf, mark: str
) -> None:
    app, storage, _ = guarded()
    values = []
    for _ in range(2):
        session = await storage.read(None)
        session["a"] = 1
        values.append(app[APP].cookie.seal(await storage.save(session) or ""))
    client = await aiohttp_client(app)

    cookies = "; ".join(f"session={value}" for value in values) + mark
    assert (await client.get("/logout", headers={"Cookie": cookies})).status == 200

    alive = await (await client.get("/x", headers={"Cookie": f"session={values[1]}"})).text()
    assert alive == ("None {'a': 1}" if mark else "None {}")


async def test_another_session_in_its_place_ends_no_second_session_either(aiohttp_client: ClientOf) -> None:
    app, storage, _ = guarded()
    values = []
    for _ in range(2):
        session = await storage.read(None)
        session["a"] = 1
        values.append(app[APP].cookie.seal(await storage.save(session) or ""))
    client = await aiohttp_client(app)

    cookies = "; ".join(f"session={value}" for value in values)
    assert (await client.get("/login", headers={"Cookie": cookies, "Admit": "other"})).status == 200

    client.session.cookie_jar.clear()
    for value in values:
        assert await (await client.get("/x", headers={"Cookie": f"session={value}"})).text() == "None {'a': 1}"
