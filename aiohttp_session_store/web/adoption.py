"""What may turn sessions of another library into ours: asked for visitors who have none of our sessions."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from ..session.session import Session


class Adopted(NamedTuple):
    """A session that was somebody else's.

    Attributes:
        session: It, to be saved under an id of its own.
        clear: The Set-Cookie header that clears the old cookie.
    """

    session: Session
    clear: str


class Adopter(Protocol):
    """Finds the sessions that another library stored; :mod:`aiohttp_session_store.migrate` has one."""

    async def adopt(self, cookie_headers: Sequence[str]) -> Adopted | None:
        """Return the session behind an old cookie, or None.

        Raises:
            StorageError: A storage failed.
        """

    async def spend(self, cookie_headers: Sequence[str]) -> str | None:
        """Make old cookies that came beside a session of ours worthless; return the header that clears one, or None.

        Raises:
            StorageError: A storage failed.
        """
