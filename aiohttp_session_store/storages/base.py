"""The storage protocol that the web layer needs, and the base of all storages that keep records by key."""

import inspect
import logging
import time
from abc import ABC
from collections.abc import Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from functools import partial
from operator import methodcaller
from typing import Any, ClassVar, Protocol, TypedDict, Unpack

from ..engine.loading import Loader
from ..engine.observing import Observing
from ..engine.outage_log import OutageLog
from ..engine.owners import SessionInfo
from ..engine.record_cache import RecordCache
from ..engine.saving import Saver
from ..engine.sweeping import SweepLoop
from ..engine.timed_calls import time_calls
from ..engine.verbs import RECLAIM_AFTER, Announcement, Clock, Lease, Verbs
from ..engine.watching import Watching
from ..errors import ConfigurationError
from ..record.encryption import UnopenedRecordError
from ..record.format import NewerRecordError, Stored
from ..record.head import Note, checked_owner
from ..record.json_encoders import Codec
from ..record.key_ring import KeyRing
from ..record.settings import whole_number
from ..record.timeouts import Timeouts, seconds
from ..session.old_names import refuse_unknown
from ..session.session import Session, state_of
from ..session.state import Place
from ..tracebacks import hides_locals

__all__ = [
    "RECLAIM_AFTER",
    "Announcement",
    "KeyedOptions",
    "KeyedStorage",
    "Lease",
    "SessionStorage",
    "StorageOptions",
    "Stored",
    "SweptOptions",
    "check_options",
]

_logger = logging.getLogger("aiohttp_session_store")

DAY = 24 * 60 * 60
# Django, Starlette and Litestar also end an unused session after two weeks. Ninety days limit a stolen cookie that is
# in use. Both defaults are documented, as OWASP ASVS 5.0, 7.1.1 asks, and each app should set them to its risk.
DEFAULT_IDLE_TIMEOUT = 14 * DAY
DEFAULT_LIFETIME = 90 * DAY
DEFAULT_ROTATION_GRACE = 60
DEFAULT_SWEEP_INTERVAL = 600
# A megabyte takes about 20 ms to decode, merge and encode, which holds up every other request of the process.
DEFAULT_MAX_SESSION_SIZE = 1_000_000
# Lines about records that cannot be read, one for each key of encryption.
_MOST_WARNINGS = 16


class StorageOptions(TypedDict, total=False):
    """The keyword options that every storage takes.

    Attributes:
        idle_timeout: How long a session lives after its last use, as seconds or a timedelta; None for no such limit.
            Default: 14 days.
        lifetime: How long a session lives after its creation, however much it is used, as seconds or a timedelta; None
            for no such limit.  Default: 90 days.  One of the two limits must be set.
        codec: Writes the records instead of JSON.  Of several codecs, newest first, the first one writes and all read.
            Each record is marked with the name of its codec, so that older records can still be read after a change.
            Default: JSON.
        encryption: Encrypts all that the storage keeps of a session, under the first key of the ring.  Needs the extra
            ``encryption``.  Default: None, no encryption.
        clock: Returns the Unix time in seconds.  Default: ``time.time``.
    """

    idle_timeout: float | timedelta | None
    lifetime: float | timedelta | None
    codec: Codec | Sequence[Codec] | None
    encryption: KeyRing | None
    clock: Clock


class KeyedOptions(StorageOptions, total=False):
    """The keyword options of every storage that keeps its records on the server.

    Attributes:
        rotation_grace: How long the old id stays readable after ``regenerate_id()``, as seconds or a timedelta.
            Default: 60.
        max_session_size: How many bytes an encoded session may have.  A save of a larger one raises
            ``SessionTooLargeError``: a session is read and written whole, and a large one holds up all requests.
            Default: 1,000,000.
        max_sessions_per_owner: How many sessions one owner may have at a time.  A login that is one too many ends the
            oldest.  None for any number, which is the default.
        anonymous_idle_timeout: The idle timeout of sessions that have no owner, as seconds or a timedelta, if it is to
            be shorter; a flood of visitors who never log in then takes less space.  None, the default, for
            ``idle_timeout``.
    """

    rotation_grace: float | timedelta
    max_session_size: int
    max_sessions_per_owner: int | None
    anonymous_idle_timeout: float | timedelta | None


class SweptOptions(KeyedOptions, total=False):
    """The keyword options of every storage that removes expired records itself.

    Attributes:
        sweep_interval: The time between two removals of expired sessions, as seconds or a timedelta; None for no
            background sweep.  It varies at random by up to a fifth.  Default: 600.
    """

    sweep_interval: float | timedelta | None


def is_first(about: str, warned: set[str]) -> bool:
    """Return whether to log a line about *about*, once for each and for a few of them only; note it in *warned*."""
    if about in warned or len(warned) >= _MOST_WARNINGS:
        return False
    warned.add(about)
    return True


def check_options(storage: object, options: StorageOptions, kind: type[StorageOptions]) -> None:
    """Refuse options that *kind* does not have, as Python does for unknown keyword arguments.

    Raises:
        ConfigurationError: The clock is no function.
        TypeError: There is no such option.
    """
    refuse_unknown(type(storage).__name__, options.keys() - kind.__annotations__.keys())
    if not callable(options.get("clock", time.time)):
        raise ConfigurationError("clock must be a function that returns the Unix time in seconds, such as time.time")


class SessionStorage(Protocol):
    """What the middleware needs of a storage.

    Attributes:
        kind: What its cookie value is: ``"id"`` or ``"data"``.  The kind is part of the signature, so that one is never
            accepted as the other.
        timeouts: The limits in force.
    """

    @property
    def kind(self) -> str: ...  # noqa: D102

    @property
    def timeouts(self) -> Timeouts: ...  # noqa: D102

    def now(self) -> int:
        """Return the time in whole Unix seconds."""

    def default_secrets(self) -> Sequence[str] | None:
        """Return secrets for signing cookies if the developer gave none, or None if there is no safe choice."""

    async def read(self, cookie_value: str | None) -> Session:
        """Return the live session of an unsealed cookie value, or a new one.

        Whatever a visitor sent, it is never an error.

        Args:
            cookie_value: What the cookie carries, without the signature; None if the browser sent no cookie.

        Raises:
            StorageError: The storage failed.  A failure is never mistaken for "no session".
        """

    async def save(self, session: Session) -> str | None:
        """Store the changes of *session*.

        Args:
            session: A session that this storage has read.

        Returns:
            The cookie value to send.  None leaves the cookie alone, and ``""`` clears it.

        Raises:
            StorageError: Nothing was stored.  The session keeps its changes.
            TypeError: A value cannot be stored.
        """

    async def refresh(self, session: Session) -> None:
        """Bring *session* up to the newest record, and keep its unsaved changes.

        Args:
            session: A session that this storage has read.

        Raises:
            SessionLockError: Its id was regenerated, so it may not read the newest record.
            StorageError: The storage failed.
        """

    def lock(self, key: str) -> AbstractAsyncContextManager[Lease | None]:
        """Return the exclusive lock of *key*, which waits for as long as it takes; see :meth:`KeyedStorage.lock`.

        Args:
            key: SHA-256 of the session id, in hex.

        Raises:
            SessionUsageError: This storage has no locks.
        """

    async def sessions_of(self, owner: str) -> list[SessionInfo]:
        """Return the live sessions of *owner*, the newest login first.

        Args:
            owner: The account, as ``login`` was given it.

        Raises:
            SessionUsageError: This storage has no index of owners.
            StorageError: The storage failed.
            TypeError: *owner* is not a string of 1 to 255 characters.
        """

    async def end_sessions(self, owner: str, *, keep: Session | None = None) -> int:
        """End all sessions of *owner*, on every device, and return how many that were.

        When it has returned, no session is alive whose login was answered before the call.

        Args:
            owner: The account.
            keep: A session that goes on, such as the one of the request that asks; also if its id is being changed.

        Raises:
            SessionUsageError: This storage has no index of owners.
            StorageError: Some of them may still be alive.
            TypeError: *owner* is not a string of 1 to 255 characters, or *keep* is no session.
        """

    async def end_session(self, owner: str, key: str) -> bool:
        """End the one session of *owner* that ``sessions_of`` listed with *key*; return whether it was there.

        A session of another owner is not there.  A session whose id was renewed since it was listed is.

        Args:
            owner: The account, as ``login`` was given it.
            key: The key of the session, as ``sessions_of`` lists it.

        Raises:
            SessionUsageError: This storage has no index of owners.
            StorageError: It may still be alive.
            TypeError: *owner* or *key* is not a string.
        """

    async def adopt(self, session: Session, owner: str) -> None:
        """Give *owner* a session that has no owner yet, and keep its id; see ``setup(owner_of=...)``.

        If a parallel request has changed the session, it gets no owner, and *session* shows what it holds now.

        Args:
            session: A session that this storage has read.
            owner: The account that it belongs to from now on.

        Raises:
            StorageError: The storage failed.
            TypeError: *owner* is not a string of 1 to 255 characters.
        """

    async def start(self) -> None:
        """Begin background work.  Called when an app starts."""

    async def aclose(self) -> None:
        """Finish what is under way and release resources.  Called when an app stops."""


class KeyedStorage(Verbs, ABC):
    """A storage that keeps records on the server under a key.  Subclasses move bytes and decide nothing.

    A subclass provides the five verbs, :meth:`sweep`, and :meth:`lock` if it has locks.  The engine decides about
    merging, timeouts, rotation and destruction, once for all storages.
    """

    kind: ClassVar[str] = "id"
    suspends: ClassVar[bool] = True
    """Whether a verb may suspend.  If no verb ever does, parallel saves need not share a write."""
    #: Whether :meth:`delete` takes a version, as its signature shows.
    deletes_at_version: bool = True
    #: Whether it has an index of owners; found out by whether it overrides :meth:`link`.
    has_index: bool = False
    #: Whether it tells of ended sessions; found out by whether it overrides :meth:`announce`.
    announces: bool = False
    #: Whether it hears of ended sessions; found out by whether it overrides :meth:`announcements`.
    has_announcements: bool = False
    #: Whether it can walk over its records; found out by whether it overrides :meth:`walk`.
    walks: bool = False

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Find out what the subclass offers."""
        super().__init_subclass__(**arguments)
        cls.deletes_at_version = "version" in inspect.signature(cls.delete).parameters
        cls.has_index = cls.link is not Verbs.link
        cls.announces = cls.announce is not Verbs.announce
        cls.has_announcements = cls.announcements is not Verbs.announcements
        cls.walks = cls.walk is not Verbs.walk

    def __init__(self, **options: Unpack[SweptOptions]) -> None:
        """Check the settings; no I/O.

        Args:
            options: See :class:`StorageOptions`, :class:`KeyedOptions` and :class:`SweptOptions`.

        Raises:
            ConfigurationError: A time is not positive, both limits are None, or the codec is not a valid one.
        """
        check_options(self, options, SweptOptions)
        self.timeouts: Timeouts = Timeouts.build(
            options.get("idle_timeout", DEFAULT_IDLE_TIMEOUT),
            options.get("lifetime", DEFAULT_LIFETIME),
            options.get("anonymous_idle_timeout"),
        )
        grace = seconds("rotation_grace", options.get("rotation_grace", DEFAULT_ROTATION_GRACE))
        if grace is None:
            raise ConfigurationError("rotation_grace is a number of seconds or a timedelta, not None")
        self.rotation_grace: int = grace
        self.max_session_size: int = whole_number(
            "max_session_size", options.get("max_session_size", DEFAULT_MAX_SESSION_SIZE)
        )
        most = options.get("max_sessions_per_owner")
        self.max_sessions_per_owner: int | None = None if most is None else whole_number("max_sessions_per_owner", most)
        if most is not None and not self.has_index:
            raise ConfigurationError(f"{type(self).__name__} has no index of owners, so it cannot count their sessions")
        self.clock: Clock = options.get("clock", time.time)
        self.records: RecordCache = RecordCache(options.get("codec"), options.get("encryption"))
        self.outages: OutageLog = OutageLog()
        self.observing: Observing = Observing(partial(time_calls, self))
        self._loader = Loader(self)
        self._saver = Saver(self)
        sweep_interval = options.get("sweep_interval", DEFAULT_SWEEP_INTERVAL)
        sweep = partial(methodcaller("sweep"), self)  # looked up at each call: an observer has it timed
        self._sweeping = SweepLoop(sweep, seconds("sweep_interval", sweep_interval))
        self._users = 0
        self._warned: set[str] = set()

    def default_secrets(self) -> Sequence[str] | None:
        """Return None.  A subclass that has a safe place for a secret overrides this."""
        return None

    def warn_newer(self, key: str, error: NewerRecordError) -> None:
        """Say once that a record of a newer version or another codec is left in place and reads as "no session".

        For a record that no key at hand opens, this is an error, once for each key.
        """
        about, level = "", logging.WARNING
        if isinstance(error, UnopenedRecordError):
            about, level = error.about, logging.ERROR
        if is_first(about, self._warned):
            _logger.log(level, "session %s, and perhaps others, cannot be read and are left in place: %s", key, error)

    async def set_aside(self, key: str, stored: Stored) -> None:
        """Put a record that cannot be read out of the way, if it is unchanged.  By default it is deleted."""
        if await self.replace(key, b"", 0, stored.version):
            await self.delete(key)

    # --- lifetime

    async def start(self) -> None:
        """See :meth:`SessionStorage.start`.  Several apps may share a storage; the first one starts the sweep."""
        self._users += 1
        if self._users == 1:
            self._sweeping.start()

    async def aclose(self) -> None:
        """See :meth:`SessionStorage.aclose`.  The last app that uses the storage stops the sweep."""
        self._users = max(0, self._users - 1)
        if self._users == 0:
            await self._sweeping.stop()
        await self._saver.finish()
        if self._users == 0:
            self.outages.close()

    # --- sessions

    def now(self) -> int:
        """Return the time in whole Unix seconds."""
        return int(self.clock())

    def read(self, cookie_value: str | None) -> Coroutine[Any, Any, Session]:
        """See :meth:`SessionStorage.read`.  The cookie value is the session id."""
        return self._loader.read(cookie_value)

    @hides_locals
    async def refresh(self, session: Session) -> None:
        """See :meth:`SessionStorage.refresh`.  A session that is gone stays as it is, and its save finds that out."""
        await self._loader.refresh(state_of(session))

    def save(self, session: Session) -> Coroutine[Any, Any, str | None]:
        """See :meth:`SessionStorage.save`.

        Merges the changes onto the newest record, or creates, rotates or destroys the session.  Never upserts.
        """
        return self._saver.save(state_of(session))

    def watching(self, interval: float) -> Watching:
        """Return what watches sessions of this storage; the middleware uses it.

        Args:
            interval: Seconds between two looks at all that is watched.
        """
        return Watching(self, interval)

    # --- owners

    @hides_locals
    async def sessions_of(self, owner: str) -> list[SessionInfo]:
        """See :meth:`SessionStorage.sessions_of`."""
        return await self._saver.owners.sessions_of(checked_owner(owner))

    @hides_locals
    async def end_sessions(self, owner: str, *, keep: Session | None = None) -> int:
        """See :meth:`SessionStorage.end_sessions`."""
        if keep is not None and not isinstance(keep, Session):
            raise TypeError(f"keep is a Session, as get_session returns it, not {type(keep).__name__}")
        return await self._saver.owners.end_sessions(checked_owner(owner), () if keep is None else state_of(keep).lines)

    @hides_locals
    async def end_session(self, owner: str, key: str) -> bool:
        """See :meth:`SessionStorage.end_session`."""
        if not isinstance(key, str):
            raise TypeError(f"key is a string, as sessions_of lists it, not {type(key).__name__}")
        return await self._saver.owners.end_session(checked_owner(owner), key)

    @hides_locals
    async def adopt(self, session: Session, owner: str) -> None:
        """See :meth:`SessionStorage.adopt`."""
        await self._saver.adopt(state_of(session), checked_owner(owner))

    # --- for modules on top of this package

    @hides_locals
    async def find_login(self, index: str, line: str) -> Place | None:
        """Return where the session of one login stands now, whatever its id is by now, or None if it has ended.

        Args:
            index: The key of the owner's index, as ``record.head.owner_key`` makes it.
            line: That of the login, as the head of the session says it.

        Raises:
            SessionUsageError: This storage has no index of owners.
            StorageError: The storage failed, or has a session of the owner that this process cannot read.
        """
        return await self._saver.owners.find(index, line)

    @hides_locals
    async def note(self, place: Place, name: str, note: Note) -> Place | None:
        """Change what is noted of a login under *name*, by compare-and-set, and say where the session stands then.

        Args:
            place: Where the session stood when it was last seen.  It is followed to another id.
            name: That of the module which notes something.
            note: Makes the new note from the one that is there.  If another request was faster, it is called again.

        Returns:
            Where the session stands, with the note as it is now, or None if the session has ended.  A session without
            an owner has no notes.  ``max_session_size`` does not limit notes.

        Raises:
            StorageError: The storage failed; ``maybe_stored`` if the answer was lost.
        """
        return await self._saver.note(place, name, note)
