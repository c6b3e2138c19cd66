"""A process with very many sessions, for ``benchmarks.scale``: ``python -m benchmarks.crowd KIND SESSIONS DIRECTORY``.

It creates the sessions and prints one line of JSON: the memory and the time that they took.  Then, for each line
``CASE CYCLES`` on standard input, it reads, changes and saves that many sessions one after another, and prints one
line of JSON: the cost of a cycle.
"""

import asyncio
import gc
import json
import os
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from aiohttp_session_store import FileSystemStorage, MemoryStorage
from aiohttp_session_store.record.session_id import key_of
from aiohttp_session_store.storages.base import KeyedStorage

from .handlers import DATA
from .report import pin

PAGE = os.sysconf("SC_PAGE_SIZE")
USER = 10_000_000
IN_USE = 1000  # fits into the cache of the file storage, which holds 1024 records
INSERTS_AT_ONCE = 64


def resident_bytes() -> int:
    """Return the resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def session_id(number: int) -> str:
    """Compute an id from a number, so that no list of ids takes up memory; it is as long as a real one."""
    return f"{number:043}"


async def template() -> tuple[bytes, int]:
    """Return the stored record of a session of about 270 bytes, and its expiry."""
    storage = MemoryStorage()
    session = await storage.read(None)
    session.update({**DATA, "user_id": USER})
    await storage.save(session)
    stored = await storage.fetch(session.key)
    assert stored is not None
    return stored.data, stored.expires_at


def records(data: bytes, sessions: int) -> Iterator[tuple[str, bytes]]:
    """Yield pairs of key and record; no two are equal."""
    before, after = data.split(b"%d" % USER)
    for number in range(sessions):
        yield key_of(session_id(number)), b"%b%d%b" % (before, USER + number, after)


async def fill(storage: KeyedStorage, data: bytes, expires_at: int, sessions: int) -> None:
    """Insert the sessions, several at a time."""
    waiting = []
    for key, record in records(data, sessions):
        waiting.append(storage.insert(key, record, expires_at))
        if len(waiting) == INSERTS_AT_ONCE:
            await asyncio.gather(*waiting)
            waiting.clear()
    await asyncio.gather(*waiting)


class Crowd:
    """Sessions in a storage, or records in a plain dict.

    Attributes:
        plain: The dict; empty if there is a storage.
        storages: The storage of each case; the two file storages share a directory.
    """

    def __init__(self, kind: str, sessions: int, directory: str) -> None:
        self.kind, self.sessions = kind, sessions
        self.plain: dict[str, bytes] = {}
        self.storages: dict[str, KeyedStorage] = {}
        if kind == "memory":
            self.storages["memory"] = MemoryStorage(max_sessions=sessions)
        elif kind == "files":
            self.storages["files"] = FileSystemStorage(directory)
            self.storages["files, no cache"] = FileSystemStorage(directory, cache_size=0)
        # With the cache only a few of the many sessions are in use, as the cache expects; without it, all equally.
        self.in_use = random.Random(1).sample(range(sessions), min(sessions, IN_USE))
        self.chance = random.Random(2)

    async def fill(self) -> dict[str, float]:
        """Create the sessions, and return the memory and the time that they took."""
        data, expires_at = await template()
        gc.collect()
        before, started = resident_bytes(), time.perf_counter()
        if self.kind == "dict":
            self.plain.update(records(data, self.sessions))
        else:
            storage = next(iter(self.storages.values()))
            await fill(storage, data, expires_at, self.sessions)
            await storage.aclose()  # ends its threads; the ones that start later are pinned
        seconds = time.perf_counter() - started
        gc.collect()
        after, started = resident_bytes(), time.perf_counter()
        gc.collect()
        return {
            "resident_bytes": after - before,
            "key_and_record_bytes": self.sessions * (len(key_of("")) + len(data)),
            "fill_seconds": seconds,
            "collection_seconds": time.perf_counter() - started,
        }

    def pick(self, case: str) -> str:
        """Return the id of the session to visit next."""
        if case == "files":
            return session_id(self.chance.choice(self.in_use))
        return session_id(self.chance.randrange(self.sessions))

    async def visit(self, case: str, cycles: int) -> dict[str, float]:
        """Read, change and save sessions, and return microseconds per cycle."""
        storage = self.storages[case]
        if case == "files":  # refill the cache: the other case has written these since
            for number in self.in_use:
                await storage.read(session_id(number))
        ids = [self.pick(case) for _ in range(cycles)]
        gc.collect()
        wall, cpu = time.perf_counter(), time.process_time()
        for one in ids:
            session = await storage.read(one)
            session["counter"] += 1
            await storage.save(session)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        # The counter comes from the record: if a session was not found, the loop has raised KeyError.
        return {"cpu_us": cpu / cycles * 1e6, "wall_us": wall / cycles * 1e6}

    async def close(self) -> None:
        """Close the storages."""
        for storage in self.storages.values():
            await storage.aclose()


def main() -> None:
    """Create the sessions, then serve the lines of standard input."""
    kind, sessions, directory = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    crowd = Crowd(kind, sessions, directory)
    with asyncio.Runner() as runner:
        print(json.dumps(runner.run(crowd.fill())), flush=True)
        pin()
        for line in sys.stdin:
            case, _, cycles = line.rpartition(" ")
            print(json.dumps(runner.run(crowd.visit(case, int(cycles)))), flush=True)
        runner.run(crowd.close())


if __name__ == "__main__":
    main()
