"""The interface for taking over sessions of another library, for visitors who have no session of ours."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from ..session.session import Session


class Adopted(NamedTuple):
    """A session that was taken over from another library.

    Attributes:
        session: The session, to be saved under an id of its own.
        clear: The Set-Cookie header that clears the old cookie.
    """

    session: Session
    clear: str


class Adopter(Protocol):
    """Finds the sessions that another library stored.  :mod:`aiohttp_session_store.migrate` has an implementation."""

    async def adopt(self, cookie_headers: Sequence[str]) -> Adopted | None:
        """Return the session behind an old cookie, or None if there is none.

        Raises:
            StorageError: A storage failed.
        """

    async def spend(self, cookie_headers: Sequence[str]) -> str | None:
        """Make old cookies worthless that came together with a session of ours.

        Returns:
            The Set-Cookie header that clears an old cookie, or None if there is none.

        Raises:
            StorageError: A storage failed.
        """
