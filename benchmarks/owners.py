"""The cost of listing and ending the sessions of an owner: ``python -m benchmarks.owners``.

Each owner has five sessions.  A small and a large number of them stand in two storages of one process, and in
alternating rounds the sessions of some owners are listed, and those of other owners are ended.  The microseconds are
those of the clock on the wall, because the work of a server counts, too; the ratio is that of the same round.
"""

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from aiohttp_session_store import FileSystemStorage, KeyedStorage, MemoryStorage
from aiohttp_session_store.record.format import Record
from aiohttp_session_store.record.head import Head, owner_key
from aiohttp_session_store.record.session_id import key_of
from aiohttp_session_store.storages.postgres import PostgresStorage
from aiohttp_session_store.storages.redis import RedisStorage

from .handlers import DATA
from .report import machine, pin, progress, write
from .servers import postgres_dsn, redis_url
from .tables import owners_table

EACH = 5
AT_ONCE = 64
DEFAULTS = {"memory": 1_000_000, "files": 100_000, "redis": 200_000, "postgres": 200_000}


def owner_of(number: int) -> str:
    """Return the owner with that number."""
    return f"user-{number}"


def sessions(storage: KeyedStorage, owners: int) -> Iterator[tuple[str, Record, Head]]:
    """Yield the key and the record of each session."""
    now = storage.now()
    until = storage.timeouts.until(now, now, Head("0", now, "line", 0))
    for number in range(owners):
        for device in range(EACH):
            head = Head(owner_of(number), now, f"{number}.{device}", until, "Firefox on Linux")
            key = key_of(f"{number}.{device}".rjust(43, "0"))
            yield key, Record(now, now, storage.timeouts.idle, DATA, (), head), head


async def fill(storage: KeyedStorage, owners: int) -> None:
    """Store the sessions as logins do, several at a time."""
    left = sessions(storage, owners)

    async def some() -> None:
        for key, record, head in left:
            expires_at = storage.timeouts.expiry(record.written_at, record.created_at, head)
            await storage.link(owner_key(head.owner), key, head.until)
            await storage.insert(key, storage.records.encode(record, key), expires_at)

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))


@asynccontextmanager
async def made(kind: str, place: str, number: int) -> AsyncIterator[KeyedStorage]:
    """Make a storage of that kind for so many sessions."""
    storage: KeyedStorage
    if kind == "memory":
        storage = MemoryStorage(max_sessions=2 * number, sweep_interval=None)
    elif kind == "files":
        storage = FileSystemStorage(f"{place}/{number}", sweep_interval=None)
    elif kind == "redis":
        storage = RedisStorage.from_url(place, prefix=f"{number}:")
    else:
        storage = PostgresStorage.from_dsn(place, table=f"sessions_{number}", sweep_interval=None)
        await storage.create_schema()
    await storage.start()
    try:
        yield storage
    finally:
        await storage.aclose()


async def measure(kind: str, place: str, numbers: list[int], rounds: int, owners: int) -> dict[str, Any]:
    """Return the microseconds of a list and of an ending, by number of sessions, for each round."""
    figures: dict[str, Any] = {}
    async with AsyncExitStack() as stack:
        storages = {}
        for number in numbers:
            progress(f"{kind}: creating {number} sessions")
            storages[number] = await stack.enter_async_context(made(kind, place, number))
            await fill(storages[number], number // EACH)
        chosen = {number: random.Random(1).sample(range(number // EACH), rounds * owners) for number in numbers}
        for turn in range(rounds):
            progress(f"{kind}: round {turn + 1} of {rounds}")
            for number, storage in storages.items():
                some = [owner_of(one) for one in chosen[number][turn * owners : (turn + 1) * owners]]
                for step, call in ("list", listed), ("end", ended):
                    taken = await call(storage, some)
                    figures.setdefault(step, {}).setdefault(str(number), []).append(taken)
    return figures


async def listed(storage: KeyedStorage, owners: list[str]) -> float:
    """Return the microseconds of one list."""
    begun = time.perf_counter()
    for owner in owners:
        assert len(await storage.sessions_of(owner)) == EACH
    return (time.perf_counter() - begun) / len(owners) * 1e6


async def ended(storage: KeyedStorage, owners: list[str]) -> float:
    """Return the microseconds of one ending."""
    begun = time.perf_counter()
    for owner in owners:
        assert await storage.end_sessions(owner) == EACH
    return (time.perf_counter() - begun) / len(owners) * 1e6


def run(kind: str, directory: str, numbers: list[int], rounds: int, owners: int) -> dict[str, Any]:
    """Start the server of a storage, if it has one, and measure."""
    if kind == "redis":
        with redis_url() as url:
            return asyncio.run(measure(kind, url, numbers, rounds, owners))
    if kind == "postgres":
        with postgres_dsn() as dsn:
            return asyncio.run(measure(kind, dsn, numbers, rounds, owners))
    with tempfile.TemporaryDirectory(dir=directory) as place:
        return asyncio.run(measure(kind, place, numbers, rounds, owners))


def main() -> None:
    """Print a table and write all figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    for kind, most in DEFAULTS.items():
        parser.add_argument(f"--{kind}", type=int, default=most, help="the large number of sessions; 0: leave it out")
    parser.add_argument("--smallest", type=int, default=1000, help="the small number of sessions")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--owners", type=int, default=20, help="per number and round")
    parser.add_argument("--directory", default=".", help="where a temporary folder is created")
    parser.add_argument("--json", default="bench-results/owners.json")
    options = parser.parse_args()
    if options.rounds * options.owners > options.smallest // EACH:
        parser.error("every owner is used once: rounds times owners is at most a fifth of smallest")
    document: dict[str, Any] = {"machine": machine(options.directory), "figures": {}}
    pin()
    for kind in DEFAULTS:
        if most := getattr(options, kind):
            numbers = [options.smallest, most]
            document["figures"][kind] = run(kind, options.directory, numbers, options.rounds, options.owners)
    print(owners_table(document))
    write(options.json, document)


if __name__ == "__main__":
    main()
