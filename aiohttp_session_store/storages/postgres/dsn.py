"""Checks a DSN while the app is built.  It may contain a password, so no message repeats any part of it."""

import re
from urllib.parse import parse_qs, unquote, urlsplit

from ...errors import ConfigurationError

__all__ = ["checked"]

_FORM = "postgresql://user:password@host:port/database"
_ENCODE = "percent-encode the special characters of the user name and password"
_SCHEMES = {"postgresql", "postgres"}
_OF_SQLALCHEMY = re.compile(r"(?i:postgres(ql)?)\+[a-z0-9_]+")
_SSL_MODES = {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}
# A path of sockets, an IPv6 address in brackets, or a name; and a port. The driver takes whatever follows the first
# colon of a name for a number.
_HOST = re.compile(r"/.*|(?:\[[^\[\]]+\]|[^\[\]:]+)(?::([0-9]{1,5}))?")
_PORT = re.compile(r"[0-9]{1,5}")
_LAST_PORT = 65535


def checked(dsn: object) -> str:
    """Return *dsn* if the driver understands it as it was meant.

    The driver itself would find some mistakes only when it connects, and show a part of the password.  It would not
    find others at all: in ``postgresql://ada:12/34@db/shop``, it takes ``ada`` for the host.

    Raises:
        ConfigurationError: It is not a DSN, or a special character in it is not percent-encoded.
    """
    if not isinstance(dsn, str):
        raise ConfigurationError(f"from_dsn takes a string in the form {_FORM}, not {type(dsn).__name__}")
    dsn = dsn.strip()
    problem = _problem(dsn)
    if problem is not None:  # raised outside of any except block, because a cause would show a part of the DSN
        raise ConfigurationError(f"the DSN of from_dsn (not shown, as it may contain a password) {problem}")
    return dsn


def _problem(dsn: str) -> str | None:
    scheme, separator, _ = dsn.partition("://")
    if separator and _OF_SQLALCHEMY.fullmatch(scheme):
        return f"names a driver, as SQLAlchemy does it: write {_FORM}, without the '+' and what follows it"
    if not separator or scheme.lower() not in _SCHEMES:
        return f"does not have the form {_FORM}"
    if not _is_text(dsn):
        return "contains a control character or is not UTF-8"
    if "#" in dsn:
        return "contains a '#': in a user name or password, write it as %23"
    try:
        parts = urlsplit(dsn)
        query = parse_qs(parts.query, strict_parsing=True) if parts.query else {}
    except ValueError:
        return f"cannot be parsed: {_ENCODE}"
    user, _, hosts = parts.netloc.rpartition("@")
    if "@" in user:
        return "contains two '@': in a user name or password, write it as %40"
    if "@" in parts.path or ("@" in parts.query and parts.netloc):
        return "contains an '@' after the host: in a user name or password, write '/' as %2F, '?' as %3F and '@' as %40"
    return _wrong_place(hosts, {name: values[-1] for name, values in query.items()})


def _is_text(dsn: str) -> bool:
    try:
        decoded = unquote(dsn, errors="strict")
        decoded.encode()
    except UnicodeError:
        return False
    return "\0" not in decoded and all(" " <= character != "\x7f" for character in dsn)


def _wrong_place(hosts: str, parameters: dict[str, str]) -> str | None:
    """Return what is wrong with the hosts and ports, or with the way to connect to them."""
    listed = [*_listed(unquote(hosts)), *_listed(parameters.get("host", ""))]
    found = [_HOST.fullmatch(host) for host in listed]
    if not all(found):
        return f"has a host or a port that cannot be read: {_ENCODE}"
    ports = [match[1] for match in found if match and match[1] is not None]
    ports += _listed(parameters.get("port", ""))
    if not all(_PORT.fullmatch(port) and 0 < int(port) <= _LAST_PORT for port in ports):
        return f"has a port that is not between 1 and {_LAST_PORT}"
    if parameters.get("sslmode", "prefer") not in _SSL_MODES:
        return f"has an sslmode that is none of {', '.join(sorted(_SSL_MODES))}"
    return None


def _listed(value: str) -> list[str]:
    return value.split(",") if value else []
