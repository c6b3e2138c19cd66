"""``max_sessions_per_owner`` never ends the login that has just been made."""

import pytest

from aiohttp_session_store import KeyedStorage, MemoryStorage
from aiohttp_session_store.testing import ManualClock
from tests.engine.suspending import RacyStorage


async def log_in(storage: KeyedStorage, session_id: str | None = None) -> str:
    session = await storage.read(session_id)
    session.login("ada")
    value = await storage.save(session)
    assert value
    return value


@pytest.mark.parametrize("kind", [MemoryStorage, RacyStorage])
@pytest.mark.parametrize("most", [1, 2])
async def test_a_login_within_the_second_of_the_one_before_is_newer(kind: type[KeyedStorage], most: int) -> None:
    """A visitor who clicks twice must not be logged out."""
    storage = kind(clock=ManualClock(), max_sessions_per_owner=most)
    ids: list[str] = []
    for _ in range(20):
        ids.append(await log_in(storage))

        assert [(await storage.read(one)).owner for one in ids[-most:]] == ["ada"] * len(ids[-most:])
    assert len(await storage.sessions_of("ada")) == most


async def test_who_logs_in_again_stays_within_the_limit() -> None:
    clock = ManualClock()
    storage = MemoryStorage(clock=clock, max_sessions_per_owner=1)
    value = await log_in(storage)
    for _ in range(5):
        value = await log_in(storage, value)

    clock.advance(60)
    value = await log_in(storage, value)

    (info,) = await storage.sessions_of("ada")
    assert info.authenticated_at == int(clock())
    assert (await storage.read(value)).owner == "ada"
