"""The session of one request, from the first ``get_session`` to the save."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

from aiohttp import web

from ..engine.session_watch import Waiter
from ..engine.verbs import unlosable
from ..errors import SessionCommittedError, SessionLockError, SessionUsageError, StorageError
from ..record.session_id import key_of
from ..session.session import Session, start_over, state_of
from ..session.state import SessionState
from ..tracebacks import hide_locals, hides_locals
from .app_sessions import AppSessions
from .arriving import Arrival, end_all, find_session, old_names, others_than
from .late_changes import watch_late_changes
from .request_headers import shows_nothing

# A status from here on means that the server failed, so the handler's changes are not kept (RFC 9110, section 15.6).
SERVER_ERROR = 500
# The browser shows the page that it has (RFC 9110, sections 15.3.5, 15.3.6 and 15.4.5).
SHOWS_NOTHING = frozenset({204, 205, 304})


class RequestSession:
    """One request's session in one app.  It is loaded at its first use and saved when the handler has finished.

    The defaults are class attributes, so a request that never touches its session costs only two assignments.

    Attributes:
        session: The session, once it is loaded.
        owed: The unsealed cookie value that must be sent to the browser.  ``""`` clears the cookie, and None sends
            nothing.
        resend: A cookie value that the browser has and is to get once more, or None.
        spent: Old names of the cookie, under which the browser sent cookies that are cleared when it gets a new one.
        headers_sent: The handler prepared a response itself, and its headers are sent.
        status: The status of that response.
        finished: The handler has finished, and nothing more is saved.
        outer: The same request's session in an app around this one, or None.
        clears: A Set-Cookie header that clears the cookie of another library, or None.
        adopted: The session was taken over from that library.  Its cookie is cleared once ours takes its place, or if
            the handler has left nothing to store.
        watches: What this request waits for: the ends of sessions.
        logged_in: This request has stored a login.
    """

    session: Session | None = None
    owed: str | None = None
    resend: str | None = None
    spent: frozenset[str] = frozenset()
    headers_sent: bool = False
    status: int = 200
    finished: bool = False
    clears: str | None = None
    adopted: bool = False
    watches: Sequence[Waiter[Any]] = ()
    logged_in: bool = False
    _exclusive: bool = False
    _locks: AsyncExitStack | None = None
    _held_key: str = ""
    _cookies: Sequence[str] = ()
    _seen: Sequence[str] = ()
    _waiting: "list[asyncio.Future[None]] | None" = None

    def __init__(self, app: AppSessions, outer: "RequestSession | None") -> None:
        """Begin a request in *app*; *outer* is its session in an app around that one."""
        self.app = app
        self.outer = outer

    def of(self, app: AppSessions) -> "RequestSession | None":
        """Return the request's session in *app*, which is the app of this one or an app around it."""
        found: RequestSession | None = self
        while found is not None and found.app is not app:
            found = found.outer
        return found

    # --- loading

    async def load(self, request: Any) -> Session:
        """Return the session, and load it if that has not been done yet.

        Parallel callers share one load.  If the load fails or is cancelled, the next caller tries again.

        Args:
            request: The request, for its method and headers.

        Raises:
            StorageError: The storage failed.
        """
        while self.session is None:
            if self._waiting is None:
                waiting = self._waiting = []
                try:
                    arrival = await find_session(self.app, request.headers, headers_sent=self.headers_sent)
                    if self.app.guard is not None:
                        admitted = await self.app.guard.admit(arrival.session, request)
                        # Another session goes its own way: it does not end the one that the browser came with.
                        arrival = arrival if admitted is arrival.session else Arrival(admitted)
                    self.begin(arrival, request)
                except BaseException as error:
                    hide_locals(error)
                    raise
                finally:  # no task and no shield (24 us): if this loader is cancelled, a waiter loads in its place
                    self._waiting = None
                    for waiter in waiting:
                        if not waiter.done():
                            waiter.set_result(None)
            else:
                woken = asyncio.get_running_loop().create_future()
                self._waiting.append(woken)
                await woken
        return self.session

    def begin(self, arrival: Arrival, request: Any) -> None:
        """Go on with the session that *request* came with."""
        session, self.resend, self._cookies, self._seen, self.spent, self.clears, self.adopted = arrival
        if self.app.secure_watch.waiting and not state_of(session).new and not self.adopted:
            self.app.secure_watch.came_back(request)
        self._begin(session, request)

    def _begin(self, session: Session, request: Any) -> None:
        state = state_of(session)
        if state.log.flashes.used and shows_nothing(request.method, request.headers):
            state.log.flashes.spare()
        state.cookie_limit = self.app.cookie.value_limit
        if self.headers_sent:
            state.headers_sent = True
        if self.finished:
            state.sealed = True
        self.session = session

    async def renew(self, request: Any) -> Session:
        """Replace the current session with a new one, in the same object.  Its save deletes the current one.

        Raises:
            SessionCommittedError: The headers are already sent, or the request is over.
            StorageError: The storage failed.
        """
        ended: SessionState | None = None
        while True:
            session = await self.load(request)
            state = state_of(session)
            if self.finished or self.headers_sent:
                raise SessionCommittedError(
                    "a new session needs a cookie, and the response's headers are already sent: call new_session()"
                    " before prepare()"
                )
            if state.destroy_pending:
                ended = state
                state.withdraw()  # what was set since a logout() is replaced, too, and must not be stored with it
                await self.save()
            elif state.saving is not None:  # a parallel task is saving: the record that it stores must be deleted
                await asyncio.wait([state.saving])
            else:
                break
        fresh = state_of(await self.app.storage.read(None))
        if state is not ended or not state.destroyed:
            # If it ended elsewhere, a login there may have given it another id: that login ends.
            fresh.replaces = state.replaces if state.new else state
        if not state.destroyed:
            state.withdraw_rotation()
        start_over(session, fresh)
        self._begin(session, request)
        return session

    @asynccontextmanager
    async def exclusive(self, request: Any, patience: float) -> AsyncIterator[Session]:
        """Hold the session's lock for the length of a block.

        The block starts with the newest record, and the session is saved at its end.

        Raises:
            SessionLockError: The lock was not free within *patience* seconds or was lost, or the session's id was
                regenerated meanwhile.
            SessionUsageError: The request holds the lock already, or the storage has no locks.
            StorageError: The storage failed.
        """
        if self._exclusive:
            raise SessionUsageError(
                "this request already holds its session exclusively: exclusive_session does not nest"
            )
        storage = self.app.storage
        self._exclusive = True
        try:
            async with AsyncExitStack() as locks:
                session = await self.load(request)
                state = state_of(session)
                key = key_of(state.stored_id)
                lock = storage.lock(key)
                try:
                    async with asyncio.timeout(patience):
                        state.lease = await locks.enter_async_context(lock) or unlosable
                except TimeoutError:
                    raise SessionLockError(
                        f"session {key} was busy for {patience:g} s: other requests hold it exclusively. Nothing was"
                        " stored"
                    ) from None
                except BaseException as error:  # Redis sends the commands of several requests together
                    hide_locals(error)
                    raise
                self._locks, self._held_key = locks, key
                try:
                    await storage.refresh(session)
                    try:
                        yield session
                    except web.HTTPException as response:  # a redirect, for example: as if the handler returned it
                        if response.status < SERVER_ERROR:
                            await self.save()
                        raise
                    await self.save()
                except BaseException:
                    session.discard()  # what was computed under the lock must not be saved without it
                    raise
                finally:
                    while state.saving is not None:  # the save of a cancelled request still needs the lock
                        with suppress(asyncio.CancelledError):
                            await asyncio.wait([state.saving])
                    state.lease = None
        finally:
            self._exclusive, self._locks = False, None

    @hides_locals
    async def _hold_new_id(self, locks: AsyncExitStack, state: SessionState) -> None:
        """Hold the session exclusively under its new id as well, before the browser is sent that id.

        This is for a handler that changes the id and prepares its response inside ``exclusive_session``.
        """
        if state.lease is not None and state.place is not None and state.place.key != self._held_key:
            before, self._held_key = state.lease, state.place.key
            lease = await locks.enter_async_context(self.app.storage.lock(self._held_key)) or unlosable

            async def both() -> None:
                await before()
                await lease()

            state.lease = both

    # --- saving

    async def save(self) -> None:
        """Store what was changed, and note the cookie value that must be sent to the browser.

        Raises:
            SessionTooLargeError: The session does not fit in its cookie.
            StorageError: Nothing was stored.
            TypeError: A value cannot be stored.
        """
        session = self.session
        if session is not None:
            # The request is not over: it may still fail, answer 304 or call keep_flashes(). The commit uses them up.
            state = state_of(session)
            flashes = state.log.flashes
            used = flashes.used
            flashes.spare()
            try:
                cookie_value = await self._store(session)
            finally:
                if not state.destroyed:
                    flashes.put_back_used(used)
            if state_of(session) is state:  # new_session() has not replaced it meanwhile
                self.owe(cookie_value)

    async def _store(self, session: Session) -> str | None:
        """Save *session*; if that ends it, end the other sessions of this visitor that came under our cookie's name.

        A browser sends two cookies of one name after a change of the cookie's path or domain.  A logout that ended only
        the first of them would leave the visitor logged in by the second.
        """
        try:
            state = state_of(session)
            ends, login = bool(self._cookies) and state.ends_what_was_there, state.login
            try:
                cookie_value = await self.app.storage.save(session)
            finally:
                if login is not None and state.head is not None and state.head.line == login.line:
                    self.logged_in = True
            if ends:
                lines, self._cookies = self._cookies, ()
                others = others_than(self.app, lines, self._seen)
                self.spent |= old_names(self.app, others)
                if others:
                    await asyncio.shield(end_all(self.app, others, lines))
        except BaseException as error:
            hide_locals(error)
            raise
        return cookie_value

    async def save_now(self, request: Any) -> bool:
        """Save because the handler asks for it, and return whether the session still exists.

        Raises:
            SessionTooLargeError: The session does not fit in its cookie.
            StorageError: Nothing was stored, or it is unknown whether the session still exists.
            TypeError: A value cannot be stored.
        """
        session = await self.load(request)
        state = state_of(session)
        state.confirm = True
        try:
            await self.save()
        finally:
            state.confirm = False
        return not session.destroyed and not self.is_over()

    def owe(self, cookie_value: str | None) -> None:
        """Note the cookie value that the storage wants the browser to get, unless it is None."""
        if cookie_value is not None:
            self.owed = cookie_value

    async def commit(self, status: int) -> None:
        """Save for a response with *status*.  After a server error, only a ``destroy()`` is carried out."""
        if self.session is None:
            return
        state = state_of(self.session)
        if status >= SERVER_ERROR:
            state.withdraw()
        elif status in SHOWS_NOTHING:
            state.log.flashes.spare()
        try:
            before = state.place
            if status >= SERVER_ERROR and not state.destroy_pending:
                await self._await_save(state)
            else:
                self.owe(await self._store(self.session))
            if self.adopted and status < SERVER_ERROR and state_of(self.session).new:
                self.adopted = False  # the handler has removed everything: the old cookie must not bring it back
            if self.owed and (state.destroyed or state.led_on):  # this id is worthless now, or will be soon
                self.owed = None
            resend, self.resend = self.resend, None
            if resend is not None and status < SERVER_ERROR and self.owed is None:
                await self._send_again(self.session, resend, written=state.place is not before)
            if state.log.given:
                state.late = watch_late_changes(state.log, self.session.key)
        except BaseException as error:
            hide_locals(error)
            self.owe(state.owed)  # a login is stored, and only the count of its owner's sessions failed, for example
            raise

    async def _send_again(self, session: Session, cookie_value: str, *, written: bool) -> None:
        """Send the browser the id that it has once more, unless that id is worthless by now.

        A login in a parallel request may have sent the browser another id.  The old one, in the response of a slow
        request, would take its place and log the visitor out.  So the storage is asked first, unless the save has just
        *written* the session.
        """
        state = state_of(session)
        if not written and state.on_server and not state.new and not state.destroyed:
            state.confirm = True
            try:
                self.owe(await self._store(session))
            except StorageError as error:  # the next request tries again
                late = "the cookie of session %s could not be sent again"
                self.app.outages.note(logging.WARNING, error, late, session.key)
                return
            finally:
                state.confirm = False
        if self.owed is None and not (state.new or state.destroyed or state.led_on):
            self.owed = cookie_value

    async def _await_save(self, state: SessionState) -> None:
        """Wait for a save that is still running although the handler gave up on it, and note its cookie."""
        task = asyncio.current_task()
        while state.saving is not None and not (task is not None and task.cancelling()):  # cancelled: nobody is waiting
            await asyncio.wait([state.saving])
        self.owe(state.owed)
        state.owed = None

    async def before_headers(self, status: int) -> None:
        """Save because the handler prepares a response itself.

        A later change that needs a cookie is refused.
        """
        await self.commit(status)
        while status < SERVER_ERROR and self.session is not None and state_of(self.session).needs_cookie:
            await self.commit(status)  # a parallel task made a change that needs a cookie during the save
        if self._locks is not None and self.session is not None:
            await self._hold_new_id(self._locks, state_of(self.session))
        self.status = status
        self.headers_sent = True
        if self.session is not None:
            state_of(self.session).headers_sent = True

    def seal(self) -> bool:
        """Refuse further changes, because the handler has finished.

        Returns:
            Whether something is left to :meth:`commit`.
        """
        self.finished = True
        if self.session is None:
            return False
        state = state_of(self.session)
        state.sealed = True
        return self.resend is not None or self.adopted or not state.is_settled(self.app.storage.now())

    def forget_watches(self) -> None:
        """Stop waiting for the end of the session, because the request is over."""
        watches, self.watches = self.watches, ()
        for watch in watches:
            watch.cancel()

    # --- the end of its lifetime

    def is_over(self) -> bool:
        """Return whether the session's lifetime has passed while the request was running."""
        left = None if self.session is None else self.app.seconds_left(self.session)
        return left is not None and left <= 0
