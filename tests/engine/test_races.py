"""Races between requests of one visitor, in hundreds of seeded interleavings on a memory storage."""

import asyncio
from datetime import timedelta

import pytest

from aiohttp_session_store import Session
from aiohttp_session_store.record.session_id import key_of
from aiohttp_session_store.testing import ManualClock
from tests.engine.suspending import RacyStorage, stored_id
from tests.records import live_keys

ROUNDS = range(200)


async def save_all(storage: RacyStorage, sessions: list[Session]) -> list[str]:
    """Save all in parallel, each starting at a random step, and return the cookie values that are sent."""

    async def later(session: Session) -> str | None:
        await storage.pause()
        return await storage.save(session)

    values = await asyncio.gather(*map(later, sessions))
    return [value for value in values if value]


# --- logout


@pytest.mark.parametrize("delete_old", [False, True])
async def test_after_a_logout_that_races_a_rotation_no_id_is_logged_in(delete_old: bool) -> None:
    for seed in ROUNDS:
        storage = RacyStorage(seed)
        old_id = await stored_id(storage)
        leaving, rotating = await storage.read(old_id), await storage.read(old_id)
        leaving.destroy()
        rotating["late"] = True
        rotating.regenerate_id(delete_old)
        new_id = rotating.id
        await save_all(storage, [leaving, rotating])

        assert live_keys(storage) == [], seed
        for session_id in (old_id, new_id):
            assert (await storage.read(session_id)).new, seed


async def test_after_a_logout_that_races_everything_else_no_id_is_logged_in() -> None:
    for seed in ROUNDS:
        storage = RacyStorage(seed)
        old_id = await stored_id(storage)
        sessions = [await storage.read(old_id) for _ in range(6)]
        sessions[0].destroy()
        sessions[1].regenerate_id()
        sessions[2].regenerate_id(True)
        sessions[3]["a"] = 1
        sessions[4].clear()
        sessions[5].destroy()
        ids = {old_id, *(session.id for session in sessions)}
        await save_all(storage, sessions)

        assert live_keys(storage) == [], seed
        for session_id in ids:
            assert (await storage.read(session_id)).new, seed


async def test_after_a_logout_that_races_a_touch_the_session_is_gone() -> None:
    for seed in ROUNDS:
        clock = ManualClock()
        storage = RacyStorage(seed, clock=clock)
        session_id = await stored_id(storage)
        clock.advance(timedelta(days=13))
        leaving, reading = await storage.read(session_id), await storage.read(session_id)
        leaving.destroy()
        await save_all(storage, [leaving, reading])

        assert live_keys(storage) == [], seed


async def test_two_logouts_at_once_leave_no_record() -> None:
    for seed in ROUNDS:
        storage = RacyStorage(seed)
        session_id = await stored_id(storage)
        sessions = [await storage.read(session_id) for _ in range(2)]
        for session in sessions:
            session.destroy()
        values = await asyncio.gather(*map(storage.save, sessions))

        assert values == ["", ""], seed
        assert live_keys(storage) == [], seed


# --- rotation


async def rotated_twice(seed: int, kinds: tuple[bool, bool]) -> tuple[RacyStorage, list[Session], list[str]]:
    """Regenerate a session in two parallel requests, each of which sets its own key; return what was sent, in order."""
    storage = RacyStorage(seed)
    old_id = await stored_id(storage)
    sessions = [await storage.read(old_id) for _ in kinds]
    for number, (session, delete_old) in enumerate(zip(sessions, kinds, strict=True)):
        session[f"key {number}"] = number
        session.regenerate_id(delete_old)
    return storage, sessions, await save_all(storage, sessions)


async def test_two_renewals_at_once_leave_one_session_with_all_changes_and_no_orphan() -> None:
    for seed in ROUNDS:
        storage, _, sent = await rotated_twice(seed, (False, False))

        assert len(sent) == 1, seed
        assert dict(await storage.read(sent[0])) == {"user": 5, "key 0": 0, "key 1": 1}, seed
        assert live_keys(storage) == [key_of(sent[0])], seed


async def test_of_two_logins_at_once_one_gets_the_session_and_the_other_is_dropped_and_told_so() -> None:
    """Either may be an attacker who planted the old id, and who must not get into the other's login."""
    for seed in ROUNDS:
        storage, sessions, sent = await rotated_twice(seed, (True, True))

        assert len(sent) == 1, seed
        winner = next(number for number, session in enumerate(sessions) if session.id == sent[0])
        assert dict(await storage.read(sent[0])) == {"user": 5, f"key {winner}": winner}, seed
        assert [session.destroyed for session in sessions] == [number != winner for number in range(2)], seed
        assert live_keys(storage) == [key_of(sent[0])], seed


@pytest.mark.parametrize("renewed_before", [False, True])
async def test_a_slow_login_with_a_planted_id_does_not_get_the_session_of_an_earlier_login(
    renewed_before: bool,
) -> None:
    """An attacker plants an id and delays a login of their own until the victim has logged in."""
    storage = RacyStorage(1)
    planted = await stored_id(storage)
    slow, victim = await storage.read(planted), await storage.read(planted)
    if renewed_before:
        renewing = await storage.read(planted)
        renewing.regenerate_id()
        await storage.save(renewing)
    victim["user"] = "victim"
    victim.regenerate_id(True)
    secret = await storage.save(victim)

    slow["second factor for"] = "thief"
    slow.regenerate_id(True)
    stolen = await storage.save(slow)

    assert stolen is None
    assert slow.destroyed
    assert secret is not None
    assert dict(await storage.read(secret)) == {"user": "victim"}
    assert live_keys(storage) == [key_of(secret)]


async def test_a_login_that_races_a_renewal_makes_the_renewed_id_worthless() -> None:
    for seed in ROUNDS:
        storage, (_, login), sent = await rotated_twice(seed, (False, True))

        assert login.id in sent, seed
        assert (await storage.read(login.id))["key 1"] == 1, seed
        assert live_keys(storage) == [key_of(login.id)], seed


async def test_a_login_with_an_already_renewed_id_makes_the_renewed_id_worthless() -> None:
    """An attacker plants an id, renews it, and waits until the victim logs in with it within the grace period."""
    storage = RacyStorage(1)
    planted = await stored_id(storage)
    renewing = await storage.read(planted)
    renewing.regenerate_id()
    renewed = await storage.save(renewing)

    victim = await storage.read(planted)
    victim["user"] = "victim"
    victim.regenerate_id(True)
    secret = await storage.save(victim)

    assert secret is not None
    assert (await storage.read(secret))["user"] == "victim"
    assert (await storage.read(renewed)).new
    assert (await storage.read(planted)).new


async def test_a_rotation_loses_no_key_of_racing_writers() -> None:
    for seed in ROUNDS:
        storage = RacyStorage(seed)
        old_id = await stored_id(storage)
        sessions = [await storage.read(old_id) for _ in range(4)]
        for number, session in enumerate(sessions):
            session[f"key {number}"] = number
        sessions[0].regenerate_id()
        sent = await save_all(storage, sessions)

        expected = {"user": 5, "key 0": 0, "key 1": 1, "key 2": 2, "key 3": 3}
        assert sent == [sessions[0].id], seed
        assert dict(await storage.read(sent[0])) == expected, seed
        assert not set(await storage.read(old_id)) - set(expected), seed


async def test_the_old_id_never_reads_a_change_made_after_the_rotation() -> None:
    for seed in ROUNDS:
        storage = RacyStorage(seed)
        old_id = await stored_id(storage)
        session = await storage.read(old_id)
        session.regenerate_id()
        session["secret"] = 1
        await storage.save(session)
        old, new = await storage.read(old_id), await storage.read(session.id)
        old["by the old id"], new["by the new id"] = 1, 2
        await save_all(storage, [old, new])

        assert dict(await storage.read(old_id)) == {"user": 5}, seed
        assert dict(await storage.read(session.id)) == {
            "user": 5, "secret": 1, "by the old id": 1, "by the new id": 2
        }, seed  # fmt: skip


async def test_a_slow_writer_under_an_id_that_was_deleted_is_dropped_and_told_so() -> None:
    for seed in ROUNDS:
        storage = RacyStorage(seed)
        old_id = await stored_id(storage)
        slow, session = await storage.read(old_id), await storage.read(old_id)
        session.regenerate_id(True)
        await storage.save(session)
        slow["late"] = True
        await save_all(storage, [slow])

        assert slow.destroyed, seed
        assert dict(await storage.read(session.id)) == {"user": 5}, seed
        assert live_keys(storage) == [session.key], seed


async def test_a_change_that_races_a_rotation_with_true_is_stored_or_its_writer_is_told() -> None:
    """Nothing is lost silently."""
    for seed in ROUNDS:
        storage = RacyStorage(seed)
        old_id = await stored_id(storage)
        writing, session = await storage.read(old_id), await storage.read(old_id)
        writing["key"] = 1
        session.regenerate_id(True)
        await save_all(storage, [writing, session])

        assert ("key" in await storage.read(session.id)) == (not writing.destroyed), seed
        assert (await storage.read(old_id)).new, seed


# --- writers


async def test_twenty_parallel_saves_lose_no_key_and_share_writes() -> None:
    for seed in range(20):
        storage = RacyStorage(seed)
        session_id = await stored_id(storage, first=True)
        sessions = [await storage.read(session_id) for _ in range(20)]
        for number, session in enumerate(sessions):
            session[f"key {number}"] = number
        storage.calls.clear()
        await save_all(storage, sessions)

        expected = {"first": True, **{f"key {number}": number for number in range(20)}}
        assert dict(await storage.read(session_id)) == expected, seed
        assert storage.calls["replace"] <= 10, seed


async def test_twenty_saves_at_once_take_one_write() -> None:
    storage = RacyStorage()
    session_id = await stored_id(storage, first=True)
    sessions = [await storage.read(session_id) for _ in range(20)]
    for number, session in enumerate(sessions):
        session[f"key {number}"] = number
    storage.calls.clear()
    await asyncio.gather(*map(storage.save, sessions))

    assert storage.calls == {"replace": 1}
    assert len(await storage.read(session_id)) == 21


async def test_saves_by_two_storage_objects_on_the_same_records_lose_no_key() -> None:
    """They stand for two processes: group commit works within one process, compare-and-set between processes."""
    for seed in range(50):
        one, other = RacyStorage(seed), RacyStorage(-seed)
        other._records = one._records
        session_id = await stored_id(one, first=True)
        sessions = [await one.read(session_id) for _ in range(10)]
        for number, session in enumerate(sessions):
            session[f"key {number}"] = number
        await asyncio.gather(save_all(one, sessions[:5]), save_all(other, sessions[5:]))

        assert len(await one.read(session_id)) == 11, seed


async def test_parallel_readers_of_a_flash_do_not_use_up_the_next_one() -> None:
    for seed in ROUNDS:
        storage = RacyStorage(seed)
        session = await storage.read(None)
        session.flash("notice", "one")
        session_id = await storage.save(session)
        readers = [await storage.read(session_id) for _ in range(3)]
        readers[0].flash("notice", "two")
        await save_all(storage, readers)

        assert [reader["notice"] for reader in readers] == ["one"] * 3, seed
        assert (await storage.read(session_id))["notice"] == "two", seed


async def test_a_clear_removes_what_was_saved_before_it_and_keeps_what_is_saved_after_it() -> None:
    for seed in ROUNDS:
        storage = RacyStorage(seed)
        session_id = await stored_id(storage, before=1)
        clearing, writing = await storage.read(session_id), await storage.read(session_id)
        clearing.clear()
        clearing["mine"] = 1
        writing["theirs"] = 2
        await save_all(storage, [clearing, writing])

        assert dict(await storage.read(session_id)) in ({"mine": 1}, {"mine": 1, "theirs": 2}), seed
