"""What every keyed storage has to keep, as tests to inherit."""

import pytest

from ..storages.base import KeyedStorage
from .clock import ManualClock
from .contract_races import RaceContract
from .contract_sessions import SessionContract
from .contract_verbs import VerbContract

__all__ = ["StorageContract"]


class StorageContract(VerbContract, RaceContract, SessionContract):
    """Checks a :class:`~aiohttp_session_store.KeyedStorage` of your own: its verbs, and sessions kept in it.

    Inherit it in a test module and override one fixture, which gives an empty storage on the manual clock::

        class TestMyStorage(StorageContract):
            @pytest.fixture
            async def storage(self, clock: ManualClock) -> AsyncIterator[KeyedStorage]:
                storage = MyStorage(..., clock=clock)
                await storage.start()
                yield storage
                await storage.aclose()

    It needs pytest-asyncio; in that plugin's strict mode the fixture is a ``pytest_asyncio.fixture``.  Give the storage
    its default timeouts, and run it against the real server, not a stand-in: half of the tests are races.
    """

    pytestmark: pytest.MarkDecorator = pytest.mark.asyncio

    @pytest.fixture
    def clock(self) -> ManualClock:
        """Return the clock that the storage has to be built with."""
        return ManualClock()

    @pytest.fixture
    def storage(self, clock: ManualClock) -> KeyedStorage:
        """Return an empty storage; to be overridden."""
        raise NotImplementedError("override the fixture `storage`: an empty storage, built with clock=clock")
