"""The cost of very many sessions: ``python -m benchmarks.scale``.

Memory: by how much a fresh process grows (``/proc/self/statm``) when sessions are put into MemoryStorage, compared with
the same keys and records in a plain dict.  CPU: microseconds (``time.process_time``, all threads) per cycle of read,
change and save as the number of sessions grows; each number has its own process, measured in alternating rounds.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from .report import UnavailableError, machine, progress, write
from .tables import scale_tables

BLOCK = 4096
# Upper bounds per session. Measured: 0.8 KB of memory; on disk, one block and an inode of 256 bytes.
MEMORY_EACH, DISK_EACH = 1500, BLOCK + 512
KINDS = {"memory": ["memory"], "files": ["files", "files, no cache"]}


class Crowd:
    """A process with many sessions."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def answer(self) -> dict[str, float]:
        """Wait for a line of figures."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process with the sessions exited with status {self.process.wait()}")
        figures: dict[str, float] = json.loads(line)
        return figures

    def visit(self, case: str, cycles: int) -> dict[str, float]:
        """Let the process read, change and save *cycles* sessions."""
        assert self.process.stdin
        self.process.stdin.write(f"{case} {cycles}\n")
        self.process.stdin.flush()
        return self.answer()


@contextmanager
def crowd(kind: str, sessions: int, directory: str) -> Iterator[Crowd]:
    """Start a process that creates *sessions* sessions; its first answer is the memory and the time that they took."""
    command = [sys.executable, "-m", "benchmarks.crowd", kind, str(sessions), directory]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Crowd(process)
        except BaseException:
            process.kill()
            raise


def sizes(largest: int, smallest: int) -> list[int]:
    """Return *largest*, a tenth of it, and so on down to *smallest*, in ascending order."""
    found = [largest]
    while found[-1] // 10 >= smallest:
        found.append(found[-1] // 10)
    return found[::-1]


def check_memory(sessions: int) -> None:
    """Check that the sessions fit into memory.

    Raises:
        UnavailableError: They do not fit.
    """
    facts = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    free, needed = int(facts["MemAvailable"].split()[0]) * 1024, sessions * MEMORY_EACH
    if free < needed:
        raise UnavailableError(
            f"{sessions} sessions may need {needed >> 20} MB of memory, but only {free >> 20} are free"
        )


def check_disk(sessions: int, directory: str) -> None:
    """Check that the sessions fit on the disk.

    Raises:
        UnavailableError: They do not fit.
    """
    free, needed = shutil.disk_usage(directory).free, sessions * DISK_EACH
    if free < needed:
        raise UnavailableError(f"{sessions} files need {needed >> 20} MB of disk, but only {free >> 20} are free")
    inodes = os.statvfs(directory)
    if inodes.f_files and inodes.f_favail < sessions:  # 0 means that the file system has no such limit
        raise UnavailableError(f"{sessions} files need as many inodes, but only {inodes.f_favail} are free")


def measure_memory(sessions: int, repeats: int) -> dict[str, list[dict[str, float]]]:
    """Fill a dict and a storage in turn, each in a fresh process."""
    figures: dict[str, list[dict[str, float]]] = {"dict": [], "memory": []}
    for number in range(repeats):
        for kind, taken in figures.items():
            progress(f"memory of {sessions} sessions, {kind}, {number + 1} of {repeats}")
            with crowd(kind, sessions, "") as process:
                taken.append(process.answer())
    return figures


def measure_cycles(
    kind: str, numbers: list[int], rounds: int, cycles: int, directory: str
) -> dict[str, dict[str, list[dict[str, float]]]]:
    """Measure each of *numbers* in alternating rounds; return the figures of every round by case and number."""
    figures: dict[str, dict[str, list[dict[str, float]]]] = {}
    with ExitStack() as stack:
        processes = {}
        for number in numbers:
            progress(f"{kind}: creating {number} sessions")
            place = f"{directory}/{kind}-{number}"
            processes[number] = stack.enter_context(crowd(kind, number, place))
            made = processes[number].answer()
            progress(f"{kind}: {number} sessions created in {made['fill_seconds']:.1f} s")
        os.sync()
        for process in processes.values():
            for case in KINDS[kind]:
                process.visit(case, min(cycles, 500))  # warm up
        for turn in range(rounds):
            progress(f"{kind}: round {turn + 1} of {rounds}")
            for case in KINDS[kind]:
                for number, process in processes.items():
                    figures.setdefault(case, {}).setdefault(str(number), []).append(process.visit(case, cycles))
    return figures


def main() -> None:
    """Print tables and write all figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=1_000_000, help="the largest number in memory")
    parser.add_argument("--files", type=int, default=1_000_000, help="the largest number of files; needs 5 GB")
    parser.add_argument("--smallest", type=int, default=1000, help="the smallest number of either")
    parser.add_argument("--repeats", type=int, default=3, help="of filling memory")
    parser.add_argument("--rounds", type=int, default=7, help="of visiting")
    parser.add_argument("--cycles", type=int, default=20_000, help="per number and round in memory; of files a tenth")
    parser.add_argument("--directory", default=".", help="where a temporary folder is created")
    parser.add_argument("--json", default="bench-results/scale.json")
    options = parser.parse_args()
    names = ("sessions", "files", "repeats", "rounds", "cycles")
    document: dict[str, Any] = {
        "machine": machine(options.directory),
        "options": {name: getattr(options, name) for name in names},
        "memory": {},
        "cycles": {},
        "skipped": {},
    }
    rounds, cycles = options.rounds, options.cycles
    in_memory, in_files = sizes(options.sessions, options.smallest), sizes(options.files, options.smallest)
    with tempfile.TemporaryDirectory(dir=options.directory, prefix="bench-") as directory:
        try:
            check_memory(sum(in_memory))
            document["memory"] = measure_memory(options.sessions, options.repeats)
            document["cycles"] |= measure_cycles("memory", in_memory, rounds, cycles, directory)
        except UnavailableError as error:
            document["skipped"]["memory"] = str(error)
        try:
            check_disk(sum(in_files), directory)
            document["cycles"] |= measure_cycles("files", in_files, rounds, max(1, cycles // 10), directory)
        except UnavailableError as error:
            document["skipped"]["files"] = str(error)
    write(options.json, document)
    print(scale_tables(document))


if __name__ == "__main__":
    main()
