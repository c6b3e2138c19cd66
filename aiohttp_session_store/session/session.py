"""The session that a handler holds: a mapping, plus flash, regenerate_id and destroy."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from ..errors import SessionCommittedError, SessionUsageError
from ..record.head import Limits, checked_label, checked_owner
from ..record.json_encoders import dumps
from ..record.session_id import key_of
from ..record.timeouts import checked_span
from ..tracebacks import hide_locals
from . import old_names
from .mapping import SessionMapping
from .state import Fate, SessionState
from .typed_key import SessionKey

__all__ = ["Session"]

T = TypeVar("T")


class Session(SessionMapping):
    """One visitor's data, and the operations on the session that holds it.

    A session has the methods and operators of a dict.  Its keys are strings, or :class:`SessionKey` objects that know
    the type of their value.  Its values are those that JSON can hold, and datetime, date, UUID, Decimal, bytes, set and
    tuple.  They may be nested up to 100 levels deep.  A value of a subclass that adds nothing to these types comes back
    as a value of the type itself.  Other subclasses are refused.  Where a real dict is needed, as for
    ``web.json_response``, use ``dict(session)``.

    Every change is noticed, also inside a list, dict or set that the session holds.  Changes are stored before the
    response's headers are sent.  A session that was not changed is not written.  Handlers get their session from
    :func:`~aiohttp_session_store.get_session` and never create one.
    """

    __slots__ = ()

    def __init__(self, state: SessionState | None = None) -> None:
        """Wrap *state*.  Only storages do this.

        Raises:
            SessionUsageError: The session was not made by a storage.
        """
        if state.__class__ is not SessionState:
            raise SessionUsageError(
                "Session() is not called by hand: a handler gets its session from `await get_session(request)`, and"
                " code without a request from `await storage.read(None)`"
            )
        self._state = state

    def __repr__(self) -> str:
        """Show the key and the state, never the id or the data."""
        state = self._state
        condition = "destroyed" if state.destroyed else "new" if self.new else "stored"
        return f"<{type(self).__name__} {self.key[:16]} {condition}>"

    def __sentry_repr__(self) -> str:
        """Show the same to Sentry, which walks through a mapping otherwise."""
        return repr(self)

    # --- facts

    @property
    def id(self) -> str:
        """The session id.  Anybody who knows it can act as the visitor.  Never log or show it; use ``key`` instead."""
        return self._state.id

    @property
    def key(self) -> str:
        """The SHA-256 of the id in hex.  Storages, file names and log lines see the key instead of the id."""
        return key_of(self._state.id)

    @property
    def new(self) -> bool:
        """Whether the session begins with this request.  One that was taken over from another library does not."""
        return self._state.new and self._state.taken_over is None

    @property
    def dirty(self) -> bool:
        """Whether this request asked for something that a save still has to do."""
        state = self._state
        if state.destroyed:
            return state.destroy_pending
        pending = (state.rotation, state.login, state.to_count, state.replaces, state.logged_out)
        try:
            return state.log.dirty or any(one is not None for one in pending)
        except Exception as error:
            hide_locals(error)
            raise

    @property
    def destroyed(self) -> bool:
        """Whether the session was destroyed by this request, or by another one as a save has found out."""
        return self._state.destroyed

    @property
    def size(self) -> int:
        """The size of the encoded data in bytes, without flashes."""
        try:
            return len(dumps(self._state.log.frozen()))
        except Exception as error:
            hide_locals(error)
            raise

    @property
    def created_at(self) -> int:
        """When the session began, in whole Unix seconds."""
        return self._state.created_at

    @property
    def expires_at(self) -> int:
        """When the session ends unless it is used again, in whole Unix seconds."""
        return self._state.expires_at

    @property
    def delete_id(self) -> str | None:
        """The id whose record the next save will delete, or None."""
        state = self._state
        if state.destroyed:
            return state.id if state.destroy_pending and not state.new else None
        if state.rotation is not None:
            return state.rotation.original_id if state.rotation.delete_old else None
        return state.replaces.id if state.replaces is not None and not state.replaces.new else None

    # --- flash messages

    @overload
    def flash(self, key: SessionKey[T], value: T) -> None: ...
    @overload
    def flash(self, key: str, value: Any) -> None: ...
    def flash(self, key: Any, value: Any) -> None:
        """Leave *value* for the next request that loads the session and succeeds, and only for that one.

        That request reads it as ``session[key]``, unless the session's data has the same key.  A second flash with the
        same key replaces the first.

        Args:
            key: A string or a :class:`SessionKey`.
            value: Anything that a session can hold.

        Raises:
            SessionUsageError: The session was destroyed, or it is too late for a change.
            TypeError: *value* cannot be stored.
        """
        state = self._state
        try:
            state.check_writable()
            if isinstance(key, SessionKey):
                value, key = key.proved(value), key.name
            state.log.flash(key, value)
        except Exception as error:
            hide_locals(error)
            raise

    def keep_flashes(self) -> None:
        """Leave the flash messages that this request could read for the next request as well.

        For a handler that redirects once more, or that answers something other than the page which shows them.

        Raises:
            SessionUsageError: The session was destroyed, or it is too late.
        """
        self._state.check_writable()
        self._state.log.flashes.spare()

    # --- all changes of this request

    def changed(self) -> None:
        """Mark all lists and dicts that were read as changed, so that the next save writes them.

        This is seldom needed, because changes inside them are noticed.
        """
        state = self._state
        state.check_writable()
        state.log.mark_watched()

    def discard(self) -> None:
        """Go back to the values as loaded or last saved, and withdraw new flashes and a pending change of id.

        Lists and dicts that were handed out are detached: later changes in them are not saved.  A :meth:`destroy` is
        not undone, nor is anything that was already saved.
        """
        if not self._state.sealed:
            self._state.withdraw()

    # --- the session itself

    def regenerate_id(self, delete_old_session: bool = False, *, renew_lifetime: bool = False) -> None:
        """Give the session a new id and keep its data.  Call this with True at every login.

        Args:
            delete_old_session: If True, the old id is worthless at once.  If False, requests that are under way with
                the old id can read the data as it was for the storage's ``rotation_grace``.  Changes that they make go
                to the new session.
            renew_lifetime: Whether the storage's lifetime starts again.  What :meth:`shorten` said still counts.

        Raises:
            SessionDestroyedError: The session was destroyed.
            SessionCommittedError: The request is over, or the headers are already sent and cannot carry a new cookie.
            TypeError: An argument is no bool.

        References:
            OWASP Session Management Cheat Sheet, "Renew the Session ID After Any Privilege Level Change".
        """
        for flag in (delete_old_session, renew_lifetime):
            if not isinstance(flag, bool):
                raise TypeError(f"regenerate_id() takes True or False, not a value of type {type(flag).__name__}")
        self._state.regenerate(delete_old=delete_old_session, renew_lifetime=renew_lifetime)

    # --- whose session it is

    @property
    def owner(self) -> str | None:
        """The account that is logged in, or None."""
        return self._state.owner

    @property
    def authenticated_at(self) -> int | None:
        """When the owner logged in or last confirmed the login, in whole Unix seconds, or None."""
        return self._state.authenticated_at

    def authenticated_within(self, seconds: float | timedelta) -> bool:
        """Return whether the owner logged in or confirmed the login in the last *seconds*.

        Ask this before something sensitive, such as a payment.  If it is False, ask for the password again and call
        :meth:`confirm_login`.  It is False if nobody is logged in.

        Args:
            seconds: A number of seconds or a timedelta.

        Raises:
            TypeError: *seconds* is neither.
            ValueError: It is less than a second.

        References:
            OWASP ASVS 5.0, 7.5.1 and 7.5.3.
        """
        within, at = checked_span("seconds", seconds), self._state.authenticated_at
        return at is not None and self._state.now() - at <= within

    def login(
        self, owner: str, *, remember: float | timedelta | Literal[False] | None = None, label: str | None = None
    ) -> None:
        """Log *owner* in: the session belongs to that account from now on.

        The session gets another id, and the old id is worthless at once.  The lifetime starts again.  What an anonymous
        visitor has put into the session stays, such as a cart.  If another account was logged in, its data is dropped,
        and so is what this request has set before.

        Args:
            owner: The account, as a string that is never reused: ``str(user.id)``, not a name or an address.
            remember: How long the session lives after its last use, as seconds or a timedelta, whatever the storage's
                ``idle_timeout`` is; its ``lifetime`` applies all the same.  The cookie is then kept when the browser is
                closed.  None or False for the storage's ``idle_timeout`` and the app's kind of cookie.
            label: What to call the device in a list of sessions, up to 255 characters.

        Raises:
            SessionCommittedError: The headers are sent, or the request is over.
            SessionDestroyedError: The session was destroyed.
            TypeError: *owner* is not a string of 1 to 255 characters, *label* is none, or *remember* is True: say for
                how long.
            ValueError: *remember* is less than a second.

        References:
            OWASP Session Management Cheat Sheet, "Renew the Session ID After Any Privilege Level Change".
        """
        span = None if remember is None or remember is False else checked_span("remember", remember)
        self._state.log_in(checked_owner(owner), checked_label(label), span)

    def confirm_login(self) -> None:
        """Note that the owner has proved once more who they are, such as by the password.

        From now on, :attr:`authenticated_at` is now.  The session gets another id, as by ``regenerate_id()``: parallel
        requests go on and keep their changes, and the old id never counts as freshly authenticated.  The lifetime does
        not change.  If a parallel request has renewed the id just before, the browser has the id from that request, and
        the confirmation counts in this request only.

        Raises:
            SessionCommittedError: The headers are sent, or the request is over.
            SessionDestroyedError: The session was destroyed.
            SessionUsageError: Nobody is logged in.

        References:
            OWASP Session Management Cheat Sheet, "Reauthentication After Risk Events".
        """
        state = self._state
        state.check_owned("confirm_login")
        state.regenerate(delete_old=False, renew_lifetime=False, confirmed_at=state.now())

    def shorten(
        self, *, idle_timeout: float | timedelta | None = None, lifetime: float | timedelta | None = None
    ) -> None:
        """Let this one session end sooner than the storage's limits say.

        Nothing makes it longer again, but the next :meth:`login` starts without such limits.  If the session has
        shorter ones already, those stay.

        Args:
            idle_timeout: How long it lives after its last use, as seconds or a timedelta; None for no change.
            lifetime: How long it lives after the login, as seconds or a timedelta; None for no change.

        Raises:
            SessionCommittedError: The request is over, or the session is in the cookie and the headers are sent.
            SessionDestroyedError: The session was destroyed.
            SessionUsageError: Nobody is logged in.
            TypeError: An argument is no span of time.
            ValueError: It is less than a second.
        """
        state = self._state
        state.check_owned("shorten")
        limits = Limits(
            None if idle_timeout is None else checked_span("idle_timeout", idle_timeout),
            None if lifetime is None else checked_span("lifetime", lifetime),
        )
        if limits != Limits():
            state.log.shorten(limits)

    def logout(self) -> None:
        """Log out: end the session as :meth:`destroy` does, and go on with an empty anonymous one.

        The session is ended even if the handler fails later.  What is set or flashed from now on, such as a goodbye,
        belongs to the new session.  If the headers are already sent, there is no new session, as after :meth:`destroy`.

        Raises:
            SessionCommittedError: The request is over; or the headers are sent, and the session is in the cookie.
        """
        before = self._state
        if before.fate is Fate.TO_BE_ENDED or (before.destroyed and before.sealed):
            return
        self.destroy()
        if before.headers_sent:
            return  # an anonymous session would need a cookie
        before_it = (before.saving, before.replaces, before.logged_out, before.taken_over)
        if before.new and all(one is None for one in before_it):
            before.fate = Fate.ALIVE  # nothing is stored: the emptied session will do
            return
        self._state = before.anonymous()

    def destroy(self) -> None:
        """Delete the session on the server and its cookie in the browser, even if the request fails later.

        From now on, the session reads as empty and writes raise :class:`SessionDestroyedError`.

        Raises:
            SessionCommittedError: The request is over, or the headers are already sent and the session is kept in the
                cookie.
        """
        state = self._state
        if state.sealed and not state.destroyed:
            raise SessionCommittedError("the request is over: destroy the session before the handler returns")
        if state.headers_sent and not state.on_server and not state.destroyed:
            raise SessionCommittedError(
                "the response's headers are already sent, and CookieStorage needs them to clear the cookie: destroy the"
                " session before prepare()"
            )
        state.destroy()


if not TYPE_CHECKING:  # so that type checkers still see that there is no such attribute
    for _name in old_names.ATTRIBUTES:
        setattr(Session, _name, old_names.OldAttribute(_name))


def start_over(session: Session, fresh: SessionState) -> None:
    """Let *session* go on as the new session *fresh*, so that whoever holds the object writes to the new one."""
    session._state = fresh  # noqa: SLF001  as in state_of()


def state_of(session: Session) -> SessionState:
    """Return the state behind *session*, for storages and the middleware."""
    return session._state  # noqa: SLF001  the only way from the public session to its internal state
