"""An identity policy for aiohttp-security: the owner of the session is the identity.

::

    from aiohttp_session_store.integrations.aiohttp_security import SessionIdentityPolicy, identity_of

    setup(app, storage, owner_of=identity_of)
    aiohttp_security.setup(app, SessionIdentityPolicy(), MyAuthorizationPolicy())

``owner_of=identity_of`` is for visitors who logged in with the policy of the same name that aiohttp-security has for
aiohttp-session.  An app that never used that policy leaves it out.
"""

from typing import Any

from aiohttp import web
from aiohttp_security.abc import AbstractIdentityPolicy

from ..session.session import Session
from ..web.middleware import get_session

__all__ = ["SessionIdentityPolicy", "identity_of"]

# Where the policy of aiohttp-security keeps the identity, if it was not given another key.
_SESSION_KEY = "AIOHTTP_SECURITY"


class SessionIdentityPolicy(AbstractIdentityPolicy):
    """Takes the owner of the session for the identity.

    The policy does not use the response, which may therefore be one that is raised.
    """

    async def identify(self, request: web.Request) -> str | None:
        """Return the identity that logged in with this session, or None.

        Raises:
            SessionUsageError: The app has no sessions.
            StorageError: The storage failed.
        """
        return (await get_session(request)).owner

    async def remember(self, request: web.Request, response: web.StreamResponse, identity: str, **kwargs: Any) -> None:
        """Log *identity* in under a new id, so that an attacker who knew the old id is not logged in too.

        Args:
            identity: The account, as a string that is never reused.
            kwargs: The keyword arguments of :meth:`Session.login`, such as ``label``.

        Raises:
            SessionCommittedError: The headers are sent, or the request is over.
            StorageError: The storage failed.
            TypeError: *identity* is not a string of 1 to 255 characters, or ``login`` has no such argument.
        """
        (await get_session(request)).login(identity, **kwargs)

    async def forget(self, request: web.Request, response: web.StreamResponse) -> None:
        """Log out: end the session on the server, so that a copy of its cookie is worthless too.

        Raises:
            SessionCommittedError: The request is over.
            StorageError: The storage failed.
        """
        (await get_session(request)).logout()


def identity_of(session: Session) -> str | None:
    """Return the identity that the policy for aiohttp-session left in a session, or None; for ``setup(owner_of=...)``.

    If that policy was given a key, write ``owner_of=lambda session: session.get("my-key")`` instead.

    Args:
        session: A session that has no owner.
    """
    identity: str | None = session.get(_SESSION_KEY)
    return identity
