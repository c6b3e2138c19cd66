"""The expiry calendar of the memory storage, compared with a plain model, and its memory use."""

import tracemalloc
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aiohttp_session_store import MemoryStorage
from aiohttp_session_store.storages.base import RECLAIM_AFTER
from aiohttp_session_store.storages.memory import storage as memory
from aiohttp_session_store.storages.memory.expiry_calendar import ExpiryCalendar
from aiohttp_session_store.testing import ManualClock

SLICE = 2  # keys per slice, so that even a few keys need several slices
KEYS = st.sampled_from("abcdefgh")
SECONDS = st.integers(0, 400)


class CalendarMachine(RuleBasedStateMachine):
    """Sessions are created, used and deleted while sweeps run and are cancelled, and the clock jumps."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(memory, "_SLICE", SLICE)
        self.clock = ManualClock()
        self.storage = MemoryStorage(clock=self.clock, sweep_interval=None)
        self.ends: dict[str, int] = {}
        self.versions: dict[str, bytes] = {}
        self.sweeps: list[tuple[Coroutine[Any, Any, int], int]] = []

    def end(self, seconds: int) -> int:
        return int(self.clock()) + seconds

    @rule(key=KEYS, seconds=SECONDS)
    def insert(self, key: str, seconds: int) -> None:
        version = run(self.storage.insert(key, b"", self.end(seconds)))
        assert (version is None) == (key in self.ends)
        if version is not None:
            self.ends[key], self.versions[key] = self.end(seconds), version

    @rule(key=KEYS, seconds=SECONDS)
    def replace(self, key: str, seconds: int) -> None:
        version = run(self.storage.replace(key, b"", self.end(seconds), self.versions.get(key, b"")))
        assert (version is not None) == (key in self.ends)
        if version is not None:
            self.ends[key], self.versions[key] = self.end(seconds), version

    @rule(key=KEYS, seconds=SECONDS)
    def touch(self, key: str, seconds: int) -> None:
        if run(self.storage.touch(key, self.end(seconds), self.versions.get(key, b""))):
            self.ends[key] = max(self.ends[key], self.end(seconds))

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        run(self.storage.delete(key))
        self.ends.pop(key, None)

    @rule(seconds=st.integers(-120, 600))
    def set_clock(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule()
    def begin_sweep(self) -> None:
        self.sweeps.append((self.storage.sweep(), int(self.clock()) - RECLAIM_AFTER))
        self.go_on(len(self.sweeps) - 1)

    @precondition(lambda self: self.sweeps)
    @rule(data=st.data())
    def go_on_with_sweep(self, data: st.DataObject) -> None:
        self.go_on(data.draw(st.integers(0, len(self.sweeps) - 1)))

    @precondition(lambda self: self.sweeps)
    @rule()
    def cut_sweep_off(self) -> None:
        self.sweeps.pop()[0].close()

    def go_on(self, index: int) -> None:
        """Let a sweep do one slice; check that it removes only expired records."""
        sweep, reclaimable = self.sweeps[index]
        try:
            sweep.send(None)
        except StopIteration:
            del self.sweeps[index]
        gone = self.ends.keys() - self.storage._records.keys()
        assert all(self.ends[key] <= reclaimable for key in gone)
        for key in gone:
            del self.ends[key]

    @precondition(lambda self: not self.sweeps)
    @rule()
    def whole_sweep(self) -> None:
        """Check that an undisturbed sweep leaves no expired record behind."""
        reclaimable = int(self.clock()) - RECLAIM_AFTER
        due = {key for key, end in self.ends.items() if end <= reclaimable}
        self.begin_sweep()
        while self.sweeps:
            self.go_on(0)
        assert due.isdisjoint(self.ends)

    @invariant()
    def keeps_what_the_model_keeps(self) -> None:
        assert {key: entry[2] for key, entry in self.storage._records.items()} == self.ends

    def teardown(self) -> None:
        """Check that everything is removed in the end, from the calendar too."""
        while self.sweeps:
            self.cut_sweep_off()
        self.clock.advance(100_000)
        self.whole_sweep()
        assert not self.ends
        assert not self.storage._calendar._days
        assert not self.storage._calendar._in_order
        self.patch.undo()


def run(verb: Coroutine[Any, Any, Any]) -> Any:
    """Run a verb that never waits."""
    try:
        verb.send(None)
    except StopIteration as ended:
        return ended.value
    raise AssertionError("a verb of the memory storage waited")


TestCalendarMachine = CalendarMachine.TestCase


def test_a_flood_of_sessions_leaves_no_memory_behind() -> None:
    """A set does not shrink when keys are removed, so each minute of a flood would leave a large hash table behind."""
    calendar = ExpiryCalendar()
    tracemalloc.start()
    try:
        for day in range(8):
            for number in range(5000):
                calendar.enter(f"{number}", day)
            for number in range(1, 5000):  # one session stays
                calendar.remove(f"{number}", day)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert kept < 8 * 10_000  # the table of a set of 5000 keys takes 500 kB
    assert calendar.take(8, 1000) == ["0"] * 8
