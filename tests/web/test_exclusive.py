"""exclusive_session: a session to oneself, for read-modify-write."""

import asyncio
import logging
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from aiohttp_session_store import (
    CookieStorage,
    FileSystemStorage,
    MemoryStorage,
    SessionCookie,
    SessionStorage,
    SessionUsageError,
    exclusive_session,
    get_session,
    new_session,
    save_session,
    setup,
)
from tests.web.storages import app_with
from tests.web.visits import ClientOf, visit

Client = TestClient[web.Request, web.Application]


@pytest.fixture(params=["memory", "files"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> SessionStorage:
    return MemoryStorage() if request.param == "memory" else FileSystemStorage(tmp_path / "sessions")


class Site:
    """An app whose handler holds the session exclusively for as long as the test wants."""

    def __init__(self) -> None:
        self.inside: list[str] = []
        self.go_on = asyncio.Event()
        self.timeout = 10.0
        self.entered = asyncio.Event()

    async def start(self, request: web.Request) -> web.Response:
        (await get_session(request))["count"] = 0
        return web.Response()

    async def count(self, request: web.Request) -> web.Response:
        async with exclusive_session(request) as session:
            before = session["count"]
            await asyncio.sleep(0)
            session["count"] = before + 1
        return web.Response()

    async def hold(self, request: web.Request) -> web.Response:
        async with exclusive_session(request, timeout=self.timeout) as session:
            self.inside.append(request.query.get("name", ""))
            self.entered.set()
            await self.go_on.wait()
            session["held"] = request.query.get("name", "")
        return web.Response()

    async def fail(self, request: web.Request) -> web.Response:
        try:
            async with exclusive_session(request) as session:
                session["count"] = "lost"
                raise ValueError("on purpose")
        except ValueError:
            return web.Response()

    async def fail_anew(self, request: web.Request) -> web.Response:
        try:
            async with exclusive_session(request):
                (await new_session(request))["count"] = "lost"
                raise ValueError("on purpose")
        except ValueError:
            return web.Response()

    async def nest(self, request: web.Request) -> web.Response:
        async with exclusive_session(request):
            try:
                async with exclusive_session(request):
                    return web.Response(text="nested")
            except SessionUsageError as error:
                return web.Response(text=str(error))

    async def save_inside(self, request: web.Request) -> web.Response:
        async with exclusive_session(request) as session:
            session["saved"] = 1
            assert await save_session(request)
            session["saved"] = 2
        return web.Response()

    async def write(self, request: web.Request) -> web.Response:
        (await get_session(request))["written"] = True
        return web.Response()

    async def stale(self, request: web.Request) -> web.Response:
        """Hold a list from before the block; the block must see the newest one."""
        old = (await get_session(request)).setdefault("list", [])
        self.entered.set()
        await self.go_on.wait()
        async with exclusive_session(request) as session:
            session["list"].append("here")
        return web.json_response(old)

    async def append(self, request: web.Request) -> web.Response:
        (await get_session(request))["list"].append("there")
        return web.Response()

    async def leave(self, request: web.Request) -> web.Response:
        await new_session(request)
        return web.Response()

    async def show(self, request: web.Request) -> web.Response:
        return web.json_response(dict(await get_session(request)))


async def make_client(site: Site, storage: SessionStorage, cookie: SessionCookie | None = None) -> Client:
    app = web.Application()
    names = "start count hold fail fail_anew nest save_inside write stale append leave show"
    for name in names.split():
        app.router.add_get(f"/{name}", getattr(site, name))
    setup(app, storage, cookie=cookie)
    client = TestClient(TestServer(app, handler_cancellation=True))
    await client.start_server()
    return client


@pytest.fixture
async def site() -> Site:
    return Site()


@pytest.fixture
async def client(site: Site, storage: SessionStorage) -> AsyncIterator[Client]:
    client = await make_client(site, storage)
    assert (await client.get("/start")).status == 200
    yield client
    await client.close()


async def shown(client: Client) -> dict[str, object]:
    data: dict[str, object] = await (await client.get("/show")).json()
    return data


async def test_a_counter_is_exact(client: Client) -> None:
    await asyncio.gather(*(client.get("/count") for _ in range(50)))

    assert (await shown(client))["count"] == 50


async def test_who_came_first_gets_it_first(client: Client, site: Site) -> None:
    first = asyncio.ensure_future(client.get("/hold?name=0"))
    await site.entered.wait()
    others = []
    for number in range(1, 6):
        others.append(asyncio.ensure_future(client.get(f"/hold?name={number}")))
        await client.get("/show")  # by then the request before it has reached the lock
    site.go_on.set()
    await asyncio.gather(first, *others)

    assert site.inside == ["0", "1", "2", "3", "4", "5"]


async def test_waiting_is_bounded_and_answers_503(client: Client, site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    holder = asyncio.ensure_future(client.get("/hold"))
    await site.entered.wait()
    site.timeout = 0.05

    assert (await client.get("/hold")).status == 503

    assert "was busy for 0.05 s" in caplog.text
    site.go_on.set()
    assert (await holder).status == 200


async def test_waiting_takes_no_thread(client: Client, site: Site) -> None:
    """Forty waiters, and names still resolve and files are still read."""
    holder = asyncio.ensure_future(client.get("/hold"))
    await site.entered.wait()
    waiters = [asyncio.ensure_future(client.get("/hold")) for _ in range(40)]
    threads = threading.active_count()

    async with asyncio.timeout(5):
        await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
        assert (await client.get("/write")).status == 200

    assert threading.active_count() <= threads + 2
    site.go_on.set()
    await asyncio.gather(holder, *waiters)


async def test_a_plain_write_is_not_held_up_and_not_lost(client: Client, site: Site) -> None:
    holder = asyncio.ensure_future(client.get("/hold?name=x"))
    await site.entered.wait()

    assert (await client.get("/write")).status == 200

    site.go_on.set()
    await holder
    assert await shown(client) == {"count": 0, "written": True, "held": "x"}


async def test_a_save_inside_does_not_deadlock(client: Client) -> None:
    async with asyncio.timeout(5):
        assert (await client.get("/save_inside")).status == 200

    assert (await shown(client))["saved"] == 2


async def test_an_exception_discards_what_the_block_changed(client: Client) -> None:
    assert (await client.get("/fail")).status == 200

    assert await shown(client) == {"count": 0}
    assert (await client.get("/count")).status == 200


async def test_an_exception_discards_what_the_block_put_into_a_new_session(client: Client) -> None:
    assert (await client.get("/fail_anew")).status == 200

    assert await shown(client) == {}


async def test_nesting_is_a_usage_error(client: Client) -> None:
    assert "does not nest" in await (await client.get("/nest")).text()


async def test_a_cancelled_holder_and_a_cancelled_waiter_free_the_lock(client: Client, site: Site) -> None:
    """The client hangs up, and aiohttp cancels the handlers."""
    holder = asyncio.ensure_future(client.get("/hold"))
    await site.entered.wait()
    waiter = asyncio.ensure_future(client.get("/hold"))
    await client.get("/show")
    for task in (waiter, holder):
        task.cancel()
    await asyncio.gather(waiter, holder, return_exceptions=True)

    async with asyncio.timeout(5):
        assert (await client.get("/count")).status == 200


async def test_the_block_sees_the_newest_record_even_inside_a_list_that_was_read_before(
    client: Client, site: Site
) -> None:
    site.go_on.set()
    await client.get("/stale")
    site.go_on.clear()
    site.entered.clear()
    slow = asyncio.ensure_future(client.get("/stale"))
    await site.entered.wait()

    await client.get("/append")

    site.go_on.set()
    await slow
    assert (await shown(client))["list"] == ["here", "there", "here"]


async def test_a_session_that_was_logged_out_meanwhile_stays_so(client: Client, site: Site) -> None:
    holder = asyncio.ensure_future(client.get("/hold"))
    await site.entered.wait()
    cookies = client.session.cookie_jar.filter_cookies(client.make_url("/"))

    await client.get("/leave")
    site.go_on.set()

    assert (await holder).status == 503
    client.session.cookie_jar.update_cookies(cookies)
    assert await shown(client) == {}


async def test_cookie_storage_says_why_it_cannot(site: Site) -> None:
    caught: list[SessionUsageError] = []

    async def handler(request: web.Request) -> web.Response:
        with pytest.raises(SessionUsageError) as error:
            async with exclusive_session(request):
                pass
        caught.append(error.value)
        return web.Response()

    app = web.Application()
    app.router.add_get("/", handler)
    setup(app, CookieStorage(), cookie=SessionCookie(secrets="0123456789abcdef0123456789abcdef"))
    async with TestClient(TestServer(app)) as client:
        assert (await client.get("/")).status == 200

    assert "the data is in the browser" in str(caught[0])


async def test_a_lost_race_for_the_session_is_no_outage(
    client: Client, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """Operators are told to watch for "sessions are unavailable"."""
    caplog.set_level(logging.INFO)
    site.timeout = 0.01
    holder = asyncio.ensure_future(client.get("/hold"))
    await site.entered.wait()

    assert (await client.get("/hold")).status == 503

    site.go_on.set()
    await holder
    [line] = [record for record in caplog.records if record.name == "aiohttp_session_store"]
    assert line.levelno == logging.INFO
    assert "did not get its session exclusively" in line.getMessage()
    assert "Nothing was stored" in line.getMessage()


@pytest.mark.parametrize("status", [302, 400, 500])
async def test_a_response_that_is_raised_inside_counts_as_one_that_is_returned(
    storage: SessionStorage, status: int
) -> None:
    """A status below 500 keeps the changes, and the flash for the page that a redirect leads to."""

    async def pay(request: web.Request) -> web.Response:
        async with exclusive_session(request) as session:
            session["paid"] = True
            session.flash("notice", "Thanks.")
            if status == 302:
                raise web.HTTPFound("/show")
            raise web.HTTPBadRequest if status == 400 else web.HTTPInternalServerError

    async def show(request: web.Request) -> web.Response:
        return web.json_response(dict(await get_session(request)))

    app = web.Application()
    app.add_routes([web.get("/pay", pay), web.get("/show", show)])
    setup(app, storage)
    async with TestClient(TestServer(app)) as client:
        response = await client.get("/pay", allow_redirects=False)
        shown = await (await client.get("/show")).json()

    assert response.status == status
    assert shown == ({} if status == 500 else {"paid": True, "notice": "Thanks."})


async def test_a_holder_that_sends_a_new_id_holds_the_session_under_that_id_too(storage: SessionStorage) -> None:
    """Its response has begun, so the visitor can come back with the new id while the block still runs."""
    sent, go_on = asyncio.Event(), asyncio.Event()

    async def start(request: web.Request) -> web.Response:
        (await get_session(request))["balance"] = 100
        return web.Response()

    async def pay_slowly(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        async with exclusive_session(request) as session:
            session.regenerate_id(True)
            await response.prepare(request)
            await response.write(b"wait")
            sent.set()
            await go_on.wait()
            session["balance"] -= 10
        return response

    async def pay(request: web.Request) -> web.Response:
        async with exclusive_session(request) as session:
            session["balance"] -= 10
        return web.json_response(session["balance"])

    app = web.Application()
    app.add_routes([web.get("/start", start), web.get("/slow", pay_slowly), web.get("/pay", pay)])
    setup(app, storage)
    async with TestClient(TestServer(app)) as client:
        await client.get("/start")
        slow = await client.get("/slow")
        await sent.wait()
        quick = asyncio.ensure_future(client.get("/pay"))
        await asyncio.wait([quick], timeout=0.05)
        assert not quick.done()
        go_on.set()
        await slow.read()

        assert await (await quick).json() == 80


@pytest.mark.parametrize("timeout", ["5", None, True, -1, float("nan")])
async def test_a_timeout_that_is_no_number_of_seconds_is_an_error(client_of: ClientOf, timeout: Any) -> None:
    told = []

    async def handler(request: web.Request) -> web.Response:
        with pytest.raises(SessionUsageError) as caught:
            exclusive_session(request, timeout=timeout)
        told.append(str(caught.value))
        return web.Response()

    await visit(await client_of(app_with(MemoryStorage(), handler)), "/")

    assert told == [f"the timeout of exclusive_session() must be a number of seconds, 0 or more, not {timeout!r}"]
