"""Fixtures for pytest.

To use them, put this line into the ``conftest.py`` at the root of the test suite:
``pytest_plugins = ["aiohttp_session_store.testing.fixtures"]``.
"""

import pytest

from ..storages.memory.storage import MemoryStorage
from .clock import ManualClock
from .failing import FailingStorage

__all__ = ["failing_session_storage", "session_clock", "session_storage"]


@pytest.fixture
def session_clock() -> ManualClock:
    """Return the clock of the other fixtures' storages, which moves when the test tells it to."""
    return ManualClock()


@pytest.fixture
def session_storage(session_clock: ManualClock) -> MemoryStorage:
    """Return an empty storage in memory that uses ``session_clock``."""
    return MemoryStorage(clock=session_clock)


@pytest.fixture
def failing_session_storage(session_clock: ManualClock) -> FailingStorage:
    """Return an empty storage that uses ``session_clock`` and fails when the test tells it to."""
    return FailingStorage(clock=session_clock)
