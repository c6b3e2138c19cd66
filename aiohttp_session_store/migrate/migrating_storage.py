"""Moves sessions from one storage to another while visitors use them.

A key may have a record in both storages, and still every change is one compare-and-set in one of them.  In *old* there
is a session, or a mark that says "moved, as it was at version v", or nothing.  In *new* there is a session, or a copy
of what *old* held at v, or nothing.  The first of these that exists is the one that counts: the session in *new*, the
session in *old*, and the copy of v in *new* if the mark in *old* says v.  A move has four steps:

1. Put the copy of v into *new*.  It does not count yet, because *old* still holds the session.
2. Replace the session in *old*, at v, by the mark of v.  The same data counts, but now from *new*.
3. Replace the copy in *new* by what is to be written.  This ends the move.
4. Remove the mark, which is not needed any more.

**Nothing is lost.**  A crash after step 1 leaves the session in *old*, after step 2 its copy, and after step 3 what was
written.  The mark and the copy live as long as the session that they replace, or as long as what is to be written, if
that is longer.  The longer time matters if a touch comes between the steps: it extends the session and keeps its
version.  All copies of v are equal, so it does not matter which of several movers does a step.  A mover overwrites a
copy of another version u only if it first read that copy and then found *old* at v.  At that time, no mark of u can be
made any more: u was in *old* before its copy was made, and versions never return.  All writers that read the session at
v, wherever they found it, end in step 3 at one version of the copy, and one of them succeeds.

**Nothing comes back.**  ``delete`` first removes what is in *old*, then what is in *new*.  After that, a slow mover of
v can still put its copy into *new* (step 1).  It cannot replace the session in *old* (step 2), because it is not there.
So the copy never counts, and it expires.  A mover that was at step 3 finds no copy and creates none.

**Reads are exact.**  A reader looks into *new*, then into *old*, and then, unless the session is in *old*, into *new*
again.  If *new* has changed, the reader starts again.
"""

import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from typing import NamedTuple

from ..engine.record_cache import RecordCache
from ..engine.verbs import Announcement, Lease
from ..errors import ConfigurationError, StorageError
from ..record.format import TOMBSTONE, Record, Retired, Stored, encode_retired
from ..record.head import owner_key
from ..record.settings import check_flag
from ..storages.base import KeyedStorage
from .merged_announcements import merged

__all__ = ["MigratingStorage"]

# Both are retired records that lead nowhere, followed by bytes that no session ever writes. A process that knows only
# one of the storages reads them as "no session".
_COPY = encode_retired(TOMBSTONE) + b"\ncopy "
_MARK = encode_retired(TOMBSTONE) + b"\nmoved "
_IS_COPY = re.compile(re.escape(_COPY) + rb"((?:[0-9a-f]{2})*)\n(.*)", re.DOTALL)
_IS_MARK = re.compile(re.escape(_MARK) + rb"((?:[0-9a-f]{2})*)")
_OLD, _NEW = b"o", b"n"

_Replace = Callable[[str, bytes, int, bytes], Awaitable[bytes | None]]


class _Copy(NamedTuple):
    """What *old* held at a version, as it is kept in *new*."""

    version: bytes
    data: bytes

    def encode(self) -> bytes:
        return _COPY + self.version.hex().encode() + b"\n" + self.data


class _Claim(NamedTuple):
    """A copy that counts: its version in *new*, the copy itself, and its expiry."""

    at: bytes
    copy: _Copy
    expires_at: int


class MigratingStorage(KeyedStorage):
    """Moves each session from *old* to *new* when it is first written or extended.  All promises hold meanwhile.

    All processes take the same four steps.  At any time, two processes may be at most one step apart.  See
    ``docs/migrating.md``.

    1. ``old`` alone.
    2. ``MigratingStorage(new, old, moving=False)``, which follows sessions to *new* but leaves them in *old*.
    3. ``MigratingStorage(new, old)``.
    4. ``new`` alone, when the longest idle timeout has passed since then, so that nothing lives in *old*.

    ``exclusive_session`` takes the locks of both storages, the lock of *old* first.  With ``moving=False`` it takes the
    lock of *old* alone.  So it also excludes processes that are one step ahead or behind.  The timeouts and the clock
    are those of *new*.
    """

    def __init__(self, new: KeyedStorage, old: KeyedStorage, *, moving: bool = True) -> None:
        """Move sessions from *old* to *new*.  Both storages are started, swept and closed together with this one.

        Args:
            new: The storage that the sessions move to.
            old: The storage that they are in now.  It must never use a version twice, as is true of all storages of
                this package.
            moving: Whether sessions are moved to *new* and created there.  Use False in the step before, while there
                are still processes that know only *old*.

        Raises:
            ConfigurationError: They are not two different storages that keep records on the server, *moving* is no
                bool, or *new* has a limit of sessions for each owner and *old* has no index to count them by.
        """
        if new is old or not (isinstance(new, KeyedStorage) and isinstance(old, KeyedStorage)):
            raise ConfigurationError("MigratingStorage moves sessions between two different storages on the server")
        check_flag("moving", moving)
        if new.max_sessions_per_owner is not None and not old.has_index:
            raise ConfigurationError(
                f"{type(old).__name__} has no index of owners, so nobody can count their sessions while they move. Set"
                " max_sessions_per_owner of the new storage when it is used alone"
            )
        super().__init__(
            idle_timeout=new.timeouts.idle,
            lifetime=new.timeouts.lifetime,
            rotation_grace=new.rotation_grace,
            max_session_size=new.max_session_size,
            max_sessions_per_owner=new.max_sessions_per_owner,
            anonymous_idle_timeout=new.timeouts.anonymous,
            sweep_interval=None,  # each has its own
            clock=new.clock,
        )
        first, second = (new, old) if moving else (old, new)
        self.records: RecordCache = first.records.joined(second.records)
        self._records_of_new: RecordCache = self.records if moving else new.records.joined(old.records)
        self.new: KeyedStorage = new
        self.old: KeyedStorage = old
        self._moving = moving
        self.has_index: bool = new.has_index and old.has_index
        self.announces: bool = new.announces or old.announces
        self.has_announcements: bool = new.has_announcements or old.has_announcements
        self.deletes_at_version: bool = new.deletes_at_version and old.deletes_at_version

    def default_secrets(self) -> Sequence[str] | None:
        """Return the secrets of both storages, so that existing cookies stay valid, or None if neither has any.

        If sessions are moving, the secret of *new* signs.  Before that, the secret of *old* signs, because processes
        that know only *old* must be able to verify the cookies.
        """
        storages = (self.new, self.old) if self._moving else (self.old, self.new)
        found = [secret for storage in storages for secret in storage.default_secrets() or ()]
        return list(dict.fromkeys(found)) or None

    # --- the verbs

    async def fetch(self, key: str) -> Stored | None:
        """See :meth:`KeyedStorage.fetch`.  Moves nothing."""
        found, _ = await self._look(key)
        return found

    async def insert(self, key: str, data: bytes, expires_at: int) -> bytes | None:
        """See :meth:`KeyedStorage.insert`.

        If two processes create a key at once, and only one of them moves sessions, each creates it in another storage.
        So each looks into the other storage afterwards, and takes back what it has created if it is not alone: a login
        and the tombstone of somebody who lists the sessions of its owner cannot both succeed.
        """
        while True:
            found, left = await self._look(key)
            if found is not None:
                return None
            if not self._moving:
                version = await self.old.insert(key, data, expires_at)
            elif left is None:
                version = await self.new.insert(key, data, expires_at)
            else:  # a copy that never counted
                version = await self.new.replace(key, data, expires_at, left)
            if version is None:
                if self._moving:
                    continue
                return None
            own = self.new if self._moving else self.old
            try:
                if await self._is_alone(key):
                    return (_NEW if self._moving else _OLD) + version
            except StorageError as error:
                try:
                    await own.delete(key)
                except StorageError:
                    error.maybe_stored = True
                raise
            await own.delete(key)
            return None

    async def _is_alone(self, key: str) -> bool:
        """Return whether nothing that counts stands at *key* in the storage that this process does not insert into."""
        if self._moving:
            old = await self.old.fetch(key)
            return old is None or _mark_in(old.data) is not None
        new = await self.new.fetch(key)
        return new is None or _copy_in(new.data) is not None

    async def replace(self, key: str, data: bytes, expires_at: int, version: bytes) -> bytes | None:
        """See :meth:`KeyedStorage.replace`.  Moves the session if it has to move."""
        return await self._replace(key, data, expires_at, version, self.old.replace, self.new.replace)

    async def retire(self, key: str, data: bytes, expires_at: int, version: bytes) -> bytes | None:
        """See :meth:`KeyedStorage.retire`."""
        return await self._replace(key, data, expires_at, version, self.old.retire, self.new.retire)

    async def settle(self, key: str) -> None:
        """See :meth:`Verbs.settle`."""
        await self.old.settle(key)
        await self.new.settle(key)

    async def _replace(
        self, key: str, data: bytes, expires_at: int, version: bytes, in_old: _Replace, in_new: _Replace
    ) -> bytes | None:
        place, version = version[:1], version[1:]
        if place == _OLD and not self._moving:
            newer = await in_old(key, data, expires_at, version)
            if newer is not None:
                return _OLD + newer
        if not self._moving:  # it was encoded for old
            data = self._as_new(key, data)
        if place == _NEW:
            return _at(_NEW, await in_new(key, data, expires_at, version))
        return await self._finish_move(key, version, data, expires_at, in_new)

    async def touch(self, key: str, expires_at: int, version: bytes) -> bool:
        """See :meth:`KeyedStorage.touch`.  A session that has to move does so, and gets a new version.

        A request that knows the earlier version merges once more, as after any other write.
        """
        place, version = version[:1], version[1:]
        if place == _NEW:
            return await self.new.touch(key, expires_at, version)
        if not self._moving and await self.old.touch(key, expires_at, version):
            return True
        return await self._finish_move(key, version, None, expires_at, self.new.replace) is not None

    async def delete(self, key: str, version: bytes | None = None) -> bool:
        """See :meth:`KeyedStorage.delete`."""
        if version is not None and not await self._delete_at(key, version):
            return False
        await self.old.delete(key)
        await self.new.delete(key)
        return True

    async def _delete_at(self, key: str, version: bytes) -> bool:
        """Remove the record that counts if it stands at *version*; return False if it stands at another version."""
        found, _ = await self._look(key)
        if found is None:
            return True
        if found.version != version:
            return False
        if version[:1] == _NEW:
            return await self.new.delete(key, version[1:])
        old = await self.old.fetch(key)  # the session, or the mark by which its copy counts
        if old is not None and version[1:] not in (old.version, _mark_in(old.data)):
            return False
        if old is not None and not await self.old.delete(key, old.version):
            return False
        new = await self.new.fetch(key)
        return new is None or (_copy_in(new.data) is not None and await self.new.delete(key, new.version))

    # --- where a session is

    async def _look(self, key: str) -> tuple[Stored | None, bytes | None]:
        """Return the record of *key*, and the version of what *new* holds.

        The version of the returned record says in which storage the record was.  A tombstone beside a session in the
        other storage is about to be taken back, see :meth:`insert`.
        """
        while True:
            new = await self.new.fetch(key)
            copy = None if new is None else _copy_in(new.data)
            stands = new is not None and copy is None
            if new is not None and stands and not self._is_tombstone(key, new.data):
                return Stored(new.data, _NEW + new.version, new.expires_at), new.version
            old = await self.old.fetch(key)
            moved_at = None if old is None else _mark_in(old.data)
            if (
                new is not None
                and stands
                and (old is None or moved_at is not None or self._is_tombstone(key, old.data))
            ):
                return Stored(new.data, _NEW + new.version, new.expires_at), new.version
            if old is not None and moved_at is None:
                if self._is_tombstone(key, old.data):
                    again = await self.new.fetch(key)
                    if (again and again.version) != (new and new.version):
                        continue
                return Stored(old.data, _OLD + old.version, old.expires_at), new and new.version
            again = await self.new.fetch(key)
            if (again and again.version) != (new and new.version):
                continue
            if again is None or copy is None or moved_at != copy.version:
                return None, again and again.version
            return Stored(copy.data, _OLD + copy.version, again.expires_at), again.version

    def _is_tombstone(self, key: str, data: bytes) -> bool:
        with suppress(ValueError):  # another version may read it
            record = self.records.decode(data, key)
            return isinstance(record, Retired) and record.successor is None
        return False

    async def _finish_move(
        self, key: str, version: bytes, data: bytes | None, expires_at: int, in_new: _Replace
    ) -> bytes | None:
        """Write *data* over what *old* held at *version*, and return its new version.

        If *data* is None, the same data is written again, and it expires no earlier than before.
        """
        claim = await self._claim(key, version, expires_at)
        if claim is None:
            return None
        at, copy, until = claim
        await self._move_entry(key, copy)
        if data is None:
            data, expires_at = copy.data, max(expires_at, until)
        if data == copy.data:
            data = self._as_new(key, data)
        newer = await in_new(key, data, expires_at, at)
        if newer is None:
            return None
        try:
            await self.old.delete(key)
        except StorageError as error:  # the data is written, and the mark will expire
            left = "session %s has moved, but a mark of it stays in the old storage"
            self.outages.note(logging.WARNING, error, left, key)
        return _NEW + newer

    async def _claim(self, key: str, version: bytes, expires_at: int) -> _Claim | None:
        """Make the copy in *new* of what *old* held at *version* count; return None if that was changed or is gone.

        If this process then dies, the copy lasts until *expires_at*, or as long as the session in *old* if that is
        longer.
        """
        while True:
            new = await self.new.fetch(key)  # before old: the module's docstring says why (copies of other versions)
            old = await self.old.fetch(key)
            if old is None:
                return None
            copy = None if new is None else _copy_in(new.data)
            moved_at = _mark_in(old.data)
            if moved_at is not None:
                if new is None or copy is None or not moved_at == copy.version == version:
                    return None  # or the copy was made after the first look, by a mover that is writing, too
                return _Claim(new.version, copy, new.expires_at)
            if old.version != version or (new is not None and copy is None):
                return None
            made, until = _Copy(version, old.data), max(old.expires_at, expires_at)
            at: bytes | None
            if new is None:
                at = await self.new.insert(key, made.encode(), until)
            elif copy == made and new.expires_at >= until:
                at = new.version
            else:
                at = await self.new.replace(key, made.encode(), until, new.version)
            if at is not None and await self.old.replace(key, _mark(version), until, version):
                return _Claim(at, made, until)

    def _as_new(self, key: str, data: bytes) -> bytes:
        """Return a record that *old* held or that was encoded for *old*, in the form that *new* can read alone."""
        with suppress(ValueError):  # another version may read it
            record = self.records.decode(data, key)
            if isinstance(record, Record):
                return self._records_of_new.encode(record, key)
        return data

    # --- the index of owners

    async def _move_entry(self, key: str, copy: _Copy) -> None:
        """Enter a session that moves into the index of *new*, which shows it when *new* is used alone."""
        if not self.has_index:
            return
        with suppress(ValueError):  # another version may read it
            record = self.records.decode(copy.data, key)
            if isinstance(record, Record) and record.head is not None:
                await self.new.link(owner_key(record.head.owner), key, record.head.until)

    async def link(self, owner_key: str, key: str, until: int) -> None:
        """See :meth:`Verbs.link`.  Enters the key into both storages, for processes that are a step behind or ahead."""
        await self.old.link(owner_key, key, until)
        await self.new.link(owner_key, key, until)

    async def unlink(self, owner_key: str, key: str) -> None:
        """See :meth:`Verbs.unlink`."""
        await self.old.unlink(owner_key, key)
        await self.new.unlink(owner_key, key)

    async def linked(self, owner_key: str) -> Sequence[str]:
        """See :meth:`Verbs.linked`."""
        found = [*await self.old.linked(owner_key), *await self.new.linked(owner_key)]
        return list(dict.fromkeys(found))

    # --- for watched sessions

    async def announce(self, key: str, reason: str) -> None:
        """See :meth:`Verbs.announce`.  Tells both, for processes that are a step behind or ahead."""
        for storage in (self.old, self.new):
            if storage.announces:
                await storage.announce(key, reason)

    def announcements(self) -> AsyncGenerator[Announcement, None]:
        """See :meth:`Verbs.announcements`."""
        both = (self.old, self.new)
        return merged([storage.announcements() for storage in both if storage.has_announcements])

    # --- both storages

    async def sweep(self) -> int:
        """See :meth:`KeyedStorage.sweep`.  Counts marks and copies, too."""
        return await self.old.sweep() + await self.new.sweep()

    def lock(self, key: str) -> AbstractAsyncContextManager[Lease | None]:
        """See :meth:`KeyedStorage.lock`."""
        locks = [self.old.lock(key)]
        if self._moving:
            locks.append(self.new.lock(key))
        return _all_of(locks)

    async def start(self) -> None:
        """Extends :meth:`KeyedStorage.start`."""
        await super().start()
        await self.old.start()
        await self.new.start()

    async def aclose(self) -> None:
        """Extends :meth:`KeyedStorage.aclose`."""
        async with AsyncExitStack() as closing:  # closes the second one even if the first one fails
            closing.push_async_callback(self.new.aclose)
            closing.push_async_callback(self.old.aclose)
            await super().aclose()


@asynccontextmanager
async def _all_of(locks: Sequence[AbstractAsyncContextManager[Lease | None]]) -> AsyncIterator[Lease | None]:
    """Hold *locks*, taken in their order.  The lease is good if all of their leases are."""
    async with AsyncExitStack() as held:
        leases = [lease for lock in locks if (lease := await held.enter_async_context(lock)) is not None]

        async def check() -> None:
            for lease in leases:
                await lease()

        yield check if leases else None


def _at(place: bytes, version: bytes | None) -> bytes | None:
    return None if version is None else place + version


def _copy_in(data: bytes) -> _Copy | None:
    found = _IS_COPY.fullmatch(data)
    return None if found is None else _Copy(bytes.fromhex(found[1].decode("ascii")), found[2])


def _mark(version: bytes) -> bytes:
    """Return the mark in *old* which says that the session moved as it was at *version*."""
    return _MARK + version.hex().encode()


def _mark_in(data: bytes) -> bytes | None:
    """Return the version at which a session moved, or None if *data* is no mark."""
    found = _IS_MARK.fullmatch(data)
    return None if found is None else bytes.fromhex(found[1].decode("ascii"))
