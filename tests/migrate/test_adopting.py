"""Attacks on the protocol of ``adopting``: an old session is taken over once, despite races, failures and delays."""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from aiohttp_session_store import (
    ConfigurationError,
    CookieStorage,
    KeyedStorage,
    MemoryStorage,
    Session,
    SessionCookie,
    SessionStorage,
    StorageError,
    get_session,
    setup,
)
from aiohttp_session_store.migrate import (
    EncryptedCookieReader,
    ForgeableCookieReader,
    OldSession,
    accept_old_sessions,
)
from aiohttp_session_store.migrate.adopting import OldSessionAdopter, derived_id
from aiohttp_session_store.record.format import Record, decode_record
from aiohttp_session_store.record.session_id import key_of
from aiohttp_session_store.testing import ManualClock
from tests.engine.suspending import RacyStorage
from tests.migrate.test_aiohttp_session import OLD, Visitor, our_app
from tests.records import live_keys

DAY = 24 * 60 * 60
COOKIE = f"{OLD}=the-old-cookie"
LIMIT = 4000


class Reader:
    """A reader that knows a single old session, whose cookie cannot be forged."""

    max_age: int | None = None
    path = "/"
    domain: str | None = None

    def __init__(self, data: dict[str, Any] | None = None, *, created_at: int = 0, cookie_name: str = OLD) -> None:
        self.data = data or {"user": "ada"}
        self.created_at = created_at or int(time.time())
        self.cookie_name = cookie_name

    async def read(self, value: str) -> OldSession | None:
        return OldSession(self.data, self.created_at, value.encode()) if value == "the-old-cookie" else None


@asynccontextmanager
async def serving(storage: SessionStorage, reader: Any) -> AsyncIterator[TestClient[Any, Any]]:
    async with TestClient(TestServer(our_app(storage, reader)), cookie_jar=aiohttp.DummyCookieJar()) as client:
        yield client


@pytest.mark.parametrize("forgeable", [False, True])
async def test_a_session_older_than_the_lifetime_is_not_taken_over_with_cookies_on_either_side(
    forgeable: bool,
) -> None:
    clock = ManualClock(int(time.time()) + 91 * DAY)
    storage: SessionStorage = MemoryStorage(clock=clock) if forgeable else CookieStorage(clock=clock)
    reader: Any = Reader()
    if forgeable:
        with pytest.warns(UserWarning, match="anybody"):
            reader = ForgeableCookieReader()
    value = f'"{{\\"created\\":{int(time.time())}\\054\\"session\\":{{\\"user\\":\\"ada\\"}}}}"'
    async with serving(storage, reader) as client:
        assert await Visitor(client, f"{OLD}={value}" if forgeable else COOKIE).get("/show") == {}
        clock.advance(-2 * DAY)
        assert await Visitor(client, f"{OLD}={value}" if forgeable else COOKIE).get("/show") == {"user": "ada"}


async def test_an_old_session_too_large_for_a_cookie_is_not_taken_over(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(CookieStorage(), Reader({"user": "ada", "cart": "x" * 5000})) as client:
        visitor = Visitor(client, COOKIE)

        assert await visitor.get("/show") == {}
        assert await visitor.get("/write?key=mine") == {"mine": True}
    assert "an old session was not taken over, because not all of it can be stored: it is too large" in caplog.text


async def test_a_session_taken_over_in_a_failed_request_ends_when_its_old_cookie_is_used_up() -> None:
    async with serving(MemoryStorage(), Reader()) as client:
        visitor = Visitor(client, COOKIE)
        assert await visitor.get("/fail") == 500
        visitor.cookies = {}
        await visitor.get("/write?key=mine")
        visitor.cookies[OLD] = "the-old-cookie"
        assert await visitor.get("/show") == {"mine": True}

        assert await Visitor(client, COOKIE).get("/show") == {}


class AnyReader(Reader):
    """Knows an old session for each cookie, however the value is spelled: blanks do not count."""

    async def read(self, value: str) -> OldSession | None:
        return OldSession({"user": value}, self.created_at, value.replace(" ", "").encode())


@pytest.mark.parametrize("cookies", [f"{OLD}=ada; {OLD}=bob", f"{OLD}=ada; other=bob"])
async def test_of_two_old_cookies_that_come_together_neither_opens_anything_after_a_logout(cookies: str) -> None:
    """An old cookie has a twin after a change of its path or domain, and an app may have had two cookies."""
    storage = MemoryStorage()
    app = our_app(storage, AnyReader(), AnyReader(cookie_name="other"))
    async with TestClient(TestServer(app), cookie_jar=aiohttp.DummyCookieJar()) as client:
        async with client.get("/logout", headers={"Cookie": cookies}) as response:
            assert response.status == 200

        for cookie in (cookies, *cookies.split("; ")):
            async with client.get("/show", headers={"Cookie": cookie}) as response:
                assert await response.json() == {}


async def test_two_spellings_of_one_old_cookie_are_one_session() -> None:
    async with serving(MemoryStorage(), AnyReader()) as client:
        visitor = Visitor(client, f"{OLD}=a da; {OLD}=ad a")
        assert await visitor.get("/show") == {"user": "a da"}
        assert await visitor.get("/show") == {"user": "a da"}


async def test_using_up_an_old_cookie_does_not_harm_parallel_first_requests() -> None:
    """The session has moved to another id, which the old cookie still leads to during the grace period."""
    async with serving(MemoryStorage(), Reader()) as client:
        visitor = Visitor(client, COOKIE)
        await visitor.get("/show")
        visitor.cookies[OLD] = "the-old-cookie"
        await visitor.get("/show")

        assert await Visitor(client, COOKIE).get("/write?key=late") == {"user": "ada", "late": True}
        assert await visitor.get("/show") == {"user": "ada", "late": True}


class Held(RacyStorage):
    """Delays its second insert, which is that of the session, until ``let_go`` is set."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=clock)
        self.let_go = asyncio.Event()

    async def insert(self, key: str, data: bytes, expires_at: int) -> Any:
        self.calls["asked"] += 1
        if self.calls["asked"] == 2:
            await self.let_go.wait()
        return await super().insert(key, data, expires_at)


@pytest.mark.parametrize("later", [0, 10])
async def test_a_logout_during_a_slow_first_request_fails_instead_of_claiming_success(
    later: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    monkeypatch.setattr("aiohttp_session_store.migrate.adopting._PATIENCE", 0.05)
    clock = ManualClock(int(time.time()))
    storage = Held(clock)
    async with serving(storage, Reader()) as client:
        slow, visitor = Visitor(client, COOKIE), Visitor(client, COOKIE)
        first = asyncio.create_task(slow.get("/show"))
        while storage.calls["asked"] < 2:
            await asyncio.sleep(0)
        clock.advance(later)

        assert await visitor.get("/logout") == 503
        storage.let_go.set()
        assert await first == {"user": "ada"}
        assert await visitor.get("/logout") == {}
        assert await slow.get("/show") == {}


async def test_a_first_request_that_finishes_after_a_logout_brings_nothing_back() -> None:
    clock = ManualClock(int(time.time()))
    storage = Held(clock)
    async with serving(storage, Reader()) as client:
        slow = Visitor(client, COOKIE)
        first = asyncio.create_task(slow.get("/show"))
        while storage.calls["asked"] < 2:
            await asyncio.sleep(0)
        clock.advance(60)
        assert await Visitor(client, COOKIE).get("/logout") == {}
        storage.let_go.set()

        assert await first == {}
        assert await slow.get("/show") == {}


async def test_after_a_logout_on_the_first_visit_no_request_waits_for_the_session() -> None:
    storage = RacyStorage()
    async with serving(storage, Reader()) as client:
        assert await Visitor(client, COOKIE).get("/logout") == {}
        storage.calls.clear()

        assert await Visitor(client, COOKIE).get("/show") == {}
        assert storage.calls["fetch"] <= 4


async def test_a_mark_without_a_session_costs_only_that_session() -> None:
    """The process died after it had stored the mark and before it stored the session."""
    clock = ManualClock(int(time.time()))
    storage = RacyStorage(clock=clock)
    storage.fail = lambda verb, key: storage.calls["insert"] >= 2
    with pytest.raises(StorageError):
        await OldSessionAdopter(storage, [Reader()], LIMIT).adopt([COOKIE])
    storage.fail = lambda verb, key: False
    clock.advance(60)

    assert await OldSessionAdopter(storage, [Reader()], LIMIT).adopt([COOKIE]) is None


async def test_a_session_without_a_mark_is_marked_by_the_request_that_finds_it() -> None:
    """Without a mark, the old cookie would open the session again once no record of it is left."""
    clock = ManualClock(int(time.time()))
    storage = RacyStorage(clock=clock)
    key, expires_at = key_of(derived_id("session", OLD, b"the-old-cookie")), int(clock()) + DAY
    await storage.insert(key, b'1 L %d %d -\n{"user":"ada"}' % (clock(), clock()), expires_at)
    async with serving(storage, Reader()) as client:
        visitor = Visitor(client, COOKIE)
        assert await visitor.get("/show") == {"user": "ada"}
        await visitor.get("/logout")
        clock.advance(2 * DAY)
        await storage.sweep()

        assert await Visitor(client, COOKIE).get("/show") == {}


@pytest.mark.parametrize("lifetime", [None, 1000 * DAY])
async def test_a_used_old_cookie_is_remembered_for_longer_than_browsers_keep_cookies(
    lifetime: int | None,
) -> None:
    clock = ManualClock(int(time.time()))
    storage = MemoryStorage(clock=clock, lifetime=lifetime)
    async with serving(storage, Reader()) as client:
        visitor = Visitor(client, COOKIE)
        await visitor.get("/show")
        await visitor.get("/logout")
        clock.advance(500 * DAY)
        await storage.sweep()

        assert await Visitor(client, COOKIE).get("/show") == {}


async def test_an_unreadable_mark_still_counts_as_a_mark() -> None:
    storage = RacyStorage()
    await storage.insert(key_of(derived_id("mark", OLD, b"the-old-cookie")), b"9 of a newer version", 2**40)

    assert await OldSessionAdopter(storage, [Reader()], LIMIT).adopt([COOKIE]) is None


@pytest.mark.parametrize("name", ["__Host-old", "__Secure-old", "__host-old"])
async def test_an_old_cookie_with_a_prefix_is_cleared_with_secure_as_browsers_require(name: str) -> None:
    async with serving(MemoryStorage(), Reader(cookie_name=name)) as client:
        visitor = Visitor(client, "")
        visitor.cookies[name] = "the-old-cookie"
        assert await visitor.get("/show") == {"user": "ada"}

        assert visitor.cleared == [f"{name}=; Max-Age=0; Path=/; Secure"]


@pytest.mark.parametrize("key", [None, 5, object()])
def test_an_invalid_key_is_refused(key: Any) -> None:
    with pytest.raises(ConfigurationError, match="a key of EncryptedCookieStorage cannot be"):
        EncryptedCookieReader(key)


# --- random interleavings


async def visit(storage: RacyStorage, action: str) -> tuple[str, str | None, bool]:
    """Do what a first request does; return the action, the cookie value, and whether it got the old session."""
    adopted = await OldSessionAdopter(storage, [Reader()], LIMIT).adopt([COOKIE])
    session: Session = await storage.read(None) if adopted is None else adopted.session
    if action == "logout":
        session.destroy()
    elif action == "login":
        session.regenerate_id(True)
    elif action == "fail":
        return action, None, adopted is not None
    elif action != "show":
        session[action] = True
    value = await storage.save(session)
    return action, value, adopted is not None


async def opened(storage: RacyStorage, done: list[tuple[str, str | None, bool]]) -> int:
    """Return how many of the sent cookies open the session that was taken over."""
    return len([value for _, value, _ in done if value and "user" in await storage.read(value)])


@pytest.mark.parametrize("reader", [None, "sesame", EncryptedCookieReader, [Reader()], Reader(cookie_name=5)])  # type: ignore[arg-type]
def test_what_is_no_reader_is_refused_and_not_shown(reader: Any) -> None:
    app = web.Application()
    setup(app, MemoryStorage())

    with pytest.raises(ConfigurationError, match=r"write accept_old_sessions\(app, Enc") as caught:
        accept_old_sessions(app, Reader(), reader)

    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize("faults", [False, True], ids=["", "calls fail and answers are lost"])
async def test_parallel_first_requests_create_one_session_and_a_logout_ends_it(
    faults: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiohttp_session_store.migrate.adopting._PAUSE", 0.0001)
    monkeypatch.setattr("aiohttp_session_store.migrate.adopting._PATIENCE", 0.02)
    for seed in range(300):
        chance, clock = random.Random(seed), ManualClock(int(time.time()))
        storage = RacyStorage(seed, clock=clock)
        if faults:
            storage.fail = lambda verb, key, chance=chance: chance.random() < 0.05  # type: ignore[misc]
            storage.lose_answer = storage.fail
        actions = chance.choices(["show", "a", "b", "logout", "login", "fail"], [3, 3, 3, 1, 1, 1], k=4)
        results = await asyncio.gather(*(visit(storage, one) for one in actions), return_exceptions=True)
        storage.fail = storage.lose_answer = lambda verb, key: False
        done = [one for one in results if not isinstance(one, BaseException)]
        assert all(isinstance(one, tuple | StorageError) for one in results), (seed, results)
        records = [decode_record(storage._records[key].data) for key in live_keys(storage)]
        live = [one for one in records if isinstance(one, Record) and "user" in one.data]
        if any(action == "logout" and had for action, _, had in done):
            clock.advance(61)
            again = await OldSessionAdopter(storage, [Reader()], LIMIT).adopt([COOKIE])
            assert again is None, (seed, actions)
            assert await opened(storage, done) == 0, (seed, actions)
            assert faults or not live, (seed, actions)
        elif not faults:
            assert len(live) == 1, (seed, actions, results)
            written = {action for action in actions if len(action) == 1}
            if not {"login", "fail"} & set(actions):
                assert set(live[0].data) == {"user"} | written, (seed, actions)
            assert all(had for _, _, had in done) or "login" in actions, (seed, actions)
        clock.advance(2 * DAY)
        await storage.sweep()
        assert await opened(storage, done) <= 1, (seed, actions)
        if any(action == "logout" and had for action, _, had in done):  # not even when its tombstone is gone
            assert await OldSessionAdopter(storage, [Reader()], LIMIT).adopt([COOKIE]) is None, (seed, actions)


@pytest.mark.parametrize("storage_class", [MemoryStorage, RacyStorage])
async def test_a_session_that_was_taken_over_belongs_to_the_owner_that_the_app_reads_from_it(
    storage_class: type[KeyedStorage],
) -> None:
    """Every session of that owner is ended then, and the old cookie brings nothing back."""

    async def whose(request: web.Request) -> web.Response:
        return web.json_response((await get_session(request)).owner)

    storage = RacyStorage(seed=1) if storage_class is RacyStorage else MemoryStorage()
    app = web.Application()
    app.router.add_get("/whose", whose)
    settings = SessionCookie(secrets="known-secret-0123456789-abcdefghijklmnopqrstuvwxyz")
    setup(app, storage, cookie=settings, owner_of=lambda session: session.get("user"))
    accept_old_sessions(app, Reader())
    async with TestClient(TestServer(app), cookie_jar=aiohttp.DummyCookieJar()) as client:
        visitor = Visitor(client, COOKIE)
        for _ in range(2):
            assert await visitor.get("/whose") == "ada"
            assert len(await storage.sessions_of("ada")) == 1
        assert await storage.end_sessions("ada") == 1
        assert await visitor.get("/whose") is None
        assert await Visitor(client, COOKIE).get("/whose") is None
