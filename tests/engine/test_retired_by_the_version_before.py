"""Retired records that the version before left behind: they held in themselves what the old id may read.

An upgrade must neither log out a visitor in the middle of a renewal nor give a worthless id its session back.
"""

import pytest

from aiohttp_session_store.record.session_id import key_of
from aiohttp_session_store.testing import ManualClock
from tests.records import live_keys
from tests.storages.plain import PlainStorage

NOW, GRACE, IDLE = 1_700_000_000, 60, 1000
OLD_ID, NEW_ID = "o" * 43, "n" * 43
LIVE = b"1 L %d %d %d\n" % (NOW, NOW, IDLE)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


async def upgraded(clock: ManualClock, original: bytes | None) -> PlainStorage:
    """Return a storage in which the version before has just changed an id."""
    storage = PlainStorage(clock=clock, idle_timeout=IDLE)
    retired = b"1 R %d %b" % (NOW + GRACE, key_of(NEW_ID).encode())
    await storage.insert(key_of(OLD_ID), retired if original is None else retired + b"\n" + original, NOW + GRACE)
    await storage.insert(key_of(NEW_ID), LIVE + b'{"user":5,"secret":1}', NOW + IDLE)
    return storage


async def renewed(clock: ManualClock) -> PlainStorage:
    return await upgraded(clock, LIVE + b'{"user":5}')


async def test_a_renewed_id_reads_what_it_could_read_until_its_grace_ends(clock: ManualClock) -> None:
    storage = await renewed(clock)
    clock.advance(GRACE - 1)
    assert dict(await storage.read(OLD_ID)) == {"user": 5}
    clock.advance(1)

    assert (await storage.read(OLD_ID)).new
    assert dict(await storage.read(NEW_ID)) == {"user": 5, "secret": 1}


async def test_changes_by_a_renewed_id_reach_the_session_also_when_the_retired_record_is_gone(
    clock: ManualClock,
) -> None:
    storage = await renewed(clock)
    session = await storage.read(OLD_ID)
    session["a"] = 1
    assert await storage.save(session) is None
    await storage.delete(key_of(OLD_ID))
    session["a"] = 2
    await storage.save(session)

    assert dict(session) == {"user": 5, "a": 2}
    assert dict(await storage.read(NEW_ID)) == {"user": 5, "secret": 1, "a": 2}


async def test_a_login_by_a_renewed_id_starts_from_what_that_id_could_read(clock: ManualClock) -> None:
    storage = await renewed(clock)
    session = await storage.read(OLD_ID)
    session["name"] = "ada"
    session.regenerate_id(True)
    assert await storage.save(session) == session.id

    assert dict(await storage.read(session.id)) == {"user": 5, "name": "ada"}
    assert live_keys(storage) == [session.key]


async def test_a_logout_by_a_renewed_id_ends_the_session(clock: ManualClock) -> None:
    storage = await renewed(clock)
    session = await storage.read(OLD_ID)
    session.destroy()
    assert await storage.save(session) == ""

    assert (await storage.read(NEW_ID)).new
    assert (await storage.read(OLD_ID)).new


@pytest.mark.parametrize("action", ["read", "write", "renew", "log in"])
async def test_an_id_that_was_made_worthless_stays_worthless(clock: ManualClock, action: str) -> None:
    """A request that loaded its session before the login is still running when the new version takes over."""
    before = PlainStorage(clock=clock, idle_timeout=IDLE)
    await before.insert(key_of(OLD_ID), LIVE + b'{"user":5}', NOW + IDLE)
    slow = await before.read(OLD_ID)
    storage = await upgraded(clock, None)
    assert (await storage.read(OLD_ID)).new
    if action != "read":
        slow["late"] = 1
    if action in ("renew", "log in"):
        slow.regenerate_id(action == "log in")
    assert await storage.save(slow) is None

    assert slow.destroyed == (action != "read")
    assert (await storage.read(OLD_ID)).new
    assert dict(await storage.read(NEW_ID)) == {"user": 5, "secret": 1}
    assert live_keys(storage) == [key_of(NEW_ID)]


async def test_a_tombstone_without_a_reason_is_no_session(clock: ManualClock) -> None:
    storage = PlainStorage(clock=clock)
    await storage.insert(key_of(OLD_ID), b"1 R 0 -", NOW + GRACE)

    assert (await storage.read(OLD_ID)).new
    assert live_keys(storage) == []
