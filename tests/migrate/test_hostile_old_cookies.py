"""Old cookies that an attacker sends, or plants in a visitor's browser."""

import asyncio
import json
import logging
import random
from http.cookies import SimpleCookie
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st

from aiohttp_session_store import CookieStorage, MemoryStorage, SessionStorage
from aiohttp_session_store.migrate import ForgeableCookieReader, OldSession
from aiohttp_session_store.migrate.adopting import values_of
from aiohttp_session_store.web.request_headers import MAX_COOKIE_TEXT
from tests.migrate.test_aiohttp_session import our_app

NAME = "__Host-old"
LONGEST = 8100  # aiohttp takes 8190 bytes in one header


class CountingReader:
    """Takes every value for the session of a user of that name, and counts how many it was asked about."""

    cookie_name = NAME
    max_age: int | None = None
    path = "/"
    domain: str | None = None

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def read(self, value: str) -> OldSession | None:
        self.asked.append(value)
        return OldSession({"user": value}, 1_900_000_000, None) if value.startswith("good") else None


async def answer(storage: SessionStorage, reader: Any, *cookies: bytes) -> bytes:
    """Send Cookie headers of exactly these bytes, and return the data of the session."""
    async with TestClient(TestServer(our_app(storage, reader)), cookie_jar=aiohttp.DummyCookieJar()) as client:
        connected, writer = await asyncio.open_connection("127.0.0.1", client.port)
        lines = [
            b"GET /show HTTP/1.1",
            b"Host: localhost",
            b"Connection: close",
            *(b"Cookie: " + one for one in cookies),
        ]
        writer.write(b"\r\n".join([*lines, b"", b""]))
        head, _, body = (await connected.read()).partition(b"\r\n\r\n")
        writer.close()
        assert b" 200 " in head
        return body


@pytest.mark.parametrize("blank", ["\u2000", "\u3000", "\xa0", "\x85", "\u2028", "\ufeff"])
async def test_a_name_that_begins_with_a_unicode_blank_is_another_name(blank: str) -> None:
    """Chromium lets a sibling host set such a cookie, with a Domain, beside the real ``__Host-`` cookie."""
    reader = CountingReader()

    body = await answer(MemoryStorage(), reader, f"{blank}{NAME}=good-attacker; {NAME}=good-visitor".encode())

    assert json.loads(body) == {"user": "good-visitor"}
    assert reader.asked == ["good-visitor"]


async def test_spaces_and_tabs_around_an_old_cookie_do_not_count() -> None:
    assert json.loads(await answer(MemoryStorage(), CountingReader(), f"a=1; \t {NAME}=good \t ;b=2".encode())) == {
        "user": "good"
    }


async def test_the_name_of_an_old_cookie_is_exact() -> None:
    reader = CountingReader()

    await answer(MemoryStorage(), reader, f"x{NAME}=good; {NAME}x=good; {NAME.lower()}=good; a={NAME}=good".encode())

    assert reader.asked == []


async def test_a_few_values_of_many_old_cookies_are_tried() -> None:
    reader = CountingReader()
    many = "; ".join(f"{NAME}=bad{number}" for number in range(400)).encode()

    assert await answer(MemoryStorage(), reader, *[many] * 60) == b"{}"
    assert reader.asked == ["bad0", "bad1", "bad2", "bad3"]


async def test_one_dead_old_cookie_sent_many_times_is_tried_once() -> None:
    reader = CountingReader()

    await answer(MemoryStorage(), reader, b"; ".join([f"{NAME}=bad".encode()] * 9 + [f"{NAME}=good".encode()]))

    assert reader.asked == ["bad", "good"]


@pytest.mark.parametrize("filler", [b";", b"a;", b" ;", b"x=1; ", b'"', b"\\", b";" + NAME.encode()])
async def test_text_far_behind_in_the_headers_is_not_looked_at(filler: bytes) -> None:
    reader = CountingReader()
    full = (filler * LONGEST)[:LONGEST]
    headers = MAX_COOKIE_TEXT // LONGEST + 1

    await answer(MemoryStorage(), reader, *[full] * headers, f"{NAME}=good".encode())
    assert "good" not in reader.asked

    await answer(MemoryStorage(), reader, f"{NAME}=good".encode(), *[full] * headers)
    assert reader.asked[0] == "good"


async def test_an_old_cookie_larger_than_browsers_keep_is_not_read() -> None:
    reader = CountingReader()

    await answer(MemoryStorage(), reader, f"{NAME}=good{'x' * 5000}".encode())

    assert reader.asked == []


@given(st.text(st.characters(max_codepoint=255, exclude_categories=["Cs"]), max_size=60))
def test_values_are_read_as_http_cookies_reads_those_that_it_wrote(text: str) -> None:
    jar = SimpleCookie()
    jar["old"] = text
    sent = jar["old"].coded_value

    assert list(values_of("old", [f"a=1; old={sent}"])) == [text] * bool(sent)


@pytest.mark.parametrize("storage", [MemoryStorage, CookieStorage])
@pytest.mark.parametrize(
    "data",
    [{"evil-text" * 300: 10**40}, {"k": {"evil-text" * 300: 10**40}}, {"k": ["evil-text", float("nan")]}],
    ids=["key", "inner key", "NaN"],
)
async def test_the_text_of_a_stranger_is_not_logged_and_its_refusal_only_once(
    storage: Any, data: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.warns(UserWarning, match="anybody can log in as anybody"):
        reader = ForgeableCookieReader(cookie_name="OLD")
    jar = SimpleCookie()
    jar["OLD"] = json.dumps({"session": data, "created": 1_700_000_000})
    async with TestClient(
        TestServer(our_app(storage(lifetime=None), reader)), cookie_jar=aiohttp.DummyCookieJar()
    ) as client:
        for _ in range(3):
            async with client.get("/show", headers={"Cookie": f"OLD={jar['OLD'].coded_value}"}) as response:
                assert await response.json() == {}

    [warning] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "was not taken over" in warning.getMessage()
    assert "evil-text" not in caplog.text


async def test_random_bytes_as_old_cookies_are_no_session() -> None:
    noise = random.Random(2).randbytes(LONGEST).translate(None, delete=bytes([*range(9), *range(10, 32), 127]))

    assert await answer(MemoryStorage(), CountingReader(), f"{NAME}=".encode() + noise, noise) == b"{}"
