"""The cost of each storage without HTTP: ``python -m benchmarks.storage``.

CPU time of the whole process (``time.process_time``: user and system, all threads) and wall-clock time
(``time.perf_counter``) per ``read``, per ``save`` of one changed key, and per cycle of read, change and save; one at a
time and 32 at once.  Calls handed to a thread ("hops") are counted in a separate pass.  Every saved value is read again
and compared.
"""

import argparse
import asyncio
import gc
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

from aiohttp_session_store import (
    CookieStorage,
    FileSystemStorage,
    KeyedStorage,
    KeyRing,
    MemoryStorage,
    Session,
    SessionStorage,
)
from aiohttp_session_store.storages.postgres import PostgresStorage
from aiohttp_session_store.storages.redis import RedisStorage

from .handlers import DATA
from .report import UnavailableError, machine, pin, progress, write
from .servers import postgres_dsn, redis_url
from .tables import storage_tables

AT_ONCE = 32


@asynccontextmanager
async def closing(storage: SessionStorage) -> AsyncIterator[SessionStorage]:
    """Yield *storage*, and close it at the end."""
    try:
        yield storage
    finally:
        await storage.aclose()


@asynccontextmanager
async def on_server(
    start: Callable[[], AbstractContextManager[str]], open_: Callable[[str], KeyedStorage]
) -> AsyncIterator[SessionStorage]:
    """Start a server, yield a storage that is connected to it, and stop both at the end."""
    running = start()
    try:
        place = await asyncio.to_thread(running.__enter__)
    except (OSError, AssertionError, RuntimeError) as error:
        raise UnavailableError(str(error)) from error
    try:
        async with closing(open_(place)) as storage:
            if isinstance(storage, PostgresStorage):
                await storage.create_schema()
            yield storage
    finally:
        await asyncio.to_thread(running.__exit__, None, None, None)


# Each function opens a new storage, given a directory; if that is not possible here, it raises UnavailableError.
CASES: dict[str, Callable[[str], AbstractAsyncContextManager[SessionStorage]]] = {
    "memory": lambda _: closing(MemoryStorage()),
    "memory, encrypted": lambda _: closing(MemoryStorage(encryption=KeyRing(KeyRing.new_key()))),
    "cookie": lambda _: closing(CookieStorage()),
    "cookie, encrypted": lambda _: closing(CookieStorage(encryption=KeyRing(KeyRing.new_key()))),
    "files": lambda directory: closing(FileSystemStorage(f"{directory}/files")),
    "files, no cache": lambda directory: closing(FileSystemStorage(f"{directory}/uncached", cache_size=0)),
    "files, durable": lambda directory: closing(FileSystemStorage(f"{directory}/durable", durable=True)),
    "redis": lambda _: on_server(redis_url, RedisStorage.from_url),
    "postgres": lambda _: on_server(postgres_dsn, PostgresStorage.from_dsn),
}

Work = Callable[[], Awaitable[object]]


async def nothing() -> None:
    """Do nothing: what remains is the cost of the event loop itself."""


@dataclass
class Visits:
    """Visits to sessions that were made in one storage.

    Attributes:
        values: The cookie value of each session.
        written: The values that this round wrote into each session; if requests ran in parallel, any may be the last.
    """

    storage: SessionStorage
    values: list[str] = field(default_factory=list)
    written: dict[int, set[int]] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    async def make(self, sessions: int) -> None:
        """Create *sessions* sessions of about 270 bytes."""
        for _ in range(sessions):
            session = await self.storage.read(None)
            session.update(DATA)
            value = await self.storage.save(session)
            assert value
            self.values.append(value)

    async def nothings(self, which: Sequence[int]) -> list[Work]:
        """Return coroutines that do nothing."""
        return [nothing for _ in which]

    async def reads(self, which: Sequence[int]) -> list[Work]:
        """Return one call per session of *which*, which reads it."""
        return [partial(self.storage.read, self.values[number]) for number in which]

    async def saves(self, which: Sequence[int]) -> list[Work]:
        """Read and change each session of *which*, and return one call per session that saves it."""
        work: list[Work] = []
        self.written.clear()
        for number in which:
            session = await self.storage.read(self.values[number])
            self.change(number, session)
            work.append(partial(self.save, number, session))
        return work

    async def cycles(self, which: Sequence[int]) -> list[Work]:
        """Return one call per session of *which*, which reads, changes and saves it."""
        self.written.clear()
        return [partial(self.cycle, number) for number in which]

    async def cycle(self, number: int) -> None:
        """Read, change and save one session, as a request does."""
        session = await self.storage.read(self.values[number])
        self.change(number, session)
        await self.save(number, session)

    def change(self, number: int, session: Session) -> None:
        """Set a key to a value that it has never had."""
        session["counter"] = next(self.numbers)
        self.written.setdefault(number, set()).add(session["counter"])

    async def save(self, number: int, session: Session) -> None:
        """Save *session* and keep its cookie."""
        self.values[number] = await self.storage.save(session) or self.values[number]

    async def check(self) -> None:
        """Check that every session holds the value that was written last."""
        for number, written in self.written.items():
            found = (await self.storage.read(self.values[number])).get("counter")
            if found not in written:
                raise RuntimeError(f"session {number} holds {found}, which is not one of {written}")
        self.written.clear()


STEPS: dict[str, Callable[[Visits, Sequence[int]], Awaitable[list[Work]]]] = {
    "nothing": Visits.nothings,
    "read": Visits.reads,
    "save": Visits.saves,
    "cycle": Visits.cycles,
}


@dataclass(frozen=True)
class Way:
    """How the visits are distributed.

    Attributes:
        at_once: How many visits run at a time.
        same: Whether all visits go to the same session.
    """

    at_once: int
    same: bool = False


WAYS = {
    "one at a time": Way(1),
    f"{AT_ONCE} at once, {AT_ONCE} sessions": Way(AT_ONCE),
    f"{AT_ONCE} at once, one session": Way(AT_ONCE, same=True),
}


async def measure(visits: Visits, step: str, way: Way, operations: int) -> tuple[float, float]:
    """Return CPU and wall-clock microseconds per operation."""
    cpu = wall = 0.0
    gc.collect()
    for start in range(0, operations, AT_ONCE):
        which = [0 if way.same else number % len(visits.values) for number in range(start, start + AT_ONCE)]
        work = await STEPS[step](visits, which)
        cpu_before, wall_before = time.process_time(), time.perf_counter()
        if way.at_once == 1:
            for one in work:
                await one()
        else:
            await asyncio.gather(*(one() for one in work))
        wall += time.perf_counter() - wall_before
        cpu += time.process_time() - cpu_before
        await visits.check()
    done = len(range(0, operations, AT_ONCE)) * AT_ONCE
    return cpu / done * 1e6, wall / done * 1e6


@contextmanager
def counting_hops() -> Iterator[list[str]]:
    """Record every call that is handed to a thread."""
    submit, noted = ThreadPoolExecutor.submit, list[str]()

    def counted(self: ThreadPoolExecutor, call: Callable[..., Any], /, *args: Any, **named: Any) -> Any:
        noted.append(repr(call))
        return submit(self, call, *args, **named)

    ThreadPoolExecutor.submit = counted  # type: ignore[assignment, method-assign]
    try:
        yield noted
    finally:
        ThreadPoolExecutor.submit = submit  # type: ignore[method-assign]


async def hops(visits: Visits, step: str, way: Way) -> float:
    """Return the number of calls handed to a thread per operation."""
    which = [0 if way.same else number % len(visits.values) for number in range(AT_ONCE)]
    work = await STEPS[step](visits, which)
    with counting_hops() as noted:
        for start in range(0, AT_ONCE, way.at_once):
            await asyncio.gather(*(one() for one in work[start : start + way.at_once]))
    return len(noted) / AT_ONCE


Figure = dict[str, Any]


async def run(options: argparse.Namespace, directory: str) -> tuple[list[Figure], dict[str, str]]:
    """Measure every case, step and way in alternating rounds; return the figures, and why cases were skipped."""
    opened: dict[str, Visits] = {}
    skipped: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        for case in options.cases:
            try:
                opened[case] = Visits(await stack.enter_async_context(CASES[case](directory)))
            except UnavailableError as error:
                skipped[case] = str(error)
                progress(f"{case}: skipped, {error}")
        pin()  # only now: the servers that were started above must not share this core
        for visits in opened.values():
            await visits.make(max(options.sessions, AT_ONCE))
        figures: list[Figure] = [
            {"case": case, "step": step, "way": way, "cpu_us": [], "wall_us": []}
            for case in opened
            for step in STEPS
            for way in WAYS
            if step != "nothing" or case == next(iter(opened))
        ]
        for figure in figures:  # this also warms up
            figure["hops"] = await hops(opened[figure["case"]], figure["step"], WAYS[figure["way"]])
        for number in range(options.rounds):
            progress(f"round {number + 1} of {options.rounds}")
            for figure in figures:
                visits, way = opened[figure["case"]], WAYS[figure["way"]]
                cpu, wall = await measure(visits, figure["step"], way, options.operations)
                figure["cpu_us"].append(cpu)
                figure["wall_us"].append(wall)
    return figures, skipped


def main() -> None:
    """Print tables and write all figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=list(CASES), help="of " + "; ".join(CASES))
    parser.add_argument(
        "--sessions", type=int, default=512, help="in each storage; the cache of the file storage holds 1024"
    )
    parser.add_argument("--operations", type=int, default=2048, help="per figure and round")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--directory", default=".", help="where a temporary folder is created")
    parser.add_argument("--json", default="bench-results/storage.json")
    options = parser.parse_args()
    if unknown := set(options.cases) - set(CASES):
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    document: dict[str, Any] = {
        "machine": machine(options.directory),
        "options": {name: getattr(options, name) for name in ("sessions", "operations", "rounds")},
    }
    with tempfile.TemporaryDirectory(dir=options.directory, prefix="bench-") as directory:
        document["figures"], document["skipped"] = asyncio.run(run(options, directory))
    write(options.json, document)
    print(storage_tables(document))


if __name__ == "__main__":
    main()
