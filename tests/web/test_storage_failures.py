"""A failing storage: the handler can catch the error, otherwise the visitor gets a 503, and nobody is logged out."""

import asyncio
import logging

import pytest
from aiohttp import web

from aiohttp_session_store import StorageError, get_session, new_session, save_session
from aiohttp_session_store.testing import ManualClock
from tests.web.storages import FailingStorage, Handler, app_with, raw_get
from tests.web.visits import Client, ClientOf, visit

LOGGER = "aiohttp_session_store"
FULL = "OSError: [Errno 28] No space left on device"


@pytest.fixture
def storage() -> FailingStorage:
    return FailingStorage()


async def visitor(client_of: ClientOf, storage: FailingStorage, handler: Handler, *failing: str) -> tuple[Client, str]:
    """Serve *handler* to a visitor with a session; from then on the verbs *failing* fail.  Return client and cookie."""
    client = await client_of(app_with(storage, handler))
    cookie = (await visit(client, "/write?user=ada")).cookie
    storage.failing = frozenset(failing)
    return client, cookie


async def kept(client: Client, storage: FailingStorage, cookie: str) -> str:
    storage.failing = frozenset()
    return (await visit(client, "/read", cookie)).text


async def returns(request: web.Request) -> web.Response:
    (await get_session(request))["user"] = "bob"
    return web.Response(text="done")


async def raises(request: web.Request) -> web.Response:
    (await get_session(request))["user"] = "bob"
    raise web.HTTPFound("/done")


async def returns_file(request: web.Request) -> web.StreamResponse:
    (await get_session(request))["user"] = "bob"
    return web.FileResponse(__file__)


async def regenerates(request: web.Request) -> web.Response:
    session = await get_session(request)
    session.regenerate_id(True)
    session["user"] = "bob"
    return web.Response()


ENDS = pytest.mark.parametrize("handler", [returns, raises, returns_file, regenerates])


# --- saving


@ENDS
async def test_a_failed_final_save_is_a_503_without_a_cookie(
    client_of: ClientOf, storage: FailingStorage, handler: Handler
) -> None:
    client, cookie = await visitor(client_of, storage, handler, "replace")

    response = await visit(client, "/", cookie)

    assert (response.status, response.text) == (503, "503: Service Unavailable")
    assert response.set_cookie is None
    assert response.headers["Cache-Control"] == "private"
    assert response.headers["Vary"] == "Cookie"


@ENDS
async def test_a_failed_first_save_is_a_503_without_a_cookie(
    client_of: ClientOf, storage: FailingStorage, handler: Handler
) -> None:
    client, _ = await visitor(client_of, storage, handler, "insert")

    response = await visit(client, "/")

    assert (response.status, response.set_cookie) == (503, None)


@ENDS
async def test_a_failed_final_save_is_logged_once_with_its_cause(
    client_of: ClientOf, storage: FailingStorage, caplog: pytest.LogCaptureFixture, handler: Handler
) -> None:
    client, cookie = await visitor(client_of, storage, handler, "replace")

    await visit(client, "/", cookie)

    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.name == LOGGER
    assert record.getMessage() == f"sessions are unavailable: replace failed ({FULL})"
    assert not record.exc_info


@ENDS
async def test_a_failed_final_save_leaves_the_old_record_intact(
    client_of: ClientOf, storage: FailingStorage, handler: Handler
) -> None:
    client, cookie = await visitor(client_of, storage, handler, "replace")

    await visit(client, "/", cookie)

    assert await kept(client, storage, cookie) == '{"user": "ada"}'


@pytest.mark.parametrize("who", ["middleware", "handler"])
async def test_a_failed_final_save_after_the_headers_aborts_the_response_and_is_one_line_in_the_log(
    client_of: ClientOf, storage: FailingStorage, caplog: pytest.LogCaptureFixture, who: str
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        session = await get_session(request)
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"part")
        session["user"] = "bob"
        if who == "handler":
            await save_session(request)
        return response

    client, cookie = await visitor(client_of, storage, handler, "replace")
    reader, writer = await raw_get(client.port, Cookie=f"session={cookie}")

    answer = await reader.read()

    writer.close()
    assert answer.endswith(b"\r\n\r\n4\r\npart\r\n")
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.getMessage() == f"sessions are unavailable: replace failed ({FULL})"
    assert not record.exc_info


async def test_a_flash_that_cannot_be_removed_is_still_read(
    client_of: ClientOf, storage: FailingStorage, caplog: pytest.LogCaptureFixture
) -> None:
    async def flash(request: web.Request) -> web.Response:
        (await get_session(request)).flash("notice", "Saved.")
        return web.Response()

    client, cookie = await visitor(client_of, storage, flash)
    await visit(client, "/", cookie)
    storage.failing = frozenset({"replace"})

    response = await visit(client, "/read", cookie)

    assert (response.status, response.text) == (200, '{"user": "ada", "notice": "Saved."}')
    assert [record.levelno for record in caplog.records if record.name == LOGGER] == [logging.WARNING]


async def test_a_session_that_cannot_be_extended_is_still_read(
    client_of: ClientOf, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    storage = FailingStorage(clock=clock, idle_timeout=1000)
    client, cookie = await visitor(client_of, storage, returns, "touch")
    clock.advance(500)

    response = await visit(client, "/read", cookie)

    assert (response.status, response.text) == (200, '{"user": "ada"}')
    assert storage.calls[-2:] == ["fetch", "touch"]
    assert [record.levelno for record in caplog.records if record.name == LOGGER] == [logging.WARNING]


# --- loading


async def test_a_handler_can_catch_a_failed_load(client_of: ClientOf, storage: FailingStorage) -> None:
    async def handler(request: web.Request) -> web.Response:
        with pytest.raises(StorageError) as error:
            await get_session(request)
        assert isinstance(error.value.__cause__, OSError)
        return web.Response(text="without a session")

    client, cookie = await visitor(client_of, storage, handler, "fetch")

    response = await visit(client, "/", cookie)

    assert (response.status, response.text, response.set_cookie) == (200, "without a session", None)


async def test_a_failed_load_is_a_503_logged_once_and_no_logout(
    client_of: ClientOf, storage: FailingStorage, caplog: pytest.LogCaptureFixture
) -> None:
    client, cookie = await visitor(client_of, storage, returns, "fetch")

    response = await visit(client, "/", cookie)

    assert (response.status, response.set_cookie) == (503, None)
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.name == LOGGER
    assert record.getMessage() == f"sessions are unavailable: fetch failed ({FULL})"
    assert not record.exc_info
    assert await kept(client, storage, cookie) == '{"user": "ada"}'


@pytest.mark.parametrize("verb", ["fetch", "insert", "replace", "delete"])
async def test_requests_that_a_failing_storage_costs_are_one_line_in_the_log_and_then_a_count(
    client_of: ClientOf, storage: FailingStorage, caplog: pytest.LogCaptureFixture, verb: str
) -> None:
    """Whatever the handler does with the error.  With 1,000 requests, a traceback for each would hide everything."""

    async def handler(request: web.Request) -> web.Response:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(get_session(request))
        session = await get_session(request)
        if verb == "insert":
            session = await new_session(request)
        if verb == "delete":
            session.destroy()
        else:
            session["user"] = "bob"
        await save_session(request)
        return web.Response()

    client, cookie = await visitor(client_of, storage, handler, verb)
    if verb == "delete":  # a storage that is full may still delete
        storage.failing = frozenset({"replace", "delete"})
    formatter = logging.Formatter()

    for _ in range(3):
        assert (await visit(client, "/", cookie)).status == 503
    [line] = [line for record in caplog.records for line in formatter.format(record).splitlines()]
    assert line.endswith(f" failed ({FULL})")

    await client.close()  # the app stops, and what it has counted is told
    [_, counted] = [line for record in caplog.records for line in formatter.format(record).splitlines()]
    assert counted.startswith("the storage failed 2 more times in ")


async def test_a_thousand_requests_are_one_line_at_once_and_then_one_with_the_count(
    client_of: ClientOf, storage: FailingStorage, caplog: pytest.LogCaptureFixture
) -> None:
    """Of all that is logged, by aiohttp and asyncio, too."""
    client, cookie = await visitor(client_of, storage, returns, "fetch")
    caplog.set_level(logging.WARNING)

    for _ in range(10):
        answers = await asyncio.gather(*(visit(client, "/", cookie) for _ in range(100)))
        assert {answer.status for answer in answers} == {503}
    at_once = len(caplog.records)
    await client.close()

    lines = [line for record in caplog.records for line in logging.Formatter().format(record).splitlines()]
    assert at_once <= 3, "one, and one more for each ten seconds that a very busy machine takes"
    assert lines[0] == f"sessions are unavailable: fetch failed ({FULL})"
    counts = [int(line.split()[3]) for line in lines[1:]]
    assert sum(counts) == 999
    assert all(line.startswith("the storage failed ") for line in lines[1:])


async def test_the_traceback_of_a_storage_that_fails_is_there_for_whoever_debugs(
    client_of: ClientOf, storage: FailingStorage, caplog: pytest.LogCaptureFixture
) -> None:
    client, cookie = await visitor(client_of, storage, returns, "fetch")

    with caplog.at_level(logging.DEBUG, LOGGER):
        await visit(client, "/", cookie)

    [record] = [record for record in caplog.records if record.name == LOGGER]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], StorageError)


async def test_failed_loads_in_a_task_group_are_a_503_as_well(client_of: ClientOf, storage: FailingStorage) -> None:
    async def handler(request: web.Request) -> web.Response:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(get_session(request))
            tasks.create_task(get_session(request))
        return web.Response()

    client, cookie = await visitor(client_of, storage, handler, "fetch")

    assert (await visit(client, "/", cookie)).status == 503


async def test_a_task_group_that_also_failed_for_another_reason_is_a_500(
    client_of: ClientOf, storage: FailingStorage
) -> None:
    async def fail(request: web.Request) -> None:
        try:
            await get_session(request)
        finally:
            raise ValueError("a mistake of the handler's")

    async def handler(request: web.Request) -> web.Response:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(get_session(request))
            tasks.create_task(fail(request))
        return web.Response()

    client, cookie = await visitor(client_of, storage, handler, "fetch")

    assert (await visit(client, "/", cookie)).status == 500


async def test_a_failing_storage_does_not_harm_requests_that_ignore_their_session(
    client_of: ClientOf, storage: FailingStorage
) -> None:
    async def untouched(_: web.Request) -> web.Response:
        return web.Response(text="fine")

    client, cookie = await visitor(client_of, storage, untouched, "fetch", "insert", "replace", "touch", "delete")

    assert (await visit(client, "/", cookie)).text == "fine"
