"""Moving a session to another id, and what the old id may still read.

The new record is written first.  Then the old record is replaced, at the version that was read, by a retired record
that says why and points to the new one.  That one compare-and-set decides every race: with a logout (the logout wins),
with a write (it is merged into the new record), and with another rotation.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from ..errors import SessionLockError, StorageError
from ..record.changes import Changes
from ..record.format import LOGIN, RENEWED, REPLACED, Record, Retired, Stored, encode_retired
from ..record.head import Head
from ..record.session_id import snapshot_key
from ..session.state import Place
from .ending import announce, bury, fence
from .retry import Attempts
from .telling import owner_of, tell_merged, tell_rotated, why_rotated
from .verbs import Lease, Verbs
from .writing import FAIL_ALONE, RecordWriter, Unreadable, link, new_write, note_lost, unlink

# An id can be taken by a tombstone, of somebody who lists the sessions of an owner just before the record is inserted.
_ID_COLLISIONS = 20


@dataclass(frozen=True, slots=True)
class Rotating:
    """A change of id that is to be carried out.

    Attributes:
        place: Where the session stood when it was last seen.
        readable: The record that the old id may read.
        led_on: Whether the session stands under another id already: the old one was renewed by another request.
        new_key: Returns the key of the new id, and of another one each time that it is called again.
        changes: Those of this request.
        delete_old: Whether the old id is worthless at once, as after a login.
        renew_lifetime: Whether the lifetime starts again.
        lease: That of an exclusive lock, or None.
        login: The head that a login gives to the session, or None.
        confirmed_at: When the owner confirmed the login, in whole Unix seconds, or None.  Only a record that is made
            under the new id says so: whoever renewed the id before may not be who confirmed.
    """

    place: Place
    readable: Record
    led_on: bool
    new_key: Callable[[], str]
    changes: Sequence[Changes]
    delete_old: bool
    renew_lifetime: bool
    lease: Lease | None
    login: Head | None = None
    confirmed_at: int | None = None


async def rotate(writer: RecordWriter, work: Rotating) -> Place | None:
    """Move a session to the key of another id.

    If a parallel request renewed the id first, a plain rotation is a plain save: the changes go to the record that the
    session has now.  With ``delete_old`` the session is made anew, from what the old id may read and this request's
    changes.  The record that the session has now is then retired: whoever renewed the id may be the one who planted it.
    If a parallel request made the old id worthless first, this request's changes are dropped.

    Returns:
        Where the session stands: under the new key, or if a parallel request moved it, where that one moved it.  None:
        it has ended.

    Raises:
        SessionLockError: The exclusive lock was lost, or the session got another id meanwhile.  Nothing was stored.
        SessionTooLargeError: The session would be too large.  Nothing was stored.
        SessionConflictError: A number cannot be added to what another request stored.  Nothing was stored.
        StorageError: The session still stands under the old id, unless ``maybe_stored`` says that nobody can know.
    """
    rotation = _Rotation(writer, work)
    try:
        moved = await rotation.run()
    except FAIL_ALONE:
        await rotation.take_back_quietly()
        raise
    except StorageError as error:
        moved = await rotation.undo(error)
        if moved is None:
            raise
    rotation.tell(moved)
    return moved


class _Rotation:
    """The steps of one rotation, and how they are undone."""

    def __init__(self, writer: RecordWriter, work: Rotating) -> None:
        self._writer, self._storage, self._work = writer, writer.storage, work
        self._key: str = work.place.key  # of the record that is to be retired
        self._new_key: str = work.new_key()
        self._inserted: Stored | None = None  # what stands under the new key
        self._snapshot: Stored | None = None
        self._saves = False  # whether this became a plain save
        self._linked: Head | None = None  # in whose index the new key is
        self._write: str | None = new_write(work.changes)
        self._source: Record = work.readable  # what the new record was last made from
        self._moved: Place | None = None  # where the session stands once the old record is retired
        self._met = False  # whether it met a change of another request
        self._retiring: Place = work.place  # the old record, as it was when it was last to be retired

    async def run(self) -> Place | None:
        work, attempts, passed = self._work, Attempts(self._key), {self._key}
        if work.led_on and not work.delete_old:
            return await self._save()
        source = work.readable if work.led_on else None
        found: Place | Retired | Unreadable | None = work.place
        looked = self._storage.now() >= work.place.ends  # another request may have extended it since
        if looked:
            found = await self._writer.look(self._key)
        while isinstance(found, Place | Retired):
            if isinstance(found, Place):
                if self._storage.now() >= found.ends:
                    break
                if work.lease is not None:
                    await work.lease()
                try:
                    moved = await self._step(found, source or found.record)
                except FAIL_ALONE:
                    if looked:  # a parallel request may have made room since
                        raise
                    found, looked = await self._writer.look(self._key), True
                    continue
                if moved:
                    with suppress(StorageError):  # or whoever lists the sessions finds that the old record is retired
                        await unlink(self._storage, found.record.head, self._key)
                    return self._moved
                self._met = True
                await attempts.conflict()
            else:
                if found.successor == self._new_key and self._moved is not None:
                    await announce(self._storage, self._key, found.why)
                    return self._moved  # a driver that lost the answer asked again
                if work.lease is not None or not found.passes_on or found.successor in passed:
                    break
                if not work.delete_old:
                    await self._take_back()
                    return await self._save()
                source = source or await self._snapshot_of(found) or work.readable
                self._key = str(found.successor)
                passed.add(self._key)
            found, looked = await self._writer.look(self._key), True
        await self._take_back()
        if work.lease is not None:
            raise SessionLockError(
                f"session {self._key} ended or got another id while it was held exclusively: nothing was stored"
            )
        return None

    def tell(self, moved: Place | None) -> None:
        """Tell observers, unless this became a plain save or nothing."""
        if moved is not None and moved is self._moved:
            work, before = self._work, self._retiring
            login, confirmed = work.login is not None, work.confirmed_at is not None
            why = why_rotated(login=login, delete_old=work.delete_old, confirmed=confirmed)
            told, pair = self._storage.observing, ((before.key, before.record.head), (moved.key, moved.record.head))
            if self._met and owner_of(before.record) in (None, owner_of(moved.record)):
                tell_merged(told, moved)
            tell_rotated(told, *pair, why)

    async def _save(self) -> Place | None:
        """Save plainly: nothing has to be undone then, and an error says by itself what is known."""
        self._saves = True
        return await self._writer.write(self._work.place, self._work.changes, self._work.lease)

    async def _step(self, place: Place, source: Record) -> bool:
        """Write the new record, then retire the old one; False if that one was changed meanwhile."""
        storage, work, stored = self._storage, self._work, place.stored
        self._retiring, now = place, storage.now()
        pointer_ends = storage.timeouts.expiry(now, place.record.created_at, place.record.head)
        if work.renew_lifetime:
            head = None if source.head is None else source.head.renewed(now - source.created_at)
            source = source._replace(created_at=now, head=head)
        head, newest = source.head, place.record.head
        if head is not None and newest is not None and head.line == newest.line and head.notes != newest.notes:
            source = source._replace(head=replace(head, notes=newest.notes))  # they are about the login, not the id
        if work.login is not None:
            if source.head is not None and source.head.owner != work.login.owner:
                source = source._replace(data={}, flashes=())  # somebody else's
            source = source._replace(head=work.login)
        elif work.confirmed_at is not None and source.head is not None:
            source = source._replace(head=replace(source.head, confirmed_at=work.confirmed_at))
        self._source = source
        merged = self._writer.entered(self._writer.merged(source, work.changes, now, self._write), now)
        data = self._writer.encoded(merged, self._new_key, place, work.changes)
        expires_at = storage.timeouts.expiry(now, merged.created_at, merged.head)
        await self._put_new(merged, Stored(data, b"", expires_at))
        if work.delete_old:
            why = REPLACED if work.login is None else LOGIN
            return await self._retire(Retired(self._new_key, 0, why=why), pointer_ends, stored.version)
        grace_ends = min(now + storage.rotation_grace, pointer_ends)
        key = snapshot_key(self._key, self._new_key)
        snapshot = Stored(storage.records.at(key, stored.data, place.record), b"", grace_ends)
        self._snapshot = await _put(storage, key, snapshot, self._snapshot)
        return await self._retire(Retired(self._new_key, grace_ends, why=RENEWED), pointer_ends, stored.version)

    async def _retire(self, retired: Retired, expires_at: int, version: bytes) -> bool:
        key = self._key
        if not await self._storage.retire(key, encode_retired(retired), expires_at, version):
            return False
        await announce(self._storage, key, retired.why)
        return True

    async def _put_new(self, record: Record, wanted: Stored) -> None:
        """Write the new record, under another id if a tombstone stands there; it is in its owner's index before."""
        if self._inserted is not None:
            if record.head != self._linked:  # the session got an owner, or the clock has moved
                self._linked = record.head
                await link(self._storage, record.head, self._new_key)
            self._inserted = await _put(self._storage, self._new_key, wanted, self._inserted)
        else:
            for _ in range(_ID_COLLISIONS):
                self._linked = record.head
                await link(self._storage, record.head, self._new_key)
                version = await self._storage.insert(self._new_key, wanted.data, wanted.expires_at)
                if version is not None:
                    self._inserted = wanted._replace(version=version)
                    break
                await unlink(self._storage, record.head, self._new_key)
                self._new_key = self._work.new_key()
                wanted = wanted._replace(data=self._storage.records.at(self._new_key, wanted.data, record))
            else:
                raise StorageError("the storage says that every new session id exists already: nothing was stored")
        self._moved = self._writer.written(self._new_key, self._inserted, record)

    async def _snapshot_of(self, retired: Retired) -> Record | None:
        try:
            return await read_snapshot(self._storage, self._key, retired)
        except ValueError:  # damaged, or of a newer version: what this request has loaded will do
            return None

    async def undo(self, error: StorageError) -> Place | None:
        """Take back what a failed rotation has written, or find that it was carried out after all.

        If the storage cannot say whether the last step was carried out, it may still be on its way.  So the old record
        is fenced before the new one is taken back, or the late step would retire the old record when the new one is
        gone already.

        Raises:
            StorageError: The fate of the last step is unknown.  Nothing is taken back then.
        """
        if self._saves:
            return None
        if not error.maybe_stored:
            await self.take_back_quietly()
            return None
        try:
            if self._moved is not None:
                found = await fence(self._storage, self._key)
                if isinstance(found, Retired) and found.successor == self._new_key:
                    await announce(self._storage, self._key, found.why)
                    return self._moved
            await bury(self._storage, self._new_key, REPLACED)
            await unlink(self._storage, self._linked, self._new_key)
        except StorageError as unknown:
            note_lost(self._work.changes, self._write, self._source)
            raise StorageError(
                f"whether session {self._key} got its new id is not known: {error.args[0]}", maybe_stored=True
            ) from unknown
        error.maybe_stored = False
        return None

    async def _take_back(self) -> None:
        if self._snapshot is not None:
            await self._storage.delete(snapshot_key(self._key, self._new_key))
        if self._inserted is not None:
            await self._storage.delete(self._new_key)
        await unlink(self._storage, self._linked, self._new_key)

    async def take_back_quietly(self) -> None:
        """End the new record, if there is one.  If that fails, it expires: nobody was sent its id."""
        with suppress(StorageError):
            await self._take_back()


async def _put(storage: Verbs, key: str, wanted: Stored, before: Stored | None) -> Stored:
    """Write a record that nobody else knows of: insert it, or replace what this rotation has inserted *before*."""
    if before is None:
        version = await storage.insert(key, wanted.data, wanted.expires_at)
    else:
        version = await storage.replace(key, wanted.data, wanted.expires_at, before.version)
    if version is None:
        raise StorageError("the storage lost the record of a new session id: nothing was stored")
    return wanted._replace(version=version)


async def read_snapshot(storage: Verbs, key: str, retired: Retired) -> Record | None:
    """Return what the old id of *key* may read: the record as it was when its id was renewed, during the grace.

    Raises:
        ValueError: The snapshot is damaged.
    """
    if not retired.passes_on or retired.successor is None or storage.now() >= retired.dies_at:
        return None
    if retired.original is not None:  # of a version before: it lies in the retired record itself
        data, ends = retired.original, retired.dies_at
    else:
        key = snapshot_key(key, retired.successor)
        stored = await storage.fetch(key)
        if stored is None:
            return None
        data, ends = stored.data, stored.expires_at
    original = storage.records.decode(data, key)
    if isinstance(original, Retired):
        raise ValueError("a retired record inside another")  # noqa: TRY004  damage, not a wrong argument
    return original if storage.now() < ends else None


async def follow(writer: RecordWriter, retired: Retired) -> Place | None:
    """Return where the session of a retired id stands now, or None: it has ended, or is not for the old id."""
    found: Place | Retired | Unreadable | None = retired
    passed: set[str | None] = set()
    while isinstance(found, Retired):
        if not found.passes_on or found.successor in passed:
            return None
        passed.add(found.successor)
        found = await writer.look(str(found.successor))
    return found if isinstance(found, Place) else None
