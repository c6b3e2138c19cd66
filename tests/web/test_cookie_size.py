"""A session too large for its cookie is refused before anything is sent, with an error that names the largest keys."""

import asyncio
import logging

import pytest
from aiohttp import web

from aiohttp_session_store import CookieStorage, SessionCookie, SessionTooLargeError, get_session, setup
from aiohttp_session_store.testing import ManualClock
from tests.web.storages import SECRET, raw_get, read, write
from tests.web.visits import Client, ClientOf, visit

LIMIT = 4096
NAMES = pytest.mark.parametrize("name", ["session", "s", "__Host-session"])


@pytest.fixture
def clock() -> ManualClock:
    """A clock that starts at a time of ten digits, so that the length of a cookie depends only on its data."""
    return ManualClock(1_700_000_000)


class Site:
    """An app whose session is in the cookie; /fill?bytes=N puts N bytes into it."""

    def __init__(self, clock: ManualClock, name: str = "session") -> None:
        self.errors: list[BaseException] = []
        self.app = web.Application()
        cookie = SessionCookie(name, secrets=SECRET, secure=True)
        setup(self.app, CookieStorage(clock=clock), cookie=cookie)
        self.app.add_routes([web.get("/write", write), web.get("/read", read), web.get("/fill", self.fill)])
        self.app.add_routes([web.get("/", self.stream)])

    async def fill(self, request: web.Request) -> web.Response:
        session = await get_session(request)
        session.update(small=1, middle="m" * 100, large="x" * int(request.query["bytes"]))
        return web.Response()

    async def stream(self, request: web.Request) -> web.StreamResponse:
        (await get_session(request))["large"] = "x" * 5000
        response = web.StreamResponse()
        try:
            await response.prepare(request)
        except SessionTooLargeError as error:
            self.errors.append(error)
            raise
        return response


async def fill(client: Client, size: int) -> int:
    """Fill the session; return the bytes of name and value of the cookie that is sent, or 0 if none is sent."""
    sent = (await visit(client, f"/fill?bytes={size}")).set_cookie
    return 0 if sent is None else len(sent.partition(";")[0]) - len("=")


async def most(client: Client) -> int:
    """Return the largest number of bytes that /fill can store."""
    fits, fails = 1, 5000
    while fails - fits > 1:
        middle = (fits + fails) // 2
        fits, fails = (middle, fails) if await fill(client, middle) else (fits, middle)
    return fits


@NAMES
async def test_the_largest_cookie_reaches_the_limit_or_falls_just_short_of_it(
    client_of: ClientOf, clock: ManualClock, name: str
) -> None:
    """Base64 turns three bytes into four: one more byte adds one character or two."""
    client = await client_of(Site(clock, name).app)
    largest = await most(client)

    sizes = [await fill(client, size) for size in (largest - 1, largest, largest + 1)]

    assert sizes[2] == 0
    assert sizes[1] in (LIMIT - 1, LIMIT)
    assert 1 <= sizes[1] - sizes[0] <= 2


async def test_a_cookie_of_exactly_the_limit_is_sent_and_read(client_of: ClientOf, clock: ManualClock) -> None:
    reached = set()
    for padding in range(3):  # the length of the name can bring the cookie to any length
        name = "session" + "s" * padding
        client = await client_of(Site(clock, name).app)
        largest = await most(client)
        reached.add(await fill(client, largest))
        value = (await visit(client, f"/fill?bytes={largest}")).cookie
        assert "x" * largest in (await visit(client, "/read", value, name)).text

    assert max(reached) == LIMIT


async def test_a_too_large_session_is_an_error_with_size_limit_and_largest_keys(
    client_of: ClientOf, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    client = await client_of(Site(clock).app)
    largest = await most(client)
    caplog.clear()

    with caplog.at_level(logging.ERROR):
        response = await visit(client, f"/fill?bytes={largest + 1}")

    [error] = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert response.status == 500
    assert isinstance(error, SessionTooLargeError)
    assert error.limit == LIMIT
    assert LIMIT < error.size <= LIMIT + 2
    assert f"'large' ({largest + 13} bytes), 'middle' (113 bytes), 'small' (11 bytes)" in str(error)


async def test_a_too_large_session_changes_nothing(client_of: ClientOf, clock: ManualClock) -> None:
    client = await client_of(Site(clock).app)
    value = (await visit(client, "/write?user=ada")).cookie

    response = await visit(client, "/fill?bytes=5000", value)

    assert response.set_cookie is None
    assert (await visit(client, "/read", value)).text == '{"user": "ada"}'


async def test_a_too_large_session_of_a_stream_raises_in_the_handler_and_sends_no_headers(
    client_of: ClientOf, clock: ManualClock
) -> None:
    site = Site(clock)
    client = await client_of(site.app)
    reader, writer = await raw_get(client.port)

    async with asyncio.timeout(5):
        received = await reader.read()

    writer.close()
    assert received == b""
    assert [type(error) for error in site.errors] == [SessionTooLargeError]
