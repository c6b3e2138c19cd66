"""What a storage is: the protocol that the middleware consumes, and the base of all that keep records by key."""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any, ClassVar, Protocol

from ..encoders import Codec
from ..errors import SessionUsageError
from ..record import NewerRecordError, Timeouts, seconds
from ..session import Session, state_of
from ..state import Lease, Stored
from .loading import Loader
from .record_cache import RecordCache
from .saving import Saver
from .sweeping import SweepLoop

__all__ = ["RECLAIM_AFTER", "KeyedStorage", "Lease", "SessionStorage", "Stored"]

Clock = Callable[[], float]

_logger = logging.getLogger("aiohttp_session_store")

DAY = 24 * 60 * 60
# Two weeks is what Django, Starlette and Litestar chose for a session that is not used; ninety days bounds a stolen
# cookie that is. Both are documented defaults, as OWASP ASVS 5.0, 7.1.1 asks, to be set to the app's risk.
DEFAULT_IDLE_TIMEOUT = 14 * DAY
DEFAULT_LIFETIME = 90 * DAY
DEFAULT_ROTATION_GRACE = 60
# Space is reclaimed this many seconds after a session ended: a request that loaded it alive can still save it.
RECLAIM_AFTER: int = 300
DEFAULT_SWEEP_INTERVAL = 600


class SessionStorage(Protocol):
    """What the middleware needs of a storage.

    Attributes:
        kind: What its cookie value is: ``"id"`` or ``"data"``.  Part of the signature, so that one never passes for
            the other.
        timeouts: The limits in force.
    """

    @property
    def kind(self) -> str: ...  # noqa: D102

    @property
    def timeouts(self) -> Timeouts: ...  # noqa: D102

    def now(self) -> int:
        """Return the time in whole Unix seconds."""

    def default_secrets(self) -> Sequence[str] | None:
        """Return secrets for signing cookies when the developer gave none, or None if there is no safe choice."""

    async def read(self, cookie_value: str | None) -> Session:
        """Return the live session of an unsealed cookie value, or a new one: never an error for what a visitor sent.

        Raises:
            StorageError: The storage failed; that is never mistaken for "no session".
        """

    async def save(self, session: Session) -> str | None:
        """Store what was changed, and return the cookie value to send: None leaves it alone, ``""`` clears it.

        Raises:
            StorageError: Nothing was stored; the session keeps its changes.
            TypeError: A value cannot be stored.
        """

    async def refresh(self, session: Session) -> None:
        """Bring *session* up to the newest record, keeping its unsaved changes.

        Raises:
            SessionLockError: Its id was regenerated: the newest record is not for it to read.
            StorageError: The storage failed.
        """

    def lock(self, key: str) -> AbstractAsyncContextManager[Lease | None]:
        """Return the exclusive lock of *key*, which waits for as long as it takes; see :meth:`KeyedStorage.lock`.

        Raises:
            SessionUsageError: This storage has none.
        """

    async def start(self) -> None:
        """Begin background work; called when an app starts."""

    async def aclose(self) -> None:
        """Finish what is under way and let resources go; called when an app stops."""


class KeyedStorage(ABC):
    """A storage that keeps records on the server under a key.  Subclasses move bytes and decide nothing.

    Five verbs, :meth:`sweep` and, where it can be had, :meth:`lock` are all that a subclass provides.  Merging,
    timeouts, rotation and destruction stand here and in :mod:`.saving`, once for all storages.
    """

    kind: ClassVar[str] = "id"
    #: Whether a verb may suspend. One that never does needs no group commit: nothing can come between.
    suspends: ClassVar[bool] = True

    def __init__(
        self,
        *,
        idle_timeout: float | timedelta | None = DEFAULT_IDLE_TIMEOUT,
        lifetime: float | timedelta | None = DEFAULT_LIFETIME,
        rotation_grace: float | timedelta = DEFAULT_ROTATION_GRACE,
        sweep_interval: float | timedelta | None = DEFAULT_SWEEP_INTERVAL,
        codec: Codec | Sequence[Codec] | None = None,
        clock: Clock = time.time,
    ) -> None:
        """Check the settings; no I/O.

        Args:
            idle_timeout: Seconds, or a timedelta, since its last use after which a session ends; None for no limit.
            lifetime: Seconds, or a timedelta, since it began after which it ends all the same; None for no limit.
            rotation_grace: Seconds, or a timedelta, for which the old id stays readable after ``regenerate_id()``.
            sweep_interval: Seconds, or a timedelta, between two removals of expired sessions, give or take a fifth;
                None for no background sweep.
            codec: Writes the records, in place of JSON; of several, newest first, the first writes and all read.  Each
                record is marked with the codec's name, so that older ones are still read after a change.
            clock: Gives the Unix time in seconds.

        Raises:
            ConfigurationError: A time is not positive, both limits are None, or that is no codec.
        """
        self.timeouts: Timeouts = Timeouts.build(idle_timeout, lifetime)
        self.rotation_grace: int = seconds("rotation_grace", rotation_grace) or DEFAULT_ROTATION_GRACE
        self.clock = clock
        self.records: RecordCache = RecordCache(codec)
        self._loader = Loader(self)
        self._saver = Saver(self)
        self._sweeping = SweepLoop(self.sweep, seconds("sweep_interval", sweep_interval))
        self._users = 0
        self._warned_newer = False

    # --- what a subclass provides

    @abstractmethod
    async def fetch(self, key: str) -> Stored | None:
        """Return the record of *key*, expired or not, or None.

        Missing is a normal answer: no retry, no log.

        Raises:
            StorageError: The storage failed.
        """

    @abstractmethod
    async def insert(self, key: str, data: bytes, expires_at: int) -> bytes | None:
        """Create the record of *key* and return its version, or None if the key exists.

        Args:
            expires_at: Whole Unix seconds.  The space may be reclaimed ``RECLAIM_AFTER`` seconds later, not before.

        Raises:
            StorageError: Nothing was stored.
        """

    @abstractmethod
    async def replace(self, key: str, data: bytes, expires_at: int, version: bytes) -> bytes | None:
        """Overwrite the record of *key* only if it still stands at *version*; return its new version.

        None means that another request got there first, or that the session was destroyed.  Writing anyway would lose
        that request's change, or log the visitor back in.

        Raises:
            StorageError: The old record is intact.
        """

    @abstractmethod
    async def touch(self, key: str, expires_at: int, version: bytes) -> bool:
        """Extend the record of *key* without rewriting it, only at *version*, and never shorten it.

        Returns:
            Whether it stands at *version* and expires at *expires_at* or later.

        Raises:
            StorageError: The storage failed.
        """

    @abstractmethod
    async def delete(self, key: str) -> None:
        """Remove the record of *key*; it need not be there.

        Raises:
            StorageError: The storage failed.
        """

    @abstractmethod
    async def sweep(self) -> int:
        """Remove what expired more than ``RECLAIM_AFTER`` seconds ago and return how many records that were.

        Works in bounded slices that let the loop run, and may be cancelled between them.
        """

    def lock(self, key: str) -> AbstractAsyncContextManager[Lease | None]:
        """Return the exclusive lock of *key*, for storages that have one.

        Entering waits for as long as it takes, may be cancelled, and must not wait in a thread.  Writers do not ask for
        it: it keeps those apart who want the session to themselves.

        A lock that can be lost while it is held, as one on a server can, gives its holder a *lease*: a coroutine
        function that returns if the lock was still held when it was called, and else raises ``SessionLockError``.  The
        holder's save asks it after each read of the record and before the compare-and-set that follows; a new holder
        begins with the record under a new version, so that a write that a former one still has under way fails.  Thus
        no holder ever undoes another's write.  A lock that cannot be lost gives None.

        Raises:
            SessionUsageError: This storage has none.
        """
        raise SessionUsageError(f"{type(self).__name__} has no exclusive lock")

    def default_secrets(self) -> Sequence[str] | None:
        """Return None: a subclass that has a safe place for a secret says so."""
        return None

    def warn_newer(self, key: str, error: NewerRecordError) -> None:
        """Say once that a record is left in place for a newer version or another codec, and reads as "no session"."""
        if not self._warned_newer:
            self._warned_newer = True
            _logger.warning("session %s, and perhaps others, cannot be read and are left in place: %s", key, error)

    async def set_aside(self, key: str, stored: Stored) -> None:
        """Put a record that cannot be read out of the way; by default it is deleted, if it still stands."""
        if await self.replace(key, b"", 0, stored.version):
            await self.delete(key)

    # --- lifetime

    async def start(self) -> None:
        """See :meth:`SessionStorage.start`; apps may share a storage."""
        self._users += 1
        if self._users == 1:
            self._sweeping.start()

    async def aclose(self) -> None:
        """See :meth:`SessionStorage.aclose`; the last app that uses it stops the sweep."""
        self._users = max(0, self._users - 1)
        if self._users == 0:
            await self._sweeping.stop()
        await self._saver.finish()

    # --- sessions

    def now(self) -> int:
        """Return the time in whole Unix seconds."""
        return int(self.clock())

    def read(self, cookie_value: str | None) -> Coroutine[Any, Any, Session]:
        """See :meth:`SessionStorage.read`; the cookie value is the session id."""
        return self._loader.read(cookie_value)

    async def refresh(self, session: Session) -> None:
        """See :meth:`SessionStorage.refresh`; a session that is gone stays as it is, and its save finds that out."""
        await self._loader.refresh(state_of(session))

    def save(self, session: Session) -> Coroutine[Any, Any, str | None]:
        """See :meth:`SessionStorage.save`: merge onto the newest record, or create, rotate, destroy; never upsert."""
        return self._saver.save(state_of(session))
