"""What is specific to the memory storage: its size limit, its secret and workers, and that it never waits."""

import asyncio
import logging
import subprocess
import sys
import textwrap
from collections.abc import Callable

import pytest

from aiohttp_session_store import ConfigurationError, MemoryStorage
from aiohttp_session_store.storages.base import RECLAIM_AFTER
from aiohttp_session_store.testing import ManualClock

LATER = 2_000_000_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def test_len_is_the_number_of_records(clock: ManualClock) -> None:
    storage = MemoryStorage(clock=clock)
    await storage.insert("a", b"", LATER)
    await storage.insert("b", b"", LATER)

    assert len(storage) == 2


@pytest.mark.parametrize("use", ["fetch", "replace", "touch and fetch"])
async def test_at_the_limit_the_least_recently_used_record_is_dropped(clock: ManualClock, use: str) -> None:
    storage = MemoryStorage(clock=clock, max_sessions=2)
    version = await storage.insert("first", b"", LATER)
    assert version
    await storage.insert("second", b"", LATER)
    if use == "replace":
        await storage.replace("first", b"new", LATER, version)
    else:
        await storage.touch("first", LATER + 1, version)
        await storage.fetch("first")
    await storage.insert("third", b"", LATER)

    assert list(storage._records) == ["first", "third"]


async def test_reaching_the_limit_logs_one_warning(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    storage = MemoryStorage(clock=clock, max_sessions=1)
    for key in "abc":
        await storage.insert(key, b"", LATER)

    assert [(record.levelno, record.name) for record in caplog.records] == [(logging.WARNING, "aiohttp_session_store")]
    assert "max_sessions=1 sessions: from now on the least recently used ones are dropped" in caplog.text


async def test_below_the_limit_nothing_is_logged(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    storage = MemoryStorage(clock=clock, max_sessions=2)
    await storage.insert("a", b"", LATER)
    await storage.insert("b", b"", LATER)
    await storage.insert("a", b"", LATER)

    assert not caplog.records


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "10", None])
def test_an_invalid_limit_is_refused(limit: object) -> None:
    with pytest.raises(ConfigurationError, match="max_sessions must be a whole number, at least 1"):
        MemoryStorage(max_sessions=limit)  # type: ignore[arg-type]


@pytest.mark.parametrize("setting", ["idle_timeout", "lifetime", "rotation_grace", "sweep_interval"])
def test_an_invalid_time_is_refused_with_the_name_of_the_setting(setting: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{setting} is a number of seconds"):
        MemoryStorage(**{setting: 0})  # type: ignore[arg-type]


def test_the_defaults_are_as_documented() -> None:
    storage = MemoryStorage()

    assert (storage.timeouts.idle, storage.timeouts.lifetime) == (14 * 86400, 90 * 86400)
    assert storage.rotation_grace == 60


def test_each_storage_has_a_secret_of_its_own_and_keeps_it() -> None:
    storage, other = MemoryStorage(), MemoryStorage()

    assert storage.default_secrets() == storage.default_secrets() != other.default_secrets()
    assert len(storage.default_secrets()[0]) >= 32


async def test_starting_in_the_process_that_created_it_logs_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    storage = MemoryStorage()
    await storage.start()
    await storage.aclose()

    assert not caplog.records


def test_starting_in_a_forked_worker_warns_that_sessions_are_not_shared() -> None:
    script = """
        import asyncio, logging, os, sys
        from aiohttp_session_store import MemoryStorage

        async def run(storage):
            await storage.start()
            await storage.aclose()

        logging.basicConfig(stream=sys.stdout)
        storage = MemoryStorage()
        worker = os.fork()
        if worker:
            sys.exit(os.waitpid(worker, 0)[1])
        asyncio.run(run(storage))
    """
    finished = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True, timeout=30
    )

    assert "each worker has its own sessions" in finished.stdout


async def test_saving_never_waits() -> None:
    """No other task can run between a read and a save, so group commit is not needed."""
    storage = MemoryStorage()
    session = await storage.read(None)
    steps: list[Callable[[], object]] = [
        lambda: session.set("a", 1),
        lambda: session.regenerate_id(True),
        lambda: session.set("b", 2),
        session.destroy,
    ]
    for step in steps:
        step()
        with pytest.raises(StopIteration):
            storage.save(session).send(None)

    assert session.destroyed


# --- cookie values that do not reach the storage


@pytest.mark.parametrize(
    "cookie_value",
    [None, "", "A" * 42, "A" * 44, "A" * 42 + "\n", "A" * 42 + "=", "ä" * 43, "../" * 14 + "A", "A" * 10**6],
)
async def test_a_value_that_cannot_be_an_id_is_a_new_session_and_is_not_looked_up(cookie_value: str | None) -> None:
    class Unreachable(MemoryStorage):
        async def fetch(self, key: str) -> None:
            raise AssertionError(key)

    session = await Unreachable().read(cookie_value)

    assert session.new
    assert session.id != cookie_value


async def test_an_unknown_id_is_not_adopted() -> None:
    """Otherwise an attacker could choose the id of the victim's session."""
    storage, chosen = MemoryStorage(), "A" * 43
    session = await storage.read(chosen)
    session["user"] = 5

    assert await storage.save(session) != chosen
    assert (await storage.read(chosen)).new


# --- records that cannot be read


async def test_rubbish_is_set_aside_with_one_warning_that_names_the_key(caplog: pytest.LogCaptureFixture) -> None:
    storage = MemoryStorage()
    session = await storage.read(None)
    session["a"] = 1
    await storage.save(session)
    await storage.delete(session.key)
    await storage.insert(session.key, b"rubbish", LATER)

    assert (await storage.read(session.id)).new
    assert (await storage.read(session.id)).new
    assert [record.message for record in caplog.records] == [
        f"session {session.key} is set aside: not a session record"
    ]
    assert session.id not in caplog.text
    assert len(storage) == 0


async def test_a_record_of_a_newer_version_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    storage = MemoryStorage()
    session = await storage.read(None)
    session["a"] = 1
    await storage.save(session)
    await storage.delete(session.key)
    await storage.insert(session.key, b"5 something new", LATER)

    assert (await storage.read(session.id)).new
    assert (await storage.read(session.id)).new
    assert len(storage) == 1
    assert len(caplog.records) == 1


async def test_a_record_that_becomes_rubbish_during_a_request_ends_its_session(
    caplog: pytest.LogCaptureFixture,
) -> None:
    storage = MemoryStorage()
    session = await storage.read(None)
    session["a"] = 1
    await storage.save(session)
    await storage.delete(session.key)
    await storage.insert(session.key, b"rubbish", LATER)
    session["b"] = 2

    assert await storage.save(session) is None
    assert session.destroyed
    assert "became unreadable while a request was using it" in caplog.text


# --- the sweep


async def test_a_sweep_looks_only_at_records_that_are_due(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = MemoryStorage(clock=clock, sweep_interval=None)
    for number in range(100):
        await storage.insert(f"due {number}", b"", int(clock()) + 10)
        await storage.insert(f"later {number}", b"", int(clock()) + 10_000)
    seen: list[str] = []
    take = storage._calendar.take

    def noted(last_day: int, most: int) -> list[str]:
        taken = take(last_day, most)
        seen.extend(taken)
        return taken

    monkeypatch.setattr(storage._calendar, "take", noted)
    clock.advance(RECLAIM_AFTER + 100)

    assert await storage.sweep() == 100
    assert sorted(seen) == sorted(f"due {number}" for number in range(100))
    assert len(storage) == 100


@pytest.mark.parametrize("use", ["touch", "replace"])
async def test_a_used_record_is_swept_at_its_new_expiry_and_not_before(clock: ManualClock, use: str) -> None:
    storage = MemoryStorage(clock=clock, sweep_interval=None)
    version = await storage.insert("a", b"", int(clock()) + 10)
    assert version
    if use == "touch":
        await storage.touch("a", int(clock()) + 1000, version)
    else:
        await storage.replace("a", b"", int(clock()) + 1000, version)
    for _ in range(3):  # each sweep enters it into the calendar again
        clock.advance((1000 + RECLAIM_AFTER) / 3 - 1)
        assert await storage.sweep() == 0
    clock.advance(4)

    assert await storage.sweep() == 1


async def test_a_record_whose_expiry_is_shortened_is_swept_at_the_earlier_time(clock: ManualClock) -> None:
    """For example, the record of an id that was regenerated."""
    storage = MemoryStorage(clock=clock, sweep_interval=None)
    version = await storage.insert("a", b"", int(clock()) + 1_000_000)
    await storage.replace("a", b"", int(clock()) + 60, version or b"")
    clock.advance(60 + RECLAIM_AFTER)

    assert await storage.sweep() == 1


async def test_a_cancelled_sweep_forgets_no_record(clock: ManualClock) -> None:
    storage = MemoryStorage(clock=clock, sweep_interval=None)
    start = int(clock()) // 60 * 60
    for number in range(5000):
        await storage.insert(f"{number}", b"", start + number % 60)
    clock.advance(start + 30 + RECLAIM_AFTER - clock())
    sweep = asyncio.ensure_future(storage.sweep())
    for _ in range(3):
        await asyncio.sleep(0)
    sweep.cancel()
    await asyncio.wait([sweep])
    assert 0 < len(storage) < 5000
    clock.advance(60)
    await storage.sweep()

    assert len(storage) == 0


async def test_deleted_and_evicted_records_leave_nothing_in_the_calendar(clock: ManualClock) -> None:
    storage = MemoryStorage(clock=clock, max_sessions=10, sweep_interval=None)
    for number in range(100):
        await storage.insert(f"{number}", b"", int(clock()) + 10)
    for number in range(90, 100):
        await storage.delete(f"{number}")

    assert storage._calendar.take(2**40, 100) == []
