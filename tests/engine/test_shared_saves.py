"""What parallel saves of one session share, and what they do not."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from aiohttp_session_store import MemoryStorage, SessionTooLargeError, StorageError
from aiohttp_session_store.engine.shared_saves import MOST
from aiohttp_session_store.engine.writing import RecordWriter
from aiohttp_session_store.record.changes import Changes
from aiohttp_session_store.record.format import Record
from aiohttp_session_store.record.session_id import key_of
from aiohttp_session_store.testing import ManualClock
from tests.engine.suspending import RacyStorage, SuspendingStorage, failing, stored_id


async def test_one_write_merges_a_bounded_number_of_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Merging thousands in one go would hold up every other request of the process."""
    sizes: list[int] = []
    merged = RecordWriter.merged

    def counted(self: RecordWriter, record: Record, changes: Iterable[Changes], *args: Any) -> Record:
        sizes.append(len(list(changes)))
        return merged(self, record, changes, *args)

    storage = SuspendingStorage()
    session_id = await stored_id(storage)  # type: ignore[arg-type]
    sessions = [await storage.read(session_id) for _ in range(5 * MOST)]
    for number, session in enumerate(sessions):
        session[f"key {number}"] = number
    monkeypatch.setattr(RecordWriter, "merged", counted)
    await asyncio.gather(*map(storage.save, sessions))

    assert len(await storage.read(session_id)) == 5 * MOST + 1
    assert max(sizes) == MOST


async def test_a_login_is_not_starved_by_other_requests_of_its_session() -> None:
    """It waits in the same queue; without that, one of 40 writers would always be faster."""
    storage = RacyStorage(seed=3)
    session_id = await stored_id(storage)

    async def write(number: int) -> None:
        count = 0
        while not (session := await storage.read(session_id)).new:
            session[f"key {number}"] = count = count + 1
            await storage.save(session)

    writers = [asyncio.ensure_future(write(number)) for number in range(40)]
    login = await storage.read(session_id)
    while storage.calls["replace"] < 10:
        await asyncio.sleep(0)
    login.regenerate_id(True)
    tries: list[str] = []
    insert = storage.insert

    async def counted(key: str, data: bytes, expires_at: int) -> Any:
        tries.append(key)
        return await insert(key, data, expires_at)

    storage.insert = counted  # type: ignore[method-assign]
    new_id = await storage.save(login)
    await asyncio.gather(*writers)

    assert new_id == login.id
    assert tries.count(key_of(new_id)) == 1


async def test_a_session_that_would_be_too_large_fails_the_one_request_that_makes_it_so() -> None:
    storage = RacyStorage(seed=1, max_session_size=1000)
    session_id = await stored_id(storage)
    sessions = [await storage.read(session_id) for _ in range(5)]
    for number, session in enumerate(sessions):
        session[f"key {number}"] = "x" * (2000 if number == 2 else 10)
    outcomes = await asyncio.gather(*map(storage.save, sessions), return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [
        SessionTooLargeError if number == 2 else type(None) for number in range(5)
    ]
    assert set(await storage.read(session_id)) == {"user", "key 0", "key 1", "key 3", "key 4"}


@pytest.mark.parametrize("change", ["create", "write", "rotate"])
async def test_a_session_may_not_exceed_the_limit(change: str) -> None:
    storage = MemoryStorage(max_session_size=1000)
    session_id = await stored_id(storage)  # type: ignore[arg-type]
    session = await storage.read(None if change == "create" else session_id)
    session["large"] = "x" * 2000
    session["other"] = "y" * 100
    if change == "rotate":
        session.regenerate_id()
    with pytest.raises(SessionTooLargeError, match=r"max_session_size is 1000.*Largest keys: 'large'") as caught:
        await storage.save(session)

    assert (caught.value.limit, caught.value.size > 2100) == (1000, True)
    assert dict(await storage.read(session_id)) == {"user": 5}


async def test_a_session_that_is_too_large_already_may_shrink() -> None:
    """The limit was lowered: nobody is to be locked out of a session by that."""
    clock = ManualClock()
    large = MemoryStorage(clock=clock)
    session_id = await stored_id(large, a="x" * 2000, b="y" * 2000)  # type: ignore[arg-type]
    small = MemoryStorage(clock=clock, max_session_size=1000)
    small._records = large._records
    session = await small.read(session_id)
    del session["a"]
    await small.save(session)
    assert set(await small.read(session_id)) == {"b"}

    session = await small.read(session_id)
    session["c"] = "z"
    with pytest.raises(SessionTooLargeError):
        await small.save(session)


async def test_every_request_of_a_batch_is_told_that_nobody_knows() -> None:
    storage = RacyStorage(seed=1)
    session_id = await stored_id(storage)
    sessions = [await storage.read(session_id) for _ in range(3)]
    for session in sessions:
        session["a"] = 1
    storage.lose_answer = failing("replace")
    outcomes = await asyncio.gather(*map(storage.save, sessions), return_exceptions=True)

    for outcome in outcomes:
        assert isinstance(outcome, StorageError)
        assert outcome.maybe_stored
        assert "may have been carried out" in str(outcome)
