"""An error tracker that records local variables learns no session id, no cookie and no data from our frames."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest
from aiohttp import ServerDisconnectedError, web

from aiohttp_session_store import (
    CookieStorage,
    KeyedStorage,
    SessionKey,
    StorageError,
    get_session,
    new_session,
    save_session,
)
from aiohttp_session_store.session.state import Rotation
from aiohttp_session_store.web.cookie_settings import SessionCookie
from tests.web.storages import SECRET, FailingStorage, app_with
from tests.web.tracker import Tracker, frames_of, sentry
from tests.web.visits import Client, ClientOf, visit

DATA = "diagnosis-of-ada"
MARK = "a variable of the handler"
LONG = SessionKey("long", str)


class SuspendingStorage(FailingStorage):
    """Fails as well, but suspends before, so that saves run in tasks of their own."""

    suspends = True

    async def enter(self, verb: str) -> None:
        await asyncio.sleep(0)
        await super().enter(verb)


@pytest.fixture
def tracker() -> Iterator[Tracker]:
    with sentry() as tracker:
        yield tracker


@pytest.fixture(params=[FailingStorage, SuspendingStorage])
def failing(request: pytest.FixtureRequest) -> FailingStorage:
    storage: FailingStorage = request.param()
    return storage


async def store(request: web.Request) -> web.Response:
    (await get_session(request)).update(diagnosis=DATA, cart=[DATA])
    return web.Response()


async def served(client_of: ClientOf, storage: Any, handler: Any) -> tuple[Client, str]:
    """Serve *handler* at "/"; return a client, and the cookie of a visitor who has data in a session."""
    app = app_with(storage, handler)
    app.router.add_get("/store", store)
    client = await client_of(app)
    return client, (await visit(client, "/store")).cookie


def check_nothing_is_shown(tracker: Tracker, caplog: pytest.LogCaptureFixture, *secrets: str) -> None:
    """Check what Sentry would get, and what the frames of the errors in the log would show to other trackers."""
    assert tracker.frames()
    logged = [record.exc_info[1] for record in caplog.records if record.exc_info and record.exc_info[1]]
    shown = [repr(dict(frame.f_locals)) for error in logged for frame in frames_of(error)]
    for secret in (*secrets, DATA):
        assert secret not in tracker.text
        assert not [text for text in shown if secret in text]


async def reads(request: web.Request) -> web.Response:
    await get_session(request)
    return web.Response()


async def writes(request: web.Request) -> web.Response:
    (await get_session(request))["note"] = DATA
    return web.Response()


async def writes_anew(request: web.Request) -> web.Response:
    (await new_session(request))["note"] = DATA
    return web.Response()


async def changes_within(request: web.Request) -> web.Response:
    (await get_session(request))["cart"].append(DATA)
    return web.Response()


async def saves_now(request: web.Request) -> web.Response:
    (await get_session(request))["note"] = DATA
    await save_session(request)
    return web.Response()


async def streams(request: web.Request) -> web.StreamResponse:
    (await get_session(request))["note"] = DATA
    response = web.StreamResponse()
    await response.prepare(request)
    return response


async def renews(request: web.Request) -> web.Response:
    session = await get_session(request)
    session["note"] = DATA
    session.regenerate_id()
    return web.Response()


async def logs_in(request: web.Request) -> web.Response:
    session = await get_session(request)
    session["note"] = DATA
    session.login("ada")
    return web.Response()


async def logs_out(request: web.Request) -> web.Response:
    (await get_session(request)).logout()
    return web.Response()


async def test_a_failed_load_shows_no_id_and_no_cookie(
    client_of: ClientOf, failing: FailingStorage, tracker: Tracker, caplog: pytest.LogCaptureFixture
) -> None:
    client, cookie = await served(client_of, failing, reads)
    failing.failing = frozenset({"fetch"})

    assert (await visit(client, "/", cookie)).status == 503

    check_nothing_is_shown(tracker, caplog, cookie, cookie.partition(".")[0])
    assert {"get_session", "load", "find_session", "read"} <= tracker.functions()


@pytest.mark.parametrize(
    ("verb", "handler"),
    [
        *(("replace", one) for one in (writes, changes_within, saves_now, streams, renews, logs_in, logs_out)),
        *(("insert", one) for one in (writes_anew, renews, logs_in)),
    ],
    ids=lambda one: one if isinstance(one, str) else one.__name__,
)
async def test_a_failed_save_shows_no_id_and_no_data(
    client_of: ClientOf,
    failing: FailingStorage,
    tracker: Tracker,
    caplog: pytest.LogCaptureFixture,
    verb: str,
    handler: Any,
) -> None:
    client, cookie = await served(client_of, failing, handler)
    failing.failing = frozenset({verb, "delete"})

    with suppress(ServerDisconnectedError):  # streams() had its connection closed
        await visit(client, "/", cookie)

    check_nothing_is_shown(tracker, caplog, cookie, cookie.partition(".")[0])


async def test_two_cookies_of_one_name_whose_logout_fails_show_neither_id(
    client_of: ClientOf, failing: FailingStorage, tracker: Tracker, caplog: pytest.LogCaptureFixture
) -> None:
    client, cookie = await served(client_of, failing, logs_out)
    other = (await visit(client, "/store")).cookie
    failing.failing = frozenset({"replace", "delete"})

    await visit(client, "/", f"{cookie}; session={other}")

    check_nothing_is_shown(tracker, caplog, cookie.partition(".")[0], other.partition(".")[0])


async def test_a_handler_that_crashes_shows_its_variables_but_nothing_of_the_session(
    client_of: ClientOf, storage: KeyedStorage, tracker: Tracker, caplog: pytest.LogCaptureFixture
) -> None:
    async def crashes(request: web.Request) -> web.Response:
        visitor = await get_session(request)  # not called "session", whose value Sentry leaves out by its name
        mine = MARK
        raise ValueError(f"{len(mine)}{visitor.new}")

    client, cookie = await served(client_of, storage, crashes)

    assert (await visit(client, "/", cookie)).status == 500

    [shown] = [frame["vars"] for frame in tracker.frames() if frame["function"].endswith("crashes")]
    assert shown["mine"] == repr(MARK)
    assert shown["visitor"].startswith("<Session ")
    assert DATA not in tracker.text
    assert cookie.partition(".")[0] not in tracker.text


async def test_a_value_that_cannot_be_stored_is_not_shown_by_our_frames(
    client_of: ClientOf, storage: KeyedStorage, tracker: Tracker
) -> None:
    class Card(list[str]):
        """Its repr shows what is in it, as that of a dataclass does."""

        def number(self) -> str:
            """Return the number; a list that can do more is not stored."""
            return self[0]

    ways: list[Any] = [
        lambda s: s.__setitem__("card", Card([DATA])),
        lambda s: s.set("card", Card([DATA])),
        lambda s: s.setdefault("card", Card([DATA])),
        lambda s: s.update(card=Card([DATA])),
        lambda s: s.flash("card", Card([DATA])),
        lambda s: s.__setitem__(LONG, Card([DATA])),
        lambda s: (s["cart"].append(Card([DATA])), s.dirty),
        lambda s: (s["cart"].append(Card([DATA])), s.size),
        lambda s: s["cart"].append(Card([DATA])),
        lambda s: (s.destroy(), s.__setitem__("card", DATA)),
    ]

    async def every_way(request: web.Request) -> web.Response:
        ways[int(request.query["way"])](await get_session(request))
        return web.Response()

    client, cookie = await served(client_of, storage, every_way)
    for way in range(len(ways)):
        tracker.events.clear()
        assert (await visit(client, f"/?way={way}", cookie)).status == 500
        ours = [frame for frame in tracker.frames() if "/aiohttp_session_store/" in frame["abs_path"]]
        assert ours, way
        assert DATA not in str([frame.get("vars") for frame in ours]), way


async def test_a_session_that_is_too_large_for_its_cookie_is_not_shown(client_of: ClientOf, tracker: Tracker) -> None:
    async def grows(request: web.Request) -> web.Response:
        (await get_session(request))["note"] = DATA * 500
        return web.Response()

    client, cookie = await served(client_of, CookieStorage(), grows)

    assert (await visit(client, "/", cookie)).status == 500

    assert tracker.frames()
    assert DATA not in tracker.text
    assert cookie.partition(".")[0] not in tracker.text


async def test_the_error_of_a_save_that_outlived_its_request_shows_nothing(
    client_of: ClientOf, caplog: pytest.LogCaptureFixture, tracker: Tracker
) -> None:
    reached, gate = asyncio.Event(), asyncio.Event()

    class SlowStorage(SuspendingStorage):
        async def enter(self, verb: str) -> None:
            if verb == "replace":
                reached.set()
                await gate.wait()
            await super().enter(verb)

    client, cookie = await served(client_of, SlowStorage(["replace"]), renews)
    request = asyncio.ensure_future(visit(client, "/", cookie))
    await reached.wait()
    request.cancel()
    await asyncio.wait([request])
    while "cancelled" not in caplog.text:
        gate.set()
        await asyncio.sleep(0.01)

    for secret in (cookie.partition(".")[0], DATA):
        assert secret not in caplog.text
        assert secret not in tracker.text


async def test_a_session_that_cannot_be_extended_is_not_shown_in_the_log(
    client_of: ClientOf, caplog: pytest.LogCaptureFixture
) -> None:
    """It is a warning, which Sentry records if the app asks for warnings."""
    now = 1_900_000_000

    storage = FailingStorage(clock=lambda: now, idle_timeout=1000)
    client, cookie = await served(client_of, storage, reads)
    now += 500
    storage.failing = frozenset({"touch"})

    await visit(client, "/", cookie)

    [record] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert not record.exc_info
    for secret in (cookie.partition(".")[0], DATA):
        assert secret not in record.getMessage()


async def test_an_error_of_the_storage_used_without_a_web_server_shows_nothing(failing: FailingStorage) -> None:
    session = await failing.read(None)
    session["note"] = DATA
    value = await failing.save(session)
    failing.failing = frozenset({"fetch", "replace", "insert", "delete"})
    session["note"] = f"{DATA} again"

    for call in (
        lambda: failing.read(value),
        lambda: failing.save(session),
        lambda: failing.refresh(session),
        lambda: failing.end_session("ada", session.key),
    ):
        with pytest.raises(StorageError) as caught:
            await call()
        below = frames_of(caught.value)[1:]
        assert below
        assert not [frame for frame in below if frame.f_locals]


async def test_an_error_that_a_handler_is_handling_keeps_its_variables(
    client_of: ClientOf, failing: FailingStorage
) -> None:
    seen: list[FrameType] = []

    async def handler(request: web.Request) -> web.Response:
        mine = MARK
        try:
            raise ValueError(len(mine))
        except ValueError:
            try:
                await get_session(request)
            except StorageError as error:
                seen.extend(frames_of(error))
        return web.Response()

    client, cookie = await served(client_of, failing, handler)
    failing.failing = frozenset({"fetch"})
    assert (await visit(client, "/", cookie)).status == 200

    named = {frame.f_code.co_name: frame.f_locals for frame in seen}
    assert named["handler"]["mine"] == MARK
    assert named["fetch"] == {}


async def test_what_holds_ids_hides_them(storage: KeyedStorage) -> None:
    cookie = SessionCookie(secrets=SECRET).bind(storage)
    value = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopq"
    [opened] = cookie.candidates([f"session={cookie.seal(value)}"])
    session = await storage.read(None)
    session["note"] = DATA

    rotation = Rotation(value, delete_old=True, renew_lifetime=False)

    assert opened.value == rotation.original_id == value
    assert value not in repr(rotation)
    assert value not in repr(opened)
    assert session.id not in repr(session)
    assert DATA not in repr(session)
    assert repr(session) == session.__sentry_repr__()
