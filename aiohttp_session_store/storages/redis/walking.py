"""Walking over the keys of all records, with SCAN."""

from collections.abc import AsyncIterator

from redis.exceptions import ResponseError

from ...errors import StorageError
from ...record.session_id import is_key
from .shared_calls import Calls

__all__ = ["walk_keys"]

# Keys that one SCAN looks at, about 10 us of the server's time each hundred; and keys that are yielded at once.
_LOOKED_AT, _MOST = 500, 100
_CURSOR_BITS = 64
_SPECIAL = str.maketrans({character: f"\\{character}" for character in "\\*?[]^-"})


async def walk_keys(calls: Calls, prefix: str) -> AsyncIterator[tuple[list[str], float]]:
    """Yield the keys of records, a hundred at most at a time, and how much of the walk is done, from 0 to 1.

    SCAN finds each key that is there during the whole walk; a key may be found twice if the server's table grows.
    On a cluster, keys that move to another node meanwhile may be missed.

    Raises:
        StorageError: The server did not answer, or it is a node of a cluster and the client is for a single server.
    """
    await _refuse_a_part(calls)
    pattern = prefix.translate(_SPECIAL) + "?" * 64  # so not our other keys, which are longer
    nodes = await calls.primaries()
    for number, node in enumerate(nodes):
        cursor = 0
        while True:
            cursor, names = await calls.scan(node, cursor, pattern, _LOOKED_AT)
            found = [name[len(prefix.encode()) :].decode("utf-8", "replace") for name in names]
            keys = [key for key in found if is_key(key)]
            done = (number + (_part(cursor) if cursor else 1)) / len(nodes)
            for start in range(0, len(keys) or 1, _MOST):
                yield keys[start : start + _MOST], done
            if not cursor:
                break


async def _refuse_a_part(calls: Calls) -> None:
    """Refuse a walk by a client of a single server over a node of a cluster, which would find a part of the records.

    Raises:
        StorageError: It is one.
    """
    if calls.has_nodes:
        return
    try:
        answer = await calls.ask("INFO", "cluster")
    except StorageError as error:
        if not isinstance(error.__cause__, ResponseError):
            raise
        return  # not permitted, or renamed
    if isinstance(answer, bytes) and b"cluster_enabled:1" in answer:
        raise StorageError(
            "this Redis server is a node of a cluster, and holds a part of the sessions: use a client of the cluster,"
            " or redis-cluster:// on the command line"
        )


def _part(cursor: int) -> float:
    """Return how much of a scan is done: the server counts with the bits of its cursor in reverse order."""
    bits = f"{cursor % (1 << _CURSOR_BITS):0{_CURSOR_BITS}b}"
    return int(bits[::-1], 2) / (1 << _CURSOR_BITS)
