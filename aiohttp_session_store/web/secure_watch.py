"""Notices that browsers drop the Secure cookie, because the app is reached over plain HTTP."""

from typing import Any

from .cookie_settings import SessionCookie
from .request_headers import came_over_https, is_loopback

# More clients than come before one of them comes back.
_KEPT = 1000


class SecureWatch:
    """Remembers who got a Secure cookie over plain HTTP, until somebody comes back with it or without it.

    Somebody may come back with it: a proxy that serves HTTPS may not say so.  Browsers also keep the cookie of
    ``localhost``.

    Attributes:
        waiting: Hashes that tell the clients apart.
    """

    __slots__ = ("_settled", "waiting")

    def __init__(self) -> None:
        """Begin with no clients."""
        self.waiting: set[int] = set()
        self._settled = False

    def came_back(self, request: Any) -> None:
        """Note that *request* came with the session cookie."""
        if _is_plain(request):
            self._settle()

    def is_dropped(self, cookie: SessionCookie, request: Any) -> bool:
        """Return whether the client that gets the Secure *cookie* now has got it before, and came without it.

        It is true only once.
        """
        if self._settled or not _is_plain(request):
            return False
        headers = request.headers
        if cookie.candidates(headers.getall("Cookie", ())):
            self._settle()
            return False
        client = hash((request.remote, headers.get("X-Forwarded-For", ""), headers.get("User-Agent", "")))
        if client in self.waiting:
            self._settle()
            return True
        if len(self.waiting) < _KEPT:
            self.waiting.add(client)
        return False

    def _settle(self) -> None:
        self._settled = True
        self.waiting.clear()


def _is_plain(request: Any) -> bool:
    return not came_over_https(request) and not is_loopback(request.host)
