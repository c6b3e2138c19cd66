"""The rules by which browsers silently drop a cookie, checked when the cookie is configured."""

import re
from collections.abc import Iterable
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
    salt: str
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
    _check_name(cookie.name)
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
    if not isinstance(cookie.salt, str):
        raise ConfigurationError(f'salt must be a string such as "shop", not of type {type(cookie.salt).__name__}')


def check_prefixes(cookie: CookieAttributes, name: str) -> None:
    """Refuse combinations of *name* and attributes for which browsers silently drop the cookie.

    Raises:
        ConfigurationError: Browsers would drop such a cookie.
    """
    prefixed = name.lower()  # browsers ignore the case of a prefix
    if prefixed.startswith(("__secure-", "__host-", "__http-")) and cookie.secure is not True:
        raise ConfigurationError(f"browsers drop a cookie named {name} without Secure: pass secure=True")
    if prefixed.startswith(("__http-", "__host-http-")) and not cookie.httponly:
        raise ConfigurationError(f"browsers drop a cookie named {name} without HttpOnly: pass httponly=True")
    if prefixed.startswith("__host-") and (cookie.path != "/" or cookie.domain is not None):
        raise ConfigurationError(f'browsers drop a cookie named {name} unless path is "/" and domain None')
    if cookie.samesite == "None" and cookie.secure is not True:
        raise ConfigurationError('browsers drop a cookie with samesite="None" without Secure: pass secure=True')
    if cookie.partitioned and cookie.secure is not True:
        raise ConfigurationError("browsers drop a partitioned cookie without Secure: pass secure=True")


def checked_old_names(cookie: CookieAttributes, old_names: object) -> tuple[str, ...]:
    """Return the names that a cookie had before.

    Raises:
        ConfigurationError: They are no list of names, one of them is the present one, or browsers would not let a
            cookie with the settings of *cookie* clear one of them.
    """
    if isinstance(old_names, str | bytes) or not isinstance(old_names, Iterable):
        raise ConfigurationError('old_names must be a list of cookie names: write old_names=["session"]')
    names = tuple(old_names)
    for name in names:
        _check_name(name)
        if name == cookie.name:
            raise ConfigurationError(f"old_names has {name!r}, which is the present name: give the cookie another name")
        check_prefixes(cookie, name)
    return tuple(dict.fromkeys(names))


def _check_name(name: object) -> None:
    # The name is not shown, because it may be a secret in the wrong place: it is the first argument of SessionCookie.
    if not isinstance(name, str):
        raise ConfigurationError(f"a cookie name must be a string, not of type {type(name).__name__}")
    if not _NAME.fullmatch(name):
        wrong = _NAME.sub("", name)[:1]
        fault = f"this one has {wrong!r}" if wrong else "this one is empty"
        raise ConfigurationError(
            f"a cookie name must consist of ASCII letters, digits and !#$%&'*+.^_`|~-, and {fault}. If this is a"
            " secret, write SessionCookie(secrets=...)"
        )
