"""What it costs that an ending is on the disk before it is answered: ``python -m benchmarks.logout [DIRECTORY]``.

Compares ``retire``, which is a logout, and ``delete`` with what they would cost if nothing were synced, and with
``replace``, which is a save.  In alternating rounds, one at a time and 32 at once.  Wall-clock time: waiting for the
disk is what costs.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from aiohttp_session_store import FileSystemStorage

from .report import progress, table

AT_ONCE = 32
RECORD, TOMBSTONE = b"x" * 300, b"x" * 30
LATER = 4_000_000_000

Call = Callable[[FileSystemStorage, str, bytes], Awaitable[object]]


def replace(storage: FileSystemStorage, key: str, version: bytes) -> Awaitable[object]:
    """Save a change."""
    return storage.replace(key, RECORD, LATER, version)


def retire(storage: FileSystemStorage, key: str, version: bytes) -> Awaitable[object]:
    """Log out."""
    return storage.retire(key, TOMBSTONE, LATER, version)


def delete(storage: FileSystemStorage, key: str, version: bytes) -> Awaitable[object]:
    """Delete the record."""
    return storage.delete(key, version)


@contextmanager
def unsynced() -> Iterator[None]:
    """Let ``fsync`` do nothing."""
    with patch.object(os, "fsync", lambda _: None):
        yield


@contextmanager
def synced() -> Iterator[None]:
    """Change nothing."""
    yield


WAYS = {
    "replace (a save)": (replace, synced),
    "retire (a logout)": (retire, synced),
    "retire, not synced": (retire, unsynced),
    "delete": (delete, synced),
    "delete, not synced": (delete, unsynced),
}


async def measure(storage: FileSystemStorage, way: str, at_once: int) -> list[float]:
    """Return the microseconds of each call, or of each call's share of ``AT_ONCE`` calls."""
    call, condition = WAYS[way]
    keys = [os.urandom(32).hex() for _ in range(AT_ONCE + 1)]
    versions = [await storage.insert(key, RECORD, LATER) or b"" for key in keys]
    await storage.delete(keys.pop())  # writes to the disk what the inserts have left to do, so that no way pays for it
    taken = []
    with condition():
        for start in range(0, AT_ONCE, at_once):
            part = range(start, start + at_once)
            started = time.perf_counter()
            done = await asyncio.gather(*(call(storage, keys[number], versions[number]) for number in part))
            taken.append((time.perf_counter() - started) / at_once * 1e6)
            assert all(done)
    for key in keys:
        (Path(storage.directory) / key[:2] / key[2:]).unlink(missing_ok=True)
    return taken


async def run(directory: str, rounds: int) -> dict[tuple[str, int], list[float]]:
    """Measure all ways in alternating rounds."""
    figures: dict[tuple[str, int], list[float]] = {}
    storage = FileSystemStorage(directory, sweep_interval=None)
    for number in range(rounds):
        progress(f"round {number + 1} of {rounds}")
        for way in WAYS:
            for at_once in (1, AT_ONCE):
                figures.setdefault((way, at_once), []).extend(await measure(storage, way, at_once))
    await storage.aclose()
    return figures


def main() -> None:
    """Print medians in microseconds, and their ratio to a save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", nargs="?", default=".")
    parser.add_argument("--rounds", type=int, default=25)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory, prefix="bench-") as directory:
        figures = asyncio.run(run(directory, options.rounds))
    save = next(iter(WAYS))
    rows = []
    for way in WAYS:
        cells = [way]
        for at_once in (1, AT_ONCE):
            median = statistics.median(figures[way, at_once])
            cells.append(f"{median:.0f} us, x{median / statistics.median(figures[save, at_once]):.2f}")
        rows.append(cells)
    print(table(["call", "one at a time", f"{AT_ONCE} at once"], rows))


if __name__ == "__main__":
    main()
