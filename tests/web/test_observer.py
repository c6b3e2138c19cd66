"""An observer hears of everything that happens to sessions, once, and harms nobody."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pytest_aiohttp.plugin import AiohttpClient

from aiohttp_session_store import (
    ConfigurationError,
    CookieStorage,
    FileSystemStorage,
    KeyedStorage,
    KeyRing,
    MemoryStorage,
    Observer,
    SessionCookie,
    SessionEvent,
    SessionStorage,
    StorageError,
    close_when_session_ends,
    exclusive_session,
    get_session,
    save_session,
    setup,
)
from aiohttp_session_store.migrate import MigratingStorage
from aiohttp_session_store.record.session_id import key_of, new_id
from aiohttp_session_store.testing import FailingStorage, ManualClock
from tests.web.observed import Recorder, act, observed_app, tell_story
from tests.web.storages import SECRET, CountingStorage, GatedStorage
from tests.web.visits import Client, visit, without_jar

LOGGER = "aiohttp_session_store"
SOON = 20


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    assert not recorder.undocumented


@pytest.fixture
def serve(aiohttp_client: AiohttpClient) -> Callable[..., Any]:
    async def serve(storage: SessionStorage, observer: Observer | None, **options: Any) -> Client:
        return await without_jar(aiohttp_client, observed_app(storage, observer, **options))

    return serve


async def cookie_of(client: Client, query: str, cookie: str | None = None) -> str:
    return (await visit(client, f"/?{query}", cookie)).cookie


async def chat(request: web.Request) -> web.WebSocketResponse:
    await get_session(request)
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    close_when_session_ends(request, socket)
    async for _ in socket:
        pass
    return socket


# --- every storage


@pytest.mark.parametrize("kind", ["memory", "suspending", "files", "moving", "about to move", "encrypted"])
async def test_every_storage_tells_the_story(serve: Any, recorder: Recorder, tmp_path: Path, kind: str) -> None:
    options: dict[str, Any] = {"sweep_interval": None, "max_sessions_per_owner": 3}
    storage: KeyedStorage
    if kind == "files":
        storage = FileSystemStorage(tmp_path / "sessions", **options)
    elif "mov" in kind:
        storage = MigratingStorage(GatedStorage(**options), GatedStorage(**options), moving=kind == "moving")
    else:
        ring = KeyRing(KeyRing.new_key()) if kind == "encrypted" else None
        storage = (MemoryStorage if kind == "memory" else GatedStorage)(encryption=ring, **options)

    await tell_story(await serve(storage, recorder), recorder)

    assert {verb for verb, _ in recorder.calls} >= {"fetch", "insert", "replace", "retire"} - (
        set() if "retire" in vars(type(storage)) else {"retire"}
    )


@pytest.mark.parametrize("encrypted", [False, True])
async def test_cookie_storage_tells_the_story_and_has_no_calls(serve: Any, recorder: Recorder, encrypted: bool) -> None:
    storage = CookieStorage(encryption=KeyRing(KeyRing.new_key()) if encrypted else None)

    await tell_story(await serve(storage, recorder), recorder, on_server=False)

    assert not recorder.calls


# --- what is refused


async def test_a_cookie_that_leads_nowhere_is_refused_with_the_reason(serve: Any, recorder: Recorder) -> None:
    clock, ring = ManualClock(), KeyRing(KeyRing.new_key())
    storage = MemoryStorage(clock=clock, idle_timeout=1000, rotation_grace=10, encryption=ring)
    client, sealed = await serve(storage, recorder), SessionCookie(secrets=SECRET).bind(storage).seal

    async def refused(cookie: str) -> list[tuple[str | None, str | None]]:
        recorder.take()
        await visit(client, "/", cookie)
        events, recorder.events = recorder.events, []
        assert {one.kind for one in events} <= {"refused"}
        return [(one.reason, one.key) for one in events]

    async def stored(data: bytes) -> tuple[str, str]:
        """Return the cookie and the key of a record that holds *data*."""
        session_id = new_id()
        await storage.insert(key_of(session_id), data, int(clock()) + 1000)
        return sealed(session_id), key_of(session_id)

    cookie = await cookie_of(client, "set=a")
    assert await refused(cookie) == []
    assert await refused(cookie + "x") == [("cookie_signature", None)]
    assert await refused("é") == [("cookie_signature", None)]
    assert await refused(sealed("no-id")) == [("cookie_content", None)]
    unknown = new_id()
    assert await refused(sealed(unknown)) == [("record_missing", key_of(unknown))]

    await cookie_of(client, "regenerate=false", cookie)
    assert await refused(cookie) == [], "the old id may still read"
    clock.advance(11)
    assert [reason for reason, _ in await refused(cookie)] == ["record_ended"]

    damaged, key = await stored(b"damage")
    assert await refused(damaged) == [("record_damaged", key)]
    newer, key = await stored(b"99 X a form of the future")
    assert await refused(newer) == [("record_newer", key)]
    assert await refused(newer) == [("record_newer", key)], "each request counts"
    foreign, key = await stored(b"5 E gone-key\n" + bytes(100))
    assert await refused(foreign) == [("record_key", key)]


@pytest.mark.parametrize("on_server", [True, False])
async def test_a_record_that_is_not_encrypted_is_refused_by_a_ring_that_does_not_accept_it(
    serve: Any, recorder: Recorder, on_server: bool
) -> None:
    storage: Any = MemoryStorage() if on_server else CookieStorage()
    client = await serve(storage, None)
    cookie = await cookie_of(client, "set=a")
    ring = KeyRing(KeyRing.new_key(), accept_plain=False)
    if on_server:
        storage.records.ring = ring
        storage.records._records.clear()
    else:
        storage._ring = ring
        storage._decode.cache_clear()
    with storage.observing.telling(recorder):
        await visit(client, "/", cookie)

    assert recorder.take() == [("refused", None, "record_plain")]


async def test_a_missing_key_is_one_error_with_its_id_and_a_count_of_requests(
    serve: Any, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    storage = MemoryStorage(encryption=KeyRing("2025-03:" + KeyRing.new_key().partition(":")[2]))
    client = await serve(storage, recorder)
    cookie = await cookie_of(client, "set=a")
    storage.records.ring = KeyRing("2026-11:" + KeyRing.new_key().partition(":")[2])
    storage.records._records.clear()
    recorder.take()

    for _ in range(3):
        await visit(client, "/", cookie)

    assert recorder.take() == [("refused", None, "record_key")] * 3
    [line] = [record for record in caplog.records if record.name == LOGGER]
    assert line.levelno == logging.ERROR
    assert "2025-03" in line.getMessage()


async def test_cookie_storage_says_why_it_refuses(serve: Any, recorder: Recorder) -> None:
    clock, key = ManualClock(), KeyRing.new_key()
    storage = CookieStorage(clock=clock, idle_timeout=100, encryption=KeyRing(key))
    client = await serve(storage, recorder)
    cookie = await cookie_of(client, "login=ada")
    bound = SessionCookie(secrets=SECRET).bind(storage)
    recorder.take()

    await visit(client, "/", bound.seal("bm8gc2Vzc2lvbg"))
    assert recorder.take() == [("refused", None, "cookie_content")]
    storage._ring = KeyRing(KeyRing.new_key())
    storage._decode.cache_clear()
    await visit(client, "/", cookie)
    assert recorder.take() == [("refused", None, "record_key")]
    storage._ring = KeyRing(key)
    storage._decode.cache_clear()
    clock.advance(101)
    for _ in range(2):
        await visit(client, "/", cookie)
    assert recorder.take() == [
        ("ended", "ada", "idle"),
        ("refused", "ada", "record_expired"),
        ("refused", "ada", "record_expired"),
    ]


# --- ends by time


@pytest.mark.parametrize(
    ("options", "reason"), [({"lifetime": None}, "idle"), ({"idle_timeout": None, "lifetime": 100}, "lifetime")]
)
async def test_an_end_by_time_is_told_once_however_many_come_across_it(
    serve: Any, recorder: Recorder, options: dict[str, Any], reason: str
) -> None:
    clock = ManualClock()
    storage = MemoryStorage(clock=clock, **{"idle_timeout": 100, **options})
    client = await serve(storage, recorder)
    cookie = await cookie_of(client, "login=ada")
    recorder.take()
    clock.advance(100)

    for _ in range(3):
        await visit(client, "/", cookie)
    assert recorder.take() == [("ended", "ada", reason), *[("refused", "ada", "record_expired")] * 3]
    await storage.sessions_of("ada")
    await storage.end_sessions("ada")
    assert recorder.take() == []


async def test_an_end_by_time_that_a_list_of_sessions_finds_is_told(serve: Any, recorder: Recorder) -> None:
    clock = ManualClock()
    storage = MemoryStorage(clock=clock, idle_timeout=100)
    client = await serve(storage, recorder)
    await cookie_of(client, "login=ada")
    await cookie_of(client, "login=bob")
    recorder.take()
    clock.advance(100)

    assert await storage.sessions_of("ada") == []
    assert await storage.end_sessions("bob") == 0
    await storage.sessions_of("ada")

    assert recorder.take() == [("ended", "ada", "idle"), ("ended", "bob", "idle")]


async def test_sockets_tell_of_ends_by_time_and_of_lost_records_and_repeat_nothing(
    aiohttp_client: AiohttpClient, recorder: Recorder
) -> None:
    clock = ManualClock()
    storage = MemoryStorage(idle_timeout=100, clock=clock)
    app = observed_app(storage, recorder, watch_interval=0.1)
    app.router.add_get("/chat", chat)
    client = await without_jar(aiohttp_client, app)

    async def closed(query: str, end: Callable[[str], Any]) -> str:
        answer = await visit(client, f"/?{query}")
        recorder.take()
        sockets = [await client.ws_connect("/chat", headers={"Cookie": f"session={answer.cookie}"}) for _ in range(2)]
        await end(answer.text)
        reasons = {str((await socket.receive(SOON)).extra) for socket in sockets}
        for socket in sockets:
            await socket.close()
        [reason] = reasons
        return reason

    async def expire(_: str) -> None:
        clock.advance(100)

    async def lose(key: str) -> None:
        del storage._records[key]

    async def revoke(_: str) -> None:
        assert await storage.end_sessions("ada") == 1

    assert await closed("set=a", expire) == "idle"
    assert recorder.take() == [("ended", None, "idle")]
    assert await closed("set=a", lose) == "ended"
    assert recorder.take() == [("ended", None, "ended")]
    assert await closed("login=ada", revoke) == "revoked"
    assert recorder.take() == [("ended", "ada", "revoked")]


# --- conflicts


async def test_a_change_that_meets_another_ones_is_told_once(serve: Any, recorder: Recorder) -> None:
    storage = GatedStorage()
    client = await serve(storage, recorder)
    cookie = await cookie_of(client, "login=ada")
    recorder.take()
    session_id = SessionCookie(secrets=SECRET).bind(storage).open(cookie)
    one, other = await storage.read(session_id), await storage.read(session_id)

    one["a"] = 1
    await storage.save(one)
    assert recorder.take() == []
    other["b"] = 2
    await storage.save(other)
    assert recorder.take() == [("merged", "ada", None)]
    assert ("replace", "conflict") in recorder.calls

    rotating, third = await storage.read(session_id), await storage.read(session_id)
    third["c"] = 3
    await storage.save(third)
    rotating.regenerate_id()
    await storage.save(rotating)
    assert recorder.take() == [("merged", "ada", None), ("rotated", "ada", "renewed")]


async def test_an_extension_that_meets_a_change_is_no_merge(serve: Any, recorder: Recorder) -> None:
    clock = ManualClock()
    storage = MemoryStorage(clock=clock, idle_timeout=100)
    client = await serve(storage, recorder)
    cookie = await cookie_of(client, "set=a")
    bound = SessionCookie(secrets=SECRET).bind(storage)
    one = await storage.read(bound.open(cookie))
    clock.advance(50)
    one["b"] = 1
    touch = storage.touch

    async def touch_late(key: str, expires_at: int, version: bytes) -> bool:
        await storage.save(one)
        return await touch(key, expires_at, version)

    storage.touch = touch_late  # type: ignore[method-assign]
    recorder.take()
    await visit(client, "/", cookie)

    assert recorder.take() == []


async def test_a_login_tells_of_the_session_that_it_ends_although_it_has_not_seen_its_owner(
    serve: Any, recorder: Recorder
) -> None:
    """Another request has just found out by ``owner_of`` whose session it is."""
    storage = GatedStorage()
    client = await serve(storage, recorder)
    session_id = SessionCookie(secrets=SECRET).bind(storage).open(await cookie_of(client, "set=a"))
    ada, bob = await storage.read(session_id), await storage.read(session_id)
    recorder.take()

    await storage.adopt(ada, "ada")
    recorder.expect()
    bob.login("bob")
    await storage.save(bob)

    assert recorder.events[0].key == ada.key
    recorder.expect(("ended", "ada", "replaced"), ("created", "bob", None), ("logged_in", "bob", None))


async def test_of_two_logins_by_one_id_the_second_is_dropped_and_not_told(serve: Any, recorder: Recorder) -> None:
    storage = GatedStorage()
    client = await serve(storage, recorder)
    session_id = SessionCookie(secrets=SECRET).bind(storage).open(await cookie_of(client, "set=a"))
    ada, bob = await storage.read(session_id), await storage.read(session_id)
    recorder.take()

    for session, owner in ((ada, "ada"), (bob, "bob")):
        session.login(owner)
        await storage.save(session)

    recorder.expect(("rotated", "ada", "login"), ("logged_in", "ada", None))


@pytest.mark.parametrize("parallel", ["renew", "confirm"])
async def test_a_renewal_that_comes_second_is_no_rotation(serve: Any, recorder: Recorder, parallel: str) -> None:
    """It gets no id of its own: the browser has the one of the first."""
    storage = GatedStorage()
    client = await serve(storage, recorder)
    session_id = SessionCookie(secrets=SECRET).bind(storage).open(await cookie_of(client, "login=ada"))
    first, second = await storage.read(session_id), await storage.read(session_id)
    recorder.take()

    first.regenerate_id()
    second.regenerate_id() if parallel == "renew" else second.confirm_login()
    await storage.save(first)
    await storage.save(second)

    recorder.expect(("rotated", "ada", "renewed"))


# --- another process


async def test_an_end_is_told_by_the_process_that_made_it_and_by_no_other(
    aiohttp_client: AiohttpClient, tmp_path: Path
) -> None:
    """Two storages on one directory are like two processes."""
    here, there = Recorder(), Recorder()
    apps = [
        observed_app(FileSystemStorage(tmp_path / "s", sweep_interval=None), one, watch_interval=0.1)
        for one in (here, there)
    ]
    apps[1].router.add_get("/chat", chat)
    one, other = [await without_jar(aiohttp_client, app) for app in apps]
    cookie = await cookie_of(one, "login=ada")
    async with other.ws_connect("/chat", headers={"Cookie": f"session={cookie}"}) as socket:
        here.expect(("created", "ada", None), ("logged_in", "ada", None))

        await visit(one, "/?end_sessions=ada")
        assert (await socket.receive(SOON)).extra == "revoked"

    here.expect(("ended", "ada", "revoked"))
    there.expect()
    await visit(other, "/", cookie)
    there.expect(("refused", None, "record_ended"))
    here.expect()


async def test_the_sweep_in_the_background_is_a_call_as_well(recorder: Recorder) -> None:
    storage = MemoryStorage()
    with storage.observing.telling(recorder):
        await storage._sweeping._sweep()

    assert recorder.calls == [("sweep", "ok")]


# --- what a request had asked for and was not stored


@pytest.mark.parametrize(
    "query", ["set=a", "login=ada", "regenerate=true", "regenerate=false", "new=1&set=b", "login=bob&set=c"]
)
@pytest.mark.parametrize("on_server", [True, False])
async def test_nothing_is_told_of_what_a_server_error_has_undone(
    serve: Any, recorder: Recorder, query: str, on_server: bool
) -> None:
    client = await serve(GatedStorage() if on_server else CookieStorage(), recorder)
    cookie = await cookie_of(client, "login=ada")
    recorder.take()

    for sent in (None, cookie):
        assert (await visit(client, f"/?{query}&status=500", sent)).status == 500

    assert recorder.take() == []


async def test_a_logout_is_told_even_if_the_request_fails(serve: Any, recorder: Recorder) -> None:
    client = await serve(GatedStorage(), recorder)
    cookie = await cookie_of(client, "login=ada")
    recorder.take()

    await visit(client, "/?logout=1&set=b&status=500", cookie)

    assert recorder.take() == [("ended", "ada", "logout")]


@pytest.mark.parametrize("verb", ["insert", "replace"])
async def test_nothing_is_told_of_what_the_storage_has_not_stored(serve: Any, recorder: Recorder, verb: Any) -> None:
    storage = FailingStorage()
    client = await serve(storage, recorder)
    cookie = await cookie_of(client, "login=ada")
    recorder.take()

    with storage.failing(verb, "delete"):  # a storage that is full may still delete
        for query in ("login=ada", "new=1&set=b"):
            assert (await visit(client, f"/?{query}", cookie)).status == 503

    assert recorder.take() == []
    assert (verb, "error") in recorder.calls


async def test_a_login_of_a_cancelled_request_is_told_when_it_is_stored(
    aiohttp_client: AiohttpClient, recorder: Recorder
) -> None:
    storage = GatedStorage()
    client = await without_jar(aiohttp_client, observed_app(storage, recorder))
    gate = storage.shut("insert")
    session = await storage.read(None)
    session.login("ada")
    saving = asyncio.create_task(storage.save(session))
    await storage.reached["insert"].wait()
    saving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await saving
    assert recorder.take() == []

    gate.set()
    await client.close()  # the storage waits for the save

    assert recorder.take() == [("created", "ada", None), ("logged_in", "ada", None)]


# --- calls


async def test_calls_are_told_with_what_came_of_them(recorder: Recorder) -> None:
    storage = FailingStorage()
    key = key_of(new_id())
    with storage.observing.telling(recorder):
        assert await storage.fetch(key) is None
        version = await storage.insert(key, b"", 2**40)
        assert version is not None
        assert await storage.insert(key, b"", 2**40) is None
        assert await storage.fetch(key)
        assert await storage.replace(key, b"", 2**40, b"another") is None
        assert not await storage.touch(key, 2**40, b"another")
        assert not await storage.delete(key, b"another")
        assert await storage.linked("nobody") == []
        async with storage.lock(key):
            pass
        with storage.failing("fetch"), pytest.raises(Exception, match="told to fail"):
            await storage.fetch(key)
    await storage.fetch(key)

    assert recorder.calls == [
        ("fetch", "missing"),
        ("insert", "ok"),
        ("insert", "conflict"),
        ("fetch", "ok"),
        ("replace", "conflict"),
        ("touch", "conflict"),
        ("delete", "conflict"),
        ("linked", "ok"),
        ("lock", "ok"),
        ("fetch", "error"),
    ]


async def test_a_lost_answer_and_a_cancelled_call_are_told_as_such(recorder: Recorder) -> None:
    class Losing(GatedStorage):
        async def replace(self, key: str, data: bytes, expires_at: int, version: bytes) -> bytes | None:
            raise StorageError("no answer", maybe_stored=True)

    storage = Losing()
    with storage.observing.telling(recorder):
        with pytest.raises(Exception, match="no answer"):
            await storage.replace("", b"", 0, b"")
        storage.shut("fetch")
        fetching = asyncio.create_task(storage.fetch("k"))
        await storage.reached["fetch"].wait()
        waiting = asyncio.create_task(_hold_twice(storage))
        while ("lock", "ok") not in recorder.calls:
            await asyncio.sleep(0)
        for task in (fetching, waiting):
            task.cancel()
            await asyncio.wait([task])

    assert recorder.calls == [("replace", "unknown"), ("lock", "ok"), ("fetch", "cancelled"), ("lock", "cancelled")]


async def _hold_twice(storage: KeyedStorage) -> None:
    async with storage.lock("k"), storage.lock("k"):
        pass


async def test_a_verb_that_is_made_of_others_is_told_as_these(recorder: Recorder) -> None:
    storage = MemoryStorage()  # has no retire and no fetch_many of its own
    with storage.observing.telling(recorder):
        await storage.retire("k", b"", 0, b"")
        await storage.fetch_many(["k", "l"])

    assert recorder.calls == [("replace", "conflict"), ("fetch", "missing"), ("fetch", "missing")]


async def test_a_storage_is_called_as_often_with_an_observer_as_without(serve: Any, recorder: Recorder) -> None:
    queries = ["set=a", "set=b", "", "regenerate=false", "login=ada", "confirm=1", "logout=1"]
    counts = []
    for observer in (None, recorder):
        storage = CountingStorage()
        client, cookie = await serve(storage, observer), None
        storage.take_calls()
        for query in queries:
            answer = await visit(client, f"/?{query}", cookie)
            cookie = answer.cookie if answer.set_cookie else cookie
        counts.append(storage.take_calls())

    assert counts[0] == counts[1]
    assert recorder.take_calls() == {**_counted(counts[1]), "link": 2, "unlink": 2, "announce": 4}


def _counted(calls: list[str]) -> dict[str, int]:
    return {verb: calls.count(verb) for verb in calls}


async def test_without_an_observer_no_method_is_wrapped(serve: Any) -> None:
    storage = MemoryStorage()
    await serve(storage, None)

    assert not {"fetch", "insert", "replace", "lock"} & set(vars(storage))


async def test_when_the_last_app_stops_nothing_stays_wrapped(aiohttp_client: AiohttpClient, recorder: Recorder) -> None:
    storage = MemoryStorage()
    clients = [await without_jar(aiohttp_client, observed_app(storage, recorder)) for _ in range(2)]
    before = {name for name in vars(MemoryStorage()) if not name.startswith("__")}

    await clients[0].close()
    await visit(clients[1], "/?set=a")
    assert recorder.take() == [("created", None, None)]
    assert recorder.take_calls() == {"insert": 1}
    await clients[1].close()

    assert set(vars(storage)) == before
    assert not storage.observing.observers


# --- several apps


async def test_apps_that_share_a_storage_and_an_observer_tell_it_once(
    aiohttp_client: AiohttpClient, recorder: Recorder
) -> None:
    storage = MemoryStorage()
    client, _ = [await without_jar(aiohttp_client, observed_app(storage, recorder)) for _ in range(2)]

    await visit(client, "/?set=a")

    assert recorder.take() == [("created", None, None)]
    assert recorder.take_calls() == {"insert": 1}


async def test_apps_that_share_a_storage_tell_both_observers(aiohttp_client: AiohttpClient) -> None:
    storage, recorders = MemoryStorage(), [Recorder(), Recorder()]
    clients = [await without_jar(aiohttp_client, observed_app(storage, one)) for one in recorders]

    await visit(clients[0], "/?set=a", "forged")

    told = [("refused", None, "cookie_signature"), ("created", None, None)]
    assert [one.take() for one in recorders] == [told, told]


async def test_apps_with_storages_of_their_own_tell_their_own_observers(aiohttp_client: AiohttpClient) -> None:
    recorders = [Recorder(), Recorder()]
    clients = [await without_jar(aiohttp_client, observed_app(MemoryStorage(), one)) for one in recorders]

    await visit(clients[0], "/?set=a")

    assert [one.take() for one in recorders] == [[("created", None, None)], []]


async def test_a_sub_app_tells_its_own_observer(aiohttp_client: AiohttpClient) -> None:
    outer, inner = Recorder(), Recorder()
    app, sub = observed_app(MemoryStorage(), outer), web.Application()
    setup(sub, MemoryStorage(), cookie=SessionCookie("inner", secrets=SECRET), observer=inner)
    sub.router.add_get("/", act)
    app.add_subapp("/sub", sub)
    client = await without_jar(aiohttp_client, app)

    await visit(client, "/sub/?set=a", "forged")
    assert (outer.take(), inner.take()) == ([], [("created", None, None)])
    await visit(client, "/sub/?set=a", "forged", name="inner")
    assert inner.take()[0] == ("refused", None, "cookie_signature")


async def test_a_sub_app_without_sessions_of_its_own_tells_the_outer_observer(
    aiohttp_client: AiohttpClient, recorder: Recorder
) -> None:
    app, sub = observed_app(MemoryStorage(), recorder), web.Application()
    sub.router.add_get("/", act)
    app.add_subapp("/sub", sub)

    await visit(await without_jar(aiohttp_client, app), "/sub/?set=a")

    assert recorder.take() == [("created", None, None)]


# --- an observer that fails


class Failing(Recorder):
    """Raises in both of its methods, after it has noted the call."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def on_event(self, event: SessionEvent) -> None:
        super().on_event(event)
        raise self.error

    def on_call(self, verb: str, seconds: float, outcome: str) -> None:
        super().on_call(verb, seconds, outcome)
        raise self.error


@pytest.mark.parametrize("kind", [ValueError, asyncio.CancelledError, GeneratorExit, TimeoutError, StopIteration])
async def test_an_observer_that_fails_is_logged_once_and_harms_nobody(
    aiohttp_client: AiohttpClient, caplog: pytest.LogCaptureFixture, kind: type[BaseException]
) -> None:
    failing, other, storage = Failing(kind("oh")), Recorder(), GatedStorage(max_sessions_per_owner=3)
    app, beside = observed_app(storage, failing), observed_app(storage, other)
    client = await without_jar(aiohttp_client, app)
    await without_jar(aiohttp_client, beside)

    await tell_story(client, other)

    assert failing.calls == other.calls, "it goes on being told, and so are those after it"
    lines = [record for record in caplog.records if record.name == LOGGER and record.levelno >= logging.WARNING]
    assert [line.getMessage() for line in lines] == [
        "the observer Failing failed. Sessions go on; further errors of it are not logged"
    ]
    assert lines[0].exc_info


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_process_is_not_swallowed(kind: type[BaseException]) -> None:
    storage = MemoryStorage()

    async def main() -> None:
        with storage.observing.telling(Failing(kind())):
            session = await storage.read(None)
            session["a"] = 1
            await storage.save(session)

    with pytest.raises(kind):
        asyncio.run(main())


async def test_an_observer_may_start_work_on_the_storage(serve: Any, recorder: Recorder) -> None:
    storage, tasks = GatedStorage(), set[asyncio.Task[int]]()

    class OneDevice(Observer):
        def on_event(self, event: SessionEvent) -> None:
            if event.kind == "refused" and event.reason == "record_ended":
                tasks.add(asyncio.get_running_loop().create_task(storage.end_sessions("ada")))

    client = await serve(storage, OneDevice())
    first = await cookie_of(client, "login=ada")
    second = await cookie_of(client, "login=ada", first)
    with storage.observing.telling(recorder):
        await visit(client, "/", first)  # somebody has kept the old id
        await asyncio.gather(*tasks)

    assert recorder.take() == [("refused", None, "record_ended"), ("ended", "ada", "revoked")]
    assert (await storage.read(SessionCookie(secrets=SECRET).bind(storage).open(second))).new


# --- the rest of the web


async def test_streams_locks_and_saves_in_between_are_told_once(
    aiohttp_client: AiohttpClient, recorder: Recorder
) -> None:
    async def stream(request: web.Request) -> web.StreamResponse:
        session = await get_session(request)
        session["a"] = 1
        response = web.StreamResponse()
        await response.prepare(request)
        session["b"] = 2
        await save_session(request)
        return response

    async def exclusively(request: web.Request) -> web.Response:
        async with exclusive_session(request) as session:
            session.login("ada")
            await save_session(request)
        return web.Response()

    app = observed_app(GatedStorage(), recorder)
    app.add_routes([web.get("/stream", stream), web.get("/exclusive", exclusively)])
    client = await without_jar(aiohttp_client, app)

    cookie = (await visit(client, "/stream")).cookie
    assert recorder.take() == [("created", None, None)]
    await visit(client, "/exclusive", cookie)
    assert recorder.take() == [("rotated", "ada", "login"), ("logged_in", "ada", None)]
    assert ("lock", "ok") in recorder.calls


async def test_no_event_has_an_id(serve: Any, recorder: Recorder) -> None:
    client = await serve(MemoryStorage(), recorder)
    cookie = await cookie_of(client, "login=ada")
    await visit(client, "/", cookie + "x")

    said = repr(recorder.events)
    assert cookie.partition(".")[0] not in said
    assert len(recorder.events) == 3


@pytest.mark.parametrize(
    "observer", [object(), Recorder, print, "metrics", {"on_event": print}], ids=["object", "class", "f", "str", "dict"]
)
def test_an_observer_that_is_none_is_refused(observer: Any) -> None:
    with pytest.raises(ConfigurationError, match="observer must be an Observer"):
        setup(web.Application(), MemoryStorage(), observer=observer)


def test_an_async_observer_is_refused() -> None:
    class Late(Observer):
        async def on_event(self, event: SessionEvent) -> None:  # type: ignore[override]
            pass

    with pytest.raises(ConfigurationError, match="on_event of the observer must be a plain function"):
        setup(web.Application(), MemoryStorage(), observer=Late())
