"""Sessions that would be larger than ``max_session_size``: refused, and nothing else is lost."""

import asyncio
from typing import Any

import pytest

from aiohttp_session_store import MemoryStorage, Session, SessionTooLargeError
from aiohttp_session_store.testing import ManualClock
from tests.engine.suspending import SuspendingStorage
from tests.records import live_keys
from tests.storages.plain import PlainStorage

LIMIT = 500
TOO_LONG, HALF = "x" * 500, "x" * 250


async def loaded(storage: Any, **data: Any) -> Session:
    session = await storage.read(None)
    session.update(data or {"user": 5})
    return await storage.read(await storage.save(session))  # type: ignore[no-any-return]


async def test_a_new_session_that_is_too_large_is_refused_and_keeps_its_changes() -> None:
    storage = MemoryStorage(max_session_size=LIMIT)
    session = await storage.read(None)
    session["user"], session["text"] = 5, TOO_LONG
    with pytest.raises(SessionTooLargeError, match=r"'text' \(511 bytes\), 'user' \(10 bytes\)") as caught:
        await storage.save(session)

    assert caught.value.limit == LIMIT
    assert caught.value.size > LIMIT
    assert len(storage) == 0
    session["text"] = "short"
    assert await storage.save(session) == session.id
    assert dict(await storage.read(session.id)) == {"user": 5, "text": "short"}


async def test_a_change_that_makes_a_session_too_large_is_refused_and_the_record_stays() -> None:
    storage = MemoryStorage(max_session_size=LIMIT)
    session = await loaded(storage)
    session["text"] = TOO_LONG
    with pytest.raises(SessionTooLargeError):
        await storage.save(session)

    assert dict(await storage.read(session.id)) == {"user": 5}
    assert session["text"] == TOO_LONG
    del session["text"]
    session["a"] = 1
    await storage.save(session)
    assert dict(await storage.read(session.id)) == {"user": 5, "a": 1}


async def test_a_session_may_be_exactly_as_large_as_the_limit() -> None:
    clock = ManualClock()
    sizing = PlainStorage(clock=clock)
    size = len((await loaded(sizing, text=HALF)) and next(iter(sizing._records.values())).data)
    for limit, fits in ((size, True), (size - 1, False)):
        storage = PlainStorage(clock=clock, max_session_size=limit)
        if fits:
            await loaded(storage, text=HALF)
        else:
            with pytest.raises(SessionTooLargeError):
                await loaded(storage, text=HALF)


@pytest.mark.parametrize("delete_old", [False, True])
async def test_a_rotation_of_a_session_that_is_too_large_leaves_the_old_id_and_nothing_else(delete_old: bool) -> None:
    storage = MemoryStorage(max_session_size=LIMIT)
    session = await loaded(storage)
    old_id = session.id
    session["text"] = TOO_LONG
    session.regenerate_id(delete_old)
    with pytest.raises(SessionTooLargeError):
        await storage.save(session)

    assert len(storage) == 1
    assert dict(await storage.read(old_id)) == {"user": 5}
    session["text"] = "short"
    assert await storage.save(session) == session.id
    assert dict(await storage.read(session.id)) == {"user": 5, "text": "short"}


async def test_of_saves_that_share_a_write_only_the_one_that_is_too_large_fails() -> None:
    storage = SuspendingStorage(max_session_size=LIMIT)
    first = await loaded(storage)
    sessions = [await storage.read(first.id) for _ in range(5)]
    for number, session in enumerate(sessions):
        session[f"key {number}"] = TOO_LONG if number == 2 else number
    outcomes = await asyncio.gather(*map(storage.save, sessions), return_exceptions=True)

    assert [isinstance(outcome, SessionTooLargeError) for outcome in outcomes] == [False, False, True, False, False]
    assert dict(await storage.read(first.id)) == {"user": 5, "key 0": 0, "key 1": 1, "key 3": 3, "key 4": 4}


@pytest.mark.parametrize("rotates", [False, True])
async def test_a_change_fits_if_a_parallel_request_has_made_room_for_it(rotates: bool) -> None:
    """Whether a session is too large is decided by its newest record, not by the one that was loaded."""
    storage = MemoryStorage(max_session_size=LIMIT)
    session = await loaded(storage, old=HALF)
    other = await storage.read(session.id)
    del other["old"]
    await storage.save(other)
    session["new"] = HALF
    if rotates:
        session.regenerate_id()
    await storage.save(session)

    assert dict(await storage.read(session.id)) == {"new": HALF}
    assert len(live_keys(storage)) == 1


@pytest.mark.parametrize("rotates", [False, True])
async def test_two_changes_that_are_too_large_together_are_not_both_stored(rotates: bool) -> None:
    storage = MemoryStorage(max_session_size=LIMIT)
    session = await loaded(storage)
    other = await storage.read(session.id)
    other["other"] = HALF
    await storage.save(other)
    session["mine"] = HALF
    if rotates:
        session.regenerate_id()
    with pytest.raises(SessionTooLargeError):
        await storage.save(session)

    assert dict(await storage.read(other.id)) == {"user": 5, "other": HALF}
    assert len(storage) == 1


# --- sessions from before the limit was set


async def too_large_already(clock: ManualClock, **options: Any) -> tuple[PlainStorage, Session]:
    """Return a storage whose limit was lowered, and a session that is larger."""
    before = PlainStorage(clock=clock, idle_timeout=1000)
    session = await loaded(before, text=TOO_LONG, other=TOO_LONG)
    storage = PlainStorage(clock=clock, max_session_size=LIMIT, **{"idle_timeout": 1000, **options})
    storage._records = before._records
    return storage, session


async def test_a_session_that_is_too_large_already_may_shrink_but_not_grow() -> None:
    storage, before = await too_large_already(ManualClock())
    session = await storage.read(before.id)
    session["a"] = 1
    with pytest.raises(SessionTooLargeError):
        await storage.save(session)
    del session["text"]
    await storage.save(session)

    assert dict(await storage.read(session.id)) == {"other": TOO_LONG, "a": 1}


@pytest.mark.parametrize("idle_timeout", [1000, 14 * 24 * 60 * 60])
async def test_a_session_that_is_too_large_already_is_read_extended_renewed_and_ended(idle_timeout: int) -> None:
    """A longer idle timeout takes more digits; that is no growth that anybody asked for."""
    clock = ManualClock()
    storage, before = await too_large_already(clock, idle_timeout=idle_timeout)
    clock.advance(500)
    session = await storage.read(before.id)
    assert session.expires_at == int(clock()) + idle_timeout
    session.regenerate_id()
    assert await storage.save(session) == session.id
    assert set(await storage.read(session.id)) == {"text", "other"}
    session.destroy()
    assert await storage.save(session) == ""
    assert (await storage.read(session.id)).new
