"""The contract of every keyed storage, as tests to inherit."""

import time

import pytest

from ...storages.base import KeyedStorage
from ..clock import ManualClock
from .accounts import AccountContract
from .endings import EndingContract
from .expiry import ExpiryContract
from .locks import LockContract
from .old_ids import OldIdContract
from .owners import OwnerContract
from .places import PlaceContract
from .races import RaceContract
from .sessions import SessionContract
from .upkeep import UpkeepContract
from .verbs import VerbContract
from .walks import WalkContract
from .watches import WatchContract

__all__ = ["StorageContract"]


class StorageContract(
    VerbContract,
    EndingContract,
    RaceContract,
    ExpiryContract,
    LockContract,
    SessionContract,
    PlaceContract,
    OwnerContract,
    AccountContract,
    OldIdContract,
    WatchContract,
    WalkContract,
    UpkeepContract,
):
    """Checks a :class:`~aiohttp_session_store.KeyedStorage` of your own: its verbs, and the sessions that it keeps.

    Inherit it in a test module and override one fixture, which returns an empty storage on the manual clock::

        class TestMyStorage(StorageContract):
            locks = False  # it does not offer exclusive_session

            @pytest.fixture
            async def storage(self, clock: ManualClock) -> AsyncIterator[KeyedStorage]:
                storage = MyStorage(..., clock=clock)
                await storage.start()
                yield storage
                await storage.aclose()

    It needs pytest-asyncio.  In that plugin's strict mode, the fixture is a ``pytest_asyncio.fixture``.  Give the
    storage its default timeouts.  Run it against the real server, not a stand-in, because half of the tests are races.

    Attributes:
        locks: Whether the storage has locks, and so offers ``exclusive_session``.  Default: True.
        owners: Whether it has an index of owners (``link``, ``unlink`` and ``linked``); Default: True.
        announcements: Whether its announcements arrive, if it has any.  False behind a pooler in transaction mode.
            Default: True.
        sweeps: Whether ``sweep()`` removes records.  False if the server itself removes expired records.  Default:
            True.
        large_record: The size in bytes of a record that must come back whole.  Set it lower if the server cannot hold
            that much.  Default: 1,000,000.
    """

    pytestmark: pytest.MarkDecorator = pytest.mark.asyncio

    @pytest.fixture
    def clock(self) -> ManualClock:
        """Return the clock that the storage has to be built with.

        It starts at the real time.  A server that removes expired records goes by its own clock, and what is alive by
        this clock must be alive by the server's clock, too.  From then on, the tests move this clock, always forward.
        """
        return ManualClock(int(time.time()))

    @pytest.fixture
    def storage(self, clock: ManualClock) -> KeyedStorage:
        """Return an empty storage.  Override this fixture.

        Args:
            clock: The clock to build the storage with.
        """
        raise NotImplementedError("override the fixture `storage`: return an empty storage, built with clock=clock")
