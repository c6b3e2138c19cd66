"""A storage with a manual clock, and sessions loaded from it."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from aiohttp_session_store import MemoryStorage, Session
from aiohttp_session_store.testing import ManualClock

Load = Callable[..., Awaitable[Session]]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_700_000_000)


@pytest.fixture
def storage(clock: ManualClock) -> MemoryStorage:
    return MemoryStorage(clock=clock)


@pytest.fixture
def load(storage: MemoryStorage) -> Load:
    """Return a function that stores a session with some data and loads it, as a request would."""

    async def load(**data: Any) -> Session:
        session = await storage.read(None)
        session.update(data or {"user": 5})
        return await storage.read(await storage.save(session))

    return load
