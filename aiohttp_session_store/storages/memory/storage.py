"""Sessions in the memory of one process: for development, tests, and apps that run as a single process."""

import asyncio
import logging
import os
import secrets
from collections import OrderedDict
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import ClassVar, Unpack

from ...engine.verbs import Announcement
from ...record.format import Stored
from ...record.settings import whole_number
from ..base import (
    RECLAIM_AFTER,
    KeyedStorage,
    SweptOptions,
)
from ..keyed_lock import KeyedLock
from .expiry_calendar import ExpiryCalendar
from .one_loop import OneLoop, running_loop

__all__ = ["MemoryStorage"]

_logger = logging.getLogger("aiohttp_session_store")

# About 100 MB for sessions of half a kilobyte, with Python's overhead. A flood of visitors must not end the process.
DEFAULT_MAX_SESSIONS = 100_000
# Keys that a sweep looks at in one go, at 1 to 2 us each.
_SLICE = 100

# Data, version, expires_at, and the day in the calendar. This is a plain tuple, because the garbage collector visits
# tuples of a class of our own: with 100,000 sessions, a full collection took 19 ms with those, and takes 4 ms now.
_Entry = tuple[bytes, bytes, int, int]


class MemoryStorage(KeyedStorage):
    """Keeps encoded records, not live objects, so that it behaves like the other storages.

    A restart logs everybody out, and two worker processes do not see each other's sessions.  It belongs to one event
    loop at a time: a call from a loop in another thread raises ``SessionUsageError``.
    """

    suspends: ClassVar[bool] = False

    def __init__(
        self,
        *,
        max_sessions: int = DEFAULT_MAX_SESSIONS,
        **options: Unpack[SweptOptions],
    ) -> None:
        """Start empty.

        Args:
            max_sessions: How many records are kept.  If there are more, the least recently used one is dropped.  The
                first time this happens, a warning is logged.
            options: See :class:`SweptOptions`.

        Raises:
            ConfigurationError: A setting makes no sense.
        """
        super().__init__(**options)
        self._max_sessions = whole_number("max_sessions", max_sessions)
        self._records: OrderedDict[str, _Entry] = OrderedDict()
        self._calendar = ExpiryCalendar()
        self._owners: dict[str, dict[str, int]] = {}  # the keys of each owner, and until when they are entered
        self._listening: set[asyncio.Queue[Announcement]] = set()
        self._evicting = False
        self._exclusive = KeyedLock()
        self._owner = OneLoop()
        self._secret: str | None = None
        self._pid = os.getpid()

    def __len__(self) -> int:
        """How many records are kept, including expired ones that were not swept yet."""
        return len(self._records)

    def __bool__(self) -> bool:
        """Be true even when empty, so that ``storage or default`` returns this storage."""
        return True

    def default_secrets(self) -> Sequence[str]:
        """Return a random secret of this process, which lives as long as its sessions do."""
        if self._secret is None:
            self._secret = secrets.token_urlsafe(32)
        return [self._secret]

    async def start(self) -> None:
        """Extends :meth:`KeyedStorage.start` with a warning if workers were forked from a loaded app."""
        if os.getpid() != self._pid:
            _logger.warning(
                "MemoryStorage was created before this worker was forked: each worker has its own sessions, and"
                " visitors who reach another worker are logged out. Use FileSystemStorage for several processes"
            )
        await super().start()

    async def fetch(self, key: str) -> Stored | None:
        """See :meth:`KeyedStorage.fetch`.  Makes the record the most recently used one."""
        if running_loop() is not self._owner.loop:
            self._owner.change()
        entry = self._records.get(key)
        if entry is None:
            return None
        self._records.move_to_end(key)
        data, version, expires_at, _ = entry
        return Stored(data, version, expires_at)

    async def insert(self, key: str, data: bytes, expires_at: int) -> bytes | None:
        """See :meth:`KeyedStorage.insert`."""
        if running_loop() is not self._owner.loop:
            self._owner.change()
        if key in self._records:
            return None
        if len(self._records) >= self._max_sessions:
            self._evict()
        version, day = os.urandom(8), self._calendar.enter(key, self._calendar.day(expires_at))
        self._records[key] = (data, version, expires_at, day)
        return version

    async def replace(self, key: str, data: bytes, expires_at: int, version: bytes) -> bytes | None:
        """See :meth:`KeyedStorage.replace`."""
        if running_loop() is not self._owner.loop:
            self._owner.change()
        entry = self._records.get(key)
        if entry is None or entry[1] != version:
            return None
        newer, day = os.urandom(8), entry[3]
        if expires_at < entry[2]:  # the sweep itself finds a later end, but not an earlier one
            self._calendar.remove(key, day)
            day = self._calendar.enter(key, self._calendar.day(expires_at))
        self._records[key] = (data, newer, expires_at, day)
        self._records.move_to_end(key)
        return newer

    async def touch(self, key: str, expires_at: int, version: bytes) -> bool:
        """See :meth:`KeyedStorage.touch`."""
        if running_loop() is not self._owner.loop:
            self._owner.change()
        entry = self._records.get(key)
        if entry is None or entry[1] != version:
            return False
        data, _, before, day = entry
        if expires_at > before:
            self._records[key] = (data, version, expires_at, day)
        return True

    async def delete(self, key: str, version: bytes | None = None) -> bool:
        """See :meth:`KeyedStorage.delete`."""
        if running_loop() is not self._owner.loop:
            self._owner.change()
        entry = self._records.get(key)
        if entry is None:
            return True
        if version is not None and entry[1] != version:
            return False
        del self._records[key]
        self._calendar.remove(key, entry[3])
        return True

    # --- the index of owners

    async def link(self, owner_key: str, key: str, until: int) -> None:
        """See :meth:`Verbs.link`."""
        entries = self._owners.setdefault(owner_key, {})
        entries[key] = max(until, entries.get(key, 0))

    async def unlink(self, owner_key: str, key: str) -> None:
        """See :meth:`Verbs.unlink`."""
        entries = self._owners.get(owner_key)
        if entries is not None and entries.pop(key, None) is not None and not entries:
            del self._owners[owner_key]

    async def linked(self, owner_key: str) -> Sequence[str]:
        """See :meth:`Verbs.linked`."""
        return list(self._owners.get(owner_key, ()))

    # --- for watched sessions

    async def versions(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        """See :meth:`Verbs.versions`."""
        return {key: entry[1] for key in keys if (entry := self._records.get(key)) is not None}

    async def announce(self, key: str, reason: str) -> None:
        """See :meth:`Verbs.announce`."""
        for queue in self._listening:
            queue.put_nowait(Announcement(key, reason))

    async def announcements(self) -> AsyncGenerator[Announcement, None]:
        """See :meth:`Verbs.announcements`."""
        queue: asyncio.Queue[Announcement] = asyncio.Queue()
        self._listening.add(queue)
        try:
            yield Announcement("")
            while True:
                yield await queue.get()
        finally:
            self._listening.discard(queue)

    def lock(self, key: str) -> AbstractAsyncContextManager[None]:
        """See :meth:`KeyedStorage.lock`."""
        if running_loop() is not self._owner.loop:
            self._owner.change()
        return self._exclusive.holding(key)

    async def sweep(self) -> int:
        """See :meth:`KeyedStorage.sweep`.  Looks only at records whose day in the calendar has come."""
        if running_loop() is not self._owner.loop:
            self._owner.change()
        reclaimable = self.now() - RECLAIM_AFTER
        today, removed = self._calendar.day(reclaimable), 0
        later_today: list[str] = []
        try:
            while keys := self._calendar.take(today, _SLICE):
                for key in keys:
                    entry = self._records.get(key)
                    if entry is None:
                        continue
                    data, version, expires_at, _ = entry
                    day = self._calendar.day(expires_at)
                    if expires_at <= reclaimable:
                        del self._records[key]
                        removed += 1
                    elif day == today:
                        later_today.append(key)
                    else:
                        self._records[key] = (data, version, expires_at, self._calendar.enter(key, day))
                await asyncio.sleep(0)
        finally:
            for key in later_today:
                if key in self._records:
                    self._calendar.enter(key, today)
        await self._sweep_owners(reclaimable)
        return removed

    async def _sweep_owners(self, reclaimable: int) -> None:
        """Remove entries that no live session can need any more."""
        owners = list(self._owners)
        for start in range(0, len(owners), _SLICE):
            for owner in owners[start : start + _SLICE]:
                entries = self._owners.get(owner, {})
                for key in [key for key, until in entries.items() if until <= reclaimable]:
                    await self.unlink(owner, key)
            await asyncio.sleep(0)

    def _evict(self) -> None:
        key, entry = self._records.popitem(last=False)
        self._calendar.remove(key, entry[3])
        if not self._evicting:
            self._evicting = True
            _logger.warning(
                "MemoryStorage holds max_sessions=%d sessions: from now on the least recently used ones are dropped,"
                " and their visitors logged out. Raise max_sessions, shorten idle_timeout, or use FileSystemStorage",
                self._max_sessions,
            )
