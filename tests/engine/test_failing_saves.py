"""When the storage fails or a request is cancelled, nothing is lost silently and the old session still works."""

import asyncio
import logging

import pytest

from aiohttp_session_store import Session, StorageError
from aiohttp_session_store.engine import retry
from aiohttp_session_store.record.session_id import key_of
from aiohttp_session_store.session.session import state_of
from tests.engine.suspending import RacyStorage, failing, nothing_fails, stored_id
from tests.records import live_keys


@pytest.fixture
def storage() -> RacyStorage:
    return RacyStorage(seed=7)


# --- failing saves


async def test_the_changes_of_a_failed_save_are_kept_and_later_changes_win(storage: RacyStorage) -> None:
    session_id = await stored_id(storage, a=0, b=0, gone=0)
    session = await storage.read(session_id)
    session["a"], session["b"] = "early", "early"
    del session["gone"]
    storage.fail = failing("replace")
    saving = asyncio.ensure_future(storage.save(session))
    await asyncio.sleep(0)
    session["b"] = "late"
    with pytest.raises(StorageError, match="replace was told to fail"):
        await saving
    assert session.dirty
    await storage.save(session)

    assert dict(await storage.read(session_id)) == {"a": "early", "b": "late"}


async def test_a_failed_batch_fails_all_of_its_requests_and_each_can_try_again(storage: RacyStorage) -> None:
    session_id = await stored_id(storage)
    sessions = [await storage.read(session_id) for _ in range(5)]
    for number, session in enumerate(sessions):
        session[f"key {number}"] = number
    storage.fail = failing("replace")
    errors = await asyncio.gather(*map(storage.save, sessions), return_exceptions=True)
    assert [type(error) for error in errors] == [StorageError] * 5
    assert len({id(error) for error in errors}) == 5
    await asyncio.gather(*map(storage.save, sessions))

    assert dict(await storage.read(session_id)) == {"user": 5, **{f"key {number}": number for number in range(5)}}


async def test_every_request_of_a_failed_batch_gets_the_cause(storage: RacyStorage) -> None:
    async def replace(key: str, *_: object) -> None:
        await storage.pause()
        raise StorageError("the disk is full") from OSError(28, "No space left on device")

    session_id = await stored_id(storage)
    sessions = [await storage.read(session_id) for _ in range(3)]
    for session in sessions:
        session["a"] = 1
    storage.replace = replace  # type: ignore[method-assign,assignment]
    errors = await asyncio.gather(*map(storage.save, sessions), return_exceptions=True)

    assert [str(error) for error in errors] == ["the disk is full"] * 3
    assert all(isinstance(error, StorageError) and isinstance(error.__cause__, OSError) for error in errors)


async def test_a_bad_value_fails_only_its_own_request(storage: RacyStorage) -> None:
    session_id = await stored_id(storage, cart=[])
    sessions = [await storage.read(session_id) for _ in range(4)]
    sessions[2]["cart"].append(frozenset({1, 2}))
    for number in (0, 1, 3):
        sessions[number][f"key {number}"] = number
    results = await asyncio.gather(*map(storage.save, sessions), return_exceptions=True)

    assert [type(result) for result in results] == [type(None), type(None), TypeError, type(None)]
    assert dict(await storage.read(session_id)) == {"cart": [], "key 0": 0, "key 1": 1, "key 3": 3}


async def test_a_new_session_whose_insert_fails_is_stored_by_the_next_save(storage: RacyStorage) -> None:
    session = await storage.read(None)
    session["user"] = 5
    storage.fail = failing("insert")
    with pytest.raises(StorageError):
        await storage.save(session)
    assert session.new
    session_id = await storage.save(session)

    assert session_id == session.id
    assert dict(await storage.read(session_id)) == {"user": 5}


async def test_a_new_session_never_takes_over_an_existing_id(storage: RacyStorage) -> None:
    session = await storage.read(None)
    session["user"] = 5
    taken = session.id
    await storage.insert(session.key, b"somebody else's", 2**40)
    session_id = await storage.save(session)

    assert session_id
    assert session_id == session.id != taken
    assert storage._records[key_of(taken)].data == b"somebody else's"


async def test_a_failed_touch_is_logged_and_does_not_fail_the_request(
    storage: RacyStorage, caplog: pytest.LogCaptureFixture
) -> None:
    now = storage.clock()
    session_id = await stored_id(storage)
    storage.clock = lambda: now + 10 * 86400
    storage.fail = failing("touch")
    session = await storage.read(session_id)

    assert dict(session) == {"user": 5}
    assert [(record.levelno, record.message) for record in caplog.records] == [
        (logging.WARNING, f"session {session.key} could not be extended: touch was told to fail")
    ]


async def test_a_failure_to_remove_a_read_flash_is_logged_and_the_flash_is_removed_later(
    storage: RacyStorage, caplog: pytest.LogCaptureFixture
) -> None:
    session = await storage.read(await stored_id(storage))
    session.flash("notice", "Saved.")
    await storage.save(session)
    session = await storage.read(session.id)
    storage.fail = failing("replace")
    assert await storage.save(session) is None
    assert [record.message for record in caplog.records] == [
        f"session {session.key}: a flash that was read could not be removed: replace was told to fail"
    ]
    await storage.save(session)

    assert "notice" not in await storage.read(session.id)


async def test_a_failed_logout_can_be_tried_again(storage: RacyStorage) -> None:
    session = await storage.read(await stored_id(storage))
    session.destroy()
    storage.fail = lambda verb, key: True
    with pytest.raises(StorageError, match="replace was told to fail"):
        await storage.save(session)
    assert session.dirty
    nothing_fails(storage)

    assert await storage.save(session) == ""
    assert live_keys(storage) == []


# --- a new session that replaces another one, and cannot end it


async def test_a_logout_that_was_refused_says_that_it_may_be_done_if_the_answer_to_its_deletion_is_lost(
    storage: RacyStorage,
) -> None:
    """Found by the history checker."""
    session_id = await stored_id(storage)
    session = await storage.read(session_id)
    session.destroy()
    storage.fail, storage.lose_answer = failing("replace"), failing("delete")
    with pytest.raises(StorageError) as failed:
        await storage.save(session)

    assert (await storage.read(session_id)).new
    assert failed.value.maybe_stored


async def test_a_new_session_that_cannot_end_the_old_one_is_not_stored(storage: RacyStorage) -> None:
    old_id = await stored_id(storage)
    fresh = await replacing(storage, old_id)
    fresh["guest"] = True
    storage.fail = lambda verb, key: key == key_of(old_id)
    with pytest.raises(StorageError):
        await storage.save(fresh)
    nothing_fails(storage)

    assert live_keys(storage) == [key_of(old_id)]


async def test_a_new_session_that_failed_to_end_the_old_one_ends_it_at_the_next_save(storage: RacyStorage) -> None:
    old_id = await stored_id(storage)
    fresh = await replacing(storage, old_id)
    fresh["guest"] = True
    storage.fail = lambda verb, key: key == key_of(old_id)
    with pytest.raises(StorageError):
        await storage.save(fresh)
    nothing_fails(storage)
    new_id = await storage.save(fresh)

    assert new_id == fresh.id
    assert dict(await storage.read(new_id)) == {"guest": True}
    assert (await storage.read(old_id)).new


async def replacing(storage: RacyStorage, old_id: str) -> Session:
    """Return a session that replaces another one, as new_session() does."""
    fresh = await storage.read(None)
    state_of(fresh).replaces = state_of(await storage.read(old_id))
    return fresh


# --- a record that never stops changing


async def test_saving_gives_up_after_a_time_limit_if_the_record_keeps_changing(
    storage: RacyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def conflict(*_: object) -> None:
        return None

    monkeypatch.setattr(retry, "MAX_SECONDS", 0.02)
    session = await storage.read(await stored_id(storage))
    session["a"] = 1
    storage.replace = conflict  # type: ignore[method-assign,assignment]
    with pytest.raises(
        StorageError, match=f"session {session.key} kept changing for 0.02 s: the change was not stored"
    ):
        await storage.save(session)

    assert session.dirty
    assert session["a"] == 1


def test_the_time_limit_is_five_seconds() -> None:
    assert retry.MAX_SECONDS == 5
