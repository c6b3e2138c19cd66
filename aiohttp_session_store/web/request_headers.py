"""Reading the Cookie header without a cookie jar, and the headers that tell how a request came.

aiohttp's ``request.cookies`` takes about 20 us, and reads only the first of several Cookie headers.  A compiled regular
expression over the raw text takes 1 us.
"""

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

# Characters of all Cookie headers that are looked at. aiohttp takes 8190 bytes in one header, and a browser sends one.
MAX_COOKIE_TEXT = 32_768
# Destinations whose response may show text, or goes to a script. All others, such as a style sheet or a service worker,
# are what a page loads besides (Fetch Standard, "destination"). Browsers add new ones from time to time.
_SHOWN = {"", "document", "embed", "empty", "fencedframe", "frame", "iframe", "object", "websocket"}
# Traefik sends wss for a request that opens a WebSocket.
_SECURE = {"https", "wss"}


def pattern_for(name: str) -> re.Pattern[str]:
    """Compile the expression that finds the values of cookie *name*.

    A value consists of what :class:`~.cookie_settings.SessionCookie` writes: ASCII letters, digits, ``_``, ``-`` and
    ``.``.  It may stand in double quotes (RFC 6265, section 4.1.1).  Any other value is not ours and is skipped.
    """
    return re.compile(rf'(?:^|;)[ \t]*{re.escape(name)}[ \t]*=[ \t]*("?)([A-Za-z0-9_.\-]+)\1[ \t]*(?=;|$)', re.ASCII)


def values_in(headers: Iterable[str], pattern: re.Pattern[str]) -> list[str]:
    """Return the values that *pattern* finds in the Cookie headers, each once, in the browser's order.

    Args:
        headers: What is in them beyond :data:`MAX_COOKIE_TEXT` characters is not looked at.
        pattern: The last of its two groups is the value.
    """
    values, left = [], MAX_COOKIE_TEXT
    for header in headers:
        values += [value for _, value in pattern.findall(header[:left])]
        left -= len(header)
        if left <= 0:
            break
    return values if len(values) <= 1 else list(dict.fromkeys(values))


def has_value(headers: Iterable[str], name: str) -> bool:
    """Return whether there is a value of cookie *name* in the Cookie headers, whatever it consists of."""
    return _any_value_of(name).search(";".join(headers)[:MAX_COOKIE_TEXT]) is not None


@lru_cache(16)
def _any_value_of(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?:^|;)[ \t]*{re.escape(name)}[ \t]*=[ \t]*[^; \t]")


def says_https(forwarded_proto: str, forwarded: str) -> bool:
    """Return whether a proxy says that the visitor came over HTTPS.

    A false statement can only make the cookie stricter.

    Args:
        forwarded_proto: The X-Forwarded-Proto header, or "".
        forwarded: The Forwarded header (RFC 7239), or "".
    """
    if forwarded_proto and forwarded_proto.partition(",")[0].strip().lower() in _SECURE:
        return True
    if not forwarded:
        return False
    return (
        re.search(r'(?:^|[;,\s])proto="?(?:https|wss)"?(?=[;,\s]|$)', forwarded.partition(",")[0], re.IGNORECASE)
        is not None
    )


def came_over_https(request: Any) -> bool:
    """Return whether the visitor came over HTTPS, directly or through a proxy that says so."""
    headers = request.headers
    return request.scheme == "https" or says_https(headers.get("X-Forwarded-Proto", ""), headers.get("Forwarded", ""))


def shows_nothing(method: str, headers: Any) -> bool:
    """Return whether nobody will read the response, so that a flash message in it would be lost.

    A HEAD request has no body.  A prefetched page may never be shown.  Images, styles, scripts and fonts show no text.

    References:
        Fetch Standard, "Sec-Purpose"; Fetch Metadata Request Headers, "Sec-Fetch-Dest".
    """
    if method == "HEAD":
        return True
    purpose = headers.get("Sec-Purpose", "") or headers.get("Purpose", "") or headers.get("X-Moz", "")
    return "prefetch" in purpose.lower() or headers.get("Sec-Fetch-Dest", "") not in _SHOWN


@lru_cache(64)
def is_loopback(host: str) -> bool:
    """Return whether a Host header names this machine, so that plain HTTP does not leave it."""
    name = host.rpartition(":")[0] if re.search(r":\d+$", host) and not host.endswith("]") else host
    name = name.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
