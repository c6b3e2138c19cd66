"""What all benchmarks share: the facts about the machine, the summary of figures, and the files they are written to."""

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

PACKAGES = (
    "aiohttp_session_store",
    "aiohttp",
    "aiofiles",
    "itsdangerous",
    "orjson",
    "redis",
    "asyncpg",
    "aiohttp-session",
    "cryptography",
)


class UnavailableError(Exception):
    """Raised if something cannot be measured on this machine; the text is the reason that is printed."""


def pin() -> None:
    """Pin this process, and the threads that it starts from now on, to the first core."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {0})


def file_system(directory: str) -> str:
    """Return the file system type of *directory*, more exactly than ``stat -f``, which calls ext4 ``ext2/ext3``."""
    device = os.stat(directory).st_dev
    with suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            mount, _, rest = line.partition(" - ")
            if mount.split()[2] == f"{os.major(device)}:{os.minor(device)}":
                return rest.split()[0]
    return "unknown"


def processor() -> str:
    """Return the processor's name if the kernel reports it, otherwise its architecture."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def commit() -> str | None:
    """Return the measured commit, with ``-dirty`` if files have changed since, or None outside a git checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10"]
    with suppress(OSError, subprocess.CalledProcessError):
        return subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout.strip()
    return None


def machine(directory: str) -> dict[str, Any]:
    """Describe the machine, the date and the load of a measurement; *directory* is where the files are written."""
    versions = {}
    for name in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": commit(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "processor": processor(),
        "cores": os.cpu_count(),
        "load average before": round(os.getloadavg()[0], 2),
        "file system": file_system(directory),
        "versions": versions,
    }


def say_machine(facts: dict[str, Any]) -> str:
    """Return *facts* as the one line that stands below the tables."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    place = f"{facts['cores']} cores" + (f" ({facts['processor']})" if "processor" in facts else "")
    parts = [f"Python {facts['python']}", place, f"files on {facts['file system']}"]
    if "system" in facts:
        parts.insert(1, facts["system"])
    if "load average before" in facts:
        parts.append(f"load average {facts['load average before']} before")
    if "load" in facts:
        parts.append(f"load from {facts['load']}")
    when = f"{facts['date']}, commit {facts['commit']}: " if "date" in facts else ""
    return f"{when}{', '.join(parts)}; {versions}."


def spread(values: Sequence[float], digits: int = 1, sign: str = "") -> str:
    """Return the median, the lowest and the highest of *values*: ``12.3 (11.9 to 14.0)``."""
    form = f"{sign}.{digits}f"
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table with aligned columns."""
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def progress(text: str) -> None:
    """Print progress to standard error, apart from the tables."""
    print(text, file=sys.stderr, flush=True)


def write(path: str, document: dict[str, Any]) -> None:
    """Write *document* as JSON; create its folder if needed."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(document, indent=1) + "\n")
    progress(f"figures: {path}")
