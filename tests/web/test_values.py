"""Which values a handler can store in a session, and what happens if it tries to store others."""

import asyncio
import json
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest
from aiohttp import web

from aiohttp_session_store import KeyedStorage, Session, get_session
from tests.web.storages import GatedStorage, app_with
from tests.web.visits import Client, ClientOf, visit


def orjson_text(value: object) -> str:
    return orjson.dumps(value).decode()


async def data_of(client: Client, cookie: str) -> Any:
    return json.loads((await visit(client, "/read", cookie)).text)


def handler_that(change: Callable[[Session], object]) -> Callable[[web.Request], Any]:
    async def handler(request: web.Request) -> web.Response:
        change(await get_session(request))
        return web.Response()

    return handler


def nest(value: object) -> Callable[[Session], object]:
    """Append *value* to a list that is already in the session, where only the save can find it."""

    def change(session: Session) -> None:
        session["other"] = "must not be stored"
        session["cart"]["items"].append(value)

    return change


# --- changes inside a value


def append(session: Session) -> None:
    session["cart"]["items"].append("pear")


def set_inside(session: Session) -> None:
    session["cart"]["owner"] = "ada"


def delete_inside(session: Session) -> None:
    del session["cart"]["items"]


def append_by_get(session: Session) -> None:
    session.get("cart", {})["items"].append("pear")


def append_by_iteration(session: Session) -> None:
    for value in session.values():
        value["items"].append("pear")


@pytest.mark.parametrize(
    ("change", "cart"),
    [
        (append, {"items": ["apple", "pear"]}),
        (append_by_get, {"items": ["apple", "pear"]}),
        (append_by_iteration, {"items": ["apple", "pear"]}),
        (set_inside, {"items": ["apple"], "owner": "ada"}),
        (delete_inside, {}),
    ],
)
async def test_a_change_inside_a_value_is_stored(
    client_of: ClientOf, storage: KeyedStorage, change: Callable[[Session], None], cart: object
) -> None:
    app = app_with(storage, handler_that(change))
    app.router.add_get("/start", handler_that(lambda session: session.update(cart={"items": ["apple"]})))
    client = await client_of(app)
    cookie = (await visit(client, "/start")).cookie

    await visit(client, "/", cookie)

    assert await data_of(client, cookie) == {"cart": cart}


# --- values that cannot be stored

CYCLE: list[object] = []
CYCLE.append(CYCLE)
UNSTORABLE = [
    frozenset({1, 2}),
    bytearray(b"bytes"),
    datetime(2026, 1, 1, tzinfo=ZoneInfo("Europe/Paris")),
    float("nan"),
    float("inf"),
    {1: "a key that is not a string"},
    "\ud800",
    2**64,
    CYCLE,
    object(),
]
EVERY_UNSTORABLE = pytest.mark.parametrize("value", UNSTORABLE, ids=lambda value: type(value).__name__)


@EVERY_UNSTORABLE
async def test_a_value_that_cannot_be_stored_fails_the_assignment_with_its_path(
    client_of: ClientOf, storage: KeyedStorage, value: object
) -> None:
    caught: list[str] = []

    def assign(session: Session) -> None:
        with pytest.raises(TypeError) as error:
            session["cart"] = {"items": ["apple", value]}
        caught.append(str(error.value))

    client = await client_of(app_with(storage, handler_that(assign)))
    cookie = (await visit(client, "/write?user=ada")).cookie

    response = await visit(client, "/", cookie)

    assert response.status == 200
    assert caught[0].startswith("session['cart']['items'][1]")
    assert await data_of(client, cookie) == {"user": "ada"}


@EVERY_UNSTORABLE
async def test_if_the_save_finds_a_value_that_cannot_be_stored_nothing_of_the_request_is_stored(
    client_of: ClientOf, storage: KeyedStorage, caplog: pytest.LogCaptureFixture, value: object
) -> None:
    app = app_with(storage, handler_that(nest(value)))
    app.router.add_get("/start", handler_that(lambda session: session.update(cart={"items": ["apple"]})))
    client = await client_of(app)
    cookie = (await visit(client, "/start")).cookie

    with caplog.at_level(logging.ERROR):
        response = await visit(client, "/", cookie)

    [error] = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert isinstance(error, TypeError)
    assert str(error).startswith("session['cart']['items'][1]")
    assert (response.status, response.set_cookie) == (500, None)
    assert await data_of(client, cookie) == {"cart": {"items": ["apple"]}}


async def test_a_value_that_cannot_be_stored_does_not_harm_parallel_requests(client_of: ClientOf) -> None:
    """Parallel saves of one session share a write, but a request with a bad value does not take part in it."""
    storage = GatedStorage()
    app = app_with(storage, handler_that(nest(frozenset({1, 2}))))
    app.router.add_get("/start", handler_that(lambda session: session.update(cart={"items": []})))
    client = await client_of(app)
    cookie = (await visit(client, "/start")).cookie
    gate = storage.shut("replace")
    first = asyncio.create_task(visit(client, "/write?first=1", cookie))
    await storage.reached["replace"].wait()

    bad = await visit(client, "/", cookie)
    second = asyncio.create_task(visit(client, "/write?second=2", cookie))
    await visit(client, "/read", cookie)
    gate.set()
    good = await asyncio.gather(first, second)

    assert bad.status == 500
    assert [response.status for response in good] == [200, 200]
    assert await data_of(client, cookie) == {"cart": {"items": []}, "first": "1", "second": "2"}


async def test_a_key_that_is_not_a_string_fails_the_assignment(client_of: ClientOf, storage: KeyedStorage) -> None:
    def assign(session: Session) -> None:
        with pytest.raises(TypeError, match="session key 5"):
            session[5] = "five"  # type: ignore[call-overload]

    client = await client_of(app_with(storage, handler_that(assign)))

    response = await visit(client, "/")

    assert (response.status, response.set_cookie) == (200, None)


async def test_every_json_value_comes_back_unchanged(client_of: ClientOf, storage: KeyedStorage) -> None:
    data = {"": "", "ż\n\0": ["", 0, -(2**63), 2**64 - 1, 1.5, -0.0, True, None, {"a": [[]]}], "\u2028": "😀\x7f"}
    client = await client_of(app_with(storage, handler_that(lambda session: session.update(data))))

    cookie = (await visit(client, "/")).cookie

    assert await data_of(client, cookie) == data


@pytest.mark.parametrize("encode", [json.dumps, orjson_text], ids=["json", "orjson"])
async def test_a_session_that_a_handler_sends_as_json_fails_with_a_note_that_says_what_to_send(
    client_of: ClientOf, storage: KeyedStorage, encode: Callable[[object], str], caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response(await get_session(request), dumps=encode)

    client = await client_of(app_with(storage, handler))

    assert (await visit(client, "/")).status == 500
    assert "web.json_response(dict(session))" in caplog.text


class AsyncSession:
    """Another class that has our word in its name, as that of SQLAlchemy."""


@pytest.mark.parametrize("kind", [object, AsyncSession])
async def test_another_type_error_gets_no_note(
    client_of: ClientOf, storage: KeyedStorage, caplog: pytest.LogCaptureFixture, kind: type
) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response(kind())

    client = await client_of(app_with(storage, handler))

    assert (await visit(client, "/")).status == 500
    assert "is not JSON serializable" in caplog.text
    assert "dict(session)" not in caplog.text
