"""A flash is readable in the next request and only there."""

import pytest

from aiohttp_session_store import MemoryStorage, Session
from tests.session.conftest import Load


async def flashed(storage: MemoryStorage, session: Session, key: str, *values: object) -> Session:
    """Flash, save, and return the session as the next request loads it."""
    for value in values:
        session.flash(key, value)
    await storage.save(session)
    return await storage.read(session.id)


async def test_a_flash_is_not_readable_in_the_request_that_adds_it(load: Load) -> None:
    session = await load()
    session.flash("notice", "Saved.")

    assert "notice" not in session
    assert session.dirty


async def test_every_way_of_reading_shows_a_flash(storage: MemoryStorage, load: Load) -> None:
    session = await flashed(storage, await load(), "notice", "Saved.")

    assert session["notice"] == session.get("notice") == "Saved."
    assert session.has("notice")
    assert dict(session) == {"user": 5, "notice": "Saved."}
    assert len(session) == 2


async def test_data_hides_a_flash_with_the_same_key(storage: MemoryStorage, load: Load) -> None:
    session = await flashed(storage, await load(), "user", "flash")

    assert dict(session) == {"user": 5}
    assert len(session) == 1


async def test_data_set_over_a_flash_hides_it_and_deleting_the_key_hides_both(
    storage: MemoryStorage, load: Load
) -> None:
    session = await flashed(storage, await load(), "notice", "Saved.")
    session["notice"] = "mine"
    assert session["notice"] == "mine"
    del session["notice"]

    assert "notice" not in session


async def test_pop_returns_and_removes_a_flash(storage: MemoryStorage, load: Load) -> None:
    session = await flashed(storage, await load(), "notice", "Saved.")

    assert session.pop("notice") == "Saved."
    assert "notice" not in session


async def test_a_session_with_an_unread_flash_is_not_dirty(storage: MemoryStorage, load: Load) -> None:
    assert not (await flashed(storage, await load(), "notice", "Saved.")).dirty


async def test_a_flash_stays_readable_for_the_whole_request(storage: MemoryStorage, load: Load) -> None:
    session = await flashed(storage, await load(), "notice", "Saved.")
    session["a"] = 1
    await storage.save(session)

    assert session["notice"] == "Saved."


async def test_a_flash_stays_until_a_request_saves_the_session(storage: MemoryStorage, load: Load) -> None:
    """A request that fails has not shown the flash to its visitor."""
    session = await flashed(storage, await load(), "notice", "Saved.")

    assert (await storage.read(session.id))["notice"] == "Saved."


async def test_a_second_flash_with_the_same_key_replaces_the_first(storage: MemoryStorage, load: Load) -> None:
    assert (await flashed(storage, await load(), "notice", "one", "two"))["notice"] == "two"


async def test_a_flash_added_by_the_request_that_reads_the_previous_one_is_not_lost(
    storage: MemoryStorage, load: Load
) -> None:
    session = await flashed(storage, await load(), "notice", "one")

    assert (await flashed(storage, session, "notice", "two"))["notice"] == "two"


async def test_a_flash_can_be_none(storage: MemoryStorage, load: Load) -> None:
    session = await flashed(storage, await load(), "notice", None)

    assert session["notice"] is None


async def test_a_flash_is_enough_to_store_a_new_session(storage: MemoryStorage) -> None:
    session = await storage.read(None)
    session.flash("notice", "Bye.")
    session_id = await storage.save(session)

    assert session_id
    assert dict(await storage.read(session_id)) == {"notice": "Bye."}


async def test_a_flash_that_cannot_be_stored_fails_at_the_call(load: Load) -> None:
    with pytest.raises(TypeError, match=r"session\['notice'\]: a frozenset would"):
        (await load()).flash("notice", frozenset({1}))
