"""A change of id that fails leaves the old session working and no orphan, or was a change of id after all."""

from typing import Any

import pytest

from aiohttp_session_store import StorageError
from aiohttp_session_store.engine import retry
from aiohttp_session_store.record.session_id import key_of
from tests.engine.suspending import RacyStorage, failing, nothing_fails, stored_id
from tests.records import live_keys


@pytest.fixture
def storage() -> RacyStorage:
    return RacyStorage(seed=7)


@pytest.mark.parametrize("verb", ["insert", "replace"])
@pytest.mark.parametrize("delete_old", [False, True])
async def test_a_rotation_that_fails_leaves_the_old_session_and_no_orphan(
    storage: RacyStorage, verb: str, delete_old: bool
) -> None:
    session_id = await stored_id(storage)
    session = await storage.read(session_id)
    session["a"] = 1
    session.regenerate_id(delete_old)
    storage.fail = failing(verb)
    with pytest.raises(StorageError):
        await storage.save(session)

    assert dict(await storage.read(session_id)) == {"user": 5}
    assert live_keys(storage) == [key_of(session_id)]


@pytest.mark.parametrize("verb", ["insert", "replace"])
async def test_a_rotation_that_failed_can_be_tried_again(storage: RacyStorage, verb: str) -> None:
    session = await storage.read(await stored_id(storage))
    session["a"] = 1
    session.regenerate_id(True)
    storage.fail = failing(verb)
    with pytest.raises(StorageError):
        await storage.save(session)
    new_id = await storage.save(session)

    assert new_id == session.id
    assert dict(await storage.read(new_id)) == {"user": 5, "a": 1}


async def test_a_rotation_that_fails_and_is_discarded_leaves_the_session_usable(storage: RacyStorage) -> None:
    session_id = await stored_id(storage)
    session = await storage.read(session_id)
    session.regenerate_id(True)
    storage.fail = failing("replace")
    with pytest.raises(StorageError):
        await storage.save(session)
    session.discard()
    session["a"] = 1
    await storage.save(session)

    assert session.id == session_id
    assert dict(await storage.read(session_id)) == {"user": 5, "a": 1}


async def test_a_rotation_that_fails_beside_a_writer_leaves_no_orphan(storage: RacyStorage) -> None:
    session_id = await stored_id(storage)
    session, writer = await storage.read(session_id), await storage.read(session_id)
    writer["theirs"] = 1
    session.regenerate_id(True)
    new_key = session.key
    written = False

    def fail(verb: str, key: str) -> bool:
        """Let the writer in between the insert of the new record and the end of the old one."""
        nonlocal written
        written = written or (verb == "replace" and key != new_key and new_key in storage._records)
        return verb == "replace" and written

    storage.fail = fail
    with pytest.raises(StorageError):
        await storage.save(session)
    nothing_fails(storage)
    await storage.save(writer)

    assert live_keys(storage) == [key_of(session_id)]
    assert dict(await storage.read(session_id)) == {"user": 5, "theirs": 1}


async def test_a_rotation_that_runs_out_of_time_beside_a_writer_leaves_no_orphan(
    storage: RacyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "MAX_SECONDS", -1.0)
    session_id = await stored_id(storage)
    session, writer = await storage.read(session_id), await storage.read(session_id)
    writer["theirs"] = 1
    await storage.save(writer)
    session.regenerate_id(True)
    with pytest.raises(StorageError, match="kept changing"):
        await storage.save(session)

    assert live_keys(storage) == [key_of(session_id)]
    assert dict(await storage.read(session_id)) == {"user": 5, "theirs": 1}


async def test_a_rotation_whose_answer_was_lost_is_a_rotation(storage: RacyStorage) -> None:
    """A server that breaks off may have done what it was asked for; the visitor must get the id that works."""
    session_id = await stored_id(storage)
    session = await storage.read(session_id)
    session["a"] = 1
    session.regenerate_id(True)
    storage.lose_answer = failing("replace")
    new_id = await storage.save(session)

    assert new_id == session.id
    assert dict(await storage.read(new_id)) == {"user": 5, "a": 1}
    assert (await storage.read(session_id)).new


async def test_a_rotation_that_a_driver_asked_for_twice_is_a_rotation(
    storage: RacyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that loses an answer and tries again by itself finds that its own first try is in the way."""
    session_id = await stored_id(storage)
    session = await storage.read(session_id)
    session["a"] = 1
    session.regenerate_id(True)
    replace = storage.replace

    async def replace_twice(key: str, data: bytes, expires_at: int, version: bytes) -> Any:
        await replace(key, data, expires_at, version)
        return await replace(key, data, expires_at, version)

    monkeypatch.setattr(storage, "replace", replace_twice)
    new_id = await storage.save(session)

    assert new_id == session.id
    assert dict(await storage.read(new_id)) == {"user": 5, "a": 1}


async def test_a_rotation_that_comes_after_the_logout_and_fails_leaves_no_orphan(storage: RacyStorage) -> None:
    session = await storage.read(await stored_id(storage))
    leaving = await storage.read(session.id)
    leaving.destroy()
    await storage.save(leaving)
    session.regenerate_id(True)
    storage.fail = failing("delete")
    with pytest.raises(StorageError):
        await storage.save(session)

    assert live_keys(storage) == []
    assert await storage.save(session) is None
    assert session.destroyed


async def test_a_storage_that_stays_down_during_a_rotation_fails_it_once(storage: RacyStorage) -> None:
    session_id = await stored_id(storage)
    session = await storage.read(session_id)
    session.regenerate_id(True)
    storage.fail = lambda verb, key: verb != "insert"
    with pytest.raises(StorageError, match="replace was told to fail"):
        await storage.save(session)
    nothing_fails(storage)

    assert dict(await storage.read(session_id)) == {"user": 5}


@pytest.mark.parametrize("renewed_first", [True, False])
async def test_a_renewal_that_became_a_plain_save_says_so_if_its_answer_is_lost(
    storage: RacyStorage, renewed_first: bool
) -> None:
    """Another request renewed the id, before this one loaded it or after.  Found by the history checker."""
    session_id = await stored_id(storage)
    session = None if renewed_first else await storage.read(session_id)
    other = await storage.read(session_id)
    other.regenerate_id()
    newer_id = await storage.save(other)
    session = session or await storage.read(session_id)
    session["a"] = 1
    session.regenerate_id()

    lost = failing("replace", times=1)
    storage.lose_answer = lambda verb, key: key == key_of(str(newer_id)) and lost(verb, key)
    with pytest.raises(StorageError) as failed:
        await storage.save(session)

    assert dict(await storage.read(newer_id)) == {"user": 5, "a": 1}
    assert failed.value.maybe_stored
