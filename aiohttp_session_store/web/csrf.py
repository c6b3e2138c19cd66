"""Refusing requests that a page of another site makes with the visitor's cookie.

SameSite does not do this between hosts of one site: a page of ``blog.example.com`` can send a form to
``shop.example.com``, and open a WebSocket there, with the cookie of that host.  Browsers say in two headers who asks:
``Sec-Fetch-Site``, which no page can change, and ``Origin``.  No token and no storage is needed.

References:
    OWASP Cross-Site Request Forgery Prevention Cheat Sheet, "Fetch Metadata headers"; Filippo Valsorda, "Cross-Site
    Request Forgery" (2025), which Go's ``http.CrossOriginProtection`` follows.
"""

import logging
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from aiohttp import web

from ..errors import ConfigurationError
from .request_headers import came_over_https

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler, Middleware

__all__ = ["csrf_exempt", "protect_from_csrf"]

_logger = logging.getLogger("aiohttp_session_store")

_PROTECTED = web.AppKey("aiohttp_session_store.csrf", frozenset)
_EXEMPT = "_aiohttp_session_store_csrf_exempt"
# These must not change anything (RFC 9110, section 9.2.1). TRACE is left out: aiohttp's clients do not send it.
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITES = frozenset({"same-origin", "none"})  # none: the visitor asked, with a bookmark or the address bar
# The host is an IPv6 address, or without the characters that none may have (URL Standard, "forbidden host code point").
_ORIGIN = re.compile(
    r"([a-z][a-z0-9+.\-]*)://((?:\[[0-9a-f:.]+\]|[^/?#@:%\[\]\\<>^|\s]+)(?::(?:0|[1-9][0-9]{0,4}))?)", re.ASCII
)
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}

H = TypeVar("H", bound=Callable[..., Any])


def protect_from_csrf(app: web.Application, *, trusted_origins: Iterable[str] = ()) -> None:
    """Refuse changes that a page of another site requests, and WebSockets that it opens, with a 403.

    This covers *app* and its sub-apps.  GET, HEAD and OPTIONS pass, so their handlers must not change anything.  A
    request that says nothing about where it comes from passes, too: it is not from a browser.

    Behind a proxy, the Host header must be that of the visitor.  The proxy must say with ``X-Forwarded-Proto`` or
    ``Forwarded`` that the visitor came over HTTPS.  Otherwise WebSockets from your own pages are refused.

    Middlewares that *app* has already run before the check, such as one that makes error pages.  Those that are added
    later run after it.

    Args:
        app: An app that has not started yet and was not added to another app.
        trusted_origins: Other sites that may do everything that your own pages may, such as
            ``"https://admin.example.com"``.

    Raises:
        ConfigurationError: The app is protected already, has started or was added to another app, or a trusted origin
            is not a scheme and a host, with a port if it is not the default one.
    """
    if not isinstance(app, web.Application):
        raise ConfigurationError("the argument of protect_from_csrf() must be a web.Application")
    if _PROTECTED in app:
        raise ConfigurationError("this app is protected already: call protect_from_csrf() once")
    if app.pre_frozen or app.on_startup.frozen:
        raise ConfigurationError(
            "the app has started or was added to another app: call protect_from_csrf() before add_subapp() and before"
            " the app runs"
        )
    trusted = _trusted(trusted_origins)
    app[_PROTECTED] = trusted
    app.middlewares.append(_middleware(trusted))


def csrf_exempt(handler: H) -> H:
    """Let requests from other sites reach *handler*, such as one for webhooks or an API with tokens.

    The handler can be a function, a method of a class or of an object, or a ``web.View``.  For one method of a view,
    mark that method.  A mark on the method of an object counts for all objects of its class.

    Args:
        handler: The handler, which is returned.
    """
    setattr(getattr(handler, "__func__", handler), _EXEMPT, True)
    return handler


def _middleware(trusted: frozenset[str]) -> "Middleware":
    warned = False

    @web.middleware
    async def csrf_middleware(request: web.Request, handler: "Handler") -> web.StreamResponse:
        nonlocal warned
        if request.method in _SAFE and "Upgrade" not in request.headers:
            return await handler(request)
        if _is_safe(request) or _is_own(request) or _is_trusted(request, trusted) or _is_exempt(request):
            return await handler(request)
        if not warned and _differs_in_scheme(request):
            warned = True
            _logger.warning(
                "a request was refused because its page came over HTTPS and the request over plain HTTP: if a proxy is"
                " in between, let it send X-Forwarded-Proto"
            )
        raise web.HTTPForbidden(text="403: this request comes from another site")

    return csrf_middleware


def _is_safe(request: web.Request) -> bool:
    """Return whether the request changes nothing.  A handshake does: the page can read and write from then on."""
    return request.method in _SAFE and "websocket" not in request.headers.get("Upgrade", "").lower()


def _is_own(request: web.Request) -> bool:
    """Return whether the request comes from our own pages, or not from a page at all."""
    if site := request.headers.get("Sec-Fetch-Site"):
        return site in _OWN_SITES
    origin, own = request.headers.get("Origin"), _own_origin(request)
    return not origin or (own is not None and _normal(origin) == own)


def _is_trusted(request: web.Request, trusted: frozenset[str]) -> bool:
    return bool(trusted) and _normal(request.headers.get("Origin", "")) in trusted


def _is_exempt(request: web.Request) -> bool:
    handler: Any = request.match_info.handler
    if not isinstance(handler, type):
        return getattr(handler, _EXEMPT, False) is True
    if vars(handler).get(_EXEMPT) is True:  # its own mark: a class that is derived from it may be no API any more
        return True
    return getattr(getattr(handler, request.method.lower(), None), _EXEMPT, False) is True


def _own_origin(request: web.Request) -> str | None:
    """Return the origin of this request's own address, or None if the request does not name its host properly."""
    if "Host" not in request.headers:  # aiohttp would ask the resolver for a name
        return None
    return _normal(f"{'https' if came_over_https(request) else 'http'}://{request.host}")


def _differs_in_scheme(request: web.Request) -> bool:
    own = _own_origin(request)
    return (
        own is not None and _normal(request.headers.get("Origin", "")) == own.replace("http://", "https://", 1) != own
    )


def _normal(origin: str) -> str | None:
    """Return *origin* as browsers write it, or None if it is no origin with a host, such as ``null``."""
    found = _ORIGIN.fullmatch(origin.lower())
    if found is None:
        return None
    scheme, host = found.groups()
    return f"{scheme}://{host.removesuffix(_DEFAULT_PORTS.get(scheme, ':'))}"


def _trusted(origins: object) -> frozenset[str]:
    if isinstance(origins, str) or not isinstance(origins, Iterable):
        raise ConfigurationError('trusted_origins is a list of strings: write trusted_origins=["https://example.com"]')
    trusted = set()
    for origin in origins:
        normal = _normal(origin) if isinstance(origin, str) else None
        if normal is None or "*" in normal or not normal.isascii():
            raise ConfigurationError(
                f"{origin!r} is no origin: write the scheme and the host, as in 'https://admin.example.com', with the"
                " port if it is not the default one, but no path; write an international name in its xn-- form"
            )
        trusted.add(normal)
    return frozenset(trusted)
