"""The headers that tell browsers and caches about the session: Set-Cookie, Vary and Cache-Control."""

from typing import TYPE_CHECKING, Any

from ..session.session import state_of
from .app_sessions import AppSessions
from .cookie_rules import MAX_AGE
from .cookie_settings import SessionCookie
from .request_headers import came_over_https, is_loopback
from .request_session import RequestSession

if TYPE_CHECKING:
    from multidict import CIMultiDict


# Longer than browsers keep any cookie, for a session without a lifetime.
_ENDLESS = 2 * MAX_AGE


def add_headers(holder: RequestSession, headers: Any, request: Any) -> None:
    """Add the session's headers to *headers*, those of the response to *request*."""
    if holder.session is None:
        return
    if "Vary" not in headers:
        headers["Vary"] = "Cookie"
    else:
        vary = ", ".join(headers.getall("Vary"))  # there may be several Vary headers
        if {"*", "cookie"}.isdisjoint(field.strip().lower() for field in vary.split(",")):
            headers["Vary"] = f"{vary}, Cookie"
    if holder.owed is None:
        headers.setdefault("Cache-Control", "private")
    else:
        _forbid_caching(holder.app, headers)
        headers.add("Set-Cookie", _set_cookie(holder, holder.owed, request))
        if holder.logged_in and holder.app.guard is not None:
            holder.app.guard.logged_in(holder.session, headers, request)
        for name in holder.spent:
            headers.add("Set-Cookie", holder.app.cookie.clearing(name, https=came_over_https(request)))
    if holder.clears is not None and (holder.owed is not None or not holder.adopted):
        headers.add("Set-Cookie", holder.clears)


def take_back(sessions: AppSessions, headers: "CIMultiDict[str]") -> None:
    """Remove another visitor's session cookie from the headers of a response that is about to be sent.

    The cookie was added to another response, whose headers the app kept and used for this one, perhaps as JSON and in
    another process.  So it is known by its signature, or if it clears the cookie, by its text.  A cookie of our name
    that is signed with another secret stays: the app passes it on from another server.
    """
    lines, cookie = headers.getall("Set-Cookie", ()), sessions.cookie
    kept = [line for line in lines if not _is_ours(cookie, line)]
    if len(kept) < len(lines):
        del headers["Set-Cookie"]
        headers.extend(("Set-Cookie", line) for line in kept)
        sessions.warn_once(
            "reused",
            "a response had the session cookie of another response, which would have given the session of that visitor"
            " away. The cookie was removed. Do not make a response from the headers of one that was already sent",
        )


def _is_ours(cookie: SessionCookie, line: str) -> bool:
    """Return whether a Set-Cookie header is one that we send to a visitor: a signed one, or one that clears."""
    line = line.strip(" \t")  # as browsers do (RFC 6265bis, section 5.7)
    pair = line.partition(";")[0]
    name = pair.partition("=")[0].rstrip(" \t")
    if name not in cookie.names:
        return False
    return bool(cookie.candidates([pair])) or line in (
        cookie.clearing(name, https=False),
        cookie.clearing(name, https=True),
    )


def _set_cookie(holder: RequestSession, value: str, request: Any) -> str:
    cookie, https, host = holder.app.cookie, came_over_https(request), request.host
    if not cookie.is_secure(https=https) and not is_loopback(host):
        holder.app.warn_once(
            "insecure",
            "the session cookie %s went to another machine over plain HTTP, where anybody on the network can steal it."
            " Serve HTTPS and pass SessionCookie(secure=True). If there is a proxy, it must send X-Forwarded-Proto",
            cookie.name,
        )
    elif value and cookie.secure and not https and holder.app.secure_watch.is_dropped(cookie, request):
        holder.app.warn_once(
            "dropped",
            "the session cookie %s is Secure, and a visitor who had got it over plain HTTP came back without it."
            " Browsers drop such a cookie, so each request begins a new session. Serve HTTPS, or pass"
            " SessionCookie(secure=None). If there is a proxy, it must send X-Forwarded-Proto",
            cookie.name,
        )
    kept = None if holder.session is None else holder.app.seconds_kept(holder.session)
    if kept is None or holder.session is None:
        return cookie.header(value, https=https)
    left = holder.app.seconds_left(holder.session)
    age = _ENDLESS if left is None else max(0, left)
    # See find_session: of a session in a cookie this is known anyway, and the cookie has no room for it.
    now = holder.app.storage.now() if cookie.persistent or state_of(holder.session).on_server else None
    return cookie.header(value, https=https, max_age=age, now=now, kept=kept)


def _forbid_caching(app: AppSessions, headers: Any) -> None:
    if "Cache-Control" not in headers:
        headers["Cache-Control"] = "no-store"
        return
    given = ", ".join(headers.getall("Cache-Control"))
    directives = [directive.strip().lower() for directive in given.split(",")]
    if not given or "public" in directives:
        headers["Cache-Control"] = "no-store"
    if "public" in directives:
        app.warn_once(
            "public",
            "a response that sets the session cookie had Cache-Control: %s. It was sent with no-store instead, because"
            " a cache could give one visitor's session to another",
            given,
        )
    elif "no-store" not in directives:
        headers["Cache-Control"] = f"{given}, no-store"
