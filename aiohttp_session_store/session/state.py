"""What a session is made of, for storages and the middleware; applications see :class:`~.session.Session` instead."""

from asyncio import Future
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from ..errors import SessionCommittedError, SessionDestroyedError
from ..record.format import Stored
from ..record.session_id import new_id
from ..record.size import COOKIE_LIMIT
from .change_log import ChangeLog


@dataclass(frozen=True, slots=True)
class Rotation:
    """A change of the session's id that the next save will carry out."""

    original_id: str
    delete_old: bool
    renew_lifetime: bool


class SessionState:
    """Everything about one session in one request that is not its data.

    Attributes:
        log: The view of the data, and the changes made to it.
        created_at: Whole Unix seconds; the lifetime counts from here.
        expires_at: Whole Unix seconds; when the session ends if it is not used again.
        stored: The record as loaded or last saved, or None while there is none.
        record: *stored*, decoded as the storage likes; only the storage looks at it.
        retired: Loaded through an id that was regenerated: readable for the grace, and never written.
        rotation: A pending change of id.
        replaces: The session that dies when this one is saved, or None.
        destroyed: The session is gone; reads are empty and writes refused.
        destroy_pending: ... and its record is still to be deleted.
        superseded: :func:`new_session` took its place; reads still work.
        sealed: The request is over.
        headers_sent: A cookie can no longer be sent.
        on_server: The record lives in the storage, not in the cookie.
        cookie_limit: Bytes that the cookie leaves for an unsealed value.
        saving: Set while a save is under way: the next one waits for it, or would run on what it is replacing.
        lease: Set while the session is held exclusively by a lock that can be lost; no save goes on without it.
        renew_at: Unix seconds from which on a save may extend the session although nothing was changed; a storage
            that never says so is asked every time.
        confirm: Set while the handler asks whether the session still stands: a save looks although nothing was changed.
        owed: A cookie value that a save whose request was cancelled could not hand over; the next save does.
    """

    # Defaults stand in the class: assigning them all took as long as loading the record.
    retired: bool = False
    on_server: bool = True
    rotation: Rotation | None = None
    replaces: "SessionState | None" = None
    destroyed: bool = False
    destroy_pending: bool = False
    superseded: bool = False
    sealed: bool = False
    headers_sent: bool = False
    cookie_limit: int = COOKIE_LIMIT
    saving: Future[Any] | None = None
    lease: Callable[[], Awaitable[None]] | None = None
    renew_at: float = 0
    confirm: bool = False
    owed: str | None = None

    def __init__(
        self,
        log: ChangeLog,
        *,
        created_at: int,
        expires_at: int,
        session_id: str | None = None,
        stored: Stored | None = None,
        record: Any = None,
    ) -> None:
        """Describe a session that was loaded, or with *stored* None a new one."""
        self.log: ChangeLog = log
        self.created_at: int = created_at
        self.expires_at: int = expires_at
        self.stored: Stored | None = stored
        self.record: Any = record
        self._id = session_id

    @property
    def id(self) -> str:
        """The session id, made when first asked for: most fresh sessions are never stored."""
        if self._id is None:
            self._id = new_id()
        return self._id

    @id.setter
    def id(self, value: str) -> None:
        self._id = value

    @property
    def stored_id(self) -> str:
        """The id that the record stands under: not yet the one that a rotation will give it."""
        return self.id if self.rotation is None else self.rotation.original_id

    @property
    def new(self) -> bool:
        """Whether no record stands behind the session yet."""
        return self.stored is None

    @property
    def needs_cookie(self) -> bool:
        """Whether the browser is to be told of something that is not saved yet."""
        return not self.destroyed and (
            self.rotation is not None or self.replaces is not None or (self.new and self.log.dirty)
        )

    def is_settled(self, now: int) -> bool:
        """Whether a save at *now* would do nothing, as in most requests: asking here saves them seven calls (5 us)."""
        return (
            self.log.is_empty()
            and (self.stored is None or now < self.renew_at)
            and self.rotation is None
            and self.replaces is None
            and self.saving is None
            and self.owed is None
            and not self.destroy_pending
        )

    def check_writable(self) -> None:
        """Refuse a write that nobody would store.

        Raises:
            SessionDestroyedError: The session was destroyed or replaced.
            SessionCommittedError: The request is over, or a cookie is needed and the headers are gone.
        """
        if self.destroyed:
            raise SessionDestroyedError("the session was destroyed; get an empty one with new_session(request)")
        if self.superseded:
            raise SessionDestroyedError("new_session(request) replaced this session; write to the one it returned")
        if self.sealed:
            raise SessionCommittedError(
                "the request is over and its session saved: this change would be lost. Make it before the handler"
                " returns, or keep what a background task needs outside of the session"
            )
        if self.headers_sent and (self.new or not self.on_server):
            raise SessionCommittedError(
                "this change needs a cookie, and the response's headers are sent. Make it before prepare()"
                + ("; CookieStorage can never store one later" if not self.on_server else "")
            )

    def regenerate(self, *, delete_old: bool, renew_lifetime: bool) -> None:
        """Give the session another id; the record follows with the save."""
        self.check_writable()
        if self.headers_sent:
            raise SessionCommittedError(
                "a new id needs a cookie, and the headers are sent: regenerate before prepare()"
            )
        if not self.new:
            pending = self.rotation
            self.rotation = Rotation(
                original_id=pending.original_id if pending else self.id,
                delete_old=delete_old or (pending is not None and pending.delete_old),
                renew_lifetime=renew_lifetime or (pending is not None and pending.renew_lifetime),
            )
        self._id = new_id()

    def carried_out(self, rotation: Rotation, session_id: str) -> None:
        """Note that *rotation* led to *session_id*, whatever was asked for while it was under way."""
        later = self.rotation
        if later is None or later is rotation:
            self.rotation = None
            self._id = session_id
        else:
            self.rotation = replace(later, original_id=session_id)

    def withdraw_rotation(self) -> None:
        """Go back to the id as loaded or last saved."""
        if self.rotation is not None:
            self._id = self.rotation.original_id
            self.rotation = None

    def withdraw(self) -> None:
        """Go back to the session as loaded or last saved."""
        self.withdraw_rotation()
        if not self.destroyed:
            self.log.discard()

    def destroy(self) -> None:
        """Make the session read as empty, and let the next save delete its record."""
        if not self.destroyed:
            self.withdraw_rotation()
            self.destroy_pending = True
        self.mark_destroyed()

    def mark_destroyed(self) -> None:
        """Make the session read as empty and refuse writes: it is gone, whoever did it."""
        self.destroyed = True
        self.log.empty()
