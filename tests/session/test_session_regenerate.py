"""Regenerating the id of a session."""

from typing import Any

import pytest

from aiohttp_session_store import MemoryStorage
from aiohttp_session_store.testing import ManualClock
from tests.records import live_keys
from tests.session.conftest import Load

DAY = 86400


async def test_the_new_id_is_known_at_once_and_stored_by_the_save(storage: MemoryStorage, load: Load) -> None:
    session = await load()
    old_id = session.id
    session.regenerate_id()

    assert session.id != old_id
    assert session.dirty
    assert await storage.save(session) == session.id
    assert not session.dirty


async def test_delete_id_is_the_id_that_the_save_will_delete(storage: MemoryStorage, load: Load) -> None:
    session = await load()
    old_id = session.id
    told = [session.delete_id]
    session.regenerate_id(True)
    told.append(session.delete_id)
    await storage.save(session)

    assert [*told, session.delete_id] == [None, old_id, None]


async def test_delete_id_is_none_if_the_old_id_stays_readable(load: Load) -> None:
    session = await load()
    session.regenerate_id()

    assert session.delete_id is None


async def test_regenerating_a_new_session_deletes_nothing(storage: MemoryStorage) -> None:
    session = await storage.read(None)
    before = session.id
    session["a"] = 1
    session.regenerate_id(True)

    assert session.id != before
    assert session.delete_id is None
    assert await storage.save(session) == session.id
    assert len(storage) == 1


async def test_regenerating_twice_replaces_the_original(storage: MemoryStorage, load: Load) -> None:
    session = await load()
    original = session.id
    session.regenerate_id()
    between = session.id
    session.regenerate_id(True)
    assert session.delete_id == original
    new_id = await storage.save(session)

    assert new_id not in {original, between}
    assert (await storage.read(original)).new
    assert (await storage.read(between)).new
    assert dict(await storage.read(new_id)) == {"user": 5}


async def test_regenerating_twice_deletes_if_either_call_asks_for_it(load: Load) -> None:
    session = await load()
    original = session.id
    session.regenerate_id(True)
    session.regenerate_id()

    assert session.delete_id == original


async def test_a_session_can_be_regenerated_again_after_a_save(storage: MemoryStorage, load: Load) -> None:
    session = await load()
    session.regenerate_id(True)
    first = await storage.save(session)
    session.regenerate_id(True)
    second = await storage.save(session)

    assert (await storage.read(first)).new
    assert dict(await storage.read(second)) == {"user": 5}


async def test_regenerating_keeps_created_at(storage: MemoryStorage, clock: ManualClock, load: Load) -> None:
    session = await load()
    began = session.created_at
    clock.advance(DAY)
    session.regenerate_id(True)
    new_id = await storage.save(session)

    assert (await storage.read(new_id)).created_at == session.created_at == began


async def test_renew_lifetime_restarts_the_lifetime(storage: MemoryStorage, clock: ManualClock, load: Load) -> None:
    session = await load()
    clock.advance(DAY)
    session.regenerate_id(True, renew_lifetime=True)
    new_id = await storage.save(session)

    assert (await storage.read(new_id)).created_at == session.created_at == int(clock())


async def test_renew_lifetime_applies_if_either_of_two_calls_asks_for_it(
    storage: MemoryStorage, clock: ManualClock, load: Load
) -> None:
    session = await load()
    clock.advance(DAY)
    session.regenerate_id(renew_lifetime=True)
    session.regenerate_id()
    await storage.save(session)

    assert session.created_at == int(clock())


async def test_an_old_id_is_readable_no_longer_than_its_session_would_have_lived(clock: ManualClock) -> None:
    storage = MemoryStorage(clock=clock, idle_timeout=30, lifetime=100, rotation_grace=60)
    session = await storage.read(None)
    session["user"] = 5
    await storage.save(session)
    old_id = session.id
    session.regenerate_id(renew_lifetime=True)
    await storage.save(session)
    clock.advance(30)

    assert (await storage.read(old_id)).new


async def test_an_old_id_gets_its_full_grace_even_shortly_before_the_idle_timeout(clock: ManualClock) -> None:
    """The request that regenerates the id counts as a use of the session."""
    storage = MemoryStorage(clock=clock, idle_timeout=1000, rotation_grace=60)
    session = await storage.read(None)
    session["user"] = 5
    await storage.save(session)
    old_id = session.id
    clock.advance(999)
    session.regenerate_id()
    await storage.save(session)
    clock.advance(59)

    assert dict(await storage.read(old_id)) == {"user": 5}


async def test_a_lowered_lifetime_applies_to_old_ids_too(clock: ManualClock) -> None:
    storage = MemoryStorage(clock=clock)
    session = await storage.read(None)
    session["user"] = 5
    await storage.save(session)
    old_id = session.id
    clock.advance(100)
    session.regenerate_id()
    await storage.save(session)
    lowered = MemoryStorage(clock=clock, lifetime=50)
    lowered._records = storage._records

    assert (await lowered.read(old_id)).new


async def test_using_an_old_id_never_extends_it(storage: MemoryStorage, clock: ManualClock, load: Load) -> None:
    session = await load()
    old_id = session.id
    session.regenerate_id()
    await storage.save(session)
    clock.advance(59)
    old = await storage.read(old_id)
    await storage.save(old)
    clock.advance(1)

    assert (await storage.read(old_id)).new


async def test_a_request_with_an_old_id_uses_up_no_flash(storage: MemoryStorage, load: Load) -> None:
    session = await load()
    session.flash("notice", "Saved.")
    await storage.save(session)
    session = await storage.read(session.id)
    old_id = session.id
    session.regenerate_id()
    session.flash("notice", "New.")
    new_id = await storage.save(session)
    old = await storage.read(old_id)
    old["a"] = 1
    await storage.save(old)

    assert old["notice"] == "Saved."
    assert (await storage.read(new_id))["notice"] == "New."


async def test_regenerating_under_an_old_id_merges_into_the_existing_new_session(
    storage: MemoryStorage, load: Load
) -> None:
    session = await load()
    old_id = session.id
    session.regenerate_id()
    new_id = await storage.save(session)
    old = await storage.read(old_id)
    old["a"] = 1
    old.regenerate_id()

    assert await storage.save(old) is None
    assert old.id == old_id
    assert dict(await storage.read(new_id)) == {"user": 5, "a": 1}
    assert live_keys(storage) == [session.key]


async def test_regenerating_with_true_under_an_old_id_moves_the_session_to_another_id(
    storage: MemoryStorage, load: Load
) -> None:
    session = await load()
    old_id = session.id
    session.regenerate_id()
    new_id = await storage.save(session)
    old = await storage.read(old_id)
    old["a"] = 1
    old.regenerate_id(True)

    newest_id = await storage.save(old)

    assert newest_id == old.id
    assert dict(await storage.read(newest_id)) == {"user": 5, "a": 1}
    assert (await storage.read(new_id)).new
    assert (await storage.read(old_id)).new


@pytest.mark.parametrize("wrong", ["false", 1, 0, None])
async def test_a_flag_that_is_no_bool_is_an_error(storage: MemoryStorage, wrong: Any) -> None:
    session = await storage.read(None)
    for flag in ("delete_old_session", "renew_lifetime"):
        with pytest.raises(TypeError, match=r"regenerate_id\(\) takes True or False"):
            session.regenerate_id(**{flag: wrong})
