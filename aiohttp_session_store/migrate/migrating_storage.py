"""Moving from one storage to another with visitors on.

A key may stand in two places, and every change of it is still one compare-and-set in one of them.  In *old* there is a
session, or a mark that says "moved, as it was at version v", or nothing.  In *new* there is a session, or a copy of
what *old* held at v, or nothing.  What counts is, in this order: the session in *new*; the session in *old*; the copy
of v in *new* if the mark in *old* says v.  Moving is

1. put the copy of v into *new*: it does not count, for *old* still holds the session;
2. replace the session in *old*, at v, by the mark of v: the same data counts, now from *new*;
3. replace the copy in *new* by what is to be written, which ends the move;
4. remove the mark, which nothing needs any more.

**Nothing is lost.**  A crash after 1 leaves the session in *old*, after 2 its copy, after 3 what was written.  The mark
and the copy live as long as the session that they replace, or as what is to be written if that is longer: a touch that
comes between extends the session, and keeps its version.  All copies of v are equal, so it does not matter which of
several movers does a step.  A copy of another version u is only overwritten by who read the copy first and then found
*old* at v: u had stood in *old* before its copy was made, and versions never return, so no mark of u can be made any
more.  Writers that read the session at v, wherever they found it, end in step 3 at one version of the copy: one of them
succeeds.

**Nothing comes back.**  ``delete`` removes first what stands in *old*, then in *new*.  After that a slow mover of v can
put its copy into *new* (step 1), but not replace the session in *old* (step 2), which is not there: the copy never
counts, and expires.  One that was at step 3 finds no copy, and creates none.

**Reads are exact.**  A reader looks into *new*, *old*, and unless the session is in *old*, into *new* again; if that
changed, it starts anew.
"""

import logging
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import NamedTuple

from ..engine.record_cache import RecordCache
from ..engine.verbs import Lease
from ..errors import ConfigurationError, StorageError
from ..record.format import TOMBSTONE, Stored, encode_retired
from ..storages.base import KeyedStorage

__all__ = ["MigratingStorage"]

_logger = logging.getLogger("aiohttp_session_store")

# Both are retired records that lead nowhere, with something behind them, as no session leaves: to a process that knows
# one of the storages only they read as "no session".
_COPY = encode_retired(TOMBSTONE) + b"\ncopy "
_MARK = encode_retired(TOMBSTONE) + b"\nmoved "
_IS_COPY = re.compile(re.escape(_COPY) + rb"((?:[0-9a-f]{2})*)\n(.*)", re.DOTALL)
_IS_MARK = re.compile(re.escape(_MARK) + rb"((?:[0-9a-f]{2})*)")
_OLD, _NEW = b"o", b"n"


class _Copy(NamedTuple):
    """What *old* held at a version, kept in *new*."""

    version: bytes
    data: bytes

    def encode(self) -> bytes:
        return _COPY + self.version.hex().encode() + b"\n" + self.data


class _Claim(NamedTuple):
    """A copy that counts: at which version it stands in *new*, what it holds, and when it expires."""

    at: bytes
    copy: _Copy
    expires_at: int


class MigratingStorage(KeyedStorage):
    """Moves sessions from *old* to *new*, each when it is first written or extended; all promises hold meanwhile.

    All processes go through it together, in steps that may overlap by one: ``old`` alone; ``MigratingStorage(new, old,
    moving=False)``, which follows sessions to *new* but leaves them in *old*; ``MigratingStorage(new, old)``; and, when
    the idle timeout has passed since, so that nothing lives in *old*, ``new`` alone.  See ``docs/migrating.md``.

    ``exclusive_session`` takes the locks of both storages, *old*'s first, or with ``moving=False`` that one alone, so
    that it excludes who is one step ahead or behind, too.  Timeouts and clock are *new*'s.
    """

    def __init__(self, new: KeyedStorage, old: KeyedStorage, *, moving: bool = True) -> None:
        """Move from *old* to *new*; both are started, swept and closed with this.

        Args:
            new: Where sessions are to be.
            old: Where they are; it must give no version twice, as all storages of this package do.
            moving: Whether sessions are moved and created in *new*.  False for the step before, while there are still
                processes that know only *old*.

        Raises:
            ConfigurationError: They are not two storages that keep records on the server.
        """
        if new is old or not (isinstance(new, KeyedStorage) and isinstance(old, KeyedStorage)):
            raise ConfigurationError("MigratingStorage moves sessions between two different storages on the server")
        super().__init__(
            idle_timeout=new.timeouts.idle,
            lifetime=new.timeouts.lifetime,
            rotation_grace=new.rotation_grace,
            sweep_interval=None,  # each has its own
            clock=new.clock,
        )
        self.records: RecordCache = new.records
        self.new: KeyedStorage = new
        self.old: KeyedStorage = old
        self._moving = moving

    def default_secrets(self) -> Sequence[str] | None:
        """Return the secrets of both, so that cookies signed before go on working; None if neither has any.

        Where sessions move, *new*'s sign; before that *old*'s, which processes that know only *old* can verify.
        """
        storages = (self.new, self.old) if self._moving else (self.old, self.new)
        found = [secret for storage in storages for secret in storage.default_secrets() or ()]
        return list(dict.fromkeys(found)) or None

    # --- the verbs

    async def fetch(self, key: str) -> Stored | None:
        """See :meth:`KeyedStorage.fetch`; moves nothing."""
        found, _ = await self._look(key)
        return found

    async def insert(self, key: str, data: bytes, expires_at: int) -> bytes | None:
        """See :meth:`KeyedStorage.insert`.

        Of two who create a key at once both can succeed if one of them moves sessions and the other does not: for new
        ids, which nobody else has, that makes no difference.
        """
        while True:
            found, left = await self._look(key)
            if found is not None:
                return None
            if not self._moving:
                return _at(_OLD, await self.old.insert(key, data, expires_at))
            if left is None:
                version = await self.new.insert(key, data, expires_at)
            else:  # a copy that never counted
                version = await self.new.replace(key, data, expires_at, left)
            if version is not None:
                return _NEW + version

    async def replace(self, key: str, data: bytes, expires_at: int, version: bytes) -> bytes | None:
        """See :meth:`KeyedStorage.replace`; moves the session, if it is to be."""
        place, version = version[:1], version[1:]
        if place == _NEW:
            return _at(_NEW, await self.new.replace(key, data, expires_at, version))
        if not self._moving:
            newer = await self.old.replace(key, data, expires_at, version)
            if newer is not None:
                return _OLD + newer
        return await self._finish_move(key, version, data, expires_at)

    async def touch(self, key: str, expires_at: int, version: bytes) -> bool:
        """See :meth:`KeyedStorage.touch`; a session that is to move does so, and gets a new version by it.

        Who knows the one before merges once more, as after any other write.
        """
        place, version = version[:1], version[1:]
        if place == _NEW:
            return await self.new.touch(key, expires_at, version)
        if not self._moving and await self.old.touch(key, expires_at, version):
            return True
        return await self._finish_move(key, version, None, expires_at) is not None

    async def delete(self, key: str) -> None:
        """See :meth:`KeyedStorage.delete`."""
        await self.old.delete(key)
        await self.new.delete(key)

    # --- where a session is

    async def _look(self, key: str) -> tuple[Stored | None, bytes | None]:
        """Return the record of *key*, under a version that says where it was; and the version of what *new* holds."""
        while True:
            new = await self.new.fetch(key)
            copy = None if new is None else _copy_in(new.data)
            if new is not None and copy is None:
                return Stored(new.data, _NEW + new.version, new.expires_at), new.version
            old = await self.old.fetch(key)
            moved_at = None if old is None else _mark_in(old.data)
            if old is not None and moved_at is None:
                return Stored(old.data, _OLD + old.version, old.expires_at), new and new.version
            again = await self.new.fetch(key)
            if (again and again.version) != (new and new.version):
                continue
            if again is None or copy is None or moved_at != copy.version:
                return None, again and again.version
            return Stored(copy.data, _OLD + copy.version, again.expires_at), again.version

    async def _finish_move(self, key: str, version: bytes, data: bytes | None, expires_at: int) -> bytes | None:
        """Write *data*, or with None the same again to expire no earlier, over what *old* held at *version*."""
        claim = await self._claim(key, version, expires_at)
        if claim is None:
            return None
        at, copy, until = claim
        if data is None:
            data, expires_at = copy.data, max(expires_at, until)
        newer = await self.new.replace(key, data, expires_at, at)
        if newer is None:
            return None
        try:
            await self.old.delete(key)
        except StorageError:  # what was to be written is written, and the mark expires
            _logger.warning("session %s has moved, and a mark of it stays in the old storage", key, exc_info=True)
        return _NEW + newer

    async def _claim(self, key: str, version: bytes, expires_at: int) -> _Claim | None:
        """Have what *old* held at *version* count from *new*; None if it has been changed since, or is gone.

        Should this process die then, it lasts until *expires_at*, or as long as in *old*.
        """
        while True:
            new = await self.new.fetch(key)  # before old: see the module on copies of other versions
            old = await self.old.fetch(key)
            if old is None:
                return None
            copy = None if new is None else _copy_in(new.data)
            moved_at = _mark_in(old.data)
            if moved_at is not None:
                if new is None or copy is None or not moved_at == copy.version == version:
                    return None  # or a copy that was made after the first look: whoever made it is writing, too
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

    # --- both storages

    async def sweep(self) -> int:
        """See :meth:`KeyedStorage.sweep`; counts marks and copies, too."""
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
        async with AsyncExitStack() as closing:  # the second one also if the first one fails
            closing.push_async_callback(self.new.aclose)
            closing.push_async_callback(self.old.aclose)
            await super().aclose()


@asynccontextmanager
async def _all_of(locks: Sequence[AbstractAsyncContextManager[Lease | None]]) -> AsyncIterator[Lease | None]:
    """Hold *locks*, taken in their order; the lease is good if all of theirs are."""
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
    """Return what says in *old* that the session moved as it was at *version*."""
    return _MARK + version.hex().encode()


def _mark_in(data: bytes) -> bytes | None:
    """Return the version at which a session moved, or None if *data* is no mark."""
    found = _IS_MARK.fullmatch(data)
    return None if found is None else bytes.fromhex(found[1].decode("ascii"))
