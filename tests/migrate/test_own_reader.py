"""Readers that an app writes itself: the base class, and the reader for NaCl on the page about the migration."""

import json
import time
import warnings
from typing import Any

import aiohttp
import nacl.utils
import pytest
from aiohttp.test_utils import TestClient, TestServer
from aiohttp_session import SimpleCookieStorage
from aiohttp_session.nacl_storage import NaClCookieStorage

from aiohttp_session_store import MemoryStorage
from aiohttp_session_store.migrate import AiohttpSessionReader, ForgeableCookieReader, OldSession
from tests.docs.blocks import block
from tests.migrate.test_aiohttp_session import OLD, Visitor, cookie_of_old_app, our_app

# aiohttp warns about the keys that aiohttp-session uses to keep its state on requests.
pytestmark = pytest.mark.filterwarnings("ignore:It is recommended to use web.RequestKey")

NOW = 1_900_000_000


class PlainReader(AiohttpSessionReader):
    async def read(self, value: str) -> OldSession | None:
        return self.session_in(value, b"x")


def reader(**options: Any) -> PlainReader:
    return PlainReader(clock=lambda: NOW, **options)


def test_the_base_alone_is_no_reader() -> None:
    with pytest.raises(TypeError, match="abstract"):
        AiohttpSessionReader()  # type: ignore[abstract]


@pytest.mark.parametrize(
    ("created", "max_age", "expected"),
    [
        (NOW - 100, 100, NOW - 100),
        (NOW - 101, 100, None),
        (NOW - 10**9, None, NOW - 10**9),
        (NOW + 50, 100, NOW),  # by a clock that was ahead
        (-5, None, 0),
        (NOW - 0.5, 100, NOW - 1),
        (None, None, NOW),  # aiohttp-session takes a session without the time for one of now
        (None, 100, None),  # or of 1970
    ],
)
def test_the_rules_of_created_and_max_age(created: Any, max_age: int | None, expected: int | None) -> None:
    found = reader(max_age=max_age).session_in(json.dumps({"session": {"a": 1}, "created": created}), b"x")

    assert found == (None if expected is None else OldSession({"a": 1}, expected, b"x"))


NO_SESSIONS: list[str | bytes] = [
    *("", "x", b"\xff", "[]", "null", "5", '"a"', "{}", '{"session":5}', '{"session":{}}', "[" * 100_000),
    '{"session":{"a":1},"created":true}',
    '{"session":{"a":1},"created":NaN}',
    '{"session":{"a":1},"created":Infinity}',
    '{"session":{"a":1},"created":"5"}',
    '{"session":[["a",1]],"created":5}',
]


@pytest.mark.parametrize("text", NO_SESSIONS, ids=range(len(NO_SESSIONS)))
def test_what_is_no_session_is_none(text: Any) -> None:
    assert reader(max_age=10**10).session_in(text, None) is None


async def test_the_reader_on_the_page_takes_over_sessions_of_the_nacl_storage() -> None:
    page: dict[str, Any] = {}
    exec(block("docs/migrating.md", "python", "class NaClReader"), page)
    key = nacl.utils.random(32)
    cookie = await cookie_of_old_app(NaClCookieStorage(key, max_age=100), {"user": "ada"})
    app = our_app(MemoryStorage(), page["NaClReader"](key, max_age=100))
    async with TestClient(TestServer(app), cookie_jar=aiohttp.DummyCookieJar()) as client:
        visitor = Visitor(client, cookie)
        assert await visitor.get("/show") == {"user": "ada"}
        assert set(visitor.cookies) == {"session"}
        for value in ("x", "ü", "AAAA", "A" * 100, cookie.partition("=")[2][:-4]):
            assert await Visitor(client, f"{OLD}={value}").get("/show") == {}
        await visitor.get("/logout")
        assert await Visitor(client, cookie).get("/show") == {}


async def test_the_reader_for_tests_does_not_warn_and_reads_what_tests_put_into_the_cookie_jar() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        app = our_app(MemoryStorage(), ForgeableCookieReader(for_tests=True))
    async with TestClient(TestServer(app)) as client:
        stored = {"session": {"user": "ada"}, "created": time.time()}
        client.session.cookie_jar.update_cookies({OLD: json.dumps(stored)})

        for _ in range(2):
            async with client.get("/show") as response:
                assert await response.json() == {"user": "ada"}
    cookie = await cookie_of_old_app(SimpleCookieStorage(), {"user": "ada"})
    async with TestClient(TestServer(app), cookie_jar=aiohttp.DummyCookieJar()) as client:
        assert await Visitor(client, cookie).get("/show") == {"user": "ada"}
