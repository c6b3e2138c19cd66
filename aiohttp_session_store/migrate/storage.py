"""Moving sessions from one storage to another while both are in use.

Each record is moved by the first write to it.  With a *moved mark* in the old storage and *tombstones* in the new one:

- **Nothing is lost.** A write to a record in the old storage first turns it, by compare-and-set, into a mark that
  holds the new content; then inserts that into the new storage; then removes the mark.  Whoever finds a mark finishes
  the move.  At every moment one of the two has the newest content, and a reader asks the new one, the old one, and the
  new one again, so that a move between two questions hides nothing.
- **Nothing comes back.** Whoever finishes a move inserts, and never overwrites.  A logout puts a tombstone in the new
  storage, where it blocks every insert of a move that is under way, and then deletes in the old one.  The tombstone
  stays for a day, longer than any request, and for as long as the record that was found in the old storage would.
- **No write wins twice.** Versions say which storage they are from, so a write that was prepared before a move fails at
  its compare-and-set and is merged anew.
"""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from ..errors import ConfigurationError, SessionLockError, StorageError
from ..record import TOMBSTONE, encode_retired
from ..storages.base import DAY, KeyedStorage, Lease, Stored
from ..storages.record_cache import RecordCache

__all__ = ["MigratingStorage"]

_logger = logging.getLogger("aiohttp_session_store")

_NEW, _OLD = b"n", b"o"
# In a format that no version has: to a worker that knows the old storage alone it is a record to be left in place.
_MARK = b"9 M\n"
_TOMBSTONE = encode_retired(TOMBSTONE)


class MigratingStorage(KeyedStorage):
    """Reads from two storages and moves every session that is written from *old* to *new*.

    It keeps the three promises as far as both of them do.  See ``docs/migrating.md`` for how to roll it out.
    """

    def __init__(self, new: KeyedStorage, old: KeyedStorage, *, moving: bool = True) -> None:
        """Stand before two storages, which are started and closed with this one.

        Timeouts, clock and codec are those of *new*.

        Args:
            new: Where sessions go.
            old: Where they are.
            moving: False for the first step of a rollout, while other workers still know *old* alone: then new sessions
                go to *old*, and those in it stay there.

        Raises:
            ConfigurationError: They are one and the same, or not both storages on the server.
        """
        if new is old or not (isinstance(new, KeyedStorage) and isinstance(old, KeyedStorage)):
            raise ConfigurationError("MigratingStorage moves sessions between two different storages on the server")
        super().__init__(
            idle_timeout=new.timeouts.idle,
            lifetime=new.timeouts.lifetime,
            rotation_grace=new.rotation_grace,
            sweep_interval=None,
            clock=new.clock,
        )
        self.records: RecordCache = new.records
        self.new: KeyedStorage = new
        self.old: KeyedStorage = old
        self._moving = moving

    def default_secrets(self) -> Sequence[str] | None:
        """Return the secrets of both, the new storage's first, so that cookies from before go on working."""
        secrets = [*(self.new.default_secrets() or ()), *(self.old.default_secrets() or ())]
        return secrets or None

    # --- the verbs

    async def fetch(self, key: str) -> Stored | None:
        """See :meth:`KeyedStorage.fetch`; finishes a move that somebody has left."""
        found = await self.new.fetch(key)
        if found is not None:
            return _from_new(found)
        found = await self.old.fetch(key)
        if found is None:
            return _from_new(await self.new.fetch(key))  # it may have moved between the two questions
        if not found.data.startswith(_MARK):
            return Stored(found.data, _OLD + found.version, found.expires_at)
        await self._finish(key, found.data, found.expires_at)
        return _from_new(await self.new.fetch(key))

    async def insert(self, key: str, data: bytes, expires_at: int) -> bytes | None:
        """See :meth:`KeyedStorage.insert`."""
        if not self._moving and await self.new.fetch(key) is None:
            return _marked(_OLD, await self.old.insert(key, data, expires_at))
        version = await self.new.insert(key, data, expires_at)
        if version is None:
            found = await self.new.fetch(key)
            if found is not None and found.data == _TOMBSTONE:
                version = await self.new.replace(key, data, expires_at, found.version)
        return _marked(_NEW, version)

    async def replace(self, key: str, data: bytes, expires_at: int, version: bytes) -> bytes | None:
        """See :meth:`KeyedStorage.replace`; moves a record that stands in the old storage."""
        place, version = version[:1], version[1:]
        if place == _NEW:
            return _marked(_NEW, await self.new.replace(key, data, expires_at, version))
        if not self._moving:
            return _marked(_OLD, await self.old.replace(key, data, expires_at, version))
        if await self.old.replace(key, _MARK + data, expires_at, version) is None:
            return None
        return _marked(_NEW, await self._finish(key, _MARK + data, expires_at))

    async def touch(self, key: str, expires_at: int, version: bytes) -> bool:
        """See :meth:`KeyedStorage.touch`."""
        storage = self.new if version[:1] == _NEW else self.old
        return await storage.touch(key, expires_at, version[1:])

    async def delete(self, key: str) -> None:
        """See :meth:`KeyedStorage.delete`; leaves a tombstone in the new storage."""
        found = await self.old.fetch(key)
        until = max(self.now() + DAY, found.expires_at if found is not None else 0)
        while True:
            stored = await self.new.fetch(key)
            if stored is None:
                if await self.new.insert(key, _TOMBSTONE, until) is not None:
                    break
            elif stored.data == _TOMBSTONE:
                if await self.new.touch(key, until, stored.version):
                    break
            elif await self.new.replace(key, _TOMBSTONE, until, stored.version) is not None:
                break
        await self.old.delete(key)

    async def sweep(self) -> int:
        """See :meth:`KeyedStorage.sweep`; sweeps both."""
        return await self.new.sweep() + await self.old.sweep()

    @asynccontextmanager
    async def lock(self, key: str) -> AsyncIterator[Lease]:
        """See :meth:`KeyedStorage.lock`; holds both, so that it excludes workers that know one of them alone."""
        async with self.old.lock(key) as old_lease, self.new.lock(key) as new_lease:
            held = True

            async def check() -> None:
                for lease in (old_lease, new_lease):
                    if lease is not None:
                        await lease()
                if not held:
                    raise SessionLockError("the exclusive lock of the session is over: nothing was stored")

            try:
                yield check
            finally:
                held = False

    async def _finish(self, key: str, mark: bytes, expires_at: int) -> bytes | None:
        """Carry a move on from its mark; return the version of what was inserted, or None: somebody has been here."""
        version = await self.new.insert(key, mark.removeprefix(_MARK), expires_at)
        try:
            await self.old.delete(key)
        except StorageError:  # nobody needs the mark any more: what it says is in the new storage
            _logger.warning("session %s has moved; a mark of it stays in the old storage", key, exc_info=True)
        return version

    # --- lifetime

    async def start(self) -> None:
        """Extends :meth:`KeyedStorage.start`: starts both."""
        await self.old.start()
        await self.new.start()
        await super().start()

    async def aclose(self) -> None:
        """Extends :meth:`KeyedStorage.aclose`: closes both."""
        await super().aclose()
        await self.new.aclose()
        await self.old.aclose()


def _marked(place: bytes, version: bytes | None) -> bytes | None:
    return None if version is None else place + version


def _from_new(found: Stored | None) -> Stored | None:
    if found is None or found.data == _TOMBSTONE:
        return None
    return Stored(found.data, _NEW + found.version, found.expires_at)
