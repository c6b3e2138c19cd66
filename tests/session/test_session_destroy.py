"""The end of a session, by destroy() or because a new session replaces it."""

from collections.abc import Callable

import pytest

from aiohttp_session_store import MemoryStorage, Session, SessionDestroyedError
from aiohttp_session_store.session.session import start_over, state_of
from tests.records import live_keys
from tests.session.conftest import Load
from tests.session.test_session import WRITES

# --- destroy


async def test_a_destroyed_session_reads_as_empty_at_once(load: Load) -> None:
    session = await load(a=1, cart=[1])
    session.destroy()

    assert (dict(session), len(session), session.get("a"), session.has("a")) == ({}, 0, None, False)
    assert session.destroyed
    assert session.dirty


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_a_write_to_a_destroyed_session_is_refused(load: Load, write: Callable[[Session], object]) -> None:
    session = await load()
    session.destroy()

    with pytest.raises(SessionDestroyedError, match="get an empty one with new_session"):
        write(session)
    assert dict(session) == {}


async def test_destroy_deletes_the_record_and_clears_the_cookie_once(storage: MemoryStorage, load: Load) -> None:
    session = await load()
    session.destroy()
    assert session.delete_id == session.id

    assert await storage.save(session) == ""
    assert live_keys(storage) == []
    assert not session.dirty
    assert await storage.save(session) is None


async def test_destroying_twice_is_the_same_as_once(storage: MemoryStorage, load: Load) -> None:
    session = await load()
    session.destroy()
    session.destroy()

    assert await storage.save(session) == ""


async def test_destroying_a_new_session_clears_an_unknown_cookie(storage: MemoryStorage) -> None:
    session = await storage.read("A" * 43)
    session["a"] = 1
    session.destroy()

    assert await storage.save(session) == ""
    assert session.delete_id is None
    assert live_keys(storage) == []


async def test_destroy_cancels_a_pending_regenerate(storage: MemoryStorage, load: Load) -> None:
    session = await load()
    old_id = session.id
    session.regenerate_id()
    session.destroy()
    assert session.delete_id == old_id
    await storage.save(session)

    assert live_keys(storage) == []


async def test_changing_a_list_of_a_destroyed_session_has_no_effect(storage: MemoryStorage, load: Load) -> None:
    session = await load(cart=[1])
    cart = session["cart"]
    session.destroy()
    cart.append(2)

    assert dict(session) == {}
    assert await storage.save(session) == ""


async def test_destroying_under_an_old_id_ends_the_session_under_all_later_ids(
    storage: MemoryStorage, load: Load
) -> None:
    session = await load()
    slow = await storage.read(session.id)
    for _ in range(3):
        session.regenerate_id(True)
        await storage.save(session)
    slow.destroy()
    await storage.save(slow)

    assert (await storage.read(session.id)).new
    assert live_keys(storage) == []


async def test_a_save_after_a_logout_marks_the_session_destroyed_and_sends_no_cookie(
    storage: MemoryStorage, load: Load, caplog: pytest.LogCaptureFixture
) -> None:
    session = await load()
    other = await storage.read(session.id)
    other.destroy()
    await storage.save(other)
    session["late"] = 1
    caplog.set_level("INFO", "aiohttp_session_store")

    assert await storage.save(session) is None
    assert session.destroyed
    assert (dict(session), session.dirty) == ({}, False)
    assert [record.getMessage() for record in caplog.records] == [
        f"session {session.key} was destroyed while a request was changing it: the changes are dropped"
    ]


async def test_assigning_an_equal_value_after_a_logout_marks_the_session_destroyed_too(
    storage: MemoryStorage, load: Load
) -> None:
    session = await load()
    other = await storage.read(session.id)
    other.destroy()
    await storage.save(other)
    session["user"] = 5
    await storage.save(session)

    assert session.destroyed


async def test_regenerating_after_a_logout_marks_the_session_destroyed_and_leaves_no_record(
    storage: MemoryStorage, load: Load
) -> None:
    session = await load()
    other = await storage.read(session.id)
    other.destroy()
    await storage.save(other)
    session.regenerate_id(True)

    assert await storage.save(session) is None
    assert session.destroyed
    assert live_keys(storage) == []


# --- replaced by a new session, as new_session() does


async def begin_anew(storage: MemoryStorage, session: Session) -> str:
    """Do to *session* what ``new_session`` does, and return the id that it had."""
    state, fresh = state_of(session), state_of(await storage.read(None))
    fresh.replaces = state
    start_over(session, fresh)
    return state.id


async def test_saving_the_new_session_ends_the_old_one(storage: MemoryStorage, load: Load) -> None:
    session = await load()
    old_id = await begin_anew(storage, session)
    assert session.delete_id == old_id
    assert session.dirty
    session["a"] = 1

    assert await storage.save(session) == session.id
    assert (await storage.read(old_id)).new
    assert dict(await storage.read(session.id)) == {"a": 1}
    assert live_keys(storage) == [session.key]


async def test_a_new_session_that_stays_empty_clears_the_cookie_of_the_old_one(
    storage: MemoryStorage, load: Load
) -> None:
    session = await load()
    await begin_anew(storage, session)

    assert await storage.save(session) == ""
    assert live_keys(storage) == []


@pytest.mark.parametrize("end", [Session.destroy, Session.logout])
async def test_ending_the_new_session_ends_the_old_one_too(
    storage: MemoryStorage, load: Load, end: Callable[[Session], None]
) -> None:
    session = await load()
    await begin_anew(storage, session)
    end(session)

    assert await storage.save(session) == ""
    assert live_keys(storage) == []


async def test_a_key_of_the_old_session_is_missing_with_the_reason(storage: MemoryStorage, load: Load) -> None:
    session = await load()
    await begin_anew(storage, session)

    with pytest.raises(KeyError, match=r"new_session\(\) has emptied the session: read 'user' before that call"):
        session["user"]
