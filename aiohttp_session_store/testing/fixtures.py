"""Fixtures for pytest, in a test suite that asks for them.

In the ``conftest.py`` at its top: ``pytest_plugins = ["aiohttp_session_store.testing.fixtures"]``.
"""

import pytest

from ..storages.memory.storage import MemoryStorage
from .clock import ManualClock
from .failing import FailingStorage

__all__ = ["failing_session_storage", "session_clock", "session_storage"]


@pytest.fixture
def session_clock() -> ManualClock:
    """Return the clock of the storages below, which moves when the test tells it to."""
    return ManualClock()


@pytest.fixture
def session_storage(session_clock: ManualClock) -> MemoryStorage:
    """Return an empty storage in memory on ``session_clock``."""
    return MemoryStorage(clock=session_clock)


@pytest.fixture
def failing_session_storage(session_clock: ManualClock) -> FailingStorage:
    """Return an empty storage on ``session_clock`` that fails when the test tells it to."""
    return FailingStorage(clock=session_clock)
