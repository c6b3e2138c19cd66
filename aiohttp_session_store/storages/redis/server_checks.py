"""What a storage finds out about its client and its server when it starts."""

import logging
import re
from collections.abc import Mapping

from ...errors import ConfigurationError, StorageError, one_line
from .shared_calls import Calls

__all__ = ["check_eviction", "is_available", "warn_of_patience"]

_logger = logging.getLogger("aiohttp_session_store")

# No session has this key: it is read to see whether the server answers.
_NOBODY = "0" * 64
_POLICY = re.compile(rb"^maxmemory_policy:(\S+)", re.MULTILINE)
_LIMIT = re.compile(rb"^maxmemory:(\d+)", re.MULTILINE)


async def is_available(calls: Calls, prefix: str, client: object, *, from_url: bool) -> bool:
    """Return whether a record can be read, and log why if it cannot.

    Raises:
        ConfigurationError: The client cannot work at all.
    """
    try:
        await calls.ask("GET", prefix + _NOBODY)
    except StorageError as error:
        _logger.warning("sessions are unavailable: %s", one_line(error))
        return False
    except Exception as error:
        if not from_url and not isinstance(error, RuntimeError):
            raise
        fault = error
    else:
        return True
    if from_url:  # raised outside of the except block, because the error may hold a part of the URL
        raise ConfigurationError(
            f"RedisStorage.from_url: an option in the query of the URL has a wrong value ({type(fault).__name__})"
        )
    raise ConfigurationError(
        f"RedisStorage: this {type(client).__name__} was used in another event loop. Make the client in the event loop"
        " that runs the app, for example in a cleanup_ctx"
    ) from fault


async def check_eviction(calls: Calls) -> None:
    """Warn if the server may evict sessions.  A server that does not tell works all the same."""
    try:
        policy, limit = _memory_settings(await calls.ask("INFO", "memory"))
        reason = "the answer holds no maxmemory_policy"
    except StorageError as error:
        policy, limit, reason = None, 0, one_line(error)
    if policy is None:
        _logger.info(
            "could not ask the Redis server whether it may evict sessions (INFO memory), so make sure that its"
            " maxmemory-policy is noeviction: %s",
            reason,
        )
    elif policy != "noeviction" and limit:
        _logger.warning(
            "the Redis server evicts %s when its memory is full (maxmemory-policy %s): visitors are then logged out at"
            " random. Give sessions a server of their own with maxmemory-policy noeviction",
            "keys that expire, as sessions do" if policy.startswith("volatile-") else "any key",
            policy,
        )


def _memory_settings(answer: object) -> tuple[str | None, int]:
    """Return the policy of eviction, or None, and the limit in bytes, from the answer to ``INFO memory``.

    The client of a cluster parses the answer; any other client leaves it as bytes.
    """
    if isinstance(answer, Mapping):
        policy = answer.get("maxmemory_policy")
        return None if policy is None else str(policy), int(answer.get("maxmemory", 0))
    text = answer if isinstance(answer, bytes) else b""
    found, limit = _POLICY.search(text), _LIMIT.search(text)
    return None if found is None else found[1].decode(errors="replace"), 0 if limit is None else int(limit[1])


def warn_of_patience(socket_timeout: float | None, timeout: float) -> None:
    """Warn if a cluster node could hang unnoticed."""
    if socket_timeout is None or socket_timeout >= timeout:
        _logger.warning(
            "the socket_timeout of the RedisCluster (%s) is not below the timeout of the storage (%g s), so the"
            " client would not learn that another node has taken over from one that hangs. Set socket_timeout to a"
            " third of the storage's timeout",
            socket_timeout,
            timeout,
        )
