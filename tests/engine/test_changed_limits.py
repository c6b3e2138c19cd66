"""Limits that change between two deployments: a lower limit applies to old sessions, a higher one revives none."""

from typing import Any

import pytest

from aiohttp_session_store import MemoryStorage, StorageError
from aiohttp_session_store.record.format import Retired, encode_retired
from aiohttp_session_store.record.session_id import key_of
from aiohttp_session_store.session.session import state_of
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
    assert (await raised.read(session_id)).expires_at == int(clock()) + 1000
    clock.advance(999)
    stored = await raised.fetch(key_of(session_id))
    assert stored is not None
    assert stored.expires_at == int(clock()) + 1
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
        state_of(session).confirm = True  # as save_session() does
        await lowered.save(session)
        clock.advance(99)

    assert not (await lowered.read(session_id)).new


async def test_an_old_session_without_an_idle_timeout_gets_one_when_it_is_used() -> None:
    clock = ManualClock()
    storage = MemoryStorage(clock=clock, idle_timeout=None)
    session_id = await session_in(storage)
    clock.advance(500)
    limited = redeployed(storage, idle_timeout=1000)
    assert (await limited.read(session_id)).expires_at == int(clock()) + 1000
    clock.advance(1000)

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


async def test_regenerating_to_an_existing_id_takes_another_one() -> None:
    """A tombstone may stand under that one, of a rotation that was taken back."""
    storage = RacyStorage()
    session_id = await stored_id(storage)
    session = await storage.read(session_id)
    session.regenerate_id(True)
    taken = session.key
    await storage.insert(taken, b"somebody else's", LATER)
    new_id = await storage.save(session)

    assert new_id == session.id
    assert session.key != taken
    assert dict(await storage.read(new_id)) == {"user": 5}
    assert storage._records[taken].data == b"somebody else's"
