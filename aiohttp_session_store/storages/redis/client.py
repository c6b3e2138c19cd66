"""The client for a URL.  No error repeats any part of the URL, which may hold a password."""

import re
import socket
from contextlib import suppress
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from ...errors import ConfigurationError

__all__ = ["client_for", "cluster_client_for"]

# Parallel requests open as many connections as they need. The server limits how many there may be (maxclients).
_MANY = 2**31
# The driver's own values since version 8: an idle connection that has gone silent is closed after 45 seconds, and one
# that a firewall would forget after a minute is kept open.
_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
_ANOTHER_HOST = re.compile(r"@[^@,:]+:[0-9]+,")
_DATABASE = re.compile(r"/?\d*/?")

_ENCODE = "in a user name or password, all of @ : / ? # [ ] % have to be percent-encoded (urllib.parse.quote)"
_SEVERAL = (
    "For Sentinel or a cluster, pass a client: RedisStorage(Sentinel(...).master_for(...)) or"
    " RedisStorage(RedisCluster(...))"
)


def client_for(url: object, timeout: float) -> Redis:
    """Return a client for *url*; no I/O.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        timeout: Seconds after which the storage gives up a call.

    Raises:
        ConfigurationError: The URL is not valid.  The message does not repeat it, and there is no cause that would.
    """
    fault = _fault(url)
    if fault is None:
        client = _client(str(url), timeout)
        if client is not None:
            return client
        fault = "an option in its query is unknown to redis-py, has a wrong value or names a file that cannot be read"
    raise ConfigurationError(f"RedisStorage.from_url: the URL is not valid: {fault}")


def cluster_client_for(url: str, timeout: float) -> RedisCluster:
    """Return a client for the cluster that the node at *url* belongs to, in the event loop that runs; no I/O.

    Args:
        url: ``redis://`` or ``rediss://``.
        timeout: Seconds after which the storage gives up a call.

    Raises:
        ConfigurationError: The URL is not valid.  The message does not repeat it, and there is no cause that would.
    """
    client_for(url, timeout)  # checks it
    with suppress(Exception):  # whatever it is, its text may hold a part of the URL
        return RedisCluster.from_url(url, socket_timeout=timeout / 3)
    raise ConfigurationError("an option in the query of the URL is not one of a cluster")


def _fault(url: object) -> str | None:
    """Return what is wrong with *url*, in words that do not repeat it."""
    if not isinstance(url, str):
        return f"it has to be a string, not {type(url).__name__}"
    try:
        parts = urlsplit(url)
        for part in (parts.username, parts.password, parts.hostname, parts.path):
            unquote(part or "", errors="strict")
        parts.port  # noqa: B018  reading it checks it
    except ValueError:
        return f"it cannot be parsed. Note that {_ENCODE}. {_SEVERAL}"
    if parts.scheme in ("redis", "rediss", "unix"):
        if "#" in url or any(space in url.strip() for space in "\t\r\n"):
            return _ENCODE
        return _fault_of_unix(parts) if parts.scheme == "unix" else _fault_of_tcp(parts)
    return f"it has to begin with redis://, rediss:// or unix://. {_SEVERAL}"


def _fault_of_tcp(parts: SplitResult) -> str | None:
    if "@" in parts.path + parts.query:
        return _ENCODE
    if "," in (parts.hostname or "") or _ANOTHER_HOST.search(parts.netloc):
        return f"it has to name one host. {_SEVERAL}"
    if not _DATABASE.fullmatch(parts.path):
        return f"its path has to be the number of a database. Note that {_ENCODE}"
    return None


def _fault_of_unix(parts: SplitResult) -> str | None:
    if not (parts.netloc == "" or parts.netloc.endswith("@")) or "@" in parts.query:
        return _ENCODE
    if parts.netloc and "@/" in parts.path:  # the password may have held the first one
        return f"{_ENCODE}; so has an @ at the end of a folder's name"
    return None if parts.path else "it needs the path of a socket"


def _client(url: str, timeout: float) -> Redis | None:
    """Return a client, or None if the driver refuses an option of *url*."""
    # We limit each call ourselves, because the driver's own limit costs a task for each command it sends. The driver's
    # pool does not wait for a free connection but fails, with redis-py 8 already at the 101st.
    options: dict[str, Any] = {"socket_timeout": None, "max_connections": _MANY}
    if not url.lower().startswith("unix:"):
        options |= {"socket_keepalive": True, "socket_keepalive_options": _socket_options(timeout)}
    try:
        client: Any = Redis.from_url(url, **options)
        connection = client.connection_pool.make_connection()  # otherwise, only the first command finds out
        connection.pack_command("GET", "")  # with the encoding
        if (certificates := getattr(connection, "ssl_context", None)) is not None:
            certificates.get()  # reads the files
    except Exception:  # noqa: BLE001  whatever it is, its text may hold a part of the URL
        return None
    return client  # type: ignore[no-any-return]


def _socket_options(timeout: float) -> dict[int, int]:
    """Return options of TCP, as far as this system has them."""
    # What a connection could not deliver in time must not be delivered later: by then, we have sent it again.
    wanted = _KEEPALIVE | {"TCP_USER_TIMEOUT": int(timeout * 1000)}
    return {getattr(socket, name): value for name, value in wanted.items() if hasattr(socket, name)}
