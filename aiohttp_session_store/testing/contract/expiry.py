"""The contract of expiry and of the sweep, alone and during requests."""

import asyncio
from datetime import timedelta
from typing import ClassVar

import pytest

from ...storages.base import RECLAIM_AFTER, KeyedStorage
from ..clock import ManualClock
from .verbs import HOUR, inserted, new_key

ROUNDS = 20
# In seconds. Longer than any test takes, and shorter than RECLAIM_AFTER.
MARGIN = 120
# More than one slice or batch of our own sweeps. More than one of any sensible sweep would take too long to insert.
MANY = 1500
# In seconds. "Never", for all that a session is concerned.
CENTURY = 100 * 365 * 24 * HOUR
AT_ONCE = 50


def long_ago(clock: ManualClock) -> int:
    """Return an expiry so long ago that a sweep removes the record."""
    return int(clock()) - RECLAIM_AFTER - 2


def only_just(clock: ManualClock) -> int:
    """Return an expiry in the past, but not so long ago that a sweep may remove the record."""
    return int(clock()) - RECLAIM_AFTER + MARGIN


class ExpiryContract:
    """A request that loaded a live session can still save it, and records that nobody can need any more are removed.

    A server may go by a clock of its own, so that a process whose clock is ahead removes nobody's live session.  So the
    tests of the sweep do not move the manual clock forward: they insert records that ended in the past of both clocks.

    Attributes:
        sweeps: Whether ``sweep()`` removes records.  False if the server itself removes expired records, at a time of
            its own.  Then ``sweep()`` has to return 0 and to leave all live records.
    """

    sweeps: ClassVar[bool] = True

    def needs_sweep(self) -> None:
        """Skip a test that needs a storage with a sweep of its own."""
        if not self.sweeps:
            pytest.skip("sweeps = False: the server removes expired records by itself")

    # --- what has expired

    async def test_an_expired_record_stays_until_it_may_be_reclaimed(
        self, storage: KeyedStorage, clock: ManualClock
    ) -> None:
        """A request that loaded the session alive can still save it, and the core decides what has expired."""
        key, expires_at = new_key(), int(clock()) + HOUR
        version = await inserted(storage, key, b"data", expires_at)
        clock.advance(HOUR + RECLAIM_AFTER - 1)
        stored = await storage.fetch(key)
        assert stored is not None, "an expired record must be fetched until RECLAIM_AFTER has passed"
        assert stored.data == b"data", "an expired record must be fetched unchanged"
        replaced = await storage.replace(key, b"new", int(clock()) + HOUR, version)
        assert replaced is not None, "an expired record must be replaceable until RECLAIM_AFTER has passed"

    async def test_an_expired_record_can_be_touched_until_it_may_be_reclaimed(
        self, storage: KeyedStorage, clock: ManualClock
    ) -> None:
        """A request that loaded the session alive keeps it alive, however slow the request was."""
        key = new_key()
        version = await inserted(storage, key, b"data", int(clock()) + HOUR)
        clock.advance(HOUR + RECLAIM_AFTER - 1)
        expires_at = int(clock()) + HOUR
        assert await storage.touch(key, expires_at, version) is True, "an expired record must be touchable for a while"
        stored = await storage.fetch(key)
        assert stored is not None, "a touched record must be found"
        assert stored.expires_at == expires_at, "touch() must extend an expired record, too"

    # --- the sweep

    async def test_a_record_with_the_longest_timeout_is_kept(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """``idle_timeout`` may be as long as ``timedelta.max``, for "never".  A storage may note an earlier end."""
        key, expires_at = new_key(), int(clock()) + int(timedelta.max.total_seconds())
        version = await inserted(storage, key, b"first", expires_at)
        for number in range(2):
            stored = await storage.fetch(key)
            assert stored is not None, "a record that expires in the far future must be found"
            assert stored.expires_at > int(clock()) + CENTURY, "a record must not expire much earlier than it was told"
            if number == 0:
                newer = await storage.replace(key, b"second", expires_at + 1, version)
                assert newer is not None, "a record that expires in the far future can be replaced"
                assert await storage.touch(key, expires_at + 2, newer) is True, "and extended"

    async def test_the_sweep_removes_what_expired_long_ago_and_counts_it(
        self, storage: KeyedStorage, clock: ManualClock
    ) -> None:
        """Long ago means more than ``RECLAIM_AFTER`` seconds ago."""
        self.needs_sweep()
        keys = [new_key() for _ in range(5)]
        for key in keys:
            await inserted(storage, key, b"data", long_ago(clock))
        assert await storage.sweep() == len(keys), "sweep() must return how many records it removed"
        for key in keys:
            assert await storage.fetch(key) is None, "sweep() must remove what expired long ago"
        assert await storage.sweep() == 0, "sweep() with nothing to remove must return 0"

    async def test_the_sweep_keeps_what_is_alive(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """A live record stays, however soon it ends."""
        key, dead = new_key(), new_key()
        await inserted(storage, key, b"data", int(clock()) + MARGIN)
        await inserted(storage, dead, b"data", long_ago(clock))
        removed = 1 if self.sweeps else 0
        assert await storage.sweep() == removed, f"sweep() must remove {removed} of these records"
        assert await storage.fetch(key) is not None, "sweep() must keep a live record"

    async def test_the_sweep_keeps_what_has_only_just_expired(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """A request that is under way may still need it."""
        key = new_key()
        await inserted(storage, key, b"data", only_just(clock))
        assert await storage.sweep() == 0, "sweep() must leave RECLAIM_AFTER seconds after the expiry"
        assert await storage.fetch(key) is not None, "sweep() must keep what has only just expired"

    async def test_the_sweep_keeps_what_was_extended(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """Whether a touch or a write extended the record, its latest expiry counts."""
        touched, replaced = new_key(), new_key()
        soon, later = long_ago(clock) if self.sweeps else only_just(clock), int(clock()) + HOUR
        await storage.touch(touched, later, await inserted(storage, touched, b"data", soon))
        await storage.replace(replaced, b"new", later, await inserted(storage, replaced, b"data", soon))
        assert await storage.sweep() == 0, "sweep() must not remove what was extended"
        assert await storage.fetch(touched) is not None, "sweep() must keep what was touched"
        assert await storage.fetch(replaced) is not None, "sweep() must keep what was replaced"

    async def test_the_sweep_removes_all_of_many(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """A sweep works in slices, and must not stop after the first one."""
        self.needs_sweep()
        keys, expires_at = [new_key() for _ in range(MANY)], long_ago(clock)
        for first in range(0, MANY, AT_ONCE):
            part = keys[first : first + AT_ONCE]
            await asyncio.gather(*(inserted(storage, key, b"data", expires_at) for key in part))
        assert await storage.sweep() == MANY, f"sweep() must remove all of {MANY} expired records"
        for key in (keys[0], keys[MANY // 2], keys[-1]):
            assert await storage.fetch(key) is None, "sweep() must remove what it counts"

    async def test_sweeps_at_once_count_each_record_once(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """Several workers may sweep one storage."""
        keys = [new_key() for _ in range(ROUNDS)]
        for key in keys:
            await inserted(storage, key, b"data", long_ago(clock))
        counts = await asyncio.gather(storage.sweep(), storage.sweep(), storage.sweep())
        removed = len(keys) if self.sweeps else 0
        assert sum(counts) == removed, f"sweeps at once must count {removed} removed records together, not {counts}"

    async def test_a_cancelled_sweep_is_completed_by_the_next(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """A sweep is cancelled when the app stops, and what it leaves must not be in the way of a later sweep."""
        self.needs_sweep()
        for steps in range(ROUNDS):
            keys = [new_key() for _ in range(3)]
            for key in keys:
                await inserted(storage, key, b"data", long_ago(clock))
            sweeping = asyncio.ensure_future(storage.sweep())
            for _ in range(steps):
                await asyncio.sleep(0)
            sweeping.cancel()
            await asyncio.wait([sweeping])
            await storage.sweep()
            left = [key for key in keys if await storage.fetch(key) is not None]
            assert not left, "the sweep after one that was cancelled must remove what that one left"

    # --- the sweep during requests

    async def test_a_touch_that_races_the_sweep_saves_the_record_or_says_that_it_is_gone(
        self, storage: KeyedStorage, clock: ManualClock
    ) -> None:
        """A sweep removes no record that touch() has confirmed."""
        for _ in range(ROUNDS):
            key = new_key()
            version = await inserted(storage, key, b"data", long_ago(clock))
            _, touched = await asyncio.gather(storage.sweep(), storage.touch(key, int(clock()) + HOUR, version))
            there = await storage.fetch(key) is not None
            assert there == touched, f"touch() returned {touched}, but the record is {'there' if there else 'gone'}"

    async def test_a_replace_that_races_the_sweep_saves_the_record_or_says_that_it_is_gone(
        self, storage: KeyedStorage, clock: ManualClock
    ) -> None:
        """A sweep removes no record that replace() has confirmed."""
        for _ in range(ROUNDS):
            key = new_key()
            version = await inserted(storage, key, b"old", long_ago(clock))
            write = storage.replace(key, b"new", int(clock()) + HOUR, version)
            _, newer = await asyncio.gather(storage.sweep(), write)
            stored = await storage.fetch(key)
            seen = stored and stored.data
            expected = None if newer is None else b"new"
            assert seen == expected, f"replace() returned {newer!r}, but the record holds {seen!r}"
