"""The session of one request, from the first ``get_session`` to the save."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from ..errors import SessionCommittedError, SessionLockError, SessionUsageError
from ..record.session_id import key_of
from ..session.session import Session, state_of
from ..session.state import SessionState
from ..storages.base import SessionStorage
from .adoption import Adopter
from .cookie_settings import SessionCookie

_logger = logging.getLogger("aiohttp_session_store")

# From here on a status says that the server failed: what the handler did is not to be kept (RFC 9110, section 15.6).
SERVER_ERROR = 500


@dataclass(slots=True, eq=False)
class AppSessions:
    """What ``setup`` put on an app: its storage, its cookie, and which warnings it has given.

    Attributes:
        nested: Whether an app around this one has sessions, too; known when the app has started.
        outermost: Whether this app's session middleware is its first one.
        adopter: Asked for the sessions of visitors who have none of ours, or None.
        answered: The sessions of requests whose handlers are done, by what writes the response.  A middleware outside
            of the app may have cloned the request and replaced the response: both lead nowhere then, but they share it.
    """

    storage: SessionStorage
    cookie: SessionCookie
    nested: bool | None = None
    outermost: bool = False
    adopter: Adopter | None = None
    warned: set[str] = field(default_factory=set)
    answered: "WeakKeyDictionary[Any, RequestSession]" = field(default_factory=WeakKeyDictionary)

    def warn_once(self, topic: str, message: str, *args: object) -> None:
        """Log *message* the first time that *topic* comes up."""
        if topic not in self.warned:
            self.warned.add(topic)
            _logger.warning(message, *args)


class RequestSession:
    """One request's session in one app: loaded when asked for, saved when the handler has finished.

    Class attributes are the defaults, so that a request that never touches its session pays for two assignments.

    Attributes:
        session: The session, once loaded.
        owed: The unsealed value that the browser is owed, ``""`` to clear its cookie, or None.
        headers_sent: The handler prepared a response itself; its headers are gone.
        status: What that response said.
        finished: The handler is done: nothing more is saved.
        outer: The same of an app around this one.
        clears: A Set-Cookie header that clears the cookie of another library, or None.
        adopted: The session was that library's: its cookie is cleared once ours takes its place.
    """

    session: Session | None = None
    owed: str | None = None
    headers_sent: bool = False
    status: int = 200
    finished: bool = False
    clears: str | None = None
    adopted: bool = False
    _exclusive: bool = False
    _waiting: "list[asyncio.Future[None]] | None" = None

    def __init__(self, app: AppSessions, outer: "RequestSession | None") -> None:
        """Begin a request in *app*, within its session in *outer*."""
        self.app = app
        self.outer = outer

    def of(self, app: AppSessions) -> "RequestSession | None":
        """Return the request's session in *app*, which is this one's or around it."""
        found: RequestSession | None = self
        while found is not None and found.app is not app:
            found = found.outer
        return found

    # --- loading

    async def load(self, headers: Any) -> Session:
        """Return the session; parallel callers share one load, and a load that failed or was cancelled is tried again.

        Args:
            headers: The request's.

        Raises:
            StorageError: The storage failed.
        """
        while self.session is None:
            if self._waiting is None:
                waiting = self._waiting = []
                try:
                    self._begin(await self._read(headers))
                finally:  # no task and no shield, which would cost 24 us: a waiter takes over from a cancelled loader
                    self._waiting = None
                    for waiter in waiting:
                        if not waiter.done():
                            waiter.set_result(None)
            else:
                woken = asyncio.get_running_loop().create_future()
                self._waiting.append(woken)
                await woken
        return self.session

    async def _read(self, headers: Any) -> Session:
        storage, cookie = self.app.storage, self.app.cookie
        session: Session | None = None
        for candidate in cookie.candidates(headers.getall("Cookie", ())):
            session = await storage.read(candidate.value)
            if state_of(session).stored is not None:
                # Signed by an older secret: send it again, signed by the first.
                # A regenerated id stays away: it would replace its successor in the browser.
                if candidate.stale and not state_of(session).retired:
                    self.owed = candidate.value
                if self.app.adopter is not None:
                    self.clears = await self.app.adopter.spend(headers.getall("Cookie", ()))
                return session
        if self.app.adopter is not None and not self.headers_sent:  # it needs a cookie
            adopted = await self.app.adopter.adopt(headers.getall("Cookie", ()))
            if adopted is not None:
                self.clears, self.adopted = adopted.clear, True
                return adopted.session
        return session if session is not None else await storage.read(None)

    def _begin(self, session: Session) -> None:
        state = state_of(session)
        state.cookie_limit = self.app.cookie.value_limit
        if self.headers_sent:
            state.headers_sent = True
        if self.finished:
            state.sealed = True
        self.session = session

    async def renew(self, headers: Any) -> Session:
        """Put a new session in the place of the current one, which dies with the save.

        Raises:
            SessionCommittedError: The headers are sent, or the request is over.
            StorageError: The storage failed.
        """
        while True:
            state = state_of(await self.load(headers))
            if self.finished or self.headers_sent:
                raise SessionCommittedError(
                    "a new session needs a cookie, and the headers are sent: ask before prepare()"
                )
            if state.destroy_pending:
                await self.save()
            elif state.saving is not None:  # of a parallel task: what it stores is what dies
                await asyncio.wait([state.saving])
            else:
                break
        fresh = await self.app.storage.read(None)
        if not state.destroyed:
            state.withdraw_rotation()
            state_of(fresh).replaces = state.replaces if state.new else state
        state.superseded = True
        self._begin(fresh)
        return fresh

    @asynccontextmanager
    async def exclusive(self, headers: Any, patience: float) -> AsyncIterator[Session]:
        """Hold the session's lock for the length of a block, with the newest record; save at its end.

        Raises:
            SessionLockError: The lock was not to be had within *patience* seconds.
            SessionUsageError: The request has it already, or the storage has no locks.
            StorageError: The storage failed.
        """
        if self._exclusive:
            raise SessionUsageError("this request has its session exclusively already: exclusive_session does not nest")
        storage = self.app.storage
        self._exclusive = True
        try:
            async with AsyncExitStack() as stack:
                session = await self.load(headers)
                state = state_of(session)
                key = key_of(state.stored_id)
                lock = storage.lock(key)
                try:
                    async with asyncio.timeout(patience):
                        state.lease = await stack.enter_async_context(lock)
                except TimeoutError:
                    raise SessionLockError(
                        f"session {key} was busy for {patience:g} s: others have it exclusively"
                    ) from None
                try:
                    await storage.refresh(session)
                    yield session
                    await self.save()
                except BaseException:
                    for held in (session, self.session):  # the handler may have asked for a new one
                        if held is not None:
                            held.discard()  # what was computed under the lock is not to be saved without it
                    raise
                finally:
                    while state.saving is not None:  # of a request that was cancelled: it still needs the lock
                        with suppress(asyncio.CancelledError):
                            await asyncio.wait([state.saving])
                    state.lease = None
        finally:
            self._exclusive = False

    # --- saving

    async def save(self) -> None:
        """Store what was changed, and note what the browser is owed for it.

        Raises:
            SessionTooLargeError: It does not fit its cookie.
            StorageError: Nothing was stored.
            TypeError: A value cannot be stored.
        """
        session = self.session
        if session is not None:
            cookie_value = await self.app.storage.save(session)
            if self.session is session:  # not replaced meanwhile
                self.owe(cookie_value)

    async def save_now(self, headers: Any) -> bool:
        """Save at the handler's wish, and say whether the session still stands.

        Raises:
            SessionTooLargeError: It does not fit its cookie.
            StorageError: Nothing was stored, or nobody can know whether it stands.
            TypeError: A value cannot be stored.
        """
        session = await self.load(headers)
        state = state_of(session)
        state.confirm = True
        try:
            await self.save()
        finally:
            state.confirm = False
        return not session.destroyed and not self.is_over()

    def owe(self, cookie_value: str | None) -> None:
        """Note what the storage says that the browser must get."""
        if cookie_value is not None:
            self.owed = cookie_value

    async def commit(self, status: int) -> None:
        """Save for a response with *status*; a server error keeps nothing but a ``destroy()``."""
        if self.session is None:
            return
        state = state_of(self.session)
        if status >= SERVER_ERROR:
            state.withdraw()
        if status >= SERVER_ERROR and not state.destroy_pending:
            await self._await_save(state)
        else:
            self.owe(await self.app.storage.save(self.session))
        gone = state.destroyed or state.retired
        if gone and self.owed:  # an id that was to be signed anew leads nowhere, or not for long
            self.owed = None

    async def _await_save(self, state: SessionState) -> None:
        """Wait for a save that the handler gave up on and that goes on: its cookie is owed all the same."""
        task = asyncio.current_task()
        while state.saving is not None and not (task is not None and task.cancelling()):  # or nobody is there any more
            await asyncio.wait([state.saving])
        self.owe(state.owed)
        state.owed = None

    async def before_headers(self, status: int) -> None:
        """Save, because the handler prepares a response itself; what it changes later needs no cookie or is refused."""
        await self.commit(status)
        while status < SERVER_ERROR and self.session is not None and state_of(self.session).needs_cookie:
            await self.commit(status)  # a parallel task asked for it while the save was under way
        self.status = status
        self.headers_sent = True
        if self.session is not None:
            state_of(self.session).headers_sent = True

    def seal(self) -> bool:
        """Let nothing more be changed, because the handler is done; say whether something is left to :meth:`commit`."""
        self.finished = True
        if self.session is None:
            return False
        state = state_of(self.session)
        state.sealed = True
        return not state.is_settled(self.app.storage.now())

    # --- the end of its lifetime

    def is_over(self) -> bool:
        """Whether the session's lifetime has passed while the request was running."""
        left = self.seconds_left()
        return left is not None and left <= 0

    def seconds_left(self) -> int | None:
        """Return the seconds until the end of the session's lifetime, or None if it has none."""
        storage, session = self.app.storage, self.session
        if session is None or storage.timeouts.lifetime is None:
            return None
        return session.created_at + storage.timeouts.lifetime - storage.now()
