"""``bind_devices``, and the question how a session stands."""

from collections.abc import Sequence
from typing import Literal

from aiohttp import web

from ..errors import ConfigurationError, SessionUsageError
from ..record.settings import check_flag, number_of_seconds
from ..session.session import state_of
from ..storages.base import KeyedStorage
from ..web.app_sessions import APP
from ..web.cookie_settings import SessionCookie
from ..web.middleware import holder_of
from .binding import binding_of
from .endpoints import Endpoints
from .guard import DeviceGuard
from .tokens import REGISTRATION_WINDOW, Tokens

__all__ = ["bind_devices", "device_state"]

DeviceState = Literal["bound", "pending", "unsupported"]

# Chromium signs six times in nine minutes at most, and refreshes at each request if less than two minutes are left.
_SHORTEST = 300.0
DEFAULT_COOKIE_LIFETIME = 600.0
_PREFIX = "__Host-"


def bind_devices(
    app: web.Application,
    *,
    cookie_lifetime: float = DEFAULT_COOKIE_LIFETIME,
    enforce: bool = True,
    login_paths: Sequence[str] = ("/login",),
    path: str = "/device-session",
    cookie_name: str = "__Host-bound",
    exclude: Sequence[str] = (),
) -> None:
    """Bind each login to the browser that made it, so that a copied cookie is soon worthless (experimental).

    A browser that knows Device Bound Session Credentials makes a key at each ``Session.login``.  From then on, it
    proves every few minutes that it still has the key, and gets a second cookie each time, the bound cookie.  A session
    that is bound is given to handlers only if the bound cookie comes along.  Without it, ``get_session`` raises a 401
    with a link to the login page.  All other browsers work as before.

    This needs HTTPS.  Behind a proxy, the Host header must be that of the visitor, and ``X-Forwarded-Proto`` or
    ``Forwarded`` must say ``https``.

    Args:
        app: An app that ``setup`` was called on, with a storage that keeps its records on the server and has an index
            of owners.  It has not started yet and was not added to another app.
        cookie_lifetime: Seconds, at least 300, for which a copy of the cookies can be used at most.
        enforce: Whether a bound session without its bound cookie is refused.  With False it is only reported, so that
            you can see what would happen.
        login_paths: The paths that a login needs, as the browser sees them: first the page with the form, to which the
            401 leads, then other addresses, such as that of an OAuth callback.  There, a session that is refused is
            replaced by an empty one, so that the visitor can log in.
        path: Where the two endpoints are, ``register`` and ``refresh``.
        cookie_name: The name of the bound cookie, which begins with ``__Host-``.  Two apps of one host need two names.
        exclude: Paths, such as ``"/static"``, whose requests need no bound cookie, because their handlers use no
            session.  The browser does not wait for a refresh there.

    Raises:
        ConfigurationError: The app has no sessions, is bound already or has started, or the storage or an argument is
            not as described above; or the session cookie has a domain, whose other hosts would not get the bound
            cookie, or is partitioned.
    """
    if not isinstance(app, web.Application) or APP not in app:
        raise ConfigurationError("call aiohttp_session_store.setup(app, storage) before bind_devices(app)")
    sessions = app[APP]
    if sessions.guard is not None or app.pre_frozen or app.on_startup.frozen:
        raise ConfigurationError("call bind_devices() once for an app, before add_subapp() and before the app runs")
    storage = sessions.storage
    if not isinstance(storage, KeyedStorage) or not storage.has_index:
        raise ConfigurationError(
            f"{type(storage).__name__} cannot bind sessions to devices: that takes records on the server and an index"
            " of owners"
        )
    if sessions.cookie.domain is not None:
        raise ConfigurationError(
            "the session cookie has a domain, and the bound cookie is for one host: use SessionCookie(domain=None)"
        )
    if sessions.cookie.partitioned:
        raise ConfigurationError(
            "the session cookie is partitioned, for frames in pages of other sites, and the bound cookie is not sent"
            " there: use SessionCookie(partitioned=False)"
        )
    if not cookie_name.startswith(_PREFIX):
        raise ConfigurationError(f"cookie_name must begin with {_PREFIX}")
    if cookie_name in sessions.cookie.names:
        raise ConfigurationError("cookie_name is the name of the session cookie: the bound cookie needs another name")
    SessionCookie(cookie_name, secure=True)  # checks the name
    if isinstance(login_paths, str) or isinstance(exclude, str) or not login_paths:
        raise ConfigurationError("login_paths and exclude are lists of paths, and login_paths names one at least")
    for one in (*login_paths, path, *exclude):
        if not isinstance(one, str) or not one.startswith("/") or any(part in one for part in '"\\?#{}'):
            raise ConfigurationError("login_paths, path and exclude are paths that begin with a slash")
    lifetime = int(number_of_seconds("cookie_lifetime", cookie_lifetime, _SHORTEST))
    tokens = Tokens(sessions.cookie, cookie_name, lifetime)
    endpoints = Endpoints(sessions, storage, tokens, cookie_name, tuple(exclude))
    endpoints.add_to(app, path.rstrip("/"))
    sessions.guard = DeviceGuard(
        storage, tokens, endpoints, enforce=check_flag("enforce", enforce), login_paths=login_paths
    )


def device_state(request: web.Request) -> DeviceState:
    """Return whether the session of a request is bound to a device.

    Args:
        request: The request.  Its session must be loaded.

    Returns:
        ``"bound"``; ``"pending"`` in the first five minutes of a login, when the browser may still register a key; or
        ``"unsupported"`` if it did not, or nobody is logged in.

    Raises:
        SessionUsageError: The session was not loaded.
    """
    session = holder_of(request).session
    if session is None:
        raise SessionUsageError("the session was not loaded: call `await get_session(request)` first")
    state = state_of(session)
    if state.login is not None:
        return "pending"
    head = None if state.place is None or state.destroyed else state.place.record.head
    if head is None:
        return "unsupported"
    if binding_of(head) is not None:
        return "bound"
    return "pending" if state.now() < head.authenticated_at + REGISTRATION_WINDOW else "unsupported"
