"""CPU and throughput of sessions in a real server: ``python -m benchmarks.http``.

One aiohttp process per case and a load generator, pinned to different cores, keep-alive, 32 connections, on loopback.
The bare handler is measured next to every case, in several rounds in turn.  What counts is the CPU time that a case
adds to a request of the bare handler (user and system, of the whole process): the machine's noise hits both alike.
"""

import argparse
import asyncio
import importlib.metadata
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from .apps import CASES
from .load import WRK, load

CONNECTIONS = 32
PATHS = ("untouched", "read", "increment")
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Server:
    """A running case."""

    process: subprocess.Popen[bytes]
    url: str
    directory: str

    def cpu_seconds(self) -> float:
        """Return what the process has used, user and system."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    async def cookies(self, count: int) -> list[str]:
        """Make *count* sessions and return their Cookie headers."""
        made = []
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client:
            for _ in range(count):
                async with client.get(f"{self.url}/init") as response:
                    made.append("; ".join(f"{cookie.key}={cookie.value}" for cookie in response.cookies.values()))
        return made

    async def measure(self, path: str, cookies: list[str], seconds: float) -> tuple[float, float]:
        """Return CPU microseconds per request, and requests per second."""
        before = self.cpu_seconds()
        requests, bad = await load(
            f"{self.url}/{path}", cookies, connections=CONNECTIONS, seconds=seconds, directory=self.directory
        )
        if bad:
            raise RuntimeError(f"{bad} of {requests} answers were errors")
        return (self.cpu_seconds() - before) / requests * 1e6, requests / seconds


@asynccontextmanager
async def serving(case: str, directory: str) -> AsyncIterator[Server]:
    """Run *case* in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.apps", case, str(port), directory])
    server = Server(process, f"http://127.0.0.1:{port}", directory)
    try:
        async with asyncio.timeout(30), aiohttp.ClientSession() as client:
            while True:
                try:
                    async with client.get(f"{server.url}/untouched"):
                        break
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.05)
        yield server
    finally:
        process.terminate()
        process.wait()


@asynccontextmanager
async def redis(directory: str) -> AsyncIterator[bool]:
    """Run a Redis server of our own, where there is one."""
    binary = shutil.which("redis-server")
    if binary is None:
        yield False
        return
    process = subprocess.Popen(
        [binary, "--port", "0", "--unixsocket", f"{directory}/redis.sock", "--save", "", "--appendonly", "no"],
        stdout=subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(10):
            while not Path(f"{directory}/redis.sock").exists():
                await asyncio.sleep(0.05)
        yield True
    finally:
        process.terminate()
        process.wait()


Figures = dict[str, dict[str, list[tuple[float, float]]]]


async def run(cases: list[str], sessions: int, rounds: int, seconds: float, directory: str) -> Figures:
    """Measure every case and path, each next to the bare handler; (added CPU microseconds, ratio of throughput)."""
    figures: Figures = {}
    async with serving("bare", directory) as bare, redis(directory) as has_redis:
        for case in cases:
            if "redis" in case and not has_redis:
                print(f"{case}: skipped, there is no redis-server", file=sys.stderr)
                continue
            async with serving(case, directory) as server:
                cookies = await server.cookies(sessions)
                for _ in range(rounds):
                    for path in PATHS:
                        before, before_rate = await bare.measure(path, cookies, seconds)
                        cpu, rate = await server.measure(path, cookies, seconds)
                        after, after_rate = await bare.measure(path, cookies, seconds)
                        added = cpu - (before + after) / 2
                        ratio = rate / ((before_rate + after_rate) / 2)
                        figures.setdefault(case, {}).setdefault(path, []).append((added, ratio))
            print(row(case, figures[case]), flush=True)
    return figures


def row(case: str, measured: dict[str, list[tuple[float, float]]]) -> str:
    """Return one line of the table."""
    cells = []
    for path in PATHS:
        added = [added for added, _ in measured[path]]
        ratio = statistics.median(ratio for _, ratio in measured[path])
        cells.append(f"{statistics.median(added):+6.0f} ({min(added):+.0f} to {max(added):+.0f}) x{ratio:.2f}")
    return f"| {case:26} | " + " | ".join(f"{cell:28}" for cell in cells) + " |"


def machine(directory: str) -> dict[str, object]:
    """Say what this was measured on."""
    kind = subprocess.run(["stat", "-f", "-c", "%T", directory], capture_output=True, text=True, check=False).stdout
    names = ("aiohttp", "aiohttp-session", "itsdangerous", "aiofiles", "aiohttp_session_store")
    return {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "file system": kind.strip(),
        "load": "wrk" if WRK else "benchmarks.load",
        "versions": {name: importlib.metadata.version(name) for name in names},
    }


def main() -> None:
    """Print a table and write all figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=[case for case in CASES if case != "bare"])
    parser.add_argument("--sessions", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--directory", default=".")
    parser.add_argument("--json", default="benchmarks/http.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory, prefix="bench-") as directory:
        print(json.dumps(machine(directory)))
        print("CPU us added to a bare request, median (lowest to highest), and requests/s against bare;", end=" ")
        print(f"{options.sessions} sessions")
        print(f"| {'':26} | " + " | ".join(f"{path:28}" for path in PATHS) + " |")
        figures = asyncio.run(run(options.cases, options.sessions, options.rounds, options.seconds, directory))
        document = {"machine": machine(directory), "sessions": options.sessions, "figures": figures}
        Path(options.json).write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
