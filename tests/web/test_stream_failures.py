"""If the storage fails, the browser gets a correct 503 or a closed connection, and never a mixture of both.

The tests look at the raw bytes, because one client may tolerate what another one rejects.
"""

from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from aiohttp_session_store import StorageError, get_session
from tests.web.storages import UPGRADE, FailingStorage, Handler, app_with, raw_get

Client = TestClient[web.Request, web.Application]
Serve = Callable[[Handler], Awaitable[Client]]

LOGGER = "aiohttp_session_store"


@pytest.fixture
def storage() -> FailingStorage:
    return FailingStorage()


@pytest.fixture
def serve(aiohttp_client: AiohttpClient, storage: FailingStorage) -> Serve:
    """Return a function that serves a handler to a visitor with a session; after that, writes to the storage fail."""

    async def serve(handler: Handler) -> Client:
        client: Client = await aiohttp_client(app_with(storage, handler))
        await client.get("/write?user=ada")
        storage.failing = frozenset({"insert", "replace"})
        return client

    return serve


def cookie_of(client: Client) -> str:
    return "; ".join(f"{cookie.key}={cookie.value}" for cookie in client.session.cookie_jar)


async def received(client: Client) -> bytes:
    """Send a request that accepts gzip and an upgrade; return all bytes until the connection closes."""
    headers = UPGRADE | {"Accept-Encoding": "gzip", "Cookie": cookie_of(client)}
    headers["Connection"] = "Upgrade, close"
    reader, writer = await raw_get(client.port, **headers)
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


def parsed(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    """Parse exactly one response with a Content-Length, strictly."""
    head, separator, body = answer.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("ascii").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    version, status, _ = status_line.split(" ", 2)
    assert separator
    assert version == "HTTP/1.1"
    assert len(headers) == len(lines)
    assert {"Transfer-Encoding", "Content-Encoding", "Upgrade", "Set-Cookie"}.isdisjoint(headers)
    assert len(body) == int(headers["Content-Length"])
    return int(status), headers, body


# --- while a response is being prepared


def plain() -> web.StreamResponse:
    return web.Response(text="a text that is longer than that of the error")


def short() -> web.StreamResponse:
    return web.Response(text="short")


def sized() -> web.StreamResponse:
    return web.StreamResponse(headers={"Content-Length": "5"})


def endless() -> web.StreamResponse:
    return web.StreamResponse()


def chunked() -> web.StreamResponse:
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    return response


def zipped() -> web.StreamResponse:
    response = web.StreamResponse()
    response.enable_compression()
    return response


def zipped_text() -> web.StreamResponse:
    response = web.Response(text="text " * 1000)
    response.enable_compression(web.ContentCoding.gzip)
    return response


def file() -> web.StreamResponse:
    return web.FileResponse(__file__)


def websocket() -> web.StreamResponse:
    return web.WebSocketResponse()


Make = Callable[[], web.StreamResponse]
SHAPES: list[Make] = [plain, short, sized, endless, chunked, zipped, zipped_text, file, websocket]
EVERY_SHAPE = pytest.mark.parametrize("make", SHAPES)


@EVERY_SHAPE
async def test_a_failed_save_before_the_headers_is_a_503_or_nothing(serve: Serve, make: Make) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        (await get_session(request))["user"] = "bob"
        response = make()
        await response.prepare(request)
        return response

    answer = await received(await serve(handler))

    assert not answer or parsed(answer)[0] == 503


async def test_a_websocket_whose_first_save_fails_is_refused_with_a_503(serve: Serve) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        (await get_session(request))["user"] = "bob"
        response = websocket()
        await response.prepare(request)
        return response

    assert parsed(await received(await serve(handler)))[0] == 503


@EVERY_SHAPE
async def test_a_failed_save_before_the_headers_raises_in_the_handler(serve: Serve, make: Make) -> None:
    caught: list[StorageError] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        (await get_session(request))["user"] = "bob"
        response = make()
        try:
            await response.prepare(request)
        except StorageError as error:
            caught.append(error)
            raise
        return response

    client = await serve(handler)
    await received(client)

    [error] = caught
    assert isinstance(error.__cause__, OSError)
    assert await (await client.get("/read")).json() == {"user": "ada"}


async def another_text(_: web.Request, __: web.StreamResponse) -> web.StreamResponse:
    return web.Response(text="something went wrong, sorry")


async def another_stream(request: web.Request, _: web.StreamResponse) -> web.StreamResponse:
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    await response.prepare(request)
    await response.write(b"something went wrong, sorry")
    return response


async def another_chunked(_: web.Request, __: web.StreamResponse) -> web.StreamResponse:
    response = web.Response(text="something went wrong, sorry")
    response.enable_chunked_encoding()
    return response


async def the_same(_: web.Request, failed: web.StreamResponse) -> web.StreamResponse:
    return failed


async def write_on(_: web.Request, failed: web.StreamResponse) -> web.StreamResponse:
    await failed.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    return failed


Answer = Callable[[web.Request, web.StreamResponse], Awaitable[web.StreamResponse]]


@pytest.mark.parametrize("answer_with", [another_text, another_stream, another_chunked, the_same, write_on])
@pytest.mark.parametrize(
    "make", [make for make in SHAPES if make is not file]
)  # aiohttp leaks a file that is sent twice
async def test_the_response_after_a_failed_save_is_complete_or_nothing(
    serve: Serve, make: Make, answer_with: Answer
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        session = await get_session(request)
        session["user"] = "bob"
        response = make()
        with pytest.raises(StorageError):
            await response.prepare(request)
        session.discard()
        return await answer_with(request, response)

    answer = await received(await serve(handler))

    if b"Transfer-Encoding: chunked\r\n" in answer:
        assert answer.endswith(b"\r\n\r\n1b\r\nsomething went wrong, sorry\r\n0\r\n\r\n")
        assert answer.count(b"HTTP/1.1") == 1
    elif answer:  # the 500 is aiohttp's, for using a WebSocket that was never opened
        status, _, body = parsed(answer)
        assert status == 500 or (status, body) == (200, b"something went wrong, sorry")
