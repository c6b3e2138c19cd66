"""Waiting for the end of a session, for one request."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["SessionWatch", "Waiter"]

S = TypeVar("S")


class SessionWatch:
    """Waits for the end of a session; :func:`~aiohttp_session_store.watch_session` returns one.

    Attributes:
        reason: Why the session has ended, or None as long as it goes on.  ``"logout"``; ``"revoked"``: by
            ``end_sessions`` or ``end_session``; ``"too_many"``: by a login that was one too many; ``"replaced"``: a
            login or ``regenerate_id(True)`` gave it another id, or ``new_session`` replaced it; ``"idle"`` or
            ``"lifetime"``: that limit has passed; ``"ended"``: the reason is not known.
    """

    __slots__ = ("reason",)

    def __init__(self, reason: str | None) -> None:
        """Call ``watch_session`` instead."""
        self.reason: str | None = reason

    async def ended(self) -> str:
        """Wait until the session ends, and return the reason.

        Raises:
            asyncio.CancelledError: The watch was cancelled, or the request is over and the session is not.
        """
        if self.reason is None:
            raise asyncio.CancelledError
        return self.reason

    def cancel(self) -> None:
        """Stop watching.  This also happens when the request ends."""

    def _note(self, reason: str) -> None:
        self.reason = reason


class Waiter(SessionWatch, Generic[S]):
    """A watch on a session that is alive.

    Attributes:
        session: What is watched, or None if it is not watched any more.
    """

    __slots__ = ("_forget", "_on_end", "_waiting", "session")

    def __init__(
        self, session: S, forget: "Callable[[Waiter[S]], None]", on_end: Callable[[str], None] | None = None
    ) -> None:
        """Watch *session*.

        Args:
            session: What is watched.
            forget: Called when nobody waits any more.
            on_end: Called with the reason when the session ends.
        """
        super().__init__(None)
        self.session: S | None = session
        self._forget = forget
        self._on_end = on_end
        self._waiting: asyncio.Future[str] | None = None

    async def ended(self) -> str:
        """See :meth:`SessionWatch.ended`."""
        if self.session is None:
            return await super().ended()
        if self._waiting is None:
            self._waiting = asyncio.get_running_loop().create_future()
        return await asyncio.shield(self._waiting)  # several may wait, and one of them may give up

    def cancel(self) -> None:
        """See :meth:`SessionWatch.cancel`."""
        if self.session is not None:
            self._forget(self)
            self.session = self._on_end = None
        if self._waiting is not None:
            self._waiting.cancel()

    def tell(self, reason: str) -> None:
        """Tell whoever waits that the session has ended; not if the watch was cancelled meanwhile."""
        if self.session is None:
            return
        on_end, self._on_end = self._on_end, None
        self.session = None
        self._note(reason)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(reason)
        if on_end is not None:
            on_end(reason)
