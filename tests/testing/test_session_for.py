"""session_for: a handler that is called directly, without a server, has a session."""

import asyncio
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from aiohttp_session_store import (
    FileSystemStorage,
    MemoryStorage,
    SessionKey,
    SessionUsageError,
    exclusive_session,
    get_session,
    get_storage,
    new_session,
    save_session,
    setup,
)
from aiohttp_session_store.testing import FailingStorage, session_for

CART = SessionKey("cart", list)


async def add(request: web.Request) -> web.Response:
    session = await get_session(request)
    session.setdefault("basket", []).append("loom")
    return web.json_response({"owner": session.owner, "basket": session["basket"]})


def request_for(path: str = "/") -> web.Request:
    return make_mocked_request("GET", path)


async def test_the_handler_reads_the_data_and_the_owner() -> None:
    request = request_for()
    session_for(request, {"basket": ["jacquard"]}, owner="7")

    assert (await add(request)).text == '{"owner": "7", "basket": ["jacquard", "loom"]}'


async def test_the_test_sees_what_the_handler_has_changed() -> None:
    request = request_for()
    session = session_for(request, {"basket": []}, owner="7")
    assert (session.new, session.dirty) == (False, False)

    await add(request)

    assert (session["basket"], session.dirty) == (["loom"], True)


async def test_without_data_the_visitor_is_new() -> None:
    request = request_for()
    session = session_for(request)

    assert session.new
    assert (await add(request)).text == '{"owner": null, "basket": ["loom"]}'


async def test_an_owner_alone_is_logged_in() -> None:
    session = session_for(request_for(), owner="7")

    assert (session.new, session.owner, dict(session)) == (False, "7", {})
    assert session.authenticated_at is not None


def test_no_event_loop_is_needed() -> None:
    """A fixture that is no coroutine can make the request, and the test has the loop."""
    request = request_for()
    session = session_for(request, {"basket": []}, owner="7")

    asyncio.run(add(request))

    assert session["basket"] == ["loom"]


async def test_a_login_and_a_logout_can_be_seen() -> None:
    request = request_for()
    session = session_for(request, {"basket": []})
    (await get_session(request)).login("8")
    assert session.owner == "8"
    (await get_session(request)).logout()
    assert session.owner is None


async def test_every_function_that_takes_a_request_works() -> None:
    request = request_for()
    session = session_for(request, {"count": 1}, owner="7")

    async with exclusive_session(request) as held:
        held["count"] += 1
    assert await save_session(request)
    assert (dict(session), session.dirty) == ({"count": 2}, False)
    [info] = await get_storage(request).sessions_of("7")
    assert info.owner == "7"
    assert await new_session(request) is session
    assert await get_session(request) is session
    assert dict(session) == {}


async def test_requests_can_share_a_storage() -> None:
    storage, requests = MemoryStorage(), [request_for(), request_for()]
    here, there = (session_for(request, {"n": 1}, owner="7", storage=storage) for request in requests)

    assert await get_storage(requests[0]).end_sessions("7", keep=here) == 1

    assert await save_session(requests[0])
    assert not await save_session(requests[1])
    assert there.destroyed


async def test_each_request_has_a_storage_of_its_own_otherwise() -> None:
    first, second = request_for(), request_for()
    session_for(first, owner="7")
    session_for(second, owner="7")

    assert len(await get_storage(first).sessions_of("7")) == 1


async def test_typed_keys_are_taken() -> None:
    request = request_for()
    session_for(request, {CART: ["loom"]})

    assert (await get_session(request))[CART] == ["loom"]


async def test_it_works_for_an_app_with_sessions() -> None:
    app = web.Application()
    setup(app, MemoryStorage())
    request = make_mocked_request("GET", "/", app=app)
    session_for(request, {"basket": []})

    assert (await add(request)).text == '{"owner": null, "basket": ["loom"]}'


async def test_a_later_call_replaces_the_session() -> None:
    request = request_for()
    session_for(request, {"basket": ["jacquard"]})
    session_for(request, {"basket": []})

    assert (await add(request)).text == '{"owner": null, "basket": ["loom"]}'


@pytest.mark.parametrize("wrong", [{"data": {"when": object()}}, {"owner": 7}, {"owner": ""}])
def test_what_a_session_cannot_hold_is_an_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        session_for(request_for(), **wrong)


async def test_a_storage_that_has_to_wait_is_an_error(tmp_path: Any) -> None:
    storages: list[Any] = [FileSystemStorage(tmp_path / "sessions"), FailingStorage(), "memory"]
    for storage in storages:
        with pytest.raises(SessionUsageError, match="needs a MemoryStorage"):
            session_for(request_for(), storage=storage)


@pytest.mark.parametrize("wrong", [None, "request", web.Application()], ids=lambda wrong: type(wrong).__name__)
def test_what_is_no_request_gets_no_session(wrong: Any) -> None:
    with pytest.raises(SessionUsageError, match="take the request, not a value of type"):
        session_for(wrong)
