"""Sessions in the memory of one process: for development, tests, and apps that run as a single process."""

import asyncio
import logging
import os
import secrets
import time
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from itertools import islice
from typing import ClassVar

from ..encoders import Codec
from ..errors import ConfigurationError
from ..state import Stored
from .base import (
    DEFAULT_IDLE_TIMEOUT,
    DEFAULT_LIFETIME,
    DEFAULT_ROTATION_GRACE,
    DEFAULT_SWEEP_INTERVAL,
    RECLAIM_AFTER,
    Clock,
    KeyedStorage,
)
from .keyed_lock import KeyedLock

__all__ = ["MemoryStorage"]

_logger = logging.getLogger("aiohttp_session_store")

# About 100 MB of sessions of half a kilobyte, with what Python adds; a flood of visitors must not end the process.
DEFAULT_MAX_SESSIONS = 100_000
_SLICE = 1000


class MemoryStorage(KeyedStorage):
    """Keeps encoded records, not live objects, so that it behaves as the other storages do.

    A restart logs everybody out, and two worker processes do not see each other's sessions.
    """

    suspends: ClassVar[bool] = False

    def __init__(
        self,
        *,
        idle_timeout: float | timedelta | None = DEFAULT_IDLE_TIMEOUT,
        lifetime: float | timedelta | None = DEFAULT_LIFETIME,
        rotation_grace: float | timedelta = DEFAULT_ROTATION_GRACE,
        sweep_interval: float | timedelta | None = DEFAULT_SWEEP_INTERVAL,
        max_sessions: int = DEFAULT_MAX_SESSIONS,
        codec: Codec | Sequence[Codec] | None = None,
        clock: Clock = time.time,
    ) -> None:
        """Start empty; see :class:`KeyedStorage` for the times and *codec*.

        Args:
            max_sessions: How many records are kept; then the least recently used goes, with one warning.

        Raises:
            ConfigurationError: A setting makes no sense.
        """
        super().__init__(
            idle_timeout=idle_timeout,
            lifetime=lifetime,
            rotation_grace=rotation_grace,
            sweep_interval=sweep_interval,
            codec=codec,
            clock=clock,
        )
        if isinstance(max_sessions, bool) or not isinstance(max_sessions, int) or max_sessions < 1:
            raise ConfigurationError(f"max_sessions is a whole number from 1 on, not {max_sessions!r}")
        self._max_sessions = max_sessions
        self._records: OrderedDict[str, Stored] = OrderedDict()
        self._evicting = False
        self._exclusive = KeyedLock()
        self._secret: str | None = None
        self._pid = os.getpid()

    def __len__(self) -> int:
        """How many records are kept, expired ones that were not swept yet included."""
        return len(self._records)

    def __bool__(self) -> bool:
        """Be true even when empty: ``storage or default`` must not exchange it."""
        return True

    def default_secrets(self) -> Sequence[str]:
        """Return a random secret of this process: its sessions do not outlive it either."""
        if self._secret is None:
            self._secret = secrets.token_urlsafe(32)
        return [self._secret]

    async def start(self) -> None:
        """Extends :meth:`KeyedStorage.start` with a warning where workers were forked from a loaded app."""
        if os.getpid() != self._pid:
            _logger.warning(
                "MemoryStorage was made before this worker was forked: each worker has its own sessions, and visitors"
                " who meet another worker are logged out. Use FileSystemStorage for several processes"
            )
        await super().start()

    async def fetch(self, key: str) -> Stored | None:
        """See :meth:`KeyedStorage.fetch`; makes the record the most recently used."""
        stored = self._records.get(key)
        if stored is not None:
            self._records.move_to_end(key)
        return stored

    async def insert(self, key: str, data: bytes, expires_at: int) -> bytes | None:
        """See :meth:`KeyedStorage.insert`."""
        if key in self._records:
            return None
        if len(self._records) >= self._max_sessions:
            self._evict()
        return self._put(key, data, expires_at)

    async def replace(self, key: str, data: bytes, expires_at: int, version: bytes) -> bytes | None:
        """See :meth:`KeyedStorage.replace`."""
        stored = self._records.get(key)
        if stored is None or stored.version != version:
            return None
        return self._put(key, data, expires_at)

    async def touch(self, key: str, expires_at: int, version: bytes) -> bool:
        """See :meth:`KeyedStorage.touch`."""
        stored = self._records.get(key)
        if stored is None or stored.version != version:
            return False
        if expires_at > stored.expires_at:
            self._records[key] = Stored(stored.data, version, expires_at)
        return True

    async def delete(self, key: str) -> None:
        """See :meth:`KeyedStorage.delete`."""
        self._records.pop(key, None)

    def lock(self, key: str) -> AbstractAsyncContextManager[None]:
        """See :meth:`KeyedStorage.lock`."""
        return self._exclusive.holding(key)

    async def sweep(self) -> int:
        """See :meth:`KeyedStorage.sweep`."""
        reclaimable = self.now() - RECLAIM_AFTER
        removed = 0
        keys = iter(tuple(self._records))
        while part := tuple(islice(keys, _SLICE)):
            for key in part:
                stored = self._records.get(key)
                if stored is not None and stored.expires_at <= reclaimable:
                    del self._records[key]
                    removed += 1
            await asyncio.sleep(0)
        return removed

    def _put(self, key: str, data: bytes, expires_at: int) -> bytes:
        version = os.urandom(8)
        self._records[key] = Stored(data, version, expires_at)
        self._records.move_to_end(key)
        return version

    def _evict(self) -> None:
        self._records.popitem(last=False)
        if not self._evicting:
            self._evicting = True
            _logger.warning(
                "MemoryStorage holds max_sessions=%d sessions: from now on the least recently used ones are dropped,"
                " and their visitors logged out. Raise it, shorten idle_timeout, or use FileSystemStorage",
                self._max_sessions,
            )
