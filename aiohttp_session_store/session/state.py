"""The state of a session, for storages and the middleware.  Applications see :class:`~.session.Session` instead."""

import secrets
from asyncio import Future
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from math import inf
from typing import Any, NamedTuple

from ..errors import SessionCommittedError, SessionDestroyedError, SessionUsageError
from ..record.format import Record, Stored
from ..record.head import Head
from ..record.session_id import key_of, new_id
from ..record.size import COOKIE_LIMIT
from ..record.values import thaw
from .change_log import ChangeLog


class Place(NamedTuple):
    """Where the record of a session stands, as it was last seen.

    Attributes:
        key: The key of the record.  It is not the key of this request's id if another request renewed that id.
        stored: The record as the storage holds it.
        record: The same record, decoded.
        ends: Whole Unix seconds.  The session ends then, by its own limits and the current ones, if it is not used.
        renew_at: Unix seconds.  From then on, a use of the session is worth a call that extends it.
    """

    key: str
    stored: Stored
    record: Record
    ends: int
    renew_at: float


class Refused(NamedTuple):
    """Why a cookie value led to no session.

    Attributes:
        reason: One of those of the events of that kind.
        key: The key that it led to, or None if it holds no id.
        owner: Whose session it was, or None if that is not known.
    """

    reason: str
    key: str | None = None
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Rotation:
    """A change of the session's id that the next save will carry out.

    Attributes:
        original_id: The id from before.
        delete_old: Whether the old id is worthless at once.
        renew_lifetime: Whether the lifetime starts again.
        confirmed_at: When the owner confirmed the login, in whole Unix seconds, or None.
    """

    original_id: str = field(repr=False)
    delete_old: bool
    renew_lifetime: bool
    confirmed_at: int | None = None


@dataclass(frozen=True, slots=True)
class Login:
    """A login that the next save will carry out.

    Attributes:
        owner: The account.
        label: What the application calls the device, or None.
        line: Random; the next changes of the id carry it on.
        at: Whole Unix seconds.
        remember: The idle timeout of a session that is to be remembered, in seconds, or None.
    """

    owner: str
    label: str | None
    line: str
    at: int
    remember: int | None = None

    def head(self) -> Head:
        """Return the head of the session that this login makes.  How long an index shows it is not known yet."""
        return Head(self.owner, self.at, self.line, 0, self.label, remember=self.remember)


class Fate(Enum):
    """Whether the session goes on."""

    ALIVE = auto()
    TO_BE_ENDED = auto()  # this request destroyed it, and its record is still there
    ENDED = auto()


_ALIVE = Fate.ALIVE  # looking a member of an Enum up takes three times as long as a global


class SessionState:
    """Everything about one session in one request except its data, which is in *log*.

    Attributes:
        log: The view of the data, and the changes made to it.
        created_at: Whole Unix seconds.  The lifetime counts from here.
        expires_at: Whole Unix seconds.  The session ends then if it is not used again.
        place: Where its record stands now, or None while there is none.  Everything that is done to the session starts
            there.  What the session reads is another matter: only what its own id may read.
        readable: What its own id may read, with the changes of this request, while another request's change of the id
            keeps it apart from what stands at *place*; None otherwise.
        head: Whose session its own id leads to, or None.
        rotation: The change of id that the next save will carry out, or None.
        login: The login that the next save will carry out, or None.
        to_count: The owner whose sessions are to be counted, because this session is stored and may be one too many.
        replaces: The session that ends when this one is saved, or None.
        logged_out: The session that the next save ends, whatever becomes of the request, or None.
        now: Returns the time in whole Unix seconds.
        warn: Logs a warning, or None in a session that was not loaded.
        fate: Whether the session goes on.
        sealed: The request is over.
        headers_sent: A cookie can no longer be sent.
        on_server: The record is kept in the storage, not in the cookie.
        cookie_limit: Bytes that the cookie leaves for an unsealed value.
        saving: Set while a save is under way.  The next save waits for it; otherwise it would work on a record that is
            just being replaced.
        lease: Set while the session is held exclusively.  No save goes on without asking it.
        confirm: Set while the handler asks whether the session still stands.  A save then asks the storage although
            nothing was changed.
        renew_at: Unix seconds.  From then on a save of a session in the cookie extends it although nothing was changed.
        taken_over: The data of another library's session that this one began with, in frozen form, as long as it is
            not stored.  None for all other sessions.
        owed: A cookie value that a save has not handed over yet.  If the save's request was cancelled, the next save
            hands it over.
        refused: Why the cookie value that was read led to no session, or None if there was none or it did.
        late: What looks for changes that come too late, in debug mode.
    """

    # The defaults are class attributes: assigning them all in __init__ took as long as loading the record.
    on_server: bool = True
    readable: Record | None = None
    head: Head | None = None
    rotation: Rotation | None = None
    login: Login | None = None
    to_count: str | None = None
    replaces: "SessionState | None" = None
    logged_out: "SessionState | None" = None
    warn: Callable[[str], object] | None = None
    fate: Fate = _ALIVE
    sealed: bool = False
    headers_sent: bool = False
    cookie_limit: int = COOKIE_LIMIT
    saving: Future[Any] | None = None
    lease: Callable[[], Awaitable[None]] | None = None
    confirm: bool = False
    renew_at: float = inf
    taken_over: Mapping[str, Any] | None = None
    owed: str | None = None
    refused: Refused | None = None
    late: object = None

    def __init__(
        self,
        log: ChangeLog,
        *,
        created_at: int,
        expires_at: int,
        session_id: str | None = None,
        place: Place | None = None,
        now: Callable[[], int],
    ) -> None:
        """Describe a session that was loaded, or a new one if *place* is None."""
        self.log: ChangeLog = log
        self.created_at: int = created_at
        self.expires_at: int = expires_at
        self.place: Place | None = place
        self.now: Callable[[], int] = now
        self._id = session_id

    @property
    def id(self) -> str:
        """The session id.  It is made at the first access, because most new sessions are never stored."""
        if self._id is None:
            self._id = new_id()
        return self._id

    @id.setter
    def id(self, value: str) -> None:
        self._id = value

    @property
    def stored_id(self) -> str:
        """The id under which the record is stored now, even if a rotation is pending."""
        return self.id if self.rotation is None else self.rotation.original_id

    @property
    def new(self) -> bool:
        """Whether the session has no record yet."""
        return self.place is None

    @property
    def led_on(self) -> bool:
        """Whether another request changed the session's id, so that its record stands under a key that is not ours."""
        return self.on_server and self.place is not None and self.place.key != key_of(self.stored_id)

    @property
    def destroyed(self) -> bool:
        """Whether the session is gone: it reads as empty, and writes are refused."""
        return self.fate is not _ALIVE

    @property
    def destroy_pending(self) -> bool:
        """Whether this request destroyed the session or logged out, and a record is still to be ended."""
        return self.logged_out is not None or (self.fate is not _ALIVE and self.fate is Fate.TO_BE_ENDED)

    @property
    def needs_cookie(self) -> bool:
        """Whether something is not saved yet that needs a new cookie in the browser."""
        return not self.destroyed and (
            self.rotation is not None
            or self.replaces is not None
            or self.logged_out is not None
            or (self.new and (self.login is not None or self.log.dirty))
        )

    @property
    def ends_what_was_there(self) -> bool:
        """Whether the next save ends the session that the browser came with: a logout, a login or a new session."""
        return (
            self.destroy_pending
            or self.replaces is not None
            or self.login is not None
            or (self.rotation is not None and self.rotation.delete_old)
        )

    def is_settled(self, now: int) -> bool:
        """Return whether a save at *now* would do nothing, as in most requests.  The check saves seven calls (5 us)."""
        return (
            self.log.is_empty()
            and now < self.renew_at
            and self.rotation is None
            and self.login is None
            and self.replaces is None
            and self.logged_out is None
            and self.saving is None
            and self.owed is None
            and (self.fate is _ALIVE or self.fate is not Fate.TO_BE_ENDED)
        )

    def check_writable(self) -> None:
        """Refuse a write that would be lost.

        Raises:
            SessionDestroyedError: The session was destroyed.
            SessionCommittedError: The request is over, or the write needs a cookie and the headers are already sent.
        """
        if self.fate is not _ALIVE:
            raise SessionDestroyedError("the session was destroyed; get an empty one with new_session(request)")
        if self.sealed:
            raise SessionCommittedError(
                "the request is over and its session saved: this change would be lost. Make the change before the"
                " handler returns, or keep the data of a background task outside of the session"
            )
        if self.headers_sent and (self.new or not self.on_server):
            raise SessionCommittedError(
                "this change needs a cookie, and the response's headers are already sent. Make the change before"
                " prepare()" + ("; CookieStorage can never store one later" if not self.on_server else "")
            )

    def regenerate(self, *, delete_old: bool, renew_lifetime: bool, confirmed_at: int | None = None) -> None:
        """Give the session a new id.  The next save moves the record to it."""
        self.check_writable()
        if self.headers_sent:
            raise SessionCommittedError(
                "a new id needs a cookie, and the response's headers are already sent: regenerate before prepare()"
            )
        if not self.new:
            pending = self.rotation
            self.rotation = Rotation(
                original_id=pending.original_id if pending else self.id,
                delete_old=delete_old or (pending is not None and pending.delete_old),
                renew_lifetime=renew_lifetime or (pending is not None and pending.renew_lifetime),
                confirmed_at=pending.confirmed_at if pending and confirmed_at is None else confirmed_at,
            )
        self._id = new_id()

    @property
    def owner(self) -> str | None:
        """The account that the session belongs to, or None."""
        if self.login is not None:
            return self.login.owner
        return None if self.head is None or self.destroyed else self.head.owner

    @property
    def authenticated_at(self) -> int | None:
        """When the owner has last proved who they are, in whole Unix seconds, or None."""
        if self.login is not None:
            return self.login.at
        if self.head is None or self.destroyed:
            return None
        confirmed_at = None if self.rotation is None else self.rotation.confirmed_at
        return self.head.proved_at if confirmed_at is None else max(self.head.proved_at, confirmed_at)

    @property
    def lines(self) -> set[str]:
        """The lines of this session: as it is stored, and as a login will make it."""
        heads = (self.login, self.head, None if self.place is None else self.place.record.head)
        return {head.line for head in heads if head is not None}

    def log_in(self, owner: str, label: str | None, remember: int | None = None) -> None:
        """Give the session to *owner*, under another id."""
        self.check_writable()
        if self.headers_sent:
            raise SessionCommittedError(
                "a login needs a cookie, and the response's headers are already sent: log in before prepare()"
            )
        if self.owner not in (None, owner):
            self.log.start_anew()
        self.regenerate(delete_old=True, renew_lifetime=True)
        self.log.end_limits()  # they were those of the session before
        self.login = Login(owner, label, secrets.token_urlsafe(6), self.now(), remember)

    def check_owned(self, call: str) -> None:
        """Refuse what is for a session that has an owner.

        Raises:
            SessionUsageError: It has none.  The message calls the method *call*.
        """
        self.check_writable()
        if self.owner is None:
            raise SessionUsageError(
                f"nobody is logged in, so there is nothing that {call}() could do: call login() first"
            )

    def anonymous(self) -> "SessionState":
        """Return the empty session that a logout goes on with; saving it ends this one."""
        now = self.now()
        fresh = SessionState(ChangeLog({}), created_at=now, expires_at=self.expires_at, now=self.now)
        fresh.logged_out = self
        fresh.on_server, fresh.cookie_limit = self.on_server, self.cookie_limit
        fresh.sealed, fresh.headers_sent = self.sealed, self.headers_sent
        return fresh

    def doomed(self) -> Iterator["SessionState"]:
        """Yield the sessions that end with this one: itself, and what it was to end."""
        yield self
        for other in (self.replaces, self.logged_out):
            if other is not None:
                yield from other.doomed()

    def carried_out(self, rotation: Rotation, session_id: str) -> None:
        """Note that *rotation* moved the session to *session_id*.

        A rotation that was asked for while this one was under way stays pending.
        """
        later = self.rotation
        if later is None or later is rotation:
            self.rotation = None
            self._id = session_id
        else:
            self.rotation = replace(later, original_id=session_id)

    def take_another_id(self, refused: str) -> None:
        """Ask for another id, because a rotation to *refused* failed; unless that was withdrawn meanwhile."""
        if self.rotation is not None and self._id == refused:
            self._id = new_id()

    def withdraw_rotation(self) -> None:
        """Go back to the id as loaded or last saved."""
        if self.rotation is not None:
            self._id = self.rotation.original_id
            self.rotation = None

    def withdraw(self) -> None:
        """Go back to the session as loaded or last saved."""
        self.withdraw_rotation()
        self.login = None
        if not self.destroyed:
            self.log.discard()
            if self.taken_over is not None and self.new:
                self.take_over(self.taken_over)

    def take_over(self, data: Mapping[str, Any]) -> None:
        """Begin with the *data* of another library's session, in frozen form."""
        self.taken_over = data
        for key, value in data.items():
            self.log.assign(key, thaw(value))

    def destroy(self) -> None:
        """Make the session read as empty, and let the next save delete its record.

        A save may have found that it ended elsewhere.  If a login there gave it another id, it is that login that ends.
        """
        if not self.destroyed:
            self.withdraw_rotation()
            self.login = None
            self.log.empty()
        if not self.sealed:
            self.fate = Fate.TO_BE_ENDED

    def mark_destroyed(self) -> None:
        """Make the session read as empty and refuse writes, whichever request destroyed it."""
        self.fate = Fate.ENDED
        self.log.empty()
