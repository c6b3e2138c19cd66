"""Several tasks of a request share one session object: saves overlap, are cancelled, or meet other calls."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from aiohttp_session_store import Session, StorageError
from aiohttp_session_store.record.session_id import key_of
from tests.engine.suspending import RacyStorage, stored_id
from tests.storages.two_apps import close_while_it_is_used

SEEDS = range(50)
During = Callable[[Session], object]


async def during_the_save(storage: RacyStorage, session: Session, steps: int, change: During) -> str | None:
    """Save, and call *change* after *steps* steps of the save."""
    saving = asyncio.ensure_future(storage.save(session))
    for _ in range(steps):
        await asyncio.sleep(0)
    change(session)
    return await saving


async def cancelled(save: Awaitable[object], steps: int) -> None:
    """Start to save, and cancel the save after *steps* steps."""
    saving = asyncio.ensure_future(save)
    for _ in range(steps):
        await asyncio.sleep(0)
    saving.cancel()
    await asyncio.gather(saving, return_exceptions=True)


# --- overlapping saves


async def test_two_saves_of_one_session_store_both_changes() -> None:
    for seed in SEEDS:
        storage = RacyStorage(seed)
        session = await storage.read(await stored_id(storage))
        session["a"] = 1
        await asyncio.gather(
            during_the_save(storage, session, seed % 8, lambda s: s.__setitem__("b", 2)), storage.save(session)
        )
        await storage.save(session)

        assert dict(session) == dict(await storage.read(session.id)) == {"user": 5, "a": 1, "b": 2}, seed


async def test_a_handler_reads_its_own_change_while_an_earlier_save_finishes() -> None:
    for seed in SEEDS:
        storage = RacyStorage(seed)
        session = await storage.read(await stored_id(storage, n=0))
        session["first"] = True
        first = asyncio.ensure_future(storage.save(session))
        await asyncio.sleep(0)
        session["n"] = 1
        second = asyncio.ensure_future(storage.save(session))
        await first
        assert session["n"] == 1, seed
        session["n"] += 1
        await second
        await storage.save(session)

        assert (await storage.read(session.id))["n"] == 2, seed


async def test_a_failed_save_puts_back_only_the_changes_of_the_handler() -> None:
    for seed in SEEDS:
        storage = RacyStorage(seed)
        session = await storage.read(await stored_id(storage, n=0))
        session["first"] = True
        first = asyncio.ensure_future(storage.save(session))
        await asyncio.sleep(0)
        session["n"] = 1
        storage.fail = lambda verb, key, calls=storage.calls: verb == "replace" and calls["replace"] == 2  # type: ignore[misc]
        await asyncio.gather(first, storage.save(session), return_exceptions=True)
        await storage.save(session)

        assert dict(await storage.read(session.id)) == {"n": 1, "first": True}, seed


async def test_two_saves_of_a_new_session_store_it_once() -> None:
    for seed in SEEDS:
        storage = RacyStorage(seed)
        session = await storage.read(None)
        session["a"] = 1
        values = await asyncio.gather(storage.save(session), storage.save(session))

        assert {*values} == {session.id, None}, seed
        assert storage.record_keys() == [session.key], seed


# --- other calls during a save


@pytest.mark.parametrize("steps", range(1, 12))
async def test_regenerating_while_a_new_session_is_being_stored_gives_a_working_id(steps: int) -> None:
    storage = RacyStorage(steps)
    session = await storage.read(None)
    session["a"] = 1
    await during_the_save(storage, session, steps, lambda s: s.regenerate_id(True))
    await storage.save(session)

    assert dict(await storage.read(session.id)) == {"a": 1}


@pytest.mark.parametrize("steps", range(1, 24))
async def test_regenerating_again_while_the_id_is_being_changed_gives_a_working_id(steps: int) -> None:
    storage = RacyStorage(steps)
    old_id = await stored_id(storage)
    session = await storage.read(old_id)
    session.regenerate_id(True)
    first = await during_the_save(storage, session, steps, lambda s: s.regenerate_id(True))
    last = await storage.save(session)

    assert last == session.id
    assert dict(await storage.read(session.id)) == {"user": 5}
    assert first is not None
    assert (await storage.read(first)).new
    assert (await storage.read(old_id)).new


@pytest.mark.parametrize("steps", range(1, 24))
async def test_a_discard_while_the_id_is_being_changed_does_not_lose_the_session(steps: int) -> None:
    storage = RacyStorage(steps)
    session = await storage.read(await stored_id(storage))
    session.regenerate_id(True)
    sent = await during_the_save(storage, session, steps, lambda s: s.discard())

    assert sent == session.id
    assert dict(session) == dict(await storage.read(sent)) == {"user": 5}


@pytest.mark.parametrize("steps", range(1, 24))
@pytest.mark.parametrize("kind", ["create", "update", "rotate"])
async def test_a_destroy_during_a_save_is_final_and_reads_as_empty(kind: str, steps: int) -> None:
    storage = RacyStorage(steps)
    session = await storage.read(None if kind == "create" else await stored_id(storage))
    session["a"] = 1
    if kind == "rotate":
        session.regenerate_id(True)
    await during_the_save(storage, session, steps, lambda s: s.destroy())
    assert dict(session) == {}

    assert await storage.save(session) == ""
    assert dict(session) == {}
    for key in storage.record_keys():
        assert b'"user"' not in storage._records[key].data


@pytest.mark.parametrize("steps", range(1, 12))
async def test_a_discard_during_a_failing_save_discards_its_changes_too(steps: int) -> None:
    storage = RacyStorage(steps, longest_pause=0)
    session = await storage.read(await stored_id(storage, cart=[1]))
    session["a"] = 1
    session["cart"].append(2)
    storage.fail = lambda verb, key: verb == "replace"
    saving = asyncio.ensure_future(storage.save(session))
    for _ in range(steps):
        await asyncio.sleep(0)
    session.discard()
    with pytest.raises(StorageError):
        await saving

    assert dict(session) == {"cart": [1]}
    assert not session.dirty


# --- cancelled saves


async def test_the_save_after_a_cancelled_save_waits_until_that_is_stored() -> None:
    """Once the second save returns, the response also confirms the changes of the cancelled one."""
    for steps in range(12):
        storage = RacyStorage(steps)
        session_id = await stored_id(storage)
        session = await storage.read(session_id)
        session["a"] = 1
        await cancelled(storage.save(session), steps)
        await storage.save(session)

        assert dict(await storage.read(session_id)) == {"user": 5, "a": 1}, steps


async def test_the_save_after_a_cancelled_and_failed_save_stores_its_changes() -> None:
    for steps in range(12):
        storage = RacyStorage(steps)
        session_id = await stored_id(storage)
        session = await storage.read(session_id)
        session["a"] = 1
        storage.fail = lambda verb, key, calls=storage.calls: verb == "replace" and calls["replace"] == 1  # type: ignore[misc]
        await cancelled(storage.save(session), steps)
        try:
            await storage.save(session)
        except StorageError:
            assert steps == 0
            await storage.save(session)

        assert dict(await storage.read(session_id)) == {"user": 5, "a": 1}, steps


async def test_a_cancelled_save_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    storage = RacyStorage(1)
    session = await storage.read(await stored_id(storage))
    session["a"] = 1
    storage.fail = lambda verb, key: verb == "replace"
    await cancelled(storage.save(session), 1)
    await storage.aclose()

    assert [record.message for record in caplog.records] == [
        "the session of a cancelled request was not stored: replace was told to fail"
    ]


@pytest.mark.parametrize("kind", ["create", "rotate", "destroy"])
async def test_the_save_after_a_cancelled_save_returns_the_cookie_value_of_both(kind: str) -> None:
    for steps in range(20):
        storage = RacyStorage(steps)
        session = await storage.read(None if kind == "create" else await stored_id(storage))
        if kind == "destroy":
            session.destroy()
        else:
            session["a"] = 1
        if kind == "rotate":
            session.regenerate_id(True)
        saving = asyncio.ensure_future(storage.save(session))
        for _ in range(steps):
            await asyncio.sleep(0)
        if saving.done():
            continue
        saving.cancel()
        await asyncio.gather(saving, return_exceptions=True)
        sent = await storage.save(session)

        assert sent == ("" if kind == "destroy" else session.id), steps
        assert sent == "" or (await storage.read(sent))["a"] == 1, steps


async def test_closing_the_storage_waits_for_the_saves_of_cancelled_requests() -> None:
    for steps in range(1, 12):
        storage = RacyStorage(steps)
        session = await storage.read(await stored_id(storage))
        session["a"] = 1
        new = await storage.read(None)
        new["b"] = 1
        await asyncio.gather(cancelled(storage.save(session), steps), cancelled(storage.save(new), steps))
        await storage.aclose()

        assert b'"a":1' in storage._records[session.key].data, steps
        assert key_of(new.id) in storage._records, steps


async def test_closing_the_storage_for_one_app_does_not_wait_for_what_another_app_goes_on_saving() -> None:
    storage = RacyStorage(1)
    sessions = [await storage.read(await stored_id(storage)) for _ in range(20)]

    async def use(number: int) -> None:
        session = sessions[number]
        session["a"] = session.get("a", 0) + 1
        await storage.save(session)

    await close_while_it_is_used(storage, use, lambda: storage._saver._shared.tasks, users=len(sessions))
