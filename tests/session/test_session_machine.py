"""Random interleavings of requests on one storage have the results that a plain model predicts.

For every id that ever existed, the model predicts what a request reads by it, and it predicts which records are stored,
byte by byte.  The storage may fail at any call, and its answers may be lost.  Three invariants do not depend on the
model: a session that was ended never comes back, what an id opened once and does not open any more it never opens
again, and no session outlives its limits.
"""

from typing import Any

import pytest
from hypothesis import seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule, run_state_machine_as_test

from aiohttp_session_store import SessionLockError
from aiohttp_session_store.session.session import state_of
from tests.session.comparing import difference
from tests.session.machine import Fault, World, run, run_sweep
from tests.session.model import LockLostError
from tests.session.modelled import BIG, GRACE, IDLE, LIFETIME, SHORT_IDLE, Request, expiry

MOST_REQUESTS = 5
which = st.integers(0, 20)
keys = st.sampled_from(["a", "b"])
scalars = st.integers(0, 1) | st.none()
actions = st.sampled_from(["renew", "write and renew", "log in", "log out", "begin anew", "flash", "write", "nothing"])
faults = st.builds(Fault, st.integers(1, 8), st.sampled_from(["refused", "lost", "late"]), st.booleans())


class Sessions(World):
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
        self.requests.append((session, self.nobody_yet(session.id)))

    @precondition(lambda self: self.ids and len(self.requests) < MOST_REQUESTS)
    @rule(index=which)
    def a_request_comes(self, index: int) -> None:
        self.load(self.ids[-1 - index % len(self.ids)])

    @precondition(lambda self: self.ids and len(self.requests) < MOST_REQUESTS)
    @rule(index=which, fault=faults)
    def a_request_comes_while_the_storage_fails(self, index: int, fault: Fault) -> None:
        self.load(self.ids[-1 - index % len(self.ids)], fault)

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
    @rule(
        index=which,
        how=st.sampled_from(["set", "append", "unset", "clear", "flash"]),
        key=keys,
        value=scalars | st.lists(scalars, max_size=2) | st.just(BIG),
    )
    def changes(self, index: int, how: str, key: str, value: Any) -> None:
        if how == "set":
            self.sets(index, key, value)
        elif how == "append":
            self.appends(index, key, value)
        elif how == "unset":
            self.unsets(index, key)
        elif how == "clear":
            self.clears(index)
        else:
            self.flashes(index, key)

    def sets(self, index: int, key: str, value: Any) -> None:
        session, request = self.open(index)
        if not request.destroyed:
            session[key] = value
            request.set(key, value)

    def appends(self, index: int, key: str, value: Any) -> None:
        session, request = self.open(index)
        if isinstance(request.view.get(key), list):
            session[key].append(value)
            request.append(key, value)

    def unsets(self, index: int, key: str) -> None:
        session, request = self.open(index)
        if not request.destroyed:
            session.unset(key)
            request.remove(key)

    def clears(self, index: int) -> None:
        session, request = self.open(index)
        if not request.destroyed:
            session.clear()
            request.clear()

    def flashes(self, index: int, key: str) -> None:
        session, request = self.open(index)
        if not request.destroyed:
            self.uids += 1
            session.flash(key, [self.uids])
            request.added.append((self.uids, key, [self.uids]))

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
        if not request.destroyed:
            session.regenerate_id(delete_old, renew_lifetime=renew)
            request.regenerate(session.id, delete_old=delete_old, renew=renew)

    @precondition(lambda self: self.requests)
    @rule(index=which)
    def destroys(self, index: int) -> None:
        session, request = self.open(index)
        session.destroy()
        request.destroy()
        assert dict(session) == {}

    @precondition(lambda self: self.requests)
    @rule(index=which)
    def begins_anew(self, index: int) -> None:
        """Do what ``new_session`` does."""
        session, request = self.open(index)
        if request.destroyed:
            return
        state, fresh = state_of(session), run(self.storage.read(None))
        state.withdraw_rotation()
        state_of(fresh).replaces = state.replaces if state.new else state
        anew = self.nobody_yet(fresh.id)
        anew.replaces = request.replaces if request.place is None else request
        self.requests[index % len(self.requests)] = (fresh, anew)

    # --- what happens meanwhile

    @precondition(lambda self: self.requests and len(self.requests) < MOST_REQUESTS)
    @rule(index=which, action=actions)
    def another_request_with_the_same_id_comes_and_goes(self, index: int, action: str) -> None:
        """Do in one step what takes many: parallel requests of one visitor are where the difficulties are."""
        _, request = self.open(index)
        count, own_id = len(self.requests), request.original or request.id
        if own_id in self.ids:
            self.load(own_id)
            if len(self.requests) > count:
                self.acts(count, action)
                self.saves(count)
                del self.requests[count]

    @precondition(lambda self: self.requests)
    @rule(index=which, action=actions, fault=faults, confirm=st.booleans())
    def acts_and_saves_while_the_storage_fails(self, index: int, action: str, fault: Fault, *, confirm: bool) -> None:
        self.acts(index, action)
        self.save(index, confirm=confirm, fault=fault)

    def acts(self, index: int, action: str) -> None:
        if action == "renew":
            self.regenerates(index, delete_old=False, renew=False)
        elif action == "write and renew":
            self.sets(index, "a", action)
            self.regenerates(index, delete_old=False, renew=False)
        elif action == "log in":
            self.regenerates(index, delete_old=True, renew=True)
        elif action == "log out":
            self.destroys(index)
        elif action == "begin anew":
            self.begins_anew(index)
        elif action == "flash":
            self.flashes(index, "a")
        elif action == "write":
            self.sets(index, "b", action)

    # --- holding a session exclusively

    @precondition(lambda self: self.requests)
    @rule(index=which)
    def takes_it_exclusively(self, index: int) -> None:
        """Get the lock, which the holder before has lost if there is one."""
        session, request = self.open(index)
        if request.exclusive:
            return

        async def lease() -> None:
            if self.holder is not session:
                raise SessionLockError("lost")

        self.holder, state_of(session).lease, request.exclusive = session, lease, True
        refused = should_be_refused = False
        try:
            run(self.storage.refresh(session))
        except SessionLockError:
            refused = True
        try:
            self.model.refresh(request, self.now)
        except LockLostError:
            should_be_refused = True
        assert refused == should_be_refused
        if refused:
            self.leaves_it(index)
        self.check(session, request)

    @precondition(lambda self: self.requests)
    @rule(index=which)
    def leaves_it(self, index: int) -> None:
        """Give the lock back: what was computed under it is not kept."""
        session, request = self.open(index)
        if request.exclusive:
            session.discard()
            request.discard()
            state_of(session).lease, request.exclusive = None, False
            self.holder = None if self.holder is session else self.holder

    # --- saving, which may fail

    @precondition(lambda self: self.requests)
    @rule(index=which)
    def saves(self, index: int) -> None:
        self.save(index)

    @precondition(lambda self: self.requests)
    @rule(index=which)
    def asks_whether_it_still_stands(self, index: int) -> None:
        self.save(index, confirm=True)

    @precondition(lambda self: self.requests)
    @rule(index=which, fault=faults, confirm=st.booleans())
    def saves_while_the_storage_fails(self, index: int, fault: Fault, *, confirm: bool) -> None:
        self.save(index, confirm=confirm, fault=fault)

    # --- time

    @rule(seconds=st.sampled_from([1, GRACE - 1, GRACE, 99, 100, 101, IDLE - 1, IDLE, 1300, LIFETIME // 2]))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule()
    def the_sweep_runs(self) -> None:
        run_sweep(self.storage)
        self.model.sweep(self.now)

    @rule(idle=st.sampled_from([IDLE, SHORT_IDLE]))
    def the_idle_timeout_is_changed(self, idle: int) -> None:
        self.set_idle(idle)

    # --- what always holds

    @invariant()
    def the_records_are_those_of_the_model(self) -> None:
        assert difference(self.model, self.storage._records) is None
        self.note_versions()

    @invariant()
    def every_id_reads_what_the_model_says_and_what_is_over_stays_over(self) -> None:
        spectator = self.spectator()
        for session_id in self.ids:
            expected, session = self.model.readable(session_id, self.now), run(spectator.read(session_id))
            assert session.new == (expected is None)
            if session.new:
                self.over.add(session_id)
            assert session.new or session_id not in self.over | self.dead
            if expected is not None:
                assert dict(session) == {**{key: value for _, key, value in expected.flashes}, **expected.data}, (
                    session_id,
                    self.model.records,
                )
                assert session.created_at == expected.created_at
                assert self.now < session.created_at + LIFETIME
                assert self.now < session.expires_at <= self.now + self.model.idle

    def nobody_yet(self, session_id: str) -> Request:
        ends = expiry(self.now, self.now, self.model.idle)
        return Request(session_id, {}, {}, {}, set(), created_at=self.now, expires_at=ends)


# Measuring coverage would triple the time of these tests, and they reach no line that other tests do not reach.
pytestmark = pytest.mark.no_cover

TestSessions = Sessions.TestCase
TestSessions.settings = settings(max_examples=100, stateful_step_count=50, deadline=None, derandomize=True)


def test_a_request_that_only_read_a_flash_learns_that_its_session_has_ended_elsewhere() -> None:
    world = Sessions()
    world.a_visitor_has_a_session(data={"a": 0}, parallel=0)
    world.flashes(0, "a")
    world.saves(0)
    world.a_request_comes(0)
    world.a_request_comes(0)
    world.acts(2, "log in")
    world.saves(2)
    world.asks_whether_it_still_stands(1)
    assert world.requests[1][1].destroyed
    world.teardown()


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("half", [1, 2])  # for two cores
def test_sessions_for_minutes(half: int) -> None:
    """Run the same machine for longer, with the same interleavings each time; another seed gives others."""
    machine = seed(half)(type("SessionsForMinutes", (Sessions,), {}))
    run_state_machine_as_test(machine, settings=settings(max_examples=2_500, stateful_step_count=60, deadline=None))
