"""A sweep of very many files during requests: ``python -m benchmarks.sweep --expired 1000000 --live 100000``.

Prints how many files are removed per second, and how long a request (read, change, save) takes with and without a
sweep.  Checks that every live session is still there, including those that were touched while the sweep ran.
"""

import argparse
import asyncio
import os
import random
import secrets
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from aiohttp_session_store import FileSystemStorage
from aiohttp_session_store.record.format import Record, encode_record
from aiohttp_session_store.record.session_id import key_of
from aiohttp_session_store.storages.filesystem.file_format import new_version, pack

IDLE = 14 * 24 * 60 * 60
DATA = {"user": 12345, "cart": list(range(20)), "csrf": "x" * 43}


def write_sessions(directory: str, count: int, used_at: int) -> list[str]:
    """Write *count* sessions last used at *used_at*, in the storage's format but faster; return their ids."""
    body = encode_record(Record(used_at, used_at, IDLE, DATA))
    ids = []
    for _ in range(count):
        session_id = secrets.token_urlsafe(32)
        key = key_of(session_id)
        folder = Path(directory, key[:2])
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / key[2:]).write_bytes(pack(body, used_at + IDLE, new_version()))
        ids.append(session_id)
    return ids


async def visit(storage: FileSystemStorage, ids: list[str], done: asyncio.Event, waits: list[float]) -> None:
    """Read, change and save random live sessions, a few hundred times a second; record how long each visit takes."""
    while not done.is_set():
        started = time.perf_counter()
        session = await storage.read(random.choice(ids))
        assert not session.new
        session["visits"] = session.get("visits", 0) + 1
        await storage.save(session)
        waits.append(time.perf_counter() - started)
        await asyncio.sleep(0.005)


async def measure(storage: FileSystemStorage, ids: list[str], work: "asyncio.Future[int]") -> tuple[list[float], int]:
    """Visit until *work* is done."""
    done, waits = asyncio.Event(), list[float]()
    visitors = [asyncio.ensure_future(visit(storage, ids, done, waits)) for _ in range(4)]
    result = await work
    done.set()
    await asyncio.gather(*visitors)
    return waits, result


async def rest(seconds: float) -> int:
    """Do nothing for a while."""
    await asyncio.sleep(seconds)
    return 0


def report(name: str, waits: list[float]) -> float:
    """Print a line of figures and return the 99th percentile in milliseconds."""
    milliseconds = sorted(wait * 1000 for wait in waits)
    last = milliseconds[int(len(milliseconds) * 0.99)]
    print(f"{name:20} {len(waits):8} requests   median {statistics.median(milliseconds):7.2f} ms   p99 {last:7.2f} ms")
    return last


async def run(directory: str, live: list[str], expired: int) -> None:
    """Measure without a sweep, then with one."""
    storage = FileSystemStorage(directory, sweep_interval=None)
    await measure(storage, live, asyncio.ensure_future(rest(1)))  # warm up
    quiet = report("without a sweep", (await measure(storage, live, asyncio.ensure_future(rest(5))))[0])
    started = time.perf_counter()
    waits, removed = await measure(storage, live, asyncio.ensure_future(storage.sweep()))
    took = time.perf_counter() - started
    busy = report("during the sweep", waits)
    print(f"{removed} of {expired} expired files removed in {took:.1f} s: {removed / took:.0f} files/s")
    print(f"p99 during the sweep is {busy / quiet:.2f} times the one without")
    assert removed == expired
    for session_id in live:
        assert not (await storage.read(session_id)).new, "a live session is gone"
    print(f"all {len(live)} live sessions are still there")
    await storage.aclose()


def main() -> None:
    """Create the files, in two processes, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--expired", type=int, default=100_000)
    parser.add_argument("--live", type=int, default=10_000)
    parser.add_argument("--directory", default=".", help="where a temporary folder is created")
    options = parser.parse_args()
    now = int(time.time())
    with tempfile.TemporaryDirectory(dir=options.directory, prefix="bench-") as directory:
        halves = (options.expired // 2, options.expired - options.expired // 2)
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            made = [pool.submit(write_sessions, directory, half, now - 2 * IDLE) for half in halves]
            live = pool.submit(write_sessions, directory, options.live, now - IDLE // 2).result()
            for future in made:
                future.result()
        asyncio.run(run(directory, live, options.expired))


if __name__ == "__main__":
    main()
