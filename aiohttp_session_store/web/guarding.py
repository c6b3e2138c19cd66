"""The interface for a module on top that may refuse the session of a request, and adds headers to logins."""

from collections.abc import Sequence
from typing import Any, Protocol

from ..session.session import Session


class Guard(Protocol):
    """Decides whether a request may use its session.  :mod:`aiohttp_session_store.device` has an implementation.

    Attributes:
        cookie_name: The name of a cookie for the whole host that it decides by.
    """

    cookie_name: str

    async def admit(self, session: Session, request: Any) -> Session:
        """Return the session that the handler gets: *session*, which was found, or another one in its place.

        It is called at each load.

        Raises:
            aiohttp.web.HTTPException: The response to a request that may not use the session.
            StorageError: The storage failed.
        """

    def admits(self, session: Session, cookies: Sequence[str]) -> bool:
        """Return whether a request with the Cookie headers *cookies* may use *session*, or end it unloaded."""
        ...

    def logged_in(self, session: Session, headers: Any, request: Any) -> None:
        """Add what a login needs to *headers*, those of the response.  The login is stored."""
