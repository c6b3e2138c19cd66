"""Writing records so that no change is lost and no destroyed session comes back.

Everything rests on one rule: a record is only ever replaced at the version that was read.  Whoever finds another
version merges once more; whoever finds none, or a retired one without successor, gives up.
"""

import asyncio
import logging
import random
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from ..changes import Changes
from ..errors import StorageError
from ..record import TOMBSTONE, Record, Retired, encode_retired, merge, same_content
from ..state import Lease, Stored

if TYPE_CHECKING:
    from .base import KeyedStorage

_logger = logging.getLogger("aiohttp_session_store")

# A record that still changes under us after this many seconds points at a broken storage, not at a busy visitor.
MAX_SECONDS = 5.0
_MAX_PAUSE = 0.05


class Written(NamedTuple):
    """Where changes ended up."""

    key: str
    stored: Stored
    record: Record


class Attempts:
    """Paces a compare-and-set loop: at once after the first conflict, then after random pauses, then not at all."""

    def __init__(self, key: str) -> None:
        """Prepare for attempts on the record of *key*; the time limit starts with the first conflict."""
        self._key = key
        self._conflicts = 0
        self._deadline = 0.0

    async def conflict(self) -> None:
        """Wait before the next attempt.

        Raises:
            StorageError: The time is up.
        """
        self._conflicts += 1
        if self._conflicts == 1:
            self._deadline = time.monotonic() + MAX_SECONDS
        if time.monotonic() > self._deadline:
            raise StorageError(f"session {self._key} kept changing for {MAX_SECONDS:g} s: the change was not stored")
        if self._conflicts > 1:
            longest = min(_MAX_PAUSE, 0.001 * 2**self._conflicts)
            await asyncio.sleep(random.uniform(0, longest))  # noqa: S311  spreads retries, keeps no secret


class RecordWriter:
    """Merges, rotates and destroys records by compare-and-set over a storage's five verbs."""

    def __init__(self, storage: "KeyedStorage") -> None:
        """Work on *storage*."""
        self._storage = storage

    def merged(self, record: Record, changes: Iterable[Changes], now: int) -> Record:
        """Return *record* with *changes*, as written at *now*."""
        return merge(record, changes, now, self._storage.timeouts.idle)

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
            record = self._decode(key, stored)
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
            stored = await self._storage.fetch(key)
        return None

    async def rotate(
        self,
        *,
        old_key: str,
        new_key: str,
        stored: Stored | None,
        changes: Sequence[Changes],
        delete_old: bool,
        renew_lifetime: bool,
        lease: Lease | None = None,
    ) -> Written | None:
        """Move the session from *old_key* to *new_key*, with *changes*.

        The new record is written first, then the old one is retired by compare-and-set, which decides all races: with
        a logout (it wins) and with a write (it is merged).  Where a parallel rotation came first and the old id was to
        die at once, this one is dropped: the successor may be somebody else's login.  Otherwise it is a plain save,
        which the successor gets; but with *delete_old*, as at a login, the successor is rotated in its turn: whoever
        asked for it may be somebody who planted the old id.

        Returns:
            Where the session went, under *new_key* or a parallel rotation's; None: it was destroyed.

        Raises:
            StorageError: The old record is intact.
        """
        storage, attempts, passed = self._storage, Attempts(old_key), {old_key}
        version: bytes | None = None
        written: Written | None = None
        try:
            while stored is not None:
                record = self._decode(old_key, stored)
                if record is None:
                    break
                if isinstance(record, Retired):
                    if written is not None and record.successor == new_key:
                        return written  # a driver that lost the answer asked again
                    if record.successor is None or not record.passes_changes_on or record.successor in passed:
                        break
                    if not delete_old:
                        if version is not None:
                            await storage.delete(new_key)
                        return await self.write(old_key, stored, changes, lease=lease)
                    old_key = record.successor
                    passed.add(old_key)
                    stored = await storage.fetch(old_key)
                    continue
                if lease is not None:
                    await lease()
                now = storage.now()
                dies_at = min(now + storage.rotation_grace, storage.timeouts.expiry(now, record.created_at))
                if renew_lifetime:
                    record = record._replace(created_at=now)
                merged = self.merged(record, changes, now)
                data, expires_at = storage.records.encode(merged), storage.timeouts.expiry(now, merged.created_at)
                if version is None:
                    version = await storage.insert(new_key, data, expires_at)
                else:
                    version = await storage.replace(new_key, data, expires_at, version)
                if version is None:
                    raise StorageError("the storage lost or already had the record of a new session id")
                written = Written(new_key, Stored(data, version, expires_at), merged)
                retired = encode_retired(Retired(new_key, dies_at, None if delete_old else stored.data))
                if await storage.replace(old_key, retired, dies_at, stored.version):
                    return written
                await attempts.conflict()
                stored = await storage.fetch(old_key)
            if version is not None:
                await storage.delete(new_key)
        except StorageError:
            if written is not None and await self._took_effect(old_key, written):
                return written
            raise
        return None

    async def destroy(self, key: str, stored: Stored | None) -> None:
        """Delete the record of *key* and, if its id was regenerated, the session that it became.

        A plain delete would miss a rotation that runs in parallel, so the record is made a tombstone first.

        Raises:
            StorageError: It may still be there.
        """
        storage, attempts = self._storage, Attempts(key)
        doomed = [key]
        while stored is not None:
            record = self._decode(key, stored)
            if isinstance(record, Retired):
                if record.successor is None:
                    break
                key = record.successor
                if key in doomed:
                    break
                doomed.append(key)
            elif record is None or await storage.replace(key, _TOMBSTONE, storage.now(), stored.version):
                break
            else:
                await attempts.conflict()
            stored = await storage.fetch(key)
        for key in reversed(doomed):  # the successor first: whatever stops us here, the id that leads to it is left
            await storage.delete(key)

    async def _replace(self, key: str, stored: Stored, record: Record, changes: Sequence[Changes]) -> Written | None:
        """Write *record* with *changes* over *stored*, or nothing if it would be the same."""
        now = self._storage.now()
        merged = self.merged(record, changes, now)
        data, expires_at = self._storage.records.encode(merged), self._storage.timeouts.expiry(now, merged.created_at)
        timeouts = self._storage.timeouts
        if same_content(data, stored.data) and not timeouts.renewal_due(record, stored.expires_at, now):
            # the same as the newest record, or only as an older one?
            unchanged = await self._storage.touch(key, stored.expires_at, stored.version)
            return Written(key, stored, record) if unchanged else None
        version = await self._storage.replace(key, data, expires_at, stored.version)
        if version is None:
            return None
        self._storage.records.put(data, merged)
        return Written(key, Stored(data, version, expires_at), merged)

    def _decode(self, key: str, stored: Stored) -> Record | Retired | None:
        try:
            return self._storage.records.decode(stored.data)
        except ValueError as error:
            _logger.warning("session %s became unreadable while a request was using it: %s", key, error)
            return None

    async def _took_effect(self, old_key: str, written: Written) -> bool:
        """Whether a rotation that failed has been carried out all the same; if not, remove the new record.

        A server can lose the answer, and what it has done stays done.
        """
        with suppress(StorageError):  # then nobody can know: the new record stays, and expires
            stored = await self._storage.fetch(old_key)
            record = None if stored is None else self._decode(old_key, stored)
            if isinstance(record, Retired) and record.successor == written.key:
                return True
            await self._storage.delete(written.key)
        return False


_TOMBSTONE = encode_retired(TOMBSTONE)
