"""The state of a session, for storages and the middleware.  Applications see :class:`~.session.Session` instead."""

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
    """Everything about one session in one request except its data, which is in *log*.

    Attributes:
        log: The view of the data, and the changes made to it.
        created_at: Whole Unix seconds.  The lifetime counts from here.
        expires_at: Whole Unix seconds.  The session ends then if it is not used again.
        stored: The record as loaded or last saved, or None while there is none.
        record: *stored*, decoded.  The storage chooses the form, and only the storage uses it.
        retired: The id of this request was regenerated.  The record under it stays readable for the grace and is never
            written.
        rotation: The change of id that the next save will carry out, or None.
        replaces: The session that is deleted when this one is saved, or None.
        destroyed: The session is gone.  It reads as empty, and writes are refused.
        destroy_pending: This request destroyed the session, and its record is still to be deleted.
        superseded: :func:`new_session` has replaced this session.  Reads still work.
        sealed: The request is over.
        headers_sent: A cookie can no longer be sent.
        on_server: The record is kept in the storage, not in the cookie.
        cookie_limit: Bytes that the cookie leaves for an unsealed value.
        saving: Set while a save is under way.  The next save waits for it; otherwise it would work on a record that is
            just being replaced.
        lease: Set while the session is held exclusively by a lock that can be lost.  No save goes on without asking it.
        renew_at: Unix seconds.  From then on, a save may extend the session although nothing was changed.  A storage
            that never sets this is asked at every save.
        confirm: Set while the handler asks whether the session still exists.  A save then asks the storage although
            nothing was changed.
        owed: A cookie value that a save has not handed over yet.  If the save's request was cancelled, the next save
            hands it over.
    """

    # The defaults are class attributes: assigning them all in __init__ took as long as loading the record.
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
        """Describe a session that was loaded, or a new one if *stored* is None."""
        self.log: ChangeLog = log
        self.created_at: int = created_at
        self.expires_at: int = expires_at
        self.stored: Stored | None = stored
        self.record: Any = record
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
        return self.stored is None

    @property
    def needs_cookie(self) -> bool:
        """Whether something is not saved yet that needs a new cookie in the browser."""
        return not self.destroyed and (
            self.rotation is not None or self.replaces is not None or (self.new and self.log.dirty)
        )

    def is_settled(self, now: int) -> bool:
        """Return whether a save at *now* would do nothing.

        That is so in most requests, and asking here spares them seven calls (5 us).
        """
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
        """Refuse a write that would be lost.

        Raises:
            SessionDestroyedError: The session was destroyed or replaced.
            SessionCommittedError: The request is over, or the write needs a cookie and the headers are already sent.
        """
        if self.destroyed:
            raise SessionDestroyedError("the session was destroyed; get an empty one with new_session(request)")
        if self.superseded:
            raise SessionDestroyedError("new_session(request) replaced this session; write to the one it returned")
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

    def regenerate(self, *, delete_old: bool, renew_lifetime: bool) -> None:
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
            )
        self._id = new_id()

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
        """Make the session read as empty and refuse writes, whichever request destroyed it."""
        self.destroyed = True
        self.log.empty()
