"""The background sweep: it repeats, survives failures, stops with the app, and never blocks the event loop."""

import asyncio
import logging
from itertools import pairwise
from typing import Any

import pytest

from aiohttp_session_store import MemoryStorage, StorageError
from aiohttp_session_store.engine.sweeping import SweepLoop
from aiohttp_session_store.storages.memory import storage as memory
from aiohttp_session_store.testing import ManualClock


class Sweeps:
    """A sweep function that counts its calls; the first calls return or raise the given *outcomes*."""

    def __init__(self, *outcomes: int | Exception) -> None:
        self.outcomes = list(outcomes)
        self.count = 0
        self.enough = asyncio.Event()

    async def __call__(self) -> int:
        self.count += 1
        if self.count > len(self.outcomes):
            self.enough.set()
            return 0
        outcome = self.outcomes[self.count - 1]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


async def run_until_enough(sweeps: Sweeps) -> None:
    loop = SweepLoop(sweeps, 0)
    loop.start()
    await asyncio.wait_for(sweeps.enough.wait(), 5)
    await loop.stop()


# --- the loop


async def test_the_sweep_repeats_until_it_is_stopped() -> None:
    sweeps = Sweeps(0, 0, 0)
    await run_until_enough(sweeps)
    count = sweeps.count
    for _ in range(20):
        await asyncio.sleep(0)

    assert sweeps.count == count >= 4


async def test_a_failed_sweep_is_logged_and_the_next_one_runs(caplog: pytest.LogCaptureFixture) -> None:
    sweeps = Sweeps(StorageError("the disk is gone"), OSError("and again"))
    await run_until_enough(sweeps)

    assert sweeps.count >= 3
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
    assert "the disk is gone" in caplog.text
    assert "and again" in caplog.text
    assert [record.exc_info is None for record in caplog.records] == [True, False]  # a bug needs its traceback


async def test_the_number_of_swept_sessions_is_logged_at_debug_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "aiohttp_session_store")
    await run_until_enough(Sweeps(0, 7))

    assert [record.message for record in caplog.records] == ["swept 7 expired sessions"]


async def test_without_an_interval_there_is_no_sweep() -> None:
    sweeps = Sweeps()
    loop = SweepLoop(sweeps, None)
    loop.start()
    for _ in range(20):
        await asyncio.sleep(0)
    await loop.stop()

    assert sweeps.count == 0


async def test_starting_twice_starts_one_task_and_stopping_twice_is_no_error() -> None:
    tasks = asyncio.all_tasks()
    loop = SweepLoop(Sweeps(), 1000)
    loop.start()
    loop.start()
    assert len(asyncio.all_tasks() - tasks) == 1
    await loop.stop()
    await loop.stop()

    assert asyncio.all_tasks() == tasks


async def test_a_loop_can_be_started_again() -> None:
    sweeps = Sweeps()
    await run_until_enough(sweeps)
    sweeps.enough.clear()
    await run_until_enough(sweeps)

    assert sweeps.count >= 2


async def test_stopping_cancels_a_running_sweep() -> None:
    began = asyncio.Event()

    async def endless() -> int:
        began.set()
        await asyncio.Event().wait()
        return 0

    loop = SweepLoop(endless, 0)
    loop.start()
    await asyncio.wait_for(began.wait(), 5)
    await asyncio.wait_for(loop.stop(), 5)


async def test_pauses_vary_by_at_most_a_fifth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that start at the same time should not sweep at the same time."""
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def record(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", record)
    sweeps = Sweeps(*[0] * 50)
    loop = SweepLoop(sweeps, 100)
    loop.start()
    await asyncio.wait_for(sweeps.enough.wait(), 5)
    await loop.stop()

    assert all(80 <= pause <= 120 for pause in pauses)
    assert len(set(pauses)) > 40


# --- with a storage


async def test_the_sweep_runs_from_the_first_start_to_the_last_close() -> None:
    """Apps may share a storage."""
    tasks = asyncio.all_tasks()
    storage = MemoryStorage()
    await storage.start()
    await storage.start()
    await storage.aclose()
    assert len(asyncio.all_tasks() - tasks) == 1
    await storage.aclose()

    assert asyncio.all_tasks() == tasks


async def test_closing_a_storage_that_was_never_started_is_no_error() -> None:
    await MemoryStorage().aclose()


async def test_a_storage_without_an_interval_starts_no_task() -> None:
    tasks = asyncio.all_tasks()
    storage = MemoryStorage(sweep_interval=None)
    await storage.start()

    assert asyncio.all_tasks() == tasks
    await storage.aclose()


# --- slices


async def filled(clock: ManualClock, count: int) -> MemoryStorage:
    storage = MemoryStorage(clock=clock)
    for number in range(count):
        await storage.insert(f"key {number}", b"", int(clock()) + 1)
    clock.advance(1000)
    return storage


async def test_the_event_loop_runs_between_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_SLICE", 10)
    storage = await filled(ManualClock(), 100)
    seen = [len(storage)]

    async def watch() -> None:
        while len(storage):
            seen.append(len(storage))
            await asyncio.sleep(0)

    removed, _ = await asyncio.gather(storage.sweep(), watch())

    assert removed == 100
    assert max(before - after for before, after in pairwise(seen)) <= 10


async def test_inserts_and_deletes_during_the_sweep_do_not_disturb_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_SLICE", 10)
    clock = ManualClock()
    storage = await filled(clock, 100)

    async def disturb() -> None:
        for number in range(100, 120):
            await storage.insert(f"key {number}", b"", int(clock()) + 1000)
            await storage.delete(f"key {120 - number}")
            await asyncio.sleep(0)

    removed: Any
    removed, _ = await asyncio.gather(storage.sweep(), disturb())

    assert removed <= 100
    assert sorted(storage._records) == sorted(f"key {number}" for number in range(100, 120))


async def test_a_cancelled_sweep_leaves_the_rest_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_SLICE", 10)
    storage = await filled(ManualClock(), 100)
    sweep = asyncio.ensure_future(storage.sweep())
    await asyncio.sleep(0)
    sweep.cancel()
    await asyncio.gather(sweep, return_exceptions=True)
    assert 0 < len(storage) < 100

    assert await storage.sweep() == 90
