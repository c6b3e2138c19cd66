"""The cost of a statement of PostgreSQL, alone and in parallel: ``python -m benchmarks.postgres_statements``.

CPU microseconds of this process (``time.process_time``), and of the server's processes, for a fetch of a record of 300
bytes and for a replacement.  By the driver alone with a time limit, and by our code, in which requests of one turn of
the event loop share a statement; one at a time and 32 at once, in several alternating rounds.
"""

import argparse
import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg

from aiohttp_session_store.storages.postgres.statements import Statements
from aiohttp_session_store.storages.postgres.storage import DEFAULT_TABLE, PostgresStorage

from .report import machine, pin, progress, say_machine, spread, table
from .servers import postgres_dsn

AT_ONCE = 32
LIMIT = 5.0
EXPIRES_AT = 4_000_000_000
TICKS = os.sysconf("SC_CLK_TCK")

Work = Callable[[int], Awaitable[object]]


class Server:
    """The processes of the server that serve our connections."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def cpu_seconds(self) -> float:
        """Return the CPU time that they have used."""
        pids = await self._pool.fetch("SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'")
        return sum(self._used(pid) for (pid,) in pids)

    def _used(self, pid: int) -> float:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


async def cost(work: Work, server: Server, at_once: int, count: int) -> tuple[float, float]:
    """Return CPU microseconds per statement: of this process, and of the server."""

    async def several(number: int) -> None:
        for _ in range(count // at_once):
            await work(number)

    there, here = await server.cpu_seconds(), time.process_time()
    await asyncio.gather(*(several(number) for number in range(at_once)))
    here = time.process_time() - here
    there = await server.cpu_seconds() - there
    return here / count * 1e6, there / count * 1e6


async def run(dsn: str, rounds: int, count: int) -> list[list[str]]:
    """Measure, and return the rows of the table."""
    keys = [f"{number:064x}" for number in range(AT_ONCE)]
    async with asyncpg.create_pool(dsn, min_size=10, max_size=10, max_inactive_connection_lifetime=0) as pool:
        storage = PostgresStorage.from_dsn(dsn)
        await storage.create_schema()
        versions = [await storage.insert(key, b"x" * 300, EXPIRES_AT) or b"" for key in keys]
        sql = Statements.build(DEFAULT_TABLE, None)

        async def fetch_by_the_driver(number: int) -> None:
            assert await pool.fetchrow(sql.fetch.one, keys[number], timeout=LIMIT)

        async def fetch_by_us(number: int) -> None:
            assert await storage.fetch(keys[number])

        async def replace_by_the_driver(number: int) -> None:
            newer = os.urandom(72)
            arguments = keys[number], b"x" * 300, newer, EXPIRES_AT, versions[number]
            assert await pool.fetchrow(sql.replace.one, *arguments, timeout=LIMIT)
            versions[number] = newer

        async def replace_by_us(number: int) -> None:
            newer = await storage.replace(keys[number], b"x" * 300, EXPIRES_AT, versions[number])
            assert newer
            versions[number] = newer

        ways: dict[str, Work] = {
            "fetch, asyncpg with a time limit": fetch_by_the_driver,
            "fetch, ours": fetch_by_us,
            "replace, asyncpg with a time limit": replace_by_the_driver,
            "replace, ours": replace_by_us,
        }
        server = Server(pool)
        figures: dict[str, list[list[float]]] = {name: [[], [], [], []] for name in ways}
        for number in range(rounds):
            progress(f"round {number + 1} of {rounds}")
            for name, work in ways.items():
                for place, at_once in enumerate((1, AT_ONCE)):
                    here, there = await cost(work, server, at_once, count)
                    figures[name][place].append(here)
                    figures[name][2 + place].append(there)
        await storage.aclose()
    return [[name, *(spread(taken) for taken in columns)] for name, columns in figures.items()]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--statements", type=int, default=3200, help="per figure and round")
    options = parser.parse_args()
    with postgres_dsn() as dsn:
        pin()
        rows = asyncio.run(run(dsn, options.rounds, options.statements))
    columns = [f"{whose}, {how}" for whose in ("process", "server") for how in ("one at a time", f"{AT_ONCE} at once")]
    print(table(["CPU us per statement", *columns], rows))
    print(f"\n{say_machine(machine('.'))}")


if __name__ == "__main__":
    main()
