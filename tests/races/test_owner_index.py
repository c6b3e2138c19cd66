"""The index of owners does not grow for ever, and loses nothing when many requests of one owner come at once."""

import asyncio
import random
import secrets
import time
from collections.abc import Awaitable

import pytest

from aiohttp_session_store import KeyedStorage
from aiohttp_session_store.engine.verbs import RECLAIM_AFTER
from aiohttp_session_store.record.head import owner_key
from aiohttp_session_store.record.timeouts import Timeouts
from aiohttp_session_store.storages.redis import RedisStorage
from aiohttp_session_store.testing import ManualClock

DAY = 24 * 60 * 60
IDLE = 14 * DAY
# Entries are good for four idle timeouts; two more, and the time between two sweeps.
MOST_ENTRIES = 4 * 14 + 2 + 10
# The faithful device is renewed each day, and each renewal leaves a pointer and a snapshot for the idle timeout.
MOST_RECORDS = 14 + 2 * 14 + 2 + 10


async def login(storage: KeyedStorage, owner: str) -> str:
    session = await storage.read(None)
    session.login(owner)
    session_id = await storage.save(session)
    assert session_id
    return session_id


async def renew(storage: KeyedStorage, session_id: str) -> str:
    session = await storage.read(session_id)
    session.regenerate_id()
    new_id = await storage.save(session)
    assert new_id
    return new_id


async def test_a_year_of_logins_leaves_an_index_of_weeks(storage: KeyedStorage) -> None:
    """A session without a lifetime is used and renewed each day; another device logs in each day, and never again."""
    if isinstance(storage, RedisStorage):
        pytest.skip("the server's own clock ends its records: see the next test")
    owner, clock = secrets.token_hex(8), ManualClock(time.time() - 370 * DAY)
    storage.timeouts, storage.clock = Timeouts.build(IDLE, None), clock
    faithful = await login(storage, owner)
    for day in range(365):
        clock.advance(DAY)
        await login(storage, owner)
        faithful = await renew(storage, faithful)
        if day % 10 == 0:
            await storage.sweep()
    shown = await storage.linked(owner_key(owner))
    assert len(shown) <= MOST_ENTRIES
    session = await storage.read(faithful)
    assert session.owner == owner, "a session that is used does not end"
    assert session.key in shown
    assert session.key in {info.key for info in await storage.sessions_of(owner)}
    assert len(await storage.linked(owner_key(owner))) <= 14 + 1, "a list removes the dead entries"
    if records := getattr(storage, "_records", None):
        assert len(records) <= MOST_RECORDS + len(shown), "tombstones of the list included"


async def test_entries_that_ended_are_removed(storage: KeyedStorage) -> None:
    """By the sweep, or on Redis by the next login."""
    owner, ended = owner_key(secrets.token_hex(8)), storage.now() - RECLAIM_AFTER - 10
    for _ in range(10):
        await storage.link(owner, secrets.token_hex(32), ended)
    key = secrets.token_hex(32)
    await storage.link(owner, key, ended + DAY)
    await storage.sweep()
    assert list(await storage.linked(owner)) == [key]


async def both(*work: Awaitable[object]) -> list[object]:
    return list(await asyncio.gather(*work))


async def test_lists_beside_a_thousand_logins_and_renewals_lose_no_entry(storage: KeyedStorage) -> None:
    """Whoever lists removes dead entries, and must not remove one whose record is about to come."""
    random.seed(4)
    owner = secrets.token_hex(8)
    alive: list[str] = []
    for _ in range(50):
        renewed, alive = alive[-10:], alive[:-10]
        work = [login(storage, owner) for _ in range(10)] + [renew(storage, one) for one in renewed]
        random.shuffle(work)
        listed = [storage.sessions_of(owner) for _ in range(2)]
        answers = await both(*work, *listed)
        alive += [one for one in answers if isinstance(one, str)]
        if len(alive) > 40:  # so that there is something dead, and the list stays short
            for one in alive[:20]:
                session = await storage.read(one)
                session.logout()
                await storage.save(session)
            alive = alive[20:]
    shown = {info.key for info in await storage.sessions_of(owner)}
    assert shown == {(await storage.read(one)).key for one in alive}


async def test_two_endings_at_once_miss_nothing(storage: KeyedStorage) -> None:
    for _ in range(10):
        owner = secrets.token_hex(8)
        ids = [await login(storage, owner) for _ in range(10)]
        ended = await both(storage.end_sessions(owner), storage.end_sessions(owner))
        assert sum(one for one in ended if isinstance(one, int)) == 10, "each session is counted once"
        assert not any([(await storage.read(one)).owner for one in ids])
        assert not await storage.linked(owner_key(owner))


async def test_an_idle_session_keeps_its_whole_idle_timeout_whenever_it_was_used_before(storage: KeyedStorage) -> None:
    """Also if it is written every day, so that its entry in the index is always the one of long ago."""
    if isinstance(storage, RedisStorage):
        pytest.skip("the server's own clock ends its records")
    clock = ManualClock(time.time() - 370 * DAY)
    storage.timeouts, storage.clock = Timeouts.build(IDLE, None), clock
    session_id = await login(storage, secrets.token_hex(8))
    for day in range(120):
        clock.advance(DAY)
        session = await storage.read(session_id)
        session["day"] = day
        await storage.save(session)
        assert session.expires_at == int(clock()) + IDLE, f"day {day}"


async def test_a_session_that_gets_its_owner_while_its_id_changes_is_in_the_index(storage: KeyedStorage) -> None:
    """As with ``owner_of`` in a parallel request."""
    for _ in range(30):
        owner, session = secrets.token_hex(8), await storage.read(None)
        session["cart"] = 1
        session_id = await storage.save(session)
        assert session_id
        rotating, adopting = await storage.read(session_id), await storage.read(session_id)
        rotating.regenerate_id(random.random() < 0.5)
        new_id, _ = await both(storage.save(rotating), storage.adopt(adopting, owner))
        assert isinstance(new_id, str)
        found = await storage.read(new_id)
        if found.owner is not None:
            for _ in range(2):  # the first one may remove entries
                assert [info.key for info in await storage.sessions_of(owner)] == [found.key]
            assert await storage.end_sessions(owner) == 1
            assert (await storage.read(new_id)).new


async def test_a_list_does_not_end_a_session_that_is_about_to_get_its_owner(storage: KeyedStorage) -> None:
    """Its entry is there before its record says whose it is."""
    owner, session = secrets.token_hex(8), await storage.read(None)
    session["cart"] = 1
    session_id = await storage.save(session)
    await storage.link(owner_key(owner), session.key, storage.now() + DAY)
    assert await storage.sessions_of(owner) == []
    found = await storage.read(session_id)
    assert dict(found) == {"cart": 1}
    await storage.adopt(found, owner)
    assert [info.key for info in await storage.sessions_of(owner)] == [found.key]


async def test_lists_beside_sessions_that_get_their_owner_end_none_of_them(storage: KeyedStorage) -> None:
    owner, ids = secrets.token_hex(8), []
    for _ in range(40):
        session = await storage.read(None)
        session["cart"] = 1
        ids.append(await storage.save(session))
    loaded = [await storage.read(session_id) for session_id in ids]
    await both(*(storage.adopt(one, owner) for one in loaded), *(storage.sessions_of(owner) for _ in range(10)))
    assert len(await storage.sessions_of(owner)) == len(ids)
    assert {(await storage.read(session_id)).owner for session_id in ids} == {owner}
