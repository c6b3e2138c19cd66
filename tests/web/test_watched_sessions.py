"""WebSockets and streams end with their session, whoever ends it."""

import asyncio
import gc
import logging
import secrets
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType, web
from pytest_aiohttp.plugin import AiohttpClient

from aiohttp_session_store import (
    Announcement,
    ConfigurationError,
    CookieStorage,
    FileSystemStorage,
    KeyedStorage,
    MemoryStorage,
    SessionCookie,
    SessionUsageError,
    SessionWatch,
    StorageError,
    close_when_session_ends,
    get_session,
    get_storage,
    new_session,
    save_session,
    setup,
    watch_session,
)
from aiohttp_session_store.record.format import RENEWED, Retired, encode_retired
from aiohttp_session_store.record.session_id import key_of
from aiohttp_session_store.session.session import state_of
from aiohttp_session_store.testing import FailingStorage, ManualClock
from aiohttp_session_store.web import sockets
from aiohttp_session_store.web.app_sessions import APP
from tests.docs.blocks import ROOT
from tests.storages.plain import PlainStorage
from tests.web.storages import SECRET, UPGRADE, GatedStorage
from tests.web.visits import Client, without_jar

POLICY_VIOLATION = 1008
SOON = 10  # seconds in which a busy machine does what takes one


async def login(request: web.Request) -> web.Response:
    session = await get_session(request)
    session.login(request.query.get("owner", "ada"))
    return web.Response()


async def put(request: web.Request) -> web.Response:
    (await get_session(request))["n"] = request.query.get("n", "1")
    return web.Response()


async def end(request: web.Request) -> web.Response:
    """End the session in the way that the query names."""
    session, storage = await get_session(request), get_storage(request)
    how = request.query["how"]
    if how == "logout":
        session.logout()
    elif how == "destroy":
        session.destroy()
    elif how == "end_sessions":
        await storage.end_sessions("ada")
    elif how == "end_session":
        await storage.end_session("ada", session.key)
    elif how == "login":
        session.login("ada")
    elif how == "regenerate":
        session.regenerate_id(True)
    elif how == "renew":
        session.regenerate_id()
    elif how == "new_session":
        (await new_session(request))["a"] = 1
    return web.Response(text=session.key)


async def chat(request: web.Request) -> web.WebSocketResponse:
    await get_session(request)
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    close_when_session_ends(request, socket)
    async for message in socket:
        await socket.send_str(f"echo {message.data}")
    return socket


async def events(request: web.Request) -> web.StreamResponse:
    await get_session(request)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    watch = watch_session(request)
    await response.write(b": open\n\n")
    await response.write(f"event: end\ndata: {await watch.ended()}\n\n".encode())
    return response


def make_app(storage: Any, **options: Any) -> web.Application:
    app = web.Application()
    setup(app, storage, cookie=SessionCookie(secrets=SECRET), **options)
    app.add_routes([web.get("/login", login), web.get("/put", put), web.get("/end", end), web.get("/chat", chat)])
    app.add_routes([web.get("/events", events)])
    return app


async def cookie_from(client: Client, path: str, cookie: str | None = None) -> str:
    async with client.get(path, headers={} if cookie is None else {"Cookie": cookie}) as response:
        assert response.status == 200
        return response.headers["Set-Cookie"].partition(";")[0]


async def ask(client: Client, path: str, cookie: str) -> str:
    async with client.get(path, headers={"Cookie": cookie}) as response:
        assert response.status == 200
        return await response.text()


async def connect(client: Client, cookie: str) -> ClientWebSocketResponse:
    socket: ClientWebSocketResponse = await client.ws_connect("/chat", headers={"Cookie": cookie})
    return socket


async def is_open(socket: ClientWebSocketResponse) -> bool:
    await socket.send_str("hello")
    return await socket.receive_str(timeout=SOON) == "echo hello"


async def closing(socket: ClientWebSocketResponse) -> tuple[int | None, str]:
    """Return the code and the reason with which *socket* is closed."""
    message = await socket.receive(SOON)
    assert message.type is WSMsgType.CLOSE, message
    return message.data, str(message.extra)


async def until(condition: Any) -> None:
    async with asyncio.timeout(SOON):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture(params=["memory", "suspending", "files"])
async def storage(request: pytest.FixtureRequest, tmp_path: Any) -> KeyedStorage:
    if request.param == "files":
        return FileSystemStorage(tmp_path / "sessions", sweep_interval=None, max_sessions_per_owner=3)
    kind = MemoryStorage if request.param == "memory" else GatedStorage
    return kind(sweep_interval=None, max_sessions_per_owner=3)


@pytest.fixture
async def client(aiohttp_client: AiohttpClient, storage: KeyedStorage) -> Client:
    """Return a client of an app that would notice an end by itself only after an hour."""
    return await without_jar(aiohttp_client, make_app(storage, watch_interval=3600))


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("logout", "logout"),
        ("destroy", "logout"),
        ("end_sessions", "revoked"),
        ("end_session", "revoked"),
        ("login", "replaced"),
        ("regenerate", "replaced"),
        ("new_session", "replaced"),
    ],
)
async def test_a_socket_is_closed_with_the_reason(client: Client, how: str, reason: str) -> None:
    cookie = await cookie_from(client, "/login")
    sockets = [await connect(client, cookie) for _ in range(2)]
    assert await is_open(sockets[0])

    await ask(client, f"/end?how={how}", cookie)

    assert [await closing(socket) for socket in sockets] == [(POLICY_VIOLATION, reason)] * 2


async def test_the_socket_of_a_device_too_many_is_closed(client: Client) -> None:
    sockets = [await connect(client, await cookie_from(client, "/login")) for _ in range(3)]

    await cookie_from(client, "/login")

    assert await closing(sockets[0]) == (POLICY_VIOLATION, "too_many")
    assert [await is_open(socket) for socket in sockets[1:]] == [True, True]


async def test_other_sessions_stay_open(client: Client) -> None:
    ends, stays = await cookie_from(client, "/login"), await cookie_from(client, "/put")
    other, one = await connect(client, stays), await connect(client, ends)

    await ask(client, "/put?n=2", stays)
    await ask(client, "/end?how=logout", ends)

    assert await closing(one) == (POLICY_VIOLATION, "logout")
    assert await is_open(other)


async def test_a_socket_follows_its_session_to_new_ids(client: Client) -> None:
    cookie = await cookie_from(client, "/login")
    socket = await connect(client, cookie)
    for _ in range(3):
        cookie = await cookie_from(client, "/end?how=renew", cookie)
        assert await is_open(socket)
    young = await connect(client, cookie)

    await ask(client, "/end?how=logout", cookie)

    assert await closing(socket) == (POLICY_VIOLATION, "logout")
    assert await closing(young) == (POLICY_VIOLATION, "logout")


async def test_a_stream_ends_with_an_event(client: Client) -> None:
    cookie = await cookie_from(client, "/login")
    async with client.get("/events", headers={"Cookie": cookie}) as response:
        assert await response.content.readuntil(b"\n\n") == b": open\n\n"

        await ask(client, "/end?how=logout", cookie)

        assert await asyncio.wait_for(response.content.read(), SOON) == b"event: end\ndata: logout\n\n"


async def test_a_session_that_is_not_stored_is_closed_at_once(client: Client) -> None:
    assert await closing(await client.ws_connect("/chat")) == (POLICY_VIOLATION, "ended")
    async with client.get("/events") as response:
        assert (await response.read()).endswith(b"data: ended\n\n")


async def test_a_session_that_ends_before_it_is_watched_is_closed(
    aiohttp_client: AiohttpClient, storage: KeyedStorage
) -> None:
    """A logout can come between the load and the watch: no hint is heard then."""

    async def slow(request: web.Request) -> web.WebSocketResponse:
        session = await get_session(request)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await log_out(storage, session.id)
        close_when_session_ends(request, socket)
        await socket.receive()
        return socket

    app = make_app(storage, watch_interval=3600)
    app.router.add_get("/slow", slow)
    client = await without_jar(aiohttp_client, app)
    cookie = await cookie_from(client, "/login")
    assert await closing(await client.ws_connect("/slow", headers={"Cookie": cookie})) == (POLICY_VIOLATION, "logout")


async def log_out(storage: KeyedStorage, session_id: str) -> None:
    session = await storage.read(session_id)
    session.destroy()
    await storage.save(session)


def id_in(cookie: str) -> str:
    value = SessionCookie(secrets=SECRET).bind(MemoryStorage()).open(cookie.partition("=")[2])
    assert value is not None
    return value


# --- another process


async def test_an_ending_in_another_process_closes_the_socket(aiohttp_client: AiohttpClient, tmp_path: Path) -> None:
    storage = FileSystemStorage(tmp_path / "sessions", sweep_interval=None)
    client = await without_jar(aiohttp_client, make_app(storage, watch_interval=3600))
    cookie = await cookie_from(client, "/login")
    socket = await connect(client, cookie)
    assert await is_open(socket)
    code = (
        "import asyncio, sys\n"
        "from aiohttp_session_store import FileSystemStorage\n"
        "async def main():\n"
        "    storage = FileSystemStorage(sys.argv[1])\n"
        "    session = await storage.read(sys.argv[2])\n"
        "    assert not session.new\n"
        "    session.destroy()\n"
        "    await storage.save(session)\n"
        "    await storage.aclose()\n"
        "asyncio.run(main())\n"
    )
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(tmp_path / "sessions"), id_in(cookie), cwd=ROOT
    )
    assert await child.wait() == 0

    assert await closing(socket) == (POLICY_VIOLATION, "logout")


# --- limits


@pytest.mark.parametrize(("limit", "reason"), [("idle_timeout", "idle"), ("lifetime", "lifetime")])
async def test_a_socket_is_closed_when_a_limit_passes(aiohttp_client: AiohttpClient, limit: str, reason: str) -> None:
    client = await without_jar(aiohttp_client, make_app(MemoryStorage(**{limit: 1}), watch_interval=3600))  # type: ignore[arg-type]
    socket = await connect(client, await cookie_from(client, "/put"))

    assert await closing(socket) == (POLICY_VIOLATION, reason)


async def test_a_session_that_was_used_meanwhile_stays_open(
    aiohttp_client: AiohttpClient, clock: ManualClock, storage_of: Any
) -> None:
    storage = storage_of(clock=clock, idle_timeout=100)
    client = await without_jar(aiohttp_client, make_app(storage, watch_interval=0.1))
    cookie = await cookie_from(client, "/put")
    socket = await connect(client, cookie)
    for n in range(3):
        clock.advance(60)
        await ask(client, f"/put?n={n}", cookie)
        await looked_twice(storage)
        assert await is_open(socket)

    clock.advance(100)

    assert await closing(socket) == (POLICY_VIOLATION, "idle")


class CountsLooks(MemoryStorage):
    """Counts how often it is asked for the versions of what is watched."""

    looks = 0

    async def versions(self, keys: Any) -> Any:
        self.looks += 1
        return await super().versions(keys)


@pytest.fixture
def storage_of() -> type[CountsLooks]:
    return CountsLooks


async def looked_twice(storage: CountsLooks) -> None:
    before = storage.looks
    await until(lambda: storage.looks >= before + 2)


# --- without hints


class DeafStorage(CountsLooks):
    """Hears of no ending."""

    suspends: ClassVar[bool] = True

    async def announcements(self) -> AsyncGenerator[Announcement, None]:
        yield Announcement("")
        await asyncio.Event().wait()


async def test_an_end_is_noticed_without_a_hint(aiohttp_client: AiohttpClient) -> None:
    storage = DeafStorage()
    client = await without_jar(aiohttp_client, make_app(storage, watch_interval=0.1))
    cookies = [await cookie_from(client, "/login") for _ in range(2)]
    sockets = [await connect(client, cookie) for cookie in cookies]
    cookies[1] = await cookie_from(client, "/end?how=renew", cookies[1])
    await looked_twice(storage)
    assert [await is_open(socket) for socket in sockets] == [True, True]

    for cookie in cookies:
        await ask(client, "/end?how=logout", cookie)

    assert [await closing(socket) for socket in sockets] == [(POLICY_VIOLATION, "logout")] * 2


class InterruptedStorage(CountsLooks):
    """Loses its announcements when a test says so, with all that were on their way."""

    interrupted = asyncio.Event()
    listened = 0

    async def announcements(self) -> AsyncGenerator[Announcement, None]:
        self.listened += 1
        yield Announcement("")
        await self.interrupted.wait()
        raise StorageError("the connection was lost")


async def test_after_an_interruption_everything_is_looked_at(
    aiohttp_client: AiohttpClient, caplog: pytest.LogCaptureFixture
) -> None:
    storage = InterruptedStorage()
    storage.interrupted = asyncio.Event()
    client = await without_jar(aiohttp_client, make_app(storage, watch_interval=3600))
    cookie = await cookie_from(client, "/login")
    socket = await connect(client, cookie)
    await until(lambda: storage.looks)
    await ask(client, "/end?how=logout", cookie)
    assert await is_open(socket)

    storage.interrupted.set()

    assert await closing(socket) == (POLICY_VIOLATION, "logout")
    await until(lambda: storage.listened >= 3)
    assert [one.levelno for one in caplog.records if "not announced" in one.message] == [logging.WARNING]


async def test_a_storage_without_announcements_is_looked_at(aiohttp_client: AiohttpClient) -> None:
    """The five verbs are enough."""
    storage = PlainStorage()
    storage.announces = storage.has_announcements = False
    client = await without_jar(aiohttp_client, make_app(storage, watch_interval=0.1))
    cookie = await cookie_from(client, "/login")
    socket = await connect(client, cookie)
    assert await is_open(socket)
    await ask(client, "/end?how=logout", cookie)

    assert await closing(socket) == (POLICY_VIOLATION, "logout")


async def test_a_record_that_is_gone_is_an_end_whose_reason_is_not_known(aiohttp_client: AiohttpClient) -> None:
    storage = DeafStorage()
    client = await without_jar(aiohttp_client, make_app(storage, watch_interval=0.1))
    cookie = await cookie_from(client, "/login")
    socket = await connect(client, cookie)

    await storage.delete(key_of(id_in(cookie)))

    assert await closing(socket) == (POLICY_VIOLATION, "ended")


async def test_a_record_that_cannot_be_read_is_no_end(aiohttp_client: AiohttpClient) -> None:
    storage = CountsLooks()
    client = await without_jar(aiohttp_client, make_app(storage, watch_interval=0.1))
    cookie = await cookie_from(client, "/login")
    socket = await connect(client, cookie)
    key = key_of(id_in(cookie))
    stored = await storage.fetch(key)
    assert stored is not None
    newer = await storage.replace(key, b"9 L of a newer version", stored.expires_at, stored.version)
    assert newer is not None
    await looked_twice(storage)
    assert await is_open(socket)
    assert await storage.replace(key, stored.data, stored.expires_at, newer)
    await looked_twice(storage)

    await ask(client, "/end?how=logout", cookie)

    assert await closing(socket) == (POLICY_VIOLATION, "logout")


async def test_a_session_is_followed_over_any_number_of_renewals(aiohttp_client: AiohttpClient) -> None:
    storage = CountsLooks()
    storage.has_announcements = False
    client = await without_jar(aiohttp_client, make_app(storage, watch_interval=0.3))
    cookie = await cookie_from(client, "/login")
    socket = await connect(client, cookie)
    assert await is_open(socket)
    session_id = id_in(cookie)
    for _ in range(200):  # without a pause, so that no look comes in between
        session = await storage.read(session_id)
        session.regenerate_id()
        session_id = await storage.save(session) or ""
    await looked_twice(storage)
    assert await is_open(socket)

    session = await storage.read(session_id)
    session.logout()
    await storage.save(session)

    assert await closing(socket) == (POLICY_VIOLATION, "logout")


async def test_records_that_lead_in_a_circle_are_no_end_and_no_endless_work(aiohttp_client: AiohttpClient) -> None:
    storage = CountsLooks()
    client = await without_jar(aiohttp_client, make_app(storage, watch_interval=0.2))
    cookie = await cookie_from(client, "/login")
    socket = await connect(client, cookie)
    key = key_of(id_in(cookie))
    stored = await storage.fetch(key)
    assert stored is not None
    circle = encode_retired(Retired(key, 0, why=RENEWED))
    assert await storage.replace(key, circle, stored.expires_at, stored.version)
    await looked_twice(storage)

    assert await is_open(socket)


async def test_a_storage_that_fails_closes_nothing_and_is_asked_again(
    aiohttp_client: AiohttpClient, caplog: pytest.LogCaptureFixture
) -> None:
    storage = FailingStorage()
    client = await without_jar(aiohttp_client, make_app(storage, watch_interval=0.1))
    ends, stays = [await cookie_from(client, "/login") for _ in range(2)]
    sockets = [await connect(client, cookie) for cookie in (ends, stays)]
    assert [await is_open(socket) for socket in sockets] == [True, True]
    session = await storage.read(id_in(ends))
    session.destroy()
    with storage.failing("fetch"):
        await until(lambda: any("could not be looked at" in one.message for one in caplog.records))
        await storage.save(session)
        await asyncio.sleep(0.5)  # several looks fail
        assert [await is_open(socket) for socket in sockets] == [True, True]

    assert await closing(sockets[0]) == (POLICY_VIOLATION, "logout")
    assert await is_open(sockets[1])
    assert sum("could not be looked at" in one.message for one in caplog.records) == 1


# --- what it is called with


@pytest.mark.parametrize("call", [close_when_session_ends, lambda request, _: watch_session(request)])
async def test_a_session_that_was_not_loaded_is_refused(aiohttp_client: AiohttpClient, call: Any) -> None:
    async def handler(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        with pytest.raises(SessionUsageError, match=r"await get_session\(request\)"):
            call(request, socket)
        await socket.send_str("refused")
        return socket

    app = make_app(MemoryStorage())
    app.router.add_get("/handler", handler)
    client = await without_jar(aiohttp_client, app)
    assert (await (await client.ws_connect("/handler")).receive(SOON)).data == "refused"


async def test_a_storage_in_cookies_is_refused(aiohttp_client: AiohttpClient) -> None:
    async def handler(request: web.Request) -> web.Response:
        await get_session(request)
        with pytest.raises(SessionUsageError, match="CookieStorage keeps no records"):
            watch_session(request)
        return web.Response(text="refused")

    app = make_app(CookieStorage())
    app.router.add_get("/handler", handler)
    client = await without_jar(aiohttp_client, app)
    assert await ask(client, "/handler", "session=x") == "refused"


async def test_a_call_at_the_wrong_time_is_refused(aiohttp_client: AiohttpClient) -> None:
    async def handler(request: web.Request) -> web.WebSocketResponse:
        session, socket = await get_session(request), web.WebSocketResponse()
        with pytest.raises(SessionUsageError, match=r"after `await socket\.prepare\(request\)`"):
            close_when_session_ends(request, socket)
        with pytest.raises(SessionUsageError, match=r"use watch_session\(request\)"):
            close_when_session_ends(request, web.StreamResponse())  # type: ignore[arg-type]
        session["new"] = 1
        with pytest.raises(SessionUsageError, match=r"after prepare\(\)"):
            watch_session(request)
        await socket.prepare(request)
        assert watch_session(request).reason is None
        session.destroy()
        assert watch_session(request).reason == "ended"
        await socket.send_str("refused")
        return socket

    app = make_app(MemoryStorage())
    app.router.add_get("/handler", handler)
    client = await without_jar(aiohttp_client, app)
    assert (await (await client.ws_connect("/handler")).receive(SOON)).data == "refused"


@pytest.mark.parametrize("interval", [0, -1, True, "15", None, float("nan"), float("inf")])
def test_the_interval_is_a_number_of_seconds(interval: Any) -> None:
    app = web.Application()
    with pytest.raises(ConfigurationError, match=r"watch_interval must be a number of seconds, at least 0\.1"):
        setup(app, MemoryStorage(), watch_interval=interval)
    assert not app.middlewares


async def test_a_watch_can_be_shared_given_up_and_cancelled(aiohttp_client: AiohttpClient) -> None:
    said: list[object] = []

    async def handler(request: web.Request) -> web.Response:
        session = await get_session(request)
        watch, other = watch_session(request), watch_session(request)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(watch.ended(), 0.01)
        waiting = [asyncio.create_task(watch.ended()) for _ in range(2)]
        cancelled = asyncio.create_task(other.ended())
        await asyncio.sleep(0)
        other.cancel()
        other.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        with pytest.raises(asyncio.CancelledError):
            await other.ended()
        session.destroy()
        await save_session(request)
        said.extend(await asyncio.gather(*waiting))
        said.extend([await watch.ended(), watch.reason, other.reason])
        return web.Response(text="done")

    app = make_app(MemoryStorage(), watch_interval=3600)
    app.router.add_get("/handler", handler)
    client = await without_jar(aiohttp_client, app)
    await ask(client, "/handler", await cookie_from(client, "/login"))

    assert said == ["logout"] * 4 + [None]


async def test_what_waits_longer_than_the_request_is_cancelled(aiohttp_client: AiohttpClient) -> None:
    waiting: list[asyncio.Task[str]] = []

    async def handler(request: web.Request) -> web.Response:
        await get_session(request)
        waiting.append(asyncio.create_task(watch_session(request).ended()))
        await asyncio.sleep(0)
        return web.Response(text="done")

    app = make_app(MemoryStorage(), watch_interval=3600)
    app.router.add_get("/handler", handler)
    client = await without_jar(aiohttp_client, app)
    await ask(client, "/handler", await cookie_from(client, "/login"))

    await asyncio.wait(waiting, timeout=SOON)
    assert waiting[0].cancelled()


# --- what is left


async def test_a_long_request_keeps_none_of_the_watches_that_it_gave_up(aiohttp_client: AiohttpClient) -> None:
    left: list[int] = []

    async def polls(request: web.Request) -> web.Response:
        await get_session(request)
        before = watches_left()
        for _ in range(50):
            watch_session(request).cancel()
        left.append(watches_left() - before)
        return web.Response()

    app = make_app(MemoryStorage(), watch_interval=3600)
    app.router.add_get("/polls", polls)
    client = await without_jar(aiohttp_client, app)
    await ask(client, "/polls", await cookie_from(client, "/login"))

    assert left[0] <= 1


async def test_nothing_is_left_of_sockets_that_are_over(aiohttp_client: AiohttpClient) -> None:
    async def breaks(request: web.Request) -> web.WebSocketResponse:
        await get_session(request)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        close_when_session_ends(request, socket)
        raise RuntimeError("a bug")

    before = watches_left()  # tests before this one may have left some in tracebacks
    app = make_app(MemoryStorage(), watch_interval=3600)
    app.router.add_get("/breaks", breaks)
    client = await without_jar(aiohttp_client, app)
    cookie = await cookie_from(client, "/login")
    for leaves in range(10):
        socket = await connect(client, cookie)
        assert await is_open(socket)
        if leaves % 2:
            await socket.close()
        else:  # as if the network were gone
            assert socket._response.connection is not None
            assert socket._response.connection.transport is not None
            socket._response.connection.transport.abort()
        socket = await client.ws_connect("/breaks", headers={"Cookie": cookie})
        assert (await socket.receive(SOON)).type in (WSMsgType.CLOSED, WSMsgType.CLOSE, WSMsgType.ERROR)
    ends = await connect(client, cookie)
    await ask(client, "/end?how=logout", cookie)
    assert await closing(ends) == (POLICY_VIOLATION, "logout")

    await until(lambda: len(client.app[APP].watching) == 0)  # type: ignore[arg-type]
    del socket, ends
    await until(lambda: not client.app[APP].closing)
    await until(lambda: watches_left() <= before)


def watches_left() -> int:
    gc.collect()
    return sum(isinstance(one, SessionWatch) for one in gc.get_objects())


async def test_a_hundred_thousand_watches_leave_nothing() -> None:
    storage = MemoryStorage(idle_timeout=60)
    session = await storage.read(None)
    session["a"] = 1
    await storage.save(session)
    place = state_of(session).place
    assert place is not None
    watching = storage.watching(0.1)
    for _ in range(1000):
        watches = [watching.add(place._replace(key=secrets.token_hex(32))) for _ in range(100)]
        for watch in watches:
            watch.cancel()

    await until(lambda: watching._task is None)
    watched = watching._watched
    left = (watched._sessions, watched._due, watched._soon, watched._told, watched._reasons, watched._hinted)
    assert [len(one) for one in left] == [0] * 6
    assert not [task for task in asyncio.all_tasks() if "session" in task.get_name()]


async def test_the_tasks_end_when_nothing_is_watched_and_begin_again(aiohttp_client: AiohttpClient) -> None:
    client = await without_jar(aiohttp_client, make_app(MemoryStorage(), watch_interval=0.1))

    def tasks() -> set[str]:
        return {task.get_name() for task in asyncio.all_tasks()} & {"session watch", "session announcements"}

    cookie = await cookie_from(client, "/login")
    assert not tasks()
    for _ in range(2):
        socket = await connect(client, cookie)
        assert await is_open(socket)
        assert tasks() == {"session watch", "session announcements"}
        await socket.close()
        await until(lambda: not tasks())
    socket = await connect(client, cookie)
    await ask(client, "/end?how=logout", cookie)
    assert await closing(socket) == (POLICY_VIOLATION, "logout")


async def test_an_app_that_stops_ends_the_tasks() -> None:
    storage = MemoryStorage()
    app = make_app(storage, watch_interval=3600)
    runner = web.AppRunner(app)
    await runner.setup()
    session = await storage.read(None)
    session["a"] = 1
    await storage.save(session)
    place = state_of(session).place
    assert place is not None
    app[APP].watching = watching = storage.watching(3600)
    watching.add(place)
    await until(lambda: storage._listening)

    await runner.cleanup()

    assert not storage._listening
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("session ")]


async def flood(socket: web.WebSocketResponse, _: web.Request, full: asyncio.Event) -> None:
    full.set()
    while True:
        await socket.send_bytes(bytes(1_000_000))


async def fill(socket: web.WebSocketResponse, request: web.Request, full: asyncio.Event) -> None:
    """Send until the next byte, which may be one of the close frame, has to wait for the client."""
    writer = socket._writer
    assert writer is not None
    while not request.protocol._paused:
        await socket.send_bytes(bytes(10_000))
    writer._output_size = writer._limit
    full.set()
    await socket.receive()


@pytest.mark.parametrize("send", [flood, fill])
async def test_a_client_that_reads_nothing_is_cut_off(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch, send: Any
) -> None:
    monkeypatch.setattr(sockets, "_PATIENCE", 0.1)
    full, ended = asyncio.Event(), asyncio.Event()

    async def floods(request: web.Request) -> web.WebSocketResponse:
        await get_session(request)
        socket = web.WebSocketResponse(timeout=0.1)
        await socket.prepare(request)
        close_when_session_ends(request, socket)
        try:
            await send(socket, request, full)
        finally:
            ended.set()
        return socket

    app = make_app(MemoryStorage(), watch_interval=3600)
    app.router.add_get("/floods", floods)
    client = await without_jar(aiohttp_client, app)
    cookie = await cookie_from(client, "/login")
    reader, writer = await asyncio.open_connection(client.host, client.port, limit=1)
    headers = "".join(f"{name}: {value}\r\n" for name, value in {**UPGRADE, "Cookie": cookie, "Host": "x"}.items())
    writer.write(f"GET /floods HTTP/1.1\r\n{headers}\r\n".encode())
    assert await reader.read(1) == b"H"
    await asyncio.wait_for(full.wait(), SOON)
    assert not ended.is_set()

    await ask(client, "/end?how=logout", cookie)

    await asyncio.wait_for(ended.wait(), SOON)
    writer.transport.abort()


class CountsAnnouncements(MemoryStorage):
    """Notes what is announced."""

    def __init__(self) -> None:
        super().__init__()
        self.announced: list[str] = []

    async def announce(self, key: str, reason: str) -> None:
        self.announced.append(reason)
        await super().announce(key, reason)


async def test_only_an_ending_or_another_id_is_announced_and_an_app_that_watches_nothing_has_no_task(
    aiohttp_client: AiohttpClient,
) -> None:
    storage = CountsAnnouncements()
    client = await without_jar(aiohttp_client, make_app(storage))
    cookie = await cookie_from(client, "/put")
    await ask(client, "/put?n=2", cookie)
    assert storage.announced == []

    cookie = await cookie_from(client, "/login", cookie)
    cookie = await cookie_from(client, "/end?how=renew", cookie)
    await ask(client, "/end?how=logout", cookie)

    assert storage.announced == ["login", "renewed", "logout"]
    assert not storage._listening
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("session watch")]


async def test_many_that_end_at_once_are_told_in_slices() -> None:
    storage = MemoryStorage()
    session = await storage.read(None)
    session["a"] = 1
    session_id = await storage.save(session)
    assert session_id is not None
    place = state_of(session).place
    assert place is not None
    told: list[str] = []
    watching = storage.watching(3600)
    for _ in range(1000):
        watching.add(place, told.append)
    await log_out(storage, session_id)
    most = 0
    async with asyncio.timeout(SOON):
        while len(told) < 1000:
            before = len(told)
            await asyncio.sleep(0)
            most = max(most, len(told) - before)

    assert most <= 2
    assert set(told) == {"logout"}
    await watching.stop()


async def test_a_session_need_not_wait_until_a_larger_one_is_closed() -> None:
    storage = MemoryStorage()
    told: list[str] = []
    watching = storage.watching(3600)
    ids = []
    for name, number in (("large", 2000), ("small", 1)):
        session = await storage.read(None)
        session["a"] = 1
        ids.append(str(await storage.save(session)))
        place = state_of(session).place
        assert place is not None
        for _ in range(number):
            watching.add(place, lambda _, name=name: told.append(name))  # type: ignore[misc]
    await log_out(storage, ids[0])
    await until(lambda: told)

    await log_out(storage, ids[1])
    await until(lambda: "small" in told)

    assert len(told) < 1000
    await watching.stop()
