"""The rules by which browsers silently drop a cookie, checked when the cookie is configured."""

import re
from typing import Protocol

from ..errors import ConfigurationError
from ..record.settings import check_flag
from .cookie_domain import check_domain

# RFC 6265bis, section 5.5: browsers cap a cookie's age at 400 days.
MAX_AGE = 400 * 24 * 60 * 60
# RFC 6265bis, section 4.1.1: a name is an RFC 9110 token; attribute values hold no control character and no semicolon.
# Section 5.6: browsers ignore an attribute of more than 1024 bytes, so they would send the cookie to other places.
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)
_ATTRIBUTE = re.compile(r"[ -:<-~]{1,1024}", re.ASCII)


class CookieAttributes(Protocol):
    """The settings to which the rules apply."""

    name: str
    path: str
    domain: str | None
    secure: bool | None
    httponly: bool
    samesite: str | None
    partitioned: bool
    persistent: bool


def check_parts(cookie: CookieAttributes) -> None:
    """Refuse names and attributes that browsers do not accept.

    Raises:
        ConfigurationError: A part has a forbidden character or is too long, or a flag is no bool.
    """
    if not isinstance(cookie.name, str) or not _NAME.fullmatch(cookie.name):
        raise ConfigurationError(
            f"a cookie name must consist of ASCII letters, digits and !#$%&'*+.^_`|~-, but it is {cookie.name!r}"
        )
    if not isinstance(cookie.path, str) or not cookie.path.startswith("/") or not _ATTRIBUTE.fullmatch(cookie.path):
        raise ConfigurationError(
            "a cookie path must start with / and have up to 1024 printable ASCII characters without a semicolon, but it"
            f" is {cookie.path!r}"
        )
    check_domain(cookie.domain)
    for flag in ("httponly", "partitioned", "persistent"):
        check_flag(flag, getattr(cookie, flag))
    if cookie.secure is not None:
        check_flag("secure", cookie.secure)
    if cookie.samesite not in ("Lax", "Strict", "None", None):
        raise ConfigurationError(f'samesite is "Lax", "Strict", "None" or None, not {cookie.samesite!r}')


def check_prefixes(cookie: CookieAttributes) -> None:
    """Refuse combinations of a name and attributes for which browsers silently drop the cookie.

    Raises:
        ConfigurationError: Browsers would drop such a cookie.
    """
    name = cookie.name.lower()  # browsers ignore the case of a prefix
    if name.startswith(("__secure-", "__host-", "__http-")) and cookie.secure is not True:
        raise ConfigurationError(f"browsers drop a cookie named {cookie.name} without Secure: pass secure=True")
    if name.startswith(("__http-", "__host-http-")) and not cookie.httponly:
        raise ConfigurationError(f"browsers drop a cookie named {cookie.name} without HttpOnly: pass httponly=True")
    if name.startswith("__host-") and (cookie.path != "/" or cookie.domain is not None):
        raise ConfigurationError(f'browsers drop a cookie named {cookie.name} unless path is "/" and domain None')
    if cookie.samesite == "None" and cookie.secure is not True:
        raise ConfigurationError('browsers drop a cookie with samesite="None" without Secure: pass secure=True')
    if cookie.partitioned and cookie.secure is not True:
        raise ConfigurationError("browsers drop a partitioned cookie without Secure: pass secure=True")
