"""Sessions in files: for one machine with one or many worker processes, and without another server to run."""

import asyncio
import logging
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, ParamSpec, TypeVar, Unpack

from aiofiles.os import wrap

from ...errors import ConfigurationError, StorageError
from ...record.format import NewerRecordError, Stored
from ..base import (
    RECLAIM_AFTER,
    KeyedStorage,
    SweptOptions,
)
from ..keyed_lock import KeyedLock
from .atomic_files import RecordFiles
from .directory import prepare
from .file_format import RubbishError
from .lock import EXCLUSIVE, SWEEP, BusyError, LockFile, offset_of
from .secret import shared_secret
from .stat_cache import DEFAULT_CACHE_SIZE, ReadCache, Seen, keeps_own_times
from .sweep import FileSweep

__all__ = ["FileSystemStorage"]

P = ParamSpec("P")
T = TypeVar("T")

_logger = logging.getLogger("aiohttp_session_store")

LOCK_FILE = "locks"
# In seconds. A writer lock is held for a check and a rename, well under a millisecond. Pauses grow up to the longest.
_FIRST_PAUSE, _LONGEST_PAUSE, _MAX_WAIT = 0.0005, 0.02, 5.0
# Enough to keep a disk busy. More threads would only compete for the interpreter.
_THREADS = 4
_SWEEP_SLICE = 256


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
            directory: It must belong to the user of this process, and others must not be able to write to it.  If it is
                missing, it is created with mode 0700.
            durable: Whether a save waits until file and folder are on the disk.  Then a power cut loses no change that
                was answered, but a save takes about a millisecond longer.  Otherwise a power cut can lose the sessions
                that were written in the last seconds.
            cache_size: How many records are kept in memory.  Each is checked by one ``stat`` before it is used.  A
                network file system needs 0, which keeps none, because its ``stat`` may be seconds out of date.
            options: See :class:`SweptOptions`.

        Raises:
            ConfigurationError: The directory is a file, belongs to another user, or is writable by others; or a setting
                makes no sense.
        """
        super().__init__(**options)
        if isinstance(cache_size, bool) or not isinstance(cache_size, int) or cache_size < 0:
            raise ConfigurationError(f"cache_size must be a number of records, 0 for none, not {cache_size!r}")
        self.directory: str = prepare(directory)
        self._locks = LockFile(os.path.join(self.directory, LOCK_FILE))
        files = RecordFiles(self.directory, self._locks, durable=durable)
        self._sweeper = FileSweep(files, self._locks)
        self._fetch = self._hop(files.fetch)
        self._fetch_or_set_aside = self._hop(files.fetch_or_set_aside)
        self._insert = self._hop(files.insert)
        self._replace = self._hop(files.replace)
        self._touch = self._hop(files.touch)
        self._delete = self._hop(files.delete)
        self._shards = self._hop(self._sweeper.shards)
        self._names = self._hop(self._sweeper.names)
        self._remove_expired = self._hop(self._sweeper.remove_expired)
        self._remove_empty = self._hop(self._sweeper.remove_empty)
        self._forget_set_aside = self._hop(self._sweeper.forget_set_aside)
        self._cache = ReadCache(cache_size if keeps_own_times(self.directory) else 0)
        self._exclusive = KeyedLock()
        self._executor: ThreadPoolExecutor | None = None
        self._pid = os.getpid()

    def __repr__(self) -> str:
        """Show the directory of the records."""
        return f"<FileSystemStorage {self.directory}>"

    def default_secrets(self) -> Sequence[str]:
        """Return the secret that is stored beside the records.  The first process that needs it creates it."""
        return [shared_secret(self.directory)]

    async def aclose(self) -> None:
        """Extends :meth:`KeyedStorage.aclose`: the last app to stop ends the threads and closes the lock file."""
        await super().aclose()
        if self._users == 0 and self._executor is not None:
            executor, self._executor = self._executor, None
            await asyncio.to_thread(executor.shutdown)
            self._locks.close()

    # --- the verbs

    async def fetch(self, key: str) -> Stored | None:
        """See :meth:`KeyedStorage.fetch`.

        A file that is no record is set aside, logged once, and reads as "no session".
        """
        known = self._cache.get(key, f"{self.directory}/{key[:2]}/{key[2:]}")
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

    async def touch(self, key: str, expires_at: int, version: bytes) -> bool:
        """See :meth:`KeyedStorage.touch`.  Rewrites eight bytes of the file."""
        self._cache.forget(key)
        return await self._touch(key, expires_at, version)

    async def delete(self, key: str, version: bytes | None = None) -> bool:
        """See :meth:`KeyedStorage.delete`."""
        self._cache.forget(key)
        return await self._delete(key, version)

    async def set_aside(self, key: str, stored: Stored) -> None:
        """See :meth:`KeyedStorage.set_aside`.  Moves the file to the folder ``set-aside`` beside the records."""
        await self._fetch_or_set_aside(key, stored.version)

    async def sweep(self) -> int:
        """See :meth:`KeyedStorage.sweep`.

        Only one process sweeps at a time, and the others return 0 at once.  The sweep also removes temporary files that
        a killed process left behind, files that were set aside long ago, and folders that became empty.
        """
        self._adopt()
        try:
            self._locks.acquire(SWEEP)
        except BusyError:
            return 0
        except OSError as error:
            raise StorageError(f"the lock file in {self.directory} cannot be used: {error}") from error
        try:
            removed, failed = 0, None
            for shard in await self._shards():
                try:
                    removed += await self._sweep_shard(shard)
                except StorageError as error:  # raised at the end, after the other folders were swept
                    failed = failed or error
            await self._forget_set_aside(_SWEEP_SLICE)
            if failed is not None:
                raise failed
            return removed
        finally:
            self._locks.release(SWEEP)

    async def _sweep_shard(self, shard: str) -> int:
        names = await self._names(shard)
        removed, failed = 0, None
        for start in range(0, len(names), _SWEEP_SLICE):
            reclaimable = self.now() - RECLAIM_AFTER
            found = await self._remove_expired(shard, names[start : start + _SWEEP_SLICE], reclaimable)
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
    async def lock(self, key: str) -> AsyncIterator[None]:
        """See :meth:`KeyedStorage.lock`.

        The lock is fair within this process, and it is free at once if its holder dies.  The byte in the lock file is
        taken and released on the event loop, because each takes 4 us and never waits.
        """
        offset, pause = offset_of(key, EXCLUSIVE), _FIRST_PAUSE
        async with self._exclusive.holding(key):
            while True:
                self._adopt()
                try:
                    self._locks.acquire(offset)
                    break
                except BusyError:
                    await asyncio.sleep(random.uniform(0, pause))  # noqa: S311  spreads retries, keeps no secret
                    pause = min(2 * pause, _LONGEST_PAUSE)
                except OSError as error:
                    raise StorageError(f"the lock file in {self.directory} cannot be used: {error}") from error
            try:
                yield
            finally:
                self._locks.release(offset)

    # --- threads

    def _hop(self, transaction: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
        """Return a coroutine function that runs *transaction* in a thread.

        If a lock is busy, the event loop waits and tries again.  No thread ever waits for a lock.
        """
        in_thread = wrap(transaction)

        async def run(*args: P.args, **kwargs: P.kwargs) -> T:
            deadline, pause = time.monotonic() + _MAX_WAIT, _FIRST_PAUSE
            while True:
                try:
                    return await in_thread(*args, executor=self._adopt(), **kwargs)
                except BusyError as error:
                    if time.monotonic() > deadline:
                        raise StorageError(f"a session file stayed locked for {_MAX_WAIT:g} s") from error
                except OSError as error:
                    raise StorageError(f"the sessions in {self.directory} are unavailable: {error}") from error
                await asyncio.sleep(random.uniform(0, pause))  # noqa: S311  spreads retries, keeps no secret
                pause = min(2 * pause, _LONGEST_PAUSE)

        return run

    def _adopt(self) -> ThreadPoolExecutor:
        """Return this process's threads, and new ones after a fork: a child inherits neither threads nor locks."""
        if self._executor is None or self._pid != os.getpid():
            if self._pid != os.getpid():
                self._locks.forget()
                self._pid = os.getpid()
            self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="session files")
        return self._executor
