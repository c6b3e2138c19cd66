"""Sessions in files: for one machine with one or many worker processes, and without another server to run."""

import asyncio
import errno
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Unpack

from ...engine.verbs import Announcement, Lease, Walked
from ...errors import SessionLockError, StorageError
from ...record.format import NewerRecordError, Stored
from ...record.settings import check_flag, whole_number
from ..base import RECLAIM_AFTER, KeyedStorage, SweptOptions
from ..keyed_lock import KeyedLock
from .atomic_files import RecordFiles
from .directory import SessionDirectory
from .file_format import RubbishError
from .lock import SWEEP, BusyError, LockFile, offset_of
from .owner_index import OwnerIndex
from .probe import Probe, probe
from .safe_path import is_temporary
from .secret import SharedSecret
from .set_aside import SetAside
from .stat_cache import DEFAULT_CACHE_SIZE, ReadCache, Seen
from .sweep import FileSweep
from .threads import Pauses, Threads
from .upkeep import Upkeep
from .walking import FileWalk
from .watched import ChangedFolders, Versions

__all__ = ["FileSystemStorage"]

_logger = logging.getLogger("aiohttp_session_store")

_SWEEP_SLICE = 256
# Files that a walk reads in one go.
_WALK_SLICE = 100
# Seconds between two looks at the folders for sessions that have ended.
_LOOK = 1.0
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


class FileSystemStorage(KeyedStorage):
    """Keeps each session in a file of its own, safe against parallel requests, other processes and crashes.

    The path of a file is ``<directory>/<first two hex digits of the key>/<the rest>``.  The signing secret is stored
    beside the records, unless ``SessionCookie`` has secrets of its own.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        durable: bool = False,
        cache_size: int = DEFAULT_CACHE_SIZE,
        **options: Unpack[SweptOptions],
    ) -> None:
        """Create the directory, or check that it is safe.

        Args:
            directory: It must belong to the user of this process, and others must not be able to write to it or to
                exchange it.  If it is missing, it is created with mode 0700, and so are its parents.
            durable: Whether a save waits until file and folder are on the disk.  Then a power cut loses no change that
                was answered, but a save takes about a millisecond longer.  Otherwise a power cut can lose the sessions
                that were written in the last seconds.  What ends a session always waits for the disk.
            cache_size: How many records are kept in memory.  Each is checked by one ``stat`` before it is used.  A
                network file system needs 0, which keeps none, because its ``stat`` may be seconds out of date.
            options: See :class:`SweptOptions`.

        Raises:
            ConfigurationError: The directory is a file, belongs to another user, or others could write to it or
                exchange it; or a setting makes no sense.
        """
        super().__init__(**options)
        whole_number("cache_size", cache_size, 0)
        check_flag("durable", durable)
        self._open = SessionDirectory(directory)
        self.directory: str = self._open.path
        self._secret = SharedSecret(self._open)
        self._locks = LockFile(self._open)
        files = RecordFiles(self._open, durable=durable)
        self._sweeper = FileSweep(self._open, files)
        self._upkeep = Upkeep(self._open, self._secret)
        self._threads = Threads(self.directory, self._forked)
        self._fetch = self._threads.hop(files.fetch)
        self._fetch_or_set_aside = self._threads.hop(SetAside(self._open, files).fetch_or_set_aside)
        self._insert = self._threads.hop(files.insert)
        self._replace = self._threads.hop(files.replace)
        self._touch = self._threads.hop(files.touch)
        self._delete = self._threads.hop(files.delete)
        self._settle = self._threads.hop(files.settle)
        self._begin_sweep = self._threads.hop(self._sweeper.begin)
        self._names = self._threads.hop(self._sweeper.names)
        self._remove_expired = self._threads.hop(self._sweeper.remove_expired)
        self._remove_empty = self._threads.hop(self._sweeper.remove_empty)
        self._forget_set_aside = self._threads.hop(self._sweeper.forget_set_aside)
        walk = FileWalk(self._open, files)
        self._walk_shards = self._threads.hop(walk.shards)
        self._walk_names = self._threads.hop(walk.names)
        self._walk_read = self._threads.hop(walk.read)
        self._look = self._threads.hop(self._upkeep.look)
        self._probe = self._threads.hop(partial(probe, self._open))
        index = OwnerIndex(self._open, durable=durable)
        self._link = self._threads.hop(index.link)
        self._unlink = self._threads.hop(index.unlink)
        self._linked = self._threads.hop(index.linked)
        self._owners = self._threads.hop(index.owners)
        self._remove_ended = self._threads.hop(index.remove_ended)
        keeps_own_times = probe(self._open).keeps_own_times
        self._cache = ReadCache(cache_size if keeps_own_times else 0)
        self._versions = self._threads.hop(Versions(self._open, remember=keeps_own_times and cache_size > 0).of)
        self._exclusive = KeyedLock()

    def __repr__(self) -> str:
        """Show the directory of the records."""
        return f"<FileSystemStorage {self.directory}>"

    def default_secrets(self) -> Sequence[str]:
        """Return the secret that is stored beside the records.  The first process that needs it creates it."""
        return [self._secret.get()]

    async def start(self) -> None:
        """Extends :meth:`KeyedStorage.start`: says where the sessions are, and keeps the secret there."""
        probed = await self._probe() if self._users == 0 else None
        await super().start()
        if self._users == 1 and probed is not None:
            self._say_where(probed)
            self._upkeep.start(self._look)

    async def aclose(self) -> None:
        """Extends :meth:`KeyedStorage.aclose`: the last app to stop ends the threads and closes the directory."""
        await super().aclose()
        if self._users == 0:
            await self._upkeep.stop()
            await self._threads.close()
            if self._locks.close():
                self._open.close()

    def _say_where(self, probed: Probe) -> None:
        origin = self._secret.origin
        secret = f"the secret for cookies was {origin}" if origin else "the app has secrets of its own"
        _logger.info("sessions are stored in %s, and %s", self.directory, secret)
        if is_temporary(self.directory):
            _logger.warning(
                "%s is in a directory for temporary files: jobs remove old files there, or a reboot all of them, which"
                " logs visitors out",
                self.directory,
            )
        if probed.error is not None:  # not an error: perhaps it will be, and what is stored can be read meanwhile
            _logger.warning(
                "no session can be written in %s (%s): until that is repaired, every change of one fails with a 503",
                self.directory,
                probed.error,
            )

    def _forked(self) -> None:
        self._open.adopt()
        self._locks.forget()

    # --- the verbs

    async def fetch(self, key: str) -> Stored | None:
        """See :meth:`KeyedStorage.fetch`.

        A file that is no record is set aside, logged once, and reads as "no session".
        """
        known = self._cache.get(key, f"{key[:2]}/{key[2:]}", self._open.descriptor)
        if known is not None and known.expires_at > self.now():  # otherwise it may have been touched, so read it
            return known
        try:
            return self._remember(key, await self._fetch(key))
        except NewerRecordError as error:
            self.warn_newer(key, error)
            return None
        except RubbishError:
            return await self._look_again(key)

    async def insert(self, key: str, data: bytes, expires_at: int) -> bytes | None:
        """See :meth:`KeyedStorage.insert`.  A file or link in the place of the record's folder is set aside."""
        try:
            seen = await self._insert(key, data, expires_at)
        except RubbishError:
            await self._look_again(key)
            seen = await self._insert(key, data, expires_at)
        stored = self._remember(key, seen)
        return None if stored is None else stored.version

    async def replace(self, key: str, data: bytes, expires_at: int, version: bytes) -> bytes | None:
        """See :meth:`KeyedStorage.replace`."""
        stored = self._remember(key, await self._replace(key, data, expires_at, version))
        return None if stored is None else stored.version

    async def retire(self, key: str, data: bytes, expires_at: int, version: bytes) -> bytes | None:
        """See :meth:`KeyedStorage.retire`.  The record is on the disk before this returns."""
        stored = self._remember(key, await self._replace(key, data, expires_at, version, lasting=True))
        return None if stored is None else stored.version

    async def settle(self, key: str) -> None:
        """See :meth:`Verbs.settle`."""
        await self._settle(key)

    async def touch(self, key: str, expires_at: int, version: bytes) -> bool:
        """See :meth:`KeyedStorage.touch`.  Rewrites eight bytes of the file."""
        self._cache.forget(key)
        return await self._touch(key, expires_at, version)

    async def delete(self, key: str, version: bytes | None = None) -> bool:
        """See :meth:`KeyedStorage.delete`.  The file is gone from the disk before this returns."""
        self._cache.forget(key)
        return await self._delete(key, version)

    async def set_aside(self, key: str, stored: Stored) -> None:
        """See :meth:`KeyedStorage.set_aside`.  Moves the file to the folder ``set-aside`` beside the records."""
        await self._fetch_or_set_aside(key, stored.version)

    async def sweep(self, report: Callable[[int, float], None] | None = None) -> int:
        """See :meth:`KeyedStorage.sweep`.

        Only one process sweeps at a time, and the others return 0 at once.  The sweep also removes temporary files that
        a killed process left behind, files that were set aside long ago, and folders that became empty.

        What has expired must have done so by the clock of the file system, too: the clock of one process may be wrong.

        Args:
            report: Called after each folder with how many records were removed so far, and how much of the work is
                done, from 0 to 1.
        """
        self._threads.adopt()
        try:
            self._locks.acquire(SWEEP)
        except BusyError:
            return 0
        except OSError as error:
            if error.errno not in _NO_SPACE:
                raise StorageError(f"the lock file in {self.directory} cannot be used: {error}") from error
            # No space for the lock file is no reason to make none. Two sweeps at once only do some work twice.
        try:
            removed, failed = 0, None
            shards, now = await self._begin_sweep()
            for number, shard in enumerate(shards, 1):
                try:
                    removed += await self._sweep_shard(shard, now)
                except StorageError as error:  # raised at the end, after the other folders were swept
                    failed = failed or error
                if report is not None:
                    report(removed, number / len(shards))
            await self._forget_set_aside(_SWEEP_SLICE, now)
            await self._sweep_owners(min(self.now(), now) - RECLAIM_AFTER)
            if failed is not None:
                raise failed
            return removed
        finally:
            self._locks.release(SWEEP)

    async def _sweep_owners(self, reclaimable: int) -> None:
        owners = await self._owners()
        for start in range(0, len(owners), _SWEEP_SLICE):
            await self._remove_ended(owners[start : start + _SWEEP_SLICE], reclaimable)

    # --- the index of owners

    async def link(self, owner_key: str, key: str, until: int) -> None:
        """See :meth:`Verbs.link`.  Makes an empty file."""
        await self._link(owner_key, key, until)

    async def unlink(self, owner_key: str, key: str) -> None:
        """See :meth:`Verbs.unlink`."""
        await self._unlink(owner_key, key)

    async def linked(self, owner_key: str) -> Sequence[str]:
        """See :meth:`Verbs.linked`."""
        return await self._linked(owner_key)

    # --- for watched sessions

    async def versions(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        """See :meth:`Verbs.versions`."""
        return await self._versions(list(keys))

    async def announcements(self) -> AsyncGenerator[Announcement, None]:
        """See :meth:`Verbs.announcements`.  Looks once a second in which folders something has changed.

        So an ending need not announce itself, and costs nothing more if nobody watches.
        """
        look = self._threads.hop(ChangedFolders(self._open).look)
        await look()
        yield Announcement("")
        while True:
            await asyncio.sleep(_LOOK)
            for name in await look():
                yield Announcement(name)

    # --- for the command line

    async def walk(self) -> AsyncGenerator[Walked, None]:
        """See :meth:`Verbs.walk`.  Folder by folder, in the order of the keys' first two digits.

        A folder that cannot be read, such as one of another user after a backup was restored, does not hide the others.

        Raises:
            StorageError: At the end, if there is such a folder.
        """
        shards, failed = await self._walk_shards(), None
        for number, shard in enumerate(shards):
            try:
                names = await self._walk_names(shard)
                for start in range(0, len(names), _WALK_SLICE):
                    found = await self._walk_read(shard, names[start : start + _WALK_SLICE])
                    yield Walked(found, (number + min(1.0, (start + _WALK_SLICE) / len(names))) / len(shards))
            except StorageError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    async def rewrite(self, key: str, data: bytes, version: bytes) -> bytes | None:
        """See :meth:`Verbs.rewrite`."""
        stored = self._remember(key, await self._replace(key, data, None, version))
        return None if stored is None else stored.version

    async def _sweep_shard(self, shard: str, now: int) -> int:
        names = await self._names(shard)
        removed, failed = 0, None
        for start in range(0, len(names), _SWEEP_SLICE):
            reclaimable = min(self.now(), now) - RECLAIM_AFTER
            found = await self._remove_expired(shard, names[start : start + _SWEEP_SLICE], reclaimable, now)
            removed += len(found.removed)
            failed = failed or next(iter(found.failed), None)
            for key in found.rubbish:
                await self._look_again(key)
        await self._remove_empty(shard)
        if failed is not None:
            raise StorageError(f"a session file in {self.directory} could not be swept: {failed}") from failed
        return removed

    async def _look_again(self, key: str) -> Stored | None:
        found = await self._fetch_or_set_aside(key)
        if isinstance(found, str):
            _logger.warning("session %s is set aside: %s", key, found)
            return None
        return self._remember(key, found)

    def _remember(self, key: str, seen: Seen | None) -> Stored | None:
        if seen is None:
            self._cache.forget(key)
            return None
        self._cache.put(key, seen)
        return seen.stored

    # --- the lock

    @asynccontextmanager
    async def lock(self, key: str) -> AsyncIterator[Lease]:
        """See :meth:`KeyedStorage.lock`.

        The lock is fair within this process, and it is free at once if its holder dies.  It is lost if somebody removes
        the lock file, so its holder gets a lease.  The byte in the lock file is taken, checked and released on the
        event loop, because each takes a few microseconds and never waits.
        """
        offset, pauses, held = offset_of(key), Pauses(), True

        async def check() -> None:
            if not held or not self._locks.holds(offset):
                raise SessionLockError(
                    "the exclusive lock of the session was lost, as the lock file was removed from"
                    f" {self.directory}, and nothing was stored, so try again"
                )

        async with self._exclusive.holding(key):
            while True:
                self._threads.adopt()
                try:
                    self._locks.acquire(offset)
                    break
                except BusyError:
                    await pauses.take()
                except OSError as error:
                    raise StorageError(f"the lock file in {self.directory} cannot be used: {error}") from error
            try:
                yield check
            finally:
                held = False
                self._locks.release(offset)
