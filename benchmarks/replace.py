"""The cost of replacing a file with a newly written one: ``python -m benchmarks.replace [DIRECTORY]``.

Compares rename, rename after ``posix_fallocate``, and exchange, in alternating rounds, on files that were just written
and on files that the kernel has already written back to the disk (here: by ``sync``).
"""

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from aiohttp_session_store.storages.filesystem.swap import Rename, exchange, rename

RECORD = b"x" * 300
NAMES = [f"{number:04}" for number in range(1000)]


def put(folder: int, name: str, into_place: Rename, *, allocate: bool) -> None:
    """Write a temporary file and give it *name*, as the storage does."""
    descriptor = os.open("temporary", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder)
    if allocate:
        os.posix_fallocate(descriptor, 0, len(RECORD))
    os.write(descriptor, RECORD)
    os.close(descriptor)
    into_place("temporary", name, folder)
    if into_place is not rename:
        os.unlink("temporary", dir_fd=folder)


WAYS: dict[str, Callable[[int, str], None]] = {
    "rename": lambda folder, name: put(folder, name, rename, allocate=False),
    "fallocate + rename": lambda folder, name: put(folder, name, rename, allocate=True),
    "exchange + unlink": lambda folder, name: put(folder, name, exchange, allocate=False),
}


def measure(path: Path, way: str, *, settled: bool) -> float:
    """Return microseconds per replacement."""
    place = path / way.replace(" ", "")
    place.mkdir(exist_ok=True)
    folder = os.open(place, os.O_RDONLY)
    try:
        for name in NAMES:
            (place / name).write_bytes(RECORD)
        if settled:
            subprocess.run(["sync"], check=True)
        started = time.perf_counter()
        for name in NAMES:
            WAYS[way](folder, name)
        return (time.perf_counter() - started) / len(NAMES) * 1e6
    finally:
        os.close(folder)


def main() -> None:
    """Print a table of medians in microseconds over alternating rounds, and their ratio to rename."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", nargs="?", default=".")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory, prefix="bench-") as path:
        print(f"{'':20} {'just written':>24} {'written back before':>24}")
        figures: dict[tuple[str, bool], list[float]] = {}
        for _ in range(options.rounds):
            for way in WAYS:
                for settled in (False, True):
                    figures.setdefault((way, settled), []).append(measure(Path(path), way, settled=settled))
        for way in WAYS:
            cells = []
            for settled in (False, True):
                median = statistics.median(figures[way, settled])
                ratio = median / statistics.median(figures["rename", settled])
                cells.append(f"{median:8.0f} us  x{ratio:4.2f}")
            print(f"{way:20} {cells[0]:>24} {cells[1]:>24}")


if __name__ == "__main__":
    main()
