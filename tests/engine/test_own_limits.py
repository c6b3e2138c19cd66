"""Limits of one session against those of the storage: raised and lowered, in every order."""

from collections.abc import Coroutine
from math import inf
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiohttp_session_store import CookieStorage, FileSystemStorage, MemoryStorage, SessionUsageError, StorageError
from aiohttp_session_store.record.format import NewerRecordError, Record, decode_record, encode_record
from aiohttp_session_store.record.head import Head, Limits
from aiohttp_session_store.record.timeouts import Timeouts
from aiohttp_session_store.session.session import Session, state_of
from aiohttp_session_store.testing import ManualClock
from tests.web.storages import CountingStorage, FailingStorage

DAY = 86400


def run(call: Coroutine[Any, Any, Any]) -> Any:
    """Return what *call* returns; it never suspends."""
    try:
        call.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("a storage in memory does not suspend")


class Model:
    """What the documentation says of one session that logs in at 0: until when it may live, and until when it must."""

    def __init__(self, remember: int | None) -> None:
        self.remember, self.idle, self.lifetime = remember, inf, inf
        self.used = self.noted = self.loaded_idle = 0.0
        self.latest = inf
        self.surely = 0.0

    def _idle(self, timeouts: Timeouts) -> float:
        of_storage = timeouts.idle if self.remember is None else self.remember
        return min(inf if of_storage is None else of_storage, self.idle)

    def _lifetime(self, timeouts: Timeouts) -> float:
        return min(inf if timeouts.lifetime is None else timeouts.lifetime, self.lifetime)

    def shorten(self, limits: Limits) -> bool:
        """Return whether that makes a limit shorter."""
        before = self.idle, self.lifetime
        self.idle = min(self.idle, inf if limits.idle is None else limits.idle)
        self.lifetime = min(self.lifetime, inf if limits.lifetime is None else limits.lifetime)
        return before != (self.idle, self.lifetime)

    def use(self, now: float, timeouts: Timeouts, *, written: bool) -> None:
        idle, lifetime = self._idle(timeouts), self._lifetime(timeouts)
        latest, surely = (min(now + part * idle, lifetime) for part in (1, 0.9))
        if written or idle != self.loaded_idle:
            self.noted, self.latest, self.surely = now, latest, surely
        elif now - self.used >= 0.1 * idle:
            self.latest, self.surely = max(self.latest, latest), surely
            if now + idle <= lifetime:
                self.noted = now
        else:  # it may not have been extended
            self.latest, self.surely = max(self.latest, latest), min(self.surely, surely)
        self.used, self.loaded_idle = now, idle

    def may_live(self, now: float, timeouts: Timeouts) -> bool:
        return now < min(self.latest, self._lifetime(timeouts), self.used + self._idle(timeouts))

    def must_live(self, now: float, timeouts: Timeouts) -> bool:
        # A use that does not extend the session leaves no trace, from which another idle timeout could count.
        return now < min(self.surely, self._lifetime(timeouts), self.noted + self._idle(timeouts))


# Few of them, and pauses just before, at and just after them, so that most steps meet a limit.
SPANS, OWN = [3000, 1000, 300], [1000, 300, 100, 30]
PAUSES = [0, 1, 27, 29, 30, 90, 99, 100, 270, 299, 300, 900, 999, 1000]
spans, own = st.sampled_from(SPANS), st.sampled_from(OWN)
limits = st.builds(Timeouts, idle=spans | st.none(), lifetime=spans | st.none()).filter(
    lambda timeouts: timeouts.idle is not None or timeouts.lifetime is not None
)
steps = st.one_of(
    st.tuples(st.just("deploy"), limits),
    st.tuples(st.just("shorten"), st.builds(Limits, own, st.none()) | st.builds(Limits, st.none(), own)),
    st.tuples(st.sampled_from(["read", "write", "renew", "confirm"]), st.none()),
)
stories = st.lists(st.tuples(st.sampled_from(PAUSES), steps), min_size=4, max_size=12)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(limits, spans | st.none(), stories, st.booleans())
def test_a_session_lives_by_its_own_limits_and_by_those_of_the_storage(
    timeouts: Timeouts, remember: int | None, events: list[tuple[int, tuple[str, Any]]], in_cookie: bool
) -> None:
    clock = ManualClock(0)
    storage: Any = CookieStorage(clock=clock) if in_cookie else MemoryStorage(clock=clock, sweep_interval=None)
    storage.timeouts = timeouts
    session, model = run(storage.read(None)), Model(remember)
    session.login("42", remember=remember)
    cookie = run(storage.save(session))
    model.use(0, timeouts, written=True)
    for number, (pause, (step, value)) in enumerate(events):
        clock.advance(pause)
        if step == "deploy":
            storage.timeouts = timeouts = value
        now = clock()
        session = run(storage.read(cookie))
        assert model.may_live(now, timeouts) or session.new, "it lives longer than a limit allows"
        assert session.owner == "42" or not model.must_live(now, timeouts), "it ended before its limits said so"
        if session.new:
            return
        assert session.expires_at > now
        written = step in ("write", "renew", "confirm")
        if step == "shorten":
            session.shorten(idle_timeout=value.idle, lifetime=value.lifetime)
            written = model.shorten(value)
        elif step == "write":
            session["number"] = number
        elif step == "renew":
            session.regenerate_id(True)
        elif step == "confirm":
            session.confirm_login()
        cookie = run(storage.save(session)) or cookie
        model.use(now, timeouts, written=written)


@pytest.mark.parametrize("kind", [MemoryStorage, CookieStorage])
@pytest.mark.parametrize(
    ("limits", "remember"),
    [
        ({"lifetime": None}, None),
        ({"lifetime": None}, 30 * DAY),
        ({"lifetime": None}, 400 * DAY),
        ({"lifetime": None}, 9000 * DAY),
        ({"lifetime": None, "idle_timeout": 9000 * DAY}, None),
        ({"lifetime": 9000 * DAY, "idle_timeout": None}, None),
    ],
    ids=["idle", "remembered", "400 days", "longer", "long idle", "no idle"],
)
def test_a_session_that_is_used_daily_and_has_no_lifetime_never_ends(
    kind: Any, limits: dict[str, Any], remember: int | None
) -> None:
    """The index of its owner shows it all the time, and is not changed at each use."""
    clock = ManualClock()
    storage = kind(clock=clock, **limits)
    session = run(storage.read(None))
    session.login("42", remember=remember)
    cookie, untils = run(storage.save(session)), set[int]()
    for day in range(2000):
        clock.advance(DAY)
        session = run(storage.read(cookie))
        assert session.owner == "42", f"it ended on day {day}"
        if day % 7 == 0:
            session["day"] = day
        cookie = run(storage.save(session)) or cookie
        place = state_of(session).place
        assert place is not None
        assert place.record.head is not None
        untils.add(place.record.head.until)
        if kind is MemoryStorage and limits.get("idle_timeout", 1) is not None:
            assert clock() < place.record.head.until <= clock() + 400 * DAY
    assert len(untils) < 80


async def test_a_use_costs_no_more_calls_than_without_an_owner() -> None:
    """Reading, changing and extending a session that is remembered and shortened."""
    counted = []
    for remembered in (False, True):
        clock = ManualClock()
        storage = CountingStorage(clock=clock, idle_timeout=20 * DAY)
        session = await storage.read(None)
        session["a"] = 1
        if remembered:
            session.login("42", remember=30 * DAY)
            session.shorten(idle_timeout=20 * DAY)
        cookie = await storage.save(session)
        storage.take_calls()
        for pause, change in ((0, False), (60, True), (3 * DAY, False), (3 * DAY, True)):
            clock.advance(pause)
            session = await storage.read(cookie)
            if change:
                session["a"] += 1
            await storage.save(session)
        counted.append(storage.take_calls())

    assert counted[0] == counted[1] == ["fetch", "fetch", "replace", "fetch", "touch", "fetch", "touch", "replace"]


async def test_a_shortened_session_ends_in_every_process_at_once(tmp_path: Path) -> None:
    """Also in one that has read it before, and in a stream there."""
    clock = ManualClock()
    here, there = (FileSystemStorage(tmp_path / "sessions", sweep_interval=None, clock=clock) for _ in range(2))
    session = await here.read(None)
    session.login("42", remember=30 * DAY)
    cookie = await here.save(session)
    stream = await there.read(cookie)
    session = await here.read(cookie)
    session.shorten(idle_timeout=900)
    await here.save(session)
    clock.advance(899)
    assert (await there.read(cookie)).owner == "42"
    clock.advance(900)

    state_of(stream).confirm = True  # as save_session() does
    await there.save(stream)
    assert stream.destroyed
    assert (await there.read(cookie)).new
    assert await here.sessions_of("42") == []


# --- the calls


@pytest.fixture
def session() -> Session:
    session: Session = run(MemoryStorage().read(None))
    session.login("42")
    return session


@pytest.mark.parametrize("remember", [True, "30 days", [30]])
def test_how_long_to_remember_is_a_span(session: Session, remember: Any) -> None:
    with pytest.raises(TypeError, match=r"remember is a number of seconds or a timedelta"):
        session.login("42", remember=remember)


@pytest.mark.parametrize("span", [0, -1, 0.5, float("nan"), float("inf"), 1e15])
def test_a_span_is_at_least_a_second_and_can_be_stored(session: Session, span: float) -> None:
    with pytest.raises(ValueError, match="remember is from one second"):
        session.login("42", remember=span)
    with pytest.raises(ValueError, match="idle_timeout is from one second"):
        session.shorten(idle_timeout=span)
    with pytest.raises(ValueError, match="lifetime is from one second"):
        session.shorten(lifetime=span)
    with pytest.raises(ValueError, match="seconds is from one second"):
        session.authenticated_within(span)


def test_without_a_span_nothing_is_remembered_or_shortened(session: Session) -> None:
    session.login("42", remember=False)
    session.login("42", remember=None)
    session.shorten()

    login = state_of(session).login
    assert login is not None
    assert (login.remember, state_of(session).log.limits) == (None, None)


def test_a_login_is_fresh_at_once_and_a_logout_is_not(session: Session) -> None:
    session.confirm_login()
    assert session.authenticated_within(1)
    session.logout()
    assert not session.authenticated_within(10**9)


def test_discard_withdraws_a_confirmation_and_shorter_limits() -> None:
    clock = ManualClock()
    storage = MemoryStorage(clock=clock)
    session = run(storage.read(None))
    session.login("42")
    cookie = run(storage.save(session))
    clock.advance(3600)
    session = run(storage.read(cookie))
    session.confirm_login()
    session.shorten(idle_timeout=60)
    assert session.dirty

    session.discard()

    assert not session.dirty
    assert not session.authenticated_within(600)
    assert run(storage.save(session)) is None
    clock.advance(3600)
    assert run(storage.read(cookie)).owner == "42"


def test_a_confirmation_needs_somebody_who_is_logged_in() -> None:
    session = run(MemoryStorage().read(None))
    with pytest.raises(SessionUsageError, match=r"nothing that confirm_login\(\) could do: call login\(\) first"):
        session.confirm_login()


async def test_shorter_limits_that_could_not_be_stored_are_stored_by_the_next_save() -> None:
    storage = FailingStorage(clock=(clock := ManualClock()))
    session = await storage.read(None)
    session.login("42")
    cookie = await storage.save(session)
    session = await storage.read(cookie)
    session.shorten(idle_timeout=900)
    storage.failing = frozenset({"replace"})
    with pytest.raises(StorageError):
        await storage.save(session)
    storage.failing = frozenset()
    await storage.save(session)

    assert session.expires_at == clock() + 900


# --- the stored form

HEAD = Head("42", 1700000000, "Vq3kP0aa", 1707776000, None, 1700000100, 2592000, 900, 28800)


def test_the_stored_form_of_limits_is_fixed() -> None:
    record = Record(1700000000, 1700000001, 900, {"a": 1}, (), HEAD)
    data = (
        b'4 L 1700000000 1700000001 900\n{"owner":"42","authenticated_at":1700000000,"line":"Vq3kP0aa",'
        b'"until":1707776000,"confirmed_at":1700000100,"remember":2592000,"idle":900,"lifetime":28800}\n{"a":1}'
    )

    assert encode_record(record) == data
    assert decode_record(data) == record


def test_a_login_that_asks_for_nothing_is_stored_as_by_the_version_before() -> None:
    record = Record(1, 2, 3, {}, (), Head("42", 1700000000, "Vq3kP0aa", 1707776000, "Firefox"))

    assert encode_record(record) == (
        b'4 L 1 2 3\n{"owner":"42","authenticated_at":1700000000,"line":"Vq3kP0aa","until":1707776000,'
        b'"label":"Firefox"}\n{}'
    )


@pytest.mark.parametrize("field", ["confirmed_at", "remember", "idle", "lifetime"])
@pytest.mark.parametrize("value", ['"900"', "true", "null", "9.5"])
def test_a_limit_that_is_no_number_is_damage(field: str, value: str) -> None:
    data = f'4 L 1 2 3\n{{"owner":"42","authenticated_at":1,"line":"a","until":9,"{field}":{value}}}\n{{}}'

    with pytest.raises(ValueError, match="damaged") as caught:
        decode_record(data.encode())
    assert not isinstance(caught.value, NewerRecordError)


@pytest.mark.parametrize("kind", [MemoryStorage, CookieStorage])
@pytest.mark.parametrize("delete_old", [False, True])
async def test_a_new_lifetime_does_not_lengthen_a_session_that_was_shortened(kind: Any, delete_old: bool) -> None:
    clock = ManualClock()
    storage = kind(clock=clock, idle_timeout=None, lifetime=3600)
    session = await storage.read(None)
    session.login("ada")
    session.shorten(lifetime=1000)
    value = await storage.save(session)
    clock.advance(900)
    session = await storage.read(value)
    session.regenerate_id(delete_old, renew_lifetime=True)
    value = await storage.save(session)
    clock.advance(99)
    assert (await storage.read(value)).owner == "ada"
    clock.advance(1)
    assert (await storage.read(value)).owner is None
