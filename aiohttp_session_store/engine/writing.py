"""Writing changes by compare-and-set, so that no change is lost and no session that ended comes back.

Everything rests on one rule: a record is only ever replaced at the version that was read.  A writer that finds another
version merges its changes onto that one and tries again.  A writer that finds no live session gives up.
"""

import logging
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from ..errors import SessionConflictError, SessionLockError, SessionTooLargeError, StorageError
from ..record.changes import Changes, Try
from ..record.format import Record, Retired, Stored
from ..record.head import Head, owner_key
from ..record.merge import is_stored, merge
from ..record.size import largest_keys
from ..session.state import Place
from .retry import Attempts
from .telling import tell_merged
from .verbs import Lease, Verbs

_logger = logging.getLogger("aiohttp_session_store")


class Unreadable(NamedTuple):
    """A record of a newer version, of a codec that is not at hand, or a damaged one."""

    key: str


class LostTrackError(StorageError):
    """An earlier save of one request may have been stored or not, and nobody can find out any more."""


#: The errors of one request, which must not fail the others that share its write.
FAIL_ALONE = (SessionTooLargeError, SessionConflictError, LostTrackError)


def new_write(changes: Iterable[Changes]) -> str | None:
    """Return a random id for the write of *changes*, or None if they may be made twice."""
    for change in changes:
        if change.tries is not None or change.earlier:
            return secrets.token_urlsafe(6)
    return None


def note_lost(changes: Iterable[Changes], write: str | None, record: Record) -> None:
    """Note in *changes* that the answer to *write*, which was to store them on top of *record*, was lost."""
    for change in changes:
        for save in change.saves():
            if save.tries is not None and write is not None:
                save.tries.append(Try(write, record.writes))


class RecordWriter:
    """Merges changes onto records by compare-and-set over a storage's five verbs."""

    def __init__(self, storage: Verbs) -> None:
        """Work on *storage*."""
        self.storage: Verbs = storage

    def merged(self, record: Record, changes: Iterable[Changes], now: int, write: str | None = None) -> Record:
        """Return *record* with *changes*, as written at *now* by the write of that random id.

        Changes of which *record* says that they are stored already are left out.

        Raises:
            LostTrackError: Nobody can know whether they are.
            SessionConflictError: A number cannot be added to what *record* holds.
        """
        timeouts = self.storage.timeouts
        saves = list(changes)
        for change in saves:
            if change.tries or change.earlier:
                saves = [save for each in saves for save in each.saves() if not self._is_stored(save, record)]
                break
        merged = merge(record, saves, now, timeouts.idle_of(record.head), write=write)
        if merged.head is not record.head:  # it was shortened
            return merged._replace(idle_timeout=timeouts.idle_of(merged.head))
        return merged

    def entered(self, record: Record, now: int) -> Record:
        """Return *record* as it is written at *now* if it is entered into the index of its owner anew."""
        if record.head is None:
            return record
        until = self.storage.timeouts.until(now, record.created_at, record.head)
        return record._replace(head=replace(record.head, until=until))

    def _is_stored(self, save: Changes, record: Record) -> bool:
        stored = is_stored(save, record)
        if stored is None:
            raise LostTrackError(
                "whether an earlier save of this request was stored is not known: its answer was lost, and too many"
                " others have been stored since. It is not tried again",
                maybe_stored=True,
            )
        return stored

    def encoded(self, record: Record, key: str, before: Place | None = None, changes: Sequence[Changes] = ()) -> bytes:
        """Return the stored form of *record*.

        Args:
            record: What is to be stored.
            key: Where it is to be stored.
            before: What it is made from, if not new.  A session that is too large already may shrink, but not grow.
            changes: How it differs from that.  If it does not, it may take any number of bytes, as an extension may.
                Notes do not count either: a login that is nearly full must not lose what a module on top notes.

        Raises:
            SessionTooLargeError: It is larger than the storage allows.
        """
        data = self.storage.records.encode(record, key)
        limit = self.storage.max_session_size
        if len(data) > limit and (
            before is None or (_beside_notes(changes) and len(data) > self._size_of(before, key))
        ):
            largest = ", ".join(f"{key!r} ({size} bytes)" for key, size in largest_keys(record.data))
            raise SessionTooLargeError(
                f"the session would take {len(data)} bytes, and max_session_size is {limit}. Largest keys: {largest}."
                " Keep large values elsewhere, and their names in the session",
                size=len(data),
                limit=limit,
            )
        return data

    def _size_of(self, place: Place, key: str) -> int:
        """Return how many bytes a record takes, as it is stored or as it would be stored now if nothing changed.

        Encryption or another codec may have been added since it was stored.
        """
        return max(len(place.stored.data), len(self.storage.records.encode(place.record, key)))

    async def write(
        self,
        place: Place,
        changes: Sequence[Changes],
        lease: Lease | None = None,
        *,
        head: Head | None = None,
    ) -> Place | None:
        """Merge *changes* onto the record that stood at *place*.

        If the session's id was renewed, the changes follow to the record where the session stands now.

        Args:
            place: Where the record stood when it was last seen.
            changes: Those of one or more requests, in order.
            lease: That of an exclusive lock, called before each compare-and-set.  Under a lock nothing is followed: if
                the record is retired or gone, the lock is no longer that of the session.
            head: The owner to give to the session if it has none, and was not changed since it stood at *place*: what
                the owner was read from may be gone, as after a logout.

        Returns:
            Where the session stands now, or None: it has ended.

        Raises:
            SessionLockError: The lock was lost, or the session has ended or got another id.  Nothing was stored.
            SessionTooLargeError: The session would be too large.  Nothing was stored.
            SessionConflictError: A number cannot be added to what another request stored.  Nothing was stored.
            StorageError: The storage failed.
        """
        key, attempts, passed = place.key, Attempts(place.key), {place.key}
        found: Place | Retired | Unreadable | None = place
        now, met = self.storage.now(), False
        looked = now >= place.ends  # by what this request knows; another one may have extended it since
        if looked:
            found, now = await self.look(key), self.storage.now()
        while True:
            if isinstance(found, Place):
                if now >= found.ends:
                    if any(change.by_handler for change in changes):
                        _logger.warning("session %s has ended: the changes of a slow request are dropped", key)
                    found = None
                else:
                    if lease is not None:
                        await lease()
                    try:
                        written = await self._replace(found, changes, now, head if found is place else None)
                    except FAIL_ALONE:
                        if looked:  # a parallel request may have made room since
                            raise
                    else:
                        if written is not None:
                            if met and any(changes):
                                tell_merged(self.storage.observing, written)
                            return written
                        met = True
                        await attempts.conflict()
            elif isinstance(found, Retired) and lease is None and found.passes_on and found.successor not in passed:
                key = str(found.successor)
                passed.add(key)  # records that lead in a circle are damage
            else:
                found = None
            if found is None:
                if lease is not None:
                    raise SessionLockError(
                        f"session {key} ended or got another id while it was held exclusively: nothing was stored"
                    )
                return None
            found, looked, now = await self.look(key), True, self.storage.now()

    async def look(self, key: str) -> Place | Retired | Unreadable | None:
        """Return what stands at *key* now, and if it is a live record, when the session ends."""
        stored = await self.storage.fetch(key)
        if stored is None:
            return None
        record = decode(self.storage, key, stored)
        if record is None:
            return Unreadable(key)
        return self.place(key, stored, record) if isinstance(record, Record) else record

    def place(self, key: str, stored: Stored, record: Record) -> Place:
        """Return the place of a live record that was fetched."""
        return Place(key, stored, record, *self.storage.timeouts.limits(record, stored.expires_at))

    def written(self, key: str, stored: Stored, record: Record) -> Place:
        """Return the place of a record that was written just now, under the current limits."""
        renew_at = self.storage.timeouts.renew_at(record.written_at, record.idle_timeout, record.head)
        return Place(key, stored, record, stored.expires_at, renew_at)

    def use_is_due(self, place: Place) -> bool:
        """Return whether a use of the session now makes it end later, by enough to be worth a call to the storage."""
        now, timeouts, record = self.storage.now(), self.storage.timeouts, place.record
        if now < place.renew_at:
            return False
        if timeouts.outdated(record) or timeouts.until_due(record, now):
            return True
        if self.storage.records.outdated(place.stored.data):
            return True
        return timeouts.expiry(now, record.created_at, record.head) > place.stored.expires_at

    async def _replace(
        self, place: Place, changes: Sequence[Changes], now: int, head: Head | None = None
    ) -> Place | None:
        """Write what stands at *place* with *changes*, as at *now*; None: it changed since.

        If nothing would change and the session need not be extended, nothing is written.
        """
        key, stored, record = place.key, place.stored, place.record
        storage = self.storage
        if record.head is None and head is not None:
            record = record._replace(head=head)
            await link(storage, head, key)
        write = new_write(changes)
        merged = self.merged(record, changes, now, write)
        if merged.head is not None and storage.timeouts.until_due(merged, now):
            merged = self.entered(merged, now)
            await link(storage, merged.head, key)
        data = self.encoded(merged, key, place, changes)
        expires_at = storage.timeouts.expiry(now, merged.created_at, merged.head)
        if storage.records.same(data, merged, stored.data, place.record) and not self.use_is_due(place):
            # The result is what this request knows; whether it is also what the storage holds, only the storage knows.
            return place if await storage.touch(key, stored.expires_at, stored.version) else None
        try:
            version = await storage.replace(key, data, expires_at, stored.version)
        except StorageError as error:
            if error.maybe_stored:
                note_lost(changes, write, record)
            raise
        if version is None:
            return None
        storage.records.replace(stored.data, data, key, merged)
        return self.written(key, Stored(data, version, expires_at), merged)


async def link(storage: Verbs, head: Head | None, key: str) -> None:
    """Enter a session into the index of its owner, if it has one, before its record is written.

    Raises:
        StorageError: The storage failed.
    """
    if head is not None and storage.has_index:
        await storage.link(owner_key(head.owner), key, head.until)


async def unlink(storage: Verbs, head: Head | None, key: str) -> None:
    """Take a session out of the index of its owner.  Only if no live record can ever stand at *key* again.

    Raises:
        StorageError: The storage failed.
    """
    if head is not None and storage.has_index:
        await storage.unlink(owner_key(head.owner), key)


def decode(storage: Verbs, key: str, stored: Stored) -> Record | Retired | None:
    """Return what *stored* holds, or None, with a warning, if it became unreadable since the session was loaded."""
    try:
        return storage.records.decode(stored.data, key)
    except ValueError as error:
        _logger.warning("session %s became unreadable while a request was using it: %s", key, error)
        return None


def _beside_notes(changes: Sequence[Changes]) -> bool:
    """Return whether anything but notes changes."""
    return any(one._replace(notes={}) for one in changes)
