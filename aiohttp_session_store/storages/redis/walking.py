"""Walking over the keys of all records, with SCAN."""

from collections.abc import AsyncIterator

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
    """
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


def _part(cursor: int) -> float:
    """Return how much of a scan is done: the server counts with the bits of its cursor in reverse order."""
    bits = f"{cursor % (1 << _CURSOR_BITS):0{_CURSOR_BITS}b}"
    return int(bits[::-1], 2) / (1 << _CURSOR_BITS)
