"""Writing records so that no change is lost and no destroyed session comes back.

Everything rests on one rule: a record is only ever replaced at the version that was read.  Whoever finds another
version merges once more; whoever finds none, or a retired one without successor, gives up.
"""

import logging
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..record.changes import Changes
from ..record.format import Record, Retired, Stored
from ..record.merge import merge, same_content
from .retry import Attempts
from .verbs import Lease, Verbs

_logger = logging.getLogger("aiohttp_session_store")


class Written(NamedTuple):
    """Where changes ended up."""

    key: str
    stored: Stored
    record: Record


class RecordWriter:
    """Merges changes onto records by compare-and-set over a storage's five verbs."""

    def __init__(self, storage: Verbs) -> None:
        """Work on *storage*."""
        self.storage: Verbs = storage

    def merged(self, record: Record, changes: Iterable[Changes], now: int) -> Record:
        """Return *record* with *changes*, as written at *now*."""
        return merge(record, changes, now, self.storage.timeouts.idle)

    async def write(
        self,
        key: str,
        stored: Stored | None,
        changes: Sequence[Changes],
        lease: Lease | None = None,
    ) -> Written | None:
        """Merge *changes* onto the record of *key*, which stood at *stored* when it was last seen.

        An id that was regenerated leads on to its successor, unless the old one was to die at once.

        Args:
            lease: Asked before each compare-and-set.

        Returns:
            Where they were stored, or None: the session was destroyed.

        Raises:
            SessionLockError: The *lease* is over, and nothing was stored.
            StorageError: Nothing was stored.
        """
        attempts, passed = Attempts(key), {key}
        while stored is not None:
            record = decode(self.storage, key, stored)
            if record is None:
                return None
            if isinstance(record, Retired):
                if not record.passes_changes_on or record.successor is None or record.successor in passed:
                    return None
                key = record.successor
                passed.add(key)  # records that lead in a circle are damage
            else:
                if lease is not None:
                    await lease()
                written = await self._replace(key, stored, record, changes)
                if written is not None:
                    return written
                await attempts.conflict()
            stored = await self.storage.fetch(key)
        return None

    async def _replace(self, key: str, stored: Stored, record: Record, changes: Sequence[Changes]) -> Written | None:
        """Write *record* with *changes* over *stored*, or nothing if it would be the same."""
        now = self.storage.now()
        merged = self.merged(record, changes, now)
        data, expires_at = self.storage.records.encode(merged), self.storage.timeouts.expiry(now, merged.created_at)
        timeouts = self.storage.timeouts
        if same_content(data, stored.data) and not timeouts.renewal_due(record, stored.expires_at, now):
            # the same as the newest record, or only as an older one?
            unchanged = await self.storage.touch(key, stored.expires_at, stored.version)
            return Written(key, stored, record) if unchanged else None
        version = await self.storage.replace(key, data, expires_at, stored.version)
        if version is None:
            return None
        self.storage.records.put(data, merged)
        return Written(key, Stored(data, version, expires_at), merged)


def decode(storage: Verbs, key: str, stored: Stored) -> Record | Retired | None:
    """Return what *stored* holds, or None, with a warning, if it became unreadable since the session was loaded."""
    try:
        return storage.records.decode(stored.data)
    except ValueError as error:
        _logger.warning("session %s became unreadable while a request was using it: %s", key, error)
        return None
