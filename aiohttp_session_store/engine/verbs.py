"""What the engine needs of a storage: five verbs that move bytes, and a few facts."""

from abc import abstractmethod
from asyncio import gather
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import ClassVar, NamedTuple, Protocol

from ..errors import SessionUsageError
from ..record.format import NewerRecordError, Stored
from ..record.timeouts import Timeouts
from .observing import Observing
from .outage_log import OutageLog
from .record_cache import RecordCache

__all__ = ["RECLAIM_AFTER", "Announcement", "Clock", "Found", "Lease", "Stored", "Verbs", "Walked", "unlosable"]

#: Gives the Unix time in seconds.
Clock = Callable[[], float]
#: Returns if an exclusive lock was still held when it was called, or else raises ``SessionLockError``.
Lease = Callable[[], Awaitable[None]]

# Space is reclaimed this many seconds after a session ended: a request that loaded it alive can still save it.
RECLAIM_AFTER: int = 300


# A key is SHA-256 in hex.
_KEY_LENGTH = 64


class Announcement(NamedTuple):
    """A hint that sessions may have ended.

    Attributes:
        key: The key of the session; or the beginning of the keys of several, as many characters as are known; or empty
            if it may be any session, because announcements may have been lost.
        reason: Why the session has ended, or empty if that is not known.
    """

    key: str
    reason: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether it names one session."""
        return len(self.key) == _KEY_LENGTH


class Found(NamedTuple):
    """What stands at a key, as a walk finds it: changed in no way, and perhaps damaged.

    Attributes:
        key: The key.
        stored: The record, expired or not.  None if the storage cannot read it.
        fault: Why the storage cannot read it, in words; empty if it can.
    """

    key: str
    stored: Stored | None
    fault: str = ""


class Walked(NamedTuple):
    """One part of a walk over all records.

    Attributes:
        found: A hundred records at most; perhaps none.
        done: How much of the walk is done after it, from 0 to 1, as far as the storage can tell.
    """

    found: Sequence[Found]
    done: float


async def unlosable() -> None:
    """Serve as the lease of an exclusive lock that cannot be lost."""


class Verbs(Protocol):
    """A storage as the engine sees it.

    Attributes:
        suspends: Whether a verb may suspend.  If no verb ever does, nothing can come between two calls, and parallel
            saves need not share a write.
        timeouts: The limits in force.
        rotation_grace: Seconds for which the old id stays readable after ``regenerate_id()``.
        max_session_size: Bytes that an encoded record may have.
        records: Encodes and decodes records.
        outages: Logs what fails.
        observing: Tells observers what happens.
        deletes_at_version: Whether :meth:`delete` takes a version.
        has_index: Whether :meth:`link`, :meth:`unlink` and :meth:`linked` are provided.
        announces: Whether :meth:`announce` is provided.
        has_announcements: Whether :meth:`announcements` is provided.
        walks: Whether :meth:`walk` is provided.
        max_sessions_per_owner: How many sessions an owner may have; the oldest are ended.  None for any number.
    """

    suspends: ClassVar[bool]
    deletes_at_version: bool
    has_index: bool
    announces: bool
    has_announcements: bool
    walks: bool
    timeouts: Timeouts
    rotation_grace: int
    max_session_size: int
    max_sessions_per_owner: int | None
    records: RecordCache
    outages: OutageLog
    observing: Observing

    @abstractmethod
    def now(self) -> int:
        """Return the time in whole Unix seconds."""

    @abstractmethod
    async def fetch(self, key: str) -> Stored | None:
        """Return the record of *key*, expired or not, or None.

        A missing record is a normal answer: do not retry, and log nothing.

        Args:
            key: SHA-256 of the session id, in hex.

        Raises:
            StorageError: The storage failed.
        """

    @abstractmethod
    async def insert(self, key: str, data: bytes, expires_at: int) -> bytes | None:
        """Create the record of *key* and return its version, or None if the key exists.

        Args:
            key: SHA-256 of the session id, in hex.
            data: The encoded record.
            expires_at: Whole Unix seconds.  The space may be reclaimed ``RECLAIM_AFTER`` seconds later, not before.

        Raises:
            StorageError: The storage failed; ``maybe_stored`` if the answer was lost.
        """

    @abstractmethod
    async def replace(self, key: str, data: bytes, expires_at: int, version: bytes) -> bytes | None:
        """Overwrite the record of *key* only if it still stands at *version*; return its new version.

        None means that another request got there first, or that the session was destroyed.  Writing anyway would lose
        that request's change, or log the visitor back in.

        Args:
            key: SHA-256 of the session id, in hex.
            data: The encoded record.
            expires_at: Whole Unix seconds; see :meth:`insert`.
            version: The version that was read.

        Raises:
            StorageError: The old record is intact, unless ``maybe_stored`` says that the answer was lost.
        """

    async def retire(self, key: str, data: bytes, expires_at: int, version: bytes) -> bytes | None:
        """Do what :meth:`replace` does with a record that ends an id: a logout, or a change of the id.

        A storage whose answered writes may be lost in a power cut makes this one durable before it returns.  In other
        storages it is the same as :meth:`replace`.

        Args:
            key: SHA-256 of the session id, in hex.
            data: The encoded record, without any data of the session.
            expires_at: Whole Unix seconds; see :meth:`insert`.
            version: The version that was read.
        """
        return await self.replace(key, data, expires_at, version)

    async def settle(self, key: str) -> None:
        """Return when what was seen of *key* is durable: another process may have retired or deleted it just now.

        Only a storage that overrides :meth:`retire` has something to do here.

        Args:
            key: SHA-256 of the session id, in hex.

        Raises:
            StorageError: It may not be durable.
        """
        return  # a body, or type checkers would take this method for an abstract one

    @abstractmethod
    async def touch(self, key: str, expires_at: int, version: bytes) -> bool:
        """Extend the record of *key* without rewriting it, only at *version*, and never shorten it.

        Args:
            key: SHA-256 of the session id, in hex.
            expires_at: Whole Unix seconds; see :meth:`insert`.
            version: The version that was read.

        Returns:
            Whether the record stands at *version* and expires at *expires_at* or later.

        Raises:
            StorageError: The storage failed.
        """

    @abstractmethod
    async def delete(self, key: str, version: bytes | None = None) -> bool:
        """Remove the record of *key*; it need not be there.

        It needs no space, so it also works when the disk or the server is full.  Taking *version* is optional for a
        storage.  Without it, an ending on a full storage fails.

        Args:
            key: SHA-256 of the session id, in hex.
            version: Remove the record only if it stands at this version.

        Returns:
            Whether no record stands there now, which is False if it stands at another version.

        Raises:
            StorageError: The storage failed; ``maybe_stored`` if the answer was lost.
        """

    @abstractmethod
    async def sweep(self) -> int:
        """Remove what expired more than ``RECLAIM_AFTER`` seconds ago and return how many records that were.

        Works in bounded slices that let the loop run, and may be cancelled between them.
        """

    # --- the index of owners, which is optional

    async def link(self, owner_key: str, key: str, until: int) -> None:
        """Enter *key* into the index of an owner, or move its end later.  Atomic, and harmless if it is repeated.

        Args:
            owner_key: A hash of the owner, in hex.
            key: The key of a session's record.
            until: Whole Unix seconds.  The entry may be removed ``RECLAIM_AFTER`` seconds later, not before.

        Raises:
            StorageError: The storage failed.
        """
        raise SessionUsageError(f"{type(self).__name__} has no index of owners")

    async def unlink(self, owner_key: str, key: str) -> None:
        """Remove *key* from the index of an owner; it need not be there.

        Args:
            owner_key: Hash of the owner, in hex.
            key: SHA-256 of the session id, in hex.

        Raises:
            StorageError: The storage failed.
        """
        raise SessionUsageError(f"{type(self).__name__} has no index of owners")

    async def linked(self, owner_key: str) -> Sequence[str]:
        """Return the keys in the index of an owner, in any order.

        Args:
            owner_key: Hash of the owner, in hex.

        Raises:
            StorageError: The storage failed.
        """
        raise SessionUsageError(f"{type(self).__name__} has no index of owners")

    # --- for watched sessions, all optional

    async def fetch_many(self, keys: Sequence[str]) -> Mapping[str, Stored]:
        """Return the records of *keys*, without those that do not exist.

        A storage that can get them in one round trip overrides this.

        Args:
            keys: A hundred at most.

        Raises:
            StorageError: The storage failed.
        """
        if self.suspends:
            found = await gather(*(self.fetch(key) for key in keys), return_exceptions=True)
        else:
            found = [await self.fetch(key) for key in keys]
        records = dict[str, Stored]()
        for key, one in zip(keys, found, strict=True):
            if isinstance(one, BaseException):
                raise one
            if one is not None:
                records[key] = one
        return records

    async def versions(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        """Return the versions of the records of *keys*, without those that do not exist.

        It is called for all watched sessions, again and again.  A storage that can get the versions in one round trip,
        or without the data, overrides this.  A record that cannot be read is not missing: give it any version.

        Args:
            keys: A hundred at most.

        Raises:
            StorageError: The storage failed.
        """
        return {key: stored.version for key, stored in (await self.fetch_many(keys)).items()}

    async def announce(self, key: str, reason: str) -> None:
        """Tell the :meth:`announcements` of all processes that the session of *key* has ended or got another id.

        It is a hint: it may be lost, or arrive twice.

        Args:
            key: The key of the record.
            reason: Up to 32 of a-z and _.

        Raises:
            StorageError: It could not be sent.
        """
        raise SessionUsageError(f"{type(self).__name__} has no announcements")

    def announcements(self) -> AsyncGenerator[Announcement, None]:
        """Yield hints that sessions may have ended, from all processes, for as long as it is asked.

        The first one has an empty key, as soon as nothing is missed any more, and so has the first one after every
        interruption.  If it ends by itself, there are no announcements, and the storage has logged why.

        Raises:
            StorageError: It was interrupted.  It is then called again.
        """
        raise SessionUsageError(f"{type(self).__name__} has no announcements")

    # --- for the command line, both optional

    def walk(self) -> AsyncGenerator[Walked, None]:
        """Yield all records, in parts and in any order.  Takes a bounded amount of memory.

        A record that stands at its key during the whole walk is found, whatever is written to it meanwhile.  One that
        is inserted or removed meanwhile may be found or not.  A record may be found twice.  Nothing is changed by a
        walk, and nothing is logged: what is damaged is found with its fault.

        Raises:
            StorageError: The storage failed.
        """
        raise SessionUsageError(f"{type(self).__name__} cannot walk over its records")

    async def rewrite(self, key: str, data: bytes, version: bytes) -> bytes | None:
        """Do what :meth:`replace` does, and let the expiry stand, also if it was extended just now.

        A storage that can do it in one step overrides this.  Here, a touch that comes between the two steps is lost.

        Args:
            key: SHA-256 of the session id, in hex.
            data: The encoded record.
            version: The version that was read.

        Raises:
            StorageError: The old record is intact, unless ``maybe_stored`` says that the answer was lost.
        """
        stored = await self.fetch(key)
        if stored is None or stored.version != version:
            return None
        return await self.replace(key, data, stored.expires_at, version)

    def lock(self, key: str) -> AbstractAsyncContextManager[Lease | None]:
        """Return the exclusive lock of *key*, for storages that have one.

        Entering waits for as long as it takes, may be cancelled, and must not wait in a thread.  Ordinary writers do
        not take the lock: it only keeps apart the requests that ask for the session exclusively.

        A lock that can be lost while it is held, such as a lock on a server, gives its holder a *lease*: a coroutine
        function that returns if the lock was still held when it was called, and raises ``SessionLockError`` if not.
        The holder's save calls it after each read of the record and before the compare-and-set that follows.  A new
        holder first gives the record a new version, so that a write which an earlier holder still has under way fails.
        Thus no holder ever undoes another holder's write.  A lock that cannot be lost gives None.

        Args:
            key: SHA-256 of the session id, in hex.

        Raises:
            SessionUsageError: This storage has none.
        """
        raise SessionUsageError(f"{type(self).__name__} has no exclusive lock")

    @abstractmethod
    async def set_aside(self, key: str, stored: Stored) -> None:
        """Put a record that cannot be read out of the way, if it still stands."""

    @abstractmethod
    def warn_newer(self, key: str, error: NewerRecordError) -> None:
        """Warn once that a record of a newer version or of another codec is left in place and reads as "no session"."""
