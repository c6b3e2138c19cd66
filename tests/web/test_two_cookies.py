"""A browser that sends two cookies of our name, after a change of the cookie's path or domain."""

import logging

import pytest
from aiohttp import web

from aiohttp_session_store import (
    CookieStorage,
    KeyedStorage,
    SessionCookie,
    SessionStorage,
    StorageError,
    get_session,
    new_session,
    setup,
)
from aiohttp_session_store.testing import FailingStorage
from tests.web.storages import SECRET, CountingStorage
from tests.web.visits import ClientOf


async def leave(request: web.Request) -> web.Response:
    (await get_session(request)).destroy()
    return web.Response()


async def leave_and_fail(request: web.Request) -> web.Response:
    (await get_session(request)).destroy()
    raise RuntimeError("on purpose")


async def start_anew(request: web.Request) -> web.Response:
    (await new_session(request))["fresh"] = True
    return web.Response()


async def login(request: web.Request) -> web.Response:
    session = await get_session(request)
    session["fresh"] = True
    session.regenerate_id(True)
    return web.Response()


async def log_in(request: web.Request) -> web.Response:
    (await get_session(request)).login("42")
    return web.Response()


async def log_out(request: web.Request) -> web.Response:
    (await get_session(request)).logout()
    return web.Response()


async def log_out_and_say_goodbye(request: web.Request) -> web.Response:
    session = await get_session(request)
    session.logout()
    session.flash("notice", "Goodbye.")
    return web.Response()


async def log_out_and_fail(request: web.Request) -> web.Response:
    (await get_session(request)).logout()
    raise RuntimeError("on purpose")


async def read(request: web.Request) -> web.Response:
    return web.json_response(dict(await get_session(request)))


async def write(request: web.Request) -> web.Response:
    (await get_session(request))["written"] = True
    return web.Response()


async def sessions(storage: SessionStorage, *names: str) -> list[str]:
    ids = []
    for name in names:
        session = await storage.read(None)
        session["user"] = name
        session_id = await storage.save(session)
        assert session_id
        ids.append(session_id)
    return ids


def header(storage: SessionStorage, ids: list[str]) -> dict[str, str]:
    cookie = SessionCookie(secrets=SECRET).bind(storage)
    return {"Cookie": "; ".join(f"session={cookie.seal(session_id)}" for session_id in ids)}


def app_with(storage: SessionStorage, handler: object) -> web.Application:
    app = web.Application()
    app.router.add_get("/", handler)  # type: ignore[arg-type]
    setup(app, storage, cookie=SessionCookie(secrets=SECRET))
    return app


@pytest.mark.parametrize(
    "handler",
    [leave, leave_and_fail, start_anew, login, log_in, log_out, log_out_and_say_goodbye, log_out_and_fail],
)
async def test_whatever_ends_one_session_ends_the_other_too(
    client_of: ClientOf, storage: KeyedStorage, handler: object, caplog: pytest.LogCaptureFixture
) -> None:
    ids = await sessions(storage, "ada", "bob")
    client = await client_of(app_with(storage, handler))
    await client.get("/", headers=header(storage, ids))

    for session_id in ids:
        assert (await storage.read(session_id)).new
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert ["several session cookies" in record.getMessage() for record in warnings] == [True]
    assert not any(session_id in caplog.text for session_id in ids)


@pytest.mark.parametrize("handler", [leave, leave_and_fail, start_anew, login, log_in])
async def test_whatever_ends_one_session_ends_all_of_them_however_many_the_browser_sends(
    client_of: ClientOf, storage: KeyedStorage, handler: object
) -> None:
    """Any host of the domain can set cookies for all hosts."""
    ids = await sessions(storage, *(f"visitor {number}" for number in range(6)))
    forged = "; ".join(f"session=forged.{number}" for number in range(20))
    client = await client_of(app_with(storage, handler))
    cookies = header(storage, ids)["Cookie"].partition("; ")
    await client.get("/", headers={"Cookie": f"{cookies[0]}; {forged}; {cookies[2]}"})

    assert [(await storage.read(session_id)).new for session_id in ids] == [True] * 6


async def test_a_logout_ends_a_session_that_stands_behind_the_dead_ones_that_are_looked_up(
    client_of: ClientOf, storage: KeyedStorage
) -> None:
    ids = await sessions(storage, *(f"visitor {number}" for number in range(5)))
    for session_id in ids[:4]:
        session = await storage.read(session_id)
        session.destroy()
        await storage.save(session)
    client = await client_of(app_with(storage, leave))
    await client.get("/", headers=header(storage, ids))

    assert (await storage.read(ids[4])).new


async def test_a_read_looks_four_of_them_up_and_an_ending_none_twice(client_of: ClientOf) -> None:
    storage = CountingStorage()
    client = await client_of(app_with(storage, read))
    ending = await client_of(app_with(storage, leave))
    cookies = header(storage, [f"{number}" * 43 for number in range(6)])

    await client.get("/", headers=cookies)
    assert storage.take_calls() == ["fetch"] * 4
    await ending.get("/", headers=cookies)
    assert storage.take_calls() == ["fetch"] * 6


async def test_with_sessions_in_the_cookie_the_warning_says_that_a_logout_ends_only_one(
    client_of: ClientOf, caplog: pytest.LogCaptureFixture
) -> None:
    storage = CookieStorage()
    values = await sessions(storage, "ada", "bob")
    client = await client_of(app_with(storage, leave))
    await client.get("/", headers=header(storage, values))

    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "stays logged in by the other one" in warning.getMessage()
    assert "ends all" not in warning.getMessage()


async def test_a_write_leaves_the_other_session_alone(client_of: ClientOf, storage: KeyedStorage) -> None:
    ids = await sessions(storage, "ada", "bob")
    client = await client_of(app_with(storage, write))
    await client.get("/", headers=header(storage, ids))

    assert [dict(await storage.read(session_id)) for session_id in ids] == [
        {"user": "ada", "written": True},
        {"user": "bob"},
    ]


async def test_a_logout_that_ends_only_one_of_them_is_not_confirmed(client_of: ClientOf) -> None:
    storage = FailingStorage()
    ids = await sessions(storage, "ada", "bob")
    client = await client_of(app_with(storage, leave))
    read = storage.read

    async def fail_for_the_second(value: str | None) -> object:
        if value == ids[1]:
            raise StorageError("the second one is not to be had")
        return await read(value)

    storage.read = fail_for_the_second  # type: ignore[method-assign,assignment]
    response = await client.get("/", headers=header(storage, ids))

    assert response.status == 503
