"""CPU and throughput of sessions in a real server: ``python -m benchmarks.http``.

One aiohttp process per case and a load generator, pinned to different cores: 32 keep-alive connections on loopback.
The figure is the CPU time that sessions add to a request (user and system, of the whole process).  The handler without
sessions is therefore measured before and after every case, in several rounds, so that noise affects both equally.
"""

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from .apps import CASES
from .handlers import POSTGRES, REDIS
from .load import WRK, load
from .report import machine, progress, write
from .servers import postgres_dsn, redis_url
from .tables import http_tables

CONNECTIONS = 32
# Our storages run once without and once with the extra "orjson"; the other cases do not use orjson.
WITH_ORJSON = ", orjson"
ALL_CASES = [
    name
    for case in CASES
    if case != "bare"
    for name in ([case, case + WITH_ORJSON] if case in ("memory", "cookie", "files") else [case])
]
PATHS = ("untouched", "read", "increment")
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Server:
    """The server process of one case."""

    process: subprocess.Popen[bytes]
    url: str
    directory: str

    def cpu_seconds(self) -> float:
        """Return the CPU time that the process has used, user and system."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    async def cookies(self, count: int) -> list[str]:
        """Create *count* sessions and return their Cookie headers."""
        made = []
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client:
            for _ in range(count):
                async with client.get(f"{self.url}/init") as response:
                    made.append("; ".join(f"{cookie.key}={cookie.coded_value}" for cookie in response.cookies.values()))
        return made

    async def measure(self, path: str, cookies: list[str], seconds: int) -> tuple[float, float]:
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
    """Serve *case* in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = "benchmarks.apps" if case.endswith(WITH_ORJSON) else "benchmarks.without_orjson"
    command = [sys.executable, "-m", program, case.removesuffix(WITH_ORJSON), str(port), directory]
    process = subprocess.Popen(command)
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


@contextmanager
def servers(cases: list[str]) -> Iterator[dict[str, str]]:
    """Run the servers that *cases* need and put their addresses into the environment; yield why cases are skipped."""
    missing: dict[str, str] = {}
    with ExitStack() as stack:
        for word, variable, start in (("redis", REDIS, redis_url), ("postgres", POSTGRES, postgres_dsn)):
            needy = [case for case in cases if word in case]
            if needy:
                try:
                    os.environ[variable] = stack.enter_context(start())
                except (OSError, AssertionError, RuntimeError) as error:
                    missing |= dict.fromkeys(needy, str(error))
        yield missing


Figures = dict[str, dict[str, list[tuple[float, float]]]]


async def run(cases: list[str], sessions: int, rounds: int, seconds: int, directory: str) -> Figures:
    """Measure each case and path against the bare handler; a figure is (added CPU microseconds, throughput ratio)."""
    figures: Figures = {}
    async with serving("bare", directory) as bare:
        for case in cases:
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
            progress(case)
    return figures


def main() -> None:
    """Print a table and write all figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=ALL_CASES, help="of " + "; ".join(ALL_CASES))
    parser.add_argument("--sessions", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=1, help="of load, per figure and round")
    parser.add_argument("--directory", default=".", help="where a temporary folder is created")
    parser.add_argument("--json", default="bench-results/http.json")
    options = parser.parse_args()
    if unknown := set(options.cases) - set(ALL_CASES):
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    document = {"machine": {**machine(options.directory), "load": "wrk" if WRK else "benchmarks.load"}}
    document["options"] = {name: getattr(options, name) for name in ("sessions", "rounds", "seconds")}
    folder = tempfile.TemporaryDirectory(dir=options.directory, prefix="bench-")
    with folder as directory, servers(options.cases) as missing:
        cases = [case for case in options.cases if case not in missing]
        figures = asyncio.run(run(cases, options.sessions, options.rounds, options.seconds, directory))
    document |= {"figures": figures, "skipped": missing}
    write(options.json, document)
    print(http_tables(document))


if __name__ == "__main__":
    main()
