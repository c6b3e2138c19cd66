"""Limits that change between two deployments: a lower limit applies to old sessions, a higher one revives none."""

from typing import Any

import pytest

from aiohttp_session_store import MemoryStorage, StorageError
from aiohttp_session_store.record.format import Retired, encode_retired
from aiohttp_session_store.testing import ManualClock
from tests.engine.suspending import RacyStorage, stored_id

LATER = 2_000_000_000


def redeployed(storage: MemoryStorage, **limits: Any) -> MemoryStorage:
    """Return a storage with the same records and other limits."""
    other = MemoryStorage(clock=storage.clock, **limits)
    other._records = storage._records
    return other


async def session_in(storage: MemoryStorage) -> str:
    session = await storage.read(None)
    session["user"] = 5
    session_id = await storage.save(session)
    assert session_id
    return session_id


async def test_a_lowered_idle_timeout_applies_to_old_sessions() -> None:
    clock = ManualClock()
    storage = MemoryStorage(clock=clock, idle_timeout=1000)
    session_id = await session_in(storage)
    clock.advance(100)

    assert (await redeployed(storage, idle_timeout=100).read(session_id)).new
    assert not (await redeployed(storage, idle_timeout=101).read(session_id)).new


async def test_an_old_session_gets_the_new_idle_timeout_when_it_is_used() -> None:
    clock = ManualClock()
    storage = MemoryStorage(clock=clock, idle_timeout=100)
    session_id = await session_in(storage)
    raised = redeployed(storage, idle_timeout=1000)
    await raised.save(await raised.read(session_id))
    clock.advance(999)
    assert not (await raised.read(session_id)).new
    clock.advance(1)

    assert (await raised.read(session_id)).new


async def test_a_long_request_moves_its_session_to_the_new_idle_timeout_and_keeps_extending_it() -> None:
    """A WebSocket, for example, loads its session only once."""
    clock = ManualClock()
    storage = MemoryStorage(clock=clock, idle_timeout=1000)
    session_id = await session_in(storage)
    lowered = redeployed(storage, idle_timeout=100)
    session = await lowered.read(session_id)

    for _ in range(5):
        await lowered.save(session)
        clock.advance(99)

    assert not (await lowered.read(session_id)).new


async def test_an_old_session_without_an_idle_timeout_gets_one_when_it_is_used() -> None:
    clock = ManualClock()
    storage = MemoryStorage(clock=clock, idle_timeout=None)
    session_id = await session_in(storage)
    clock.advance(500)
    limited = redeployed(storage, idle_timeout=1000)
    await limited.save(await limited.read(session_id))
    clock.advance(999)
    assert not (await limited.read(session_id)).new
    clock.advance(1)

    assert (await limited.read(session_id)).new


async def test_moving_to_new_limits_keeps_the_data_and_loses_no_write() -> None:
    clock = ManualClock()
    storage = MemoryStorage(clock=clock, idle_timeout=100)
    session_id = await session_in(storage)
    raised = redeployed(storage, idle_timeout=1000)
    reading, writing = await raised.read(session_id), await raised.read(session_id)
    writing["a"] = 1
    await raised.save(writing)
    await raised.save(reading)

    assert dict(await raised.read(session_id)) == {"user": 5, "a": 1}


async def test_a_lowered_lifetime_applies_to_old_sessions() -> None:
    clock = ManualClock()
    storage = MemoryStorage(clock=clock)
    session_id = await session_in(storage)
    clock.advance(100)

    assert (await redeployed(storage, lifetime=100).read(session_id)).new


async def test_a_raised_limit_revives_no_session() -> None:
    clock = ManualClock()
    storage = MemoryStorage(clock=clock, idle_timeout=100, lifetime=1000)
    session_id = await session_in(storage)
    clock.advance(100)

    assert (await redeployed(storage, idle_timeout=1000, lifetime=9000).read(session_id)).new


# --- records that no version of this package writes


async def test_a_retired_record_inside_another_is_set_aside(caplog: pytest.LogCaptureFixture) -> None:
    storage = MemoryStorage(clock=ManualClock())
    session = await storage.read(await session_in(storage))
    inner = encode_retired(Retired("a" * 64, LATER))
    await storage.delete(session.key)
    await storage.insert(session.key, encode_retired(Retired("b" * 64, LATER, inner)), LATER)

    assert (await storage.read(session.id)).new
    assert "a retired record inside another" in caplog.text
    assert len(storage) == 0


async def test_a_regenerated_id_whose_new_record_is_damaged_reads_as_no_session() -> None:
    storage = MemoryStorage(clock=ManualClock())
    session = await storage.read(await session_in(storage))
    old_id = session.id
    session.regenerate_id()
    await storage.save(session)
    await storage.delete(session.key)
    await storage.insert(session.key, b"rubbish", LATER)

    assert (await storage.read(old_id)).new


async def test_it_is_an_error_if_every_new_id_exists_already() -> None:
    class Full(RacyStorage):
        async def insert(self, key: str, data: bytes, expires_at: int) -> None:
            await self.pause()

    session = await Full().read(None)
    session["a"] = 1
    storage = Full()
    with pytest.raises(StorageError, match="every new session id exists already"):
        await storage.save(session)

    assert session.dirty


async def test_regenerating_to_an_existing_id_is_an_error_and_leaves_the_old_session_intact() -> None:
    storage = RacyStorage()
    session_id = await stored_id(storage)
    session = await storage.read(session_id)
    session.regenerate_id()
    await storage.insert(session.key, b"somebody else's", LATER)
    with pytest.raises(StorageError, match="already had the record of a new session id"):
        await storage.save(session)

    assert dict(await storage.read(session_id)) == {"user": 5}
    assert storage._records[session.key].data == b"somebody else's"
