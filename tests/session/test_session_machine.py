"""Random interleavings of requests on one storage have the results that a plain model predicts.

For every id that ever existed, the model predicts what a request reads by it, and it predicts which records are stored.
Two invariants do not depend on the model: a destroyed session never comes back, and no session outlives its limits.
"""

from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from aiohttp_session_store import MemoryStorage, Session, StorageError
from aiohttp_session_store.record.format import Record, decode_record
from aiohttp_session_store.record.session_id import key_of
from aiohttp_session_store.testing import ManualClock
from tests.session.failing import FailingStorage
from tests.session.model import GRACE, IDLE, LIFETIME, Live, Model, Request

T = TypeVar("T")

MOST_REQUESTS = 5
which = st.integers(0, 20)
keys = st.sampled_from(["a", "b"])
scalars = st.integers(0, 1) | st.none()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits; calls of a memory storage never do."""
    try:
        coroutine.send(None)
    except StopIteration as stopped:
        result: T = stopped.value
        return result
    coroutine.close()
    raise AssertionError("a memory storage waited")


class Sessions(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock(1_700_000_000)
        self.storage = FailingStorage(
            clock=self.clock, idle_timeout=IDLE, lifetime=LIFETIME, rotation_grace=GRACE, sweep_interval=None
        )
        self.model = Model()
        self.requests: list[tuple[Session, Request]] = []
        self.ids: list[str] = []
        self.dead: set[str] = set()
        self.uids = 0

    @property
    def now(self) -> int:
        return int(self.clock())

    def open(self, index: int) -> tuple[Session, Request]:
        return self.requests[index % len(self.requests)]

    # --- requests come and go

    @initialize(
        data=st.dictionaries(keys, scalars | st.lists(scalars, max_size=1), min_size=1), parallel=st.integers(0, 3)
    )
    def a_visitor_has_a_session(self, data: dict[str, Any], parallel: int) -> None:
        self.a_new_visitor_comes()
        for key, value in data.items():
            self.sets(0, key, value)
        self.saves(0)
        for _ in range(parallel):
            self.a_request_comes(0)

    @precondition(lambda self: len(self.requests) < MOST_REQUESTS)
    @rule()
    def a_new_visitor_comes(self) -> None:
        session = run(self.storage.read(None))
        self.requests.append((session, Request(session.id, {}, {}, {}, set(), self.now, stored=False)))

    @precondition(lambda self: self.ids and len(self.requests) < MOST_REQUESTS)
    @rule(index=which)
    def a_request_comes(self, index: int) -> None:
        session_id = self.ids[-1 - index % len(self.ids)]
        request, session = self.model.load(session_id, self.now), run(self.storage.read(session_id))
        assert session.new == (request is None)
        if request is not None:
            self.requests.append((session, request))

    @precondition(lambda self: self.requests)
    @rule(index=which)
    def a_request_ends_without_saving(self, index: int) -> None:
        del self.requests[index % len(self.requests)]

    # --- what handlers do

    @precondition(lambda self: self.requests)
    @rule(index=which)
    def reads(self, index: int) -> None:
        session, request = self.open(index)
        assert dict(session) == request.read()

    @precondition(lambda self: self.requests)
    @rule(index=which, key=keys, value=scalars | st.lists(scalars, max_size=2))
    def sets(self, index: int, key: str, value: Any) -> None:
        session, request = self.open(index)
        if not request.destroyed:
            session[key] = value
            request.set(key, value)

    @precondition(lambda self: self.requests)
    @rule(index=which, key=keys, value=scalars)
    def appends(self, index: int, key: str, value: Any) -> None:
        session, request = self.open(index)
        if isinstance(request.view.get(key), list):
            session[key].append(value)
            request.append(key, value)

    @precondition(lambda self: self.requests)
    @rule(index=which, key=keys)
    def unsets(self, index: int, key: str) -> None:
        session, request = self.open(index)
        if not request.destroyed:
            session.unset(key)
            request.remove(key)

    @precondition(lambda self: self.requests)
    @rule(index=which)
    def clears(self, index: int) -> None:
        session, request = self.open(index)
        if not request.destroyed:
            session.clear()
            request.clear()

    @precondition(lambda self: self.requests)
    @rule(index=which, key=keys, value=scalars)
    def flashes(self, index: int, key: str, value: Any) -> None:
        session, request = self.open(index)
        if not request.destroyed:
            session.flash(key, value)
            self.uids += 1
            request.added.append((self.uids, key, value))

    @precondition(lambda self: self.requests)
    @rule(index=which)
    def discards(self, index: int) -> None:
        session, request = self.open(index)
        session.discard()
        request.discard()
        assert dict(session) == request.read()

    @precondition(lambda self: self.requests)
    @rule(index=which, delete_old=st.booleans(), renew=st.booleans())
    def regenerates(self, index: int, *, delete_old: bool, renew: bool) -> None:
        session, request = self.open(index)
        if request.destroyed:
            return
        session.regenerate_id(delete_old, renew_lifetime=renew)
        if request.stored:
            request.original = request.original or request.id
            request.delete_old |= delete_old
            request.renew |= renew
        request.id = session.id

    @precondition(lambda self: self.requests)
    @rule(index=which)
    def destroys(self, index: int) -> None:
        session, request = self.open(index)
        session.destroy()
        if not request.destroyed:
            request.discard()
            request.destroy_pending = True
            request.end()
        assert dict(session) == {}

    # --- saving, which may fail

    @precondition(lambda self: self.requests)
    @rule(index=which)
    def saves(self, index: int) -> None:
        session, request = self.open(index)
        if request.destroy_pending:
            self.dead |= self.all_ids_of(request.id)
        cookie_value = run(self.storage.save(session))
        assert cookie_value == self.model.save(request, self.now)
        if cookie_value:
            self.ids.append(cookie_value)
        assert session.destroyed == request.destroyed
        assert session.id == request.id
        assert not session.dirty

    @precondition(lambda self: self.requests)
    @rule(index=which, call=st.integers(1, 5))
    def saves_while_the_storage_fails(self, index: int, call: int) -> None:
        session, request = self.open(index)
        if request.destroyed:
            return
        self.storage.countdown = call
        try:
            run(self.storage.save(session))
        except StorageError:
            assert request.by_handler or request.original is not None
        else:
            if self.storage.countdown > 0:  # the save needed fewer calls
                cookie_value = self.model.save(request, self.now)
                self.ids += [cookie_value] if cookie_value else []
        finally:
            self.storage.countdown = 0
        assert session.id == request.id

    # --- time

    @rule(seconds=st.sampled_from([1, GRACE - 1, GRACE, 99, 100, 101, IDLE - 1, IDLE, 1300, LIFETIME // 2]))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule()
    def the_sweep_runs(self) -> None:
        run_sweep(self.storage)
        self.model.sweep(self.now)

    # --- what always holds

    @invariant()
    def every_id_reads_what_the_model_says(self) -> None:
        for session_id in self.ids:
            expected, session = self.model.readable(session_id, self.now), run(self.storage.read(session_id))
            assert session.new == (expected is None)
            if expected is not None:
                assert dict(session) == {**{key: value for _, key, value in expected.flashes}, **expected.data}
                assert session.created_at == expected.created_at

    @invariant()
    def the_records_are_those_of_the_model(self) -> None:
        assert set(self.storage._records) == {key_of(session_id) for session_id in self.model.records}
        for session_id, record in self.model.records.items():
            stored = run(self.storage.fetch(key_of(session_id)))
            assert stored is not None
            assert isinstance(decode_record(stored.data), Record) == isinstance(record, Live)
            assert stored.expires_at == (record.expires_at if isinstance(record, Live) else record.dies_at)

    @invariant()
    def a_destroyed_session_never_comes_back(self) -> None:
        for session_id in self.dead:
            assert run(self.storage.read(session_id)).new

    @invariant()
    def no_session_outlives_its_limits(self) -> None:
        for session_id in self.ids:
            session = run(self.storage.read(session_id))
            if not session.new:
                assert self.now < session.created_at + LIFETIME
                assert self.now < session.expires_at <= self.now + IDLE

    def all_ids_of(self, session_id: str) -> set[str]:
        """Return every id that leads to the session of *session_id*, including *session_id* itself."""

        def end_of(start: str) -> str:
            while not isinstance(record := self.model.records.get(start), Live) and record is not None:
                start = record.successor
            return start

        return {other for other in {*self.ids, session_id} if end_of(other) == end_of(session_id)}


def run_sweep(storage: MemoryStorage) -> None:
    """Run a sweep to its end; it yields to the event loop between slices."""
    sweep = storage.sweep()
    try:
        while True:
            sweep.send(None)
    except StopIteration:
        return


# Measuring coverage would triple the time of these tests, and they reach no line that other tests do not reach.
pytestmark = pytest.mark.no_cover

TestSessions = Sessions.TestCase
TestSessions.settings = settings(max_examples=400, stateful_step_count=50, deadline=None, derandomize=True)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("half", [1, 2])  # for two cores
def test_sessions_for_minutes(half: int) -> None:
    """Run the same machine for longer, with other interleavings each time."""
    run_state_machine_as_test(Sessions, settings=settings(max_examples=7_500, stateful_step_count=60, deadline=None))
