"""What every keyed storage has to keep, as tests to inherit."""

import time

import pytest

from ...storages.base import KeyedStorage
from ..clock import ManualClock
from .expiry import ExpiryContract
from .locks import LockContract
from .races import RaceContract
from .sessions import SessionContract
from .upkeep import UpkeepContract
from .verbs import VerbContract

__all__ = ["StorageContract"]


class StorageContract(VerbContract, RaceContract, ExpiryContract, LockContract, SessionContract, UpkeepContract):
    """Checks a :class:`~aiohttp_session_store.KeyedStorage` of your own: its verbs, and sessions kept in it.

    Inherit it in a test module and override one fixture, which gives an empty storage on the manual clock::

        class TestMyStorage(StorageContract):
            locks = False  # it does not offer exclusive_session

            @pytest.fixture
            async def storage(self, clock: ManualClock) -> AsyncIterator[KeyedStorage]:
                storage = MyStorage(..., clock=clock)
                await storage.start()
                yield storage
                await storage.aclose()

    It needs pytest-asyncio; in that plugin's strict mode the fixture is a ``pytest_asyncio.fixture``.  Give the storage
    its default timeouts, and run it against the real server, not a stand-in: half of the tests are races.

    Attributes:
        locks: Whether it has locks, and so offers ``exclusive_session``; True unless you say otherwise.
        sweeps: Whether ``sweep()`` removes records; False where the server removes what has expired by itself.
        large_record: Bytes of a record that has to come back whole; fewer than 1,000,000 where the server cannot.
    """

    pytestmark: pytest.MarkDecorator = pytest.mark.asyncio

    @pytest.fixture
    def clock(self) -> ManualClock:
        """Return the clock that the storage has to be built with.

        It starts at the real time, for a server that removes expired records goes by its own clock: what is alive by
        this one must be so by that one, too.  From there on the tests move it, always forward.
        """
        return ManualClock(int(time.time()))

    @pytest.fixture
    def storage(self, clock: ManualClock) -> KeyedStorage:
        """Return an empty storage; to be overridden."""
        raise NotImplementedError("override the fixture `storage`: an empty storage, built with clock=clock")
