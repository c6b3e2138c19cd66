"""Which requests may use a session that is bound to a device, and what the others are answered."""

import html
import logging
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from ..engine.observing import DEVICE, observing_of
from ..session.session import Session, state_of
from ..storages.base import KeyedStorage
from ..web.request_headers import came_over_https
from .binding import binding_of
from .endpoints import Endpoints, origin_of
from .tokens import Tokens

_logger = logging.getLogger("aiohttp_session_store")

# What a page that has just logged in loads besides may leave the browser before the first bound cookie has arrived.
GRACE = 30
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Log in again</title></head>
<body><h1>Log in again</h1><p>This browser could not prove that it is the one that logged in.</p>
<p><a href="{login}">Log in</a></p></body></html>
"""


class DeviceGuard:
    """Refuses bound sessions that come without their bound cookie, and asks browsers for a key at each login."""

    def __init__(
        self, storage: KeyedStorage, tokens: Tokens, endpoints: Endpoints, *, enforce: bool, login_paths: Sequence[str]
    ) -> None:
        """Guard the sessions of *storage*."""
        self._storage = storage
        self._tokens = tokens
        self._endpoints = endpoints
        self._enforce = enforce
        self._login_paths = tuple(login_paths)
        self.cookie_name: str = tokens.name

    async def admit(self, session: Session, request: Any) -> Session:
        """See :class:`~..web.guarding.Guard`."""
        if self._is_proved(session, request.headers.getall("Cookie", ())):
            return session
        if request.path in self._endpoints.paths:  # a middleware of the app has loaded the session
            return session
        _logger.info("session %s came without the proof of its device", session.key)
        observing_of(self._storage).tell("refused", session.key, session.owner, DEVICE)
        if not self._enforce:
            return session
        if request.path in self._login_paths:
            return await self._storage.read(None)
        refusal = _refusal(request, self._login_paths[0])
        # A browser that has the key does not refresh while it has a bound cookie, and thinks that this one counts.
        clearing = self._tokens.clearing(request.headers.getall("Cookie", ()))
        if clearing is not None:
            refusal.headers["Set-Cookie"] = clearing
        raise refusal

    def admits(self, session: Session, cookies: Sequence[str]) -> bool:
        """See :class:`~..web.guarding.Guard`."""
        return not self._enforce or self._is_proved(session, cookies)

    def logged_in(self, session: Session, headers: Any, request: Any) -> None:
        """See :class:`~..web.guarding.Guard`."""
        head = state_of(session).head
        if head is not None and not session.destroyed and came_over_https(request):
            headers["Secure-Session-Registration"] = self._endpoints.offer(head, origin_of(request))

    def _is_proved(self, session: Session, cookies: Sequence[str]) -> bool:
        """Return whether *session* is not bound, or the bound cookie is among *cookies*."""
        place = state_of(session).place
        head = None if place is None else place.record.head  # the newest: what an old id may read may not be bound yet
        binding, now = binding_of(head), self._storage.now()
        if head is None or binding is None or abs(now - binding.bound_at) < GRACE:  # clocks differ, and may be set back
            return True
        return self._tokens.is_proved(cookies, head, binding, now)


def _refusal(request: Any, login_path: str) -> web.HTTPException:
    headers = {"Cache-Control": "no-store", "Vary": "Cookie"}
    if "text/html" in request.headers.get("Accept", ""):
        page = _PAGE.format(login=html.escape(login_path))
        return web.HTTPUnauthorized(text=page, content_type="text/html", headers=headers)
    return web.HTTPUnauthorized(
        text="401: this browser did not prove that it is the one that logged in", headers=headers
    )
