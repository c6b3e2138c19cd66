"""Whatever cookie a visitor sends leads to the right session or to a new one; it is never an error and never logged."""

import asyncio
import logging
import random
from typing import Any

import pytest

from aiohttp_session_store import CookieStorage, KeyedStorage, MemoryStorage, SessionCookie
from aiohttp_session_store.web.request_headers import MAX_COOKIE_TEXT
from tests.web.storages import SECRET, CountingStorage, app_with, write
from tests.web.visits import ClientOf, visit

OTHER = "other-secret-0123456789-abcdefghijklmnopqrstuvwxyz"
ID = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopq"


def sealed(value: str, secret: str = SECRET, storage: Any = MemoryStorage, name: str = "session") -> str:
    return SessionCookie(name, secrets=secret).bind(storage()).seal(value)


LIVE = sealed(ID)  # has a valid signature, but there is no such session
LONGEST = 8100  # aiohttp accepts 8190 bytes for a header field


async def answer(port: int | None, *cookies: bytes) -> tuple[int, bytes, bytes]:
    """Request /read with Cookie headers of exactly these bytes; return status, head and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = [b"GET /read HTTP/1.1", b"Host: localhost", b"Connection: close", *(b"Cookie: " + c for c in cookies)]
    writer.write(b"\r\n".join([*lines, b"", b""]))
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split(b" ", 2)[1]), head, body


RUBBISH = {
    "nothing": b"",
    "a dot": b".",
    "dots": b"....",
    "an empty id": b"." + LIVE.partition(".")[2].encode(),
    "no signature": ID.encode(),
    "an empty signature": ID.encode() + b".",
    "a short signature": LIVE[:-1].encode(),
    "a signature and more": LIVE.encode() + b"x",
    "another id": b"b" + LIVE[1:].encode(),
    "a dead id": LIVE.encode(),
    "another app's signature": sealed(ID, OTHER).encode(),
    "the signature of data": sealed(ID, storage=CookieStorage).encode(),
    "another cookie's signature": sealed(ID, name="other").encode(),
    "a signed path": sealed("../../../../etc/passwd").encode(),
    "a signed short id": sealed("x").encode(),
    "a signed long id": sealed("x" * 3000).encode(),
    "a signed nothing": sealed("").encode(),
    "a path": b"../../../../etc/passwd",
    "a quoted path": b'"../secret"',
    "half a quote": b'"' + LIVE.encode(),
    "quotes within": b'a"b"c',
    "octal escapes": rb'"\000\012\015"',
    "percent escapes": b"%00%0d%0a",
    "JSON": b'{"user":1}',
    "commas": b"a,b,c",
    "spaces": b"a b c",
    "tabs": b"a\tb",
    "UTF-8": "ż☃😀".encode(),
    "not UTF-8": b"\xff\xfe\x80",
    "a surrogate in UTF-8": b"\xed\xa0\x80",
    "Latin-1": b"\xe9t\xe9",
    "equals signs": b"====",
    "its own name": b"session=session=",
    "as long as can be": b"A" * LONGEST,
    "as many dots as can be": b"." * LONGEST,
    "as many as can be": b"; session=".join([LIVE[:20].encode()] * 250),
    "as many signed as can be": b"; session=".join(sealed(ID[:-2] + f"{n:02}").encode() for n in range(80)),
    "spaces as long as can be": b"a" + b" " * LONGEST + b"b",
}


@pytest.mark.parametrize("rubbish", RUBBISH.values(), ids=RUBBISH.keys())
async def test_rubbish_is_a_new_session_and_never_logged(
    client_of: ClientOf, caplog: pytest.LogCaptureFixture, storage: KeyedStorage, rubbish: bytes
) -> None:
    client = await client_of(app_with(storage, write))
    caplog.set_level(logging.DEBUG)

    status, head, body = await answer(client.port, b"session=" + rubbish)

    assert (status, body) == (200, b"{}")
    assert b"Set-Cookie" not in head
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(rubbish) < 6 or rubbish.decode("utf-8", "surrogateescape") not in caplog.text


@pytest.mark.parametrize("rubbish", RUBBISH.values(), ids=RUBBISH.keys())
async def test_rubbish_for_cookie_storage_is_a_new_session_and_never_logged(
    client_of: ClientOf, caplog: pytest.LogCaptureFixture, rubbish: bytes
) -> None:
    client = await client_of(app_with(CookieStorage(), write))
    caplog.set_level(logging.DEBUG)

    status, _, body = await answer(client.port, b"session=" + rubbish)

    assert (status, body) == (200, b"{}")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(rubbish) < 6 or rubbish.decode("utf-8", "surrogateescape") not in caplog.text


@pytest.mark.parametrize("value", ["", "AAAA", "../../x", "MTcwMDAwMDAwMCB4CjIgWA"])
async def test_signed_data_that_cannot_be_read_is_a_new_session(client_of: ClientOf, value: str) -> None:
    client = await client_of(app_with(CookieStorage(), write))

    status, _, body = await answer(client.port, b"session=" + sealed(value, storage=CookieStorage).encode())

    assert (status, body) == (200, b"{}")


@pytest.mark.parametrize("forged", [sealed(ID, OTHER), ID, sealed("../../../../etc/passwd"), sealed("x" * 44)])
async def test_a_forged_id_never_reaches_the_storage(client_of: ClientOf, forged: str) -> None:
    storage = CountingStorage()
    client = await client_of(app_with(storage, write))

    await visit(client, "/read", forged)

    assert storage.take_calls() == []


async def test_a_byte_that_is_not_allowed_in_headers_is_rejected_by_aiohttp(client_of: ClientOf) -> None:
    client = await client_of(app_with(MemoryStorage(), write))

    status, _, _ = await answer(client.port, b"session=a\0b")

    assert status == 400  # from aiohttp itself


async def test_an_id_sent_by_a_visitor_is_never_adopted(client_of: ClientOf, storage: KeyedStorage) -> None:
    """Not even an id with a valid signature, such as a copy of the cookie of a session that has ended."""
    client = await client_of(app_with(storage, write))

    given_back = (await visit(client, "/write?user=ada", LIVE)).cookie

    assert given_back.partition(".")[0] != ID
    assert (await visit(client, "/read", LIVE)).text == "{}"


async def test_an_id_outside_of_the_cookie_header_is_ignored(client_of: ClientOf, storage: KeyedStorage) -> None:
    client = await client_of(app_with(storage, write))
    live = (await visit(client, "/write?user=ada")).cookie

    assert (await visit(client, "/read", live)).text != "{}"
    assert (await visit(client, f"/read?session={live}&session_id={live.partition('.')[0]}")).text == "{}"
    for header in ("Authorization", "X-Session", "Session", "Set-Cookie"):
        assert (await visit(client, "/read", **{header: f"session={live}"})).text == "{}"


# --- several cookies


def shape(live: str, form: str) -> list[bytes]:
    return [line.replace("LIVE", live).replace("DEAD", LIVE).encode() for line in form.split("\n")]


@pytest.mark.parametrize(
    "form",
    [
        "session=LIVE",
        'session="LIVE"',
        "session=LIVE; session=DEAD",
        "session=DEAD; session=LIVE",
        "session=rubbish; session=LIVE",
        "session=DEAD\nsession=LIVE",
        "other=1\nsession=LIVE",
        "a=1;session=LIVE;b=2",
        " \t session \t = \t LIVE \t ",
        "; ;; ,; session=LIVE;;",
        "session; session=; =session; session=LIVE",
        "xsession=DEAD; session-x=DEAD; Session=DEAD; session=LIVE",
        'a="; session=DEAD"; session=LIVE',
        "a=\\; session=LIVE",
    ],
)
async def test_the_live_cookie_is_found_among_others(client_of: ClientOf, storage: KeyedStorage, form: str) -> None:
    client = await client_of(app_with(storage, write))
    live = (await visit(client, "/write?user=ada")).cookie

    status, _, body = await answer(client.port, *shape(live, form))

    assert (status, body) == (200, b'{"user": "ada"}')


@pytest.mark.parametrize(
    "form",
    [
        "xsession=LIVE",
        "session-x=LIVE",
        "SESSION=LIVE",
        "a=session=LIVE",
        "session=LIVE,x",
        "\u2000session=LIVE",
        "\xa0session=LIVE",
        "a=1; \u3000session=LIVE",
    ],
)
async def test_a_cookie_with_another_name_or_form_is_ignored(client_of: ClientOf, form: str) -> None:
    client = await client_of(app_with(MemoryStorage(), write))
    live = (await visit(client, "/write?user=ada")).cookie

    status, _, body = await answer(client.port, *shape(live, form))

    assert (status, body) == (200, b"{}")


async def test_the_first_of_two_live_cookies_wins(client_of: ClientOf, storage: KeyedStorage) -> None:
    client = await client_of(app_with(storage, write))
    ada = (await visit(client, "/write?user=ada")).cookie
    bob = (await visit(client, "/write?user=bob")).cookie

    _, _, body = await answer(client.port, f"session={ada}; session={bob}".encode())

    assert body == b'{"user": "ada"}'


async def test_the_search_ends_after_four_dead_cookies(client_of: ClientOf) -> None:
    storage = CountingStorage()
    client = await client_of(app_with(storage, write))
    dead = [sealed(ID[:-1] + str(number)) for number in range(8)]

    await answer(client.port, b"; ".join(f"session={value}".encode() for value in dead))

    assert storage.take_calls() == ["fetch"] * 4


async def test_a_cookie_far_behind_in_the_headers_is_not_looked_for(client_of: ClientOf) -> None:
    client = await client_of(app_with(MemoryStorage(), write))
    live = b"session=" + (await visit(client, "/write?user=ada")).cookie.encode()
    full = [(b"x=1; " * LONGEST)[:LONGEST]] * (MAX_COOKIE_TEXT // LONGEST + 1)

    assert (await answer(client.port, *full, live))[2] == b"{}"
    assert (await answer(client.port, live, *full))[2] == b'{"user": "ada"}'


async def test_one_dead_cookie_sent_many_times_is_tried_once(client_of: ClientOf) -> None:
    client = await client_of(app_with(MemoryStorage(), write))
    live = (await visit(client, "/write?user=ada")).cookie

    _, _, body = await answer(
        client.port, b"; ".join([b"session=" + LIVE.encode()] * 9 + [b"session=" + live.encode()])
    )

    assert body == b'{"user": "ada"}'


# --- random input


async def test_random_bytes_are_a_new_session(client_of: ClientOf) -> None:
    client = await client_of(app_with(MemoryStorage(), write))
    allowed = bytes(byte for byte in range(256) if byte not in b"\0\r\n" and byte != 127 and (byte >= 32 or byte == 9))
    noise = random.Random(1).randbytes(50 * 100).translate(None, delete=bytes(set(range(256)) - set(allowed)))

    answers = [await answer(client.port, b"session=" + noise[start : start + 100]) for start in range(0, 4000, 100)]

    assert {(status, body) for status, _, body in answers} == {(200, b"{}")}


async def test_a_visitor_with_a_garbled_cookie_can_get_a_new_session(
    client_of: ClientOf, storage: KeyedStorage
) -> None:
    client = await client_of(app_with(storage, write))

    response = await visit(client, "/write?user=ada", "garbled" * 50)

    assert (await visit(client, "/read", response.cookie)).text == '{"user": "ada"}'
