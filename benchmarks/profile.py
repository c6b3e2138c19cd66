"""Where a request spends its time: ``python -m benchmarks.profile [CASE]``.

Runs a case in this process under load, with cProfile, and prints the microseconds per request that each module itself
takes, for a read and for a change.  The profiler slows every call down, so only the proportions mean something.

A second table counts the bytecode instructions of our own functions and their calls, by module.  They do not depend on
the machine.
"""

import argparse
import asyncio
import cProfile
import os
import pstats
import sys
import tempfile
from collections import Counter
from functools import partial
from types import FrameType
from typing import Any

import aiohttp
from aiohttp import web

from .apps import CASES
from .load import load
from .report import table

PATHS = ("untouched", "read", "increment")
ROWS = 16
OURS = ("aiohttp_session_store/", "benchmarks")


async def profiled(case: str, directory: str, seconds: int) -> tuple[dict[str, Counter[str]], dict[str, Counter[str]]]:
    """Return microseconds per request by module, for each path, and instructions in the same way."""
    runner = web.AppRunner(CASES[case](directory), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    found: dict[str, Counter[str]] = {}
    counts: dict[str, Counter[str]] = {}
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client:
        cookies = []
        for _ in range(64):
            async with client.get(f"{url}/init") as response:
                cookies.append("; ".join(f"{one.key}={one.coded_value}" for one in response.cookies.values()))
    for path in PATHS:
        profile = cProfile.Profile()
        profile.enable()
        requests, _ = await load(f"{url}/{path}", cookies, connections=32, seconds=seconds, directory=directory)
        profile.disable()
        found[path] = by_module(pstats.Stats(profile), requests)
        counts[path] = await counted(f"{url}/{path}", cookies)
    await runner.cleanup()
    return found, counts


async def counted(url: str, cookies: list[str]) -> Counter[str]:
    """Send each cookie once; return how many instructions of our own a request takes, by module, and how many calls."""
    found: Counter[str] = Counter()
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client:
        sys.settrace(partial(trace, found))
        for cookie in cookies:
            async with client.get(url, headers={"Cookie": cookie}):
                pass
        sys.settrace(None)
    return Counter({name: round(count / len(cookies)) for name, count in found.items()})


def trace(found: Counter[str], frame: FrameType, event: str, argument: Any) -> Any:
    """Count the instructions of our own functions, and their calls."""
    module = module_of(frame.f_code.co_filename, "")
    if not module.startswith(OURS):
        return None
    if event in ("opcode", "call"):
        found[module if event == "opcode" else "calls"] += 1
    frame.f_trace_opcodes, frame.f_trace_lines = True, False
    return partial(trace, found)


def by_module(stats: pstats.Stats, requests: int) -> Counter[str]:
    """Return the functions' own time, summed up by module, in microseconds per request."""
    found: Counter[str] = Counter()
    for (file, _, function), (_, _, own, _, _) in stats.stats.items():  # type: ignore[attr-defined]
        found[module_of(file, function)] += own / requests * 1e6
    return found


def module_of(file: str, function: str) -> str:
    """Return a short name of the module that a function belongs to."""
    for package in ("aiohttp_session_store", "json", "asyncio", "aiohttp", "benchmarks"):
        _, found, rest = file.partition(f"{os.sep}{package}{os.sep}")
        if found:
            return f"{package}/{rest}" if package == "aiohttp_session_store" else package
    if "json" in function or "Encoder" in function:
        return "json"
    return "built-in functions and the rest"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", nargs="?", default="memory", help="of " + "; ".join(CASES))
    parser.add_argument("--seconds", type=int, default=5)
    options = parser.parse_args()
    if options.case not in CASES:
        parser.error(f"no such case: {options.case}")
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        found, counts = asyncio.run(profiled(options.case, directory, options.seconds))
    names = [name for name, _ in (found["increment"] + Counter()).most_common(ROWS)]
    rows = [[name, *(f"{found[path][name]:.1f}" for path in PATHS)] for name in names]
    rows.append(["all", *(f"{found[path].total():.1f}" for path in PATHS)])
    head = ["not touched", "read", "read, change, save"]
    print(table([f"profiled us per request, {options.case}", *head], rows))
    calls = ["calls", *(str(counts[path].pop("calls")) for path in PATHS)]
    rows = [[name, *(str(counts[path][name]) for path in PATHS)] for name, _ in counts["increment"].most_common()]
    rows.append(["all", *(str(counts[path].total()) for path in PATHS)])
    print(table([f"instructions per request, {options.case}", *head], [*rows, calls]))


if __name__ == "__main__":
    main()
