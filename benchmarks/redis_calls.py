"""The cost of a Redis command, alone and in parallel: ``python -m benchmarks.redis_calls``.

CPU microseconds (``time.process_time``) of a GET of 300 bytes, by the driver alone with a time limit, and by our code,
which sends all commands of one event-loop turn together; one at a time and 32 at once, in several alternating rounds.
"""

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import Redis

from aiohttp_session_store.storages.redis.shared_calls import Calls

from .report import machine, pin, progress, say_machine, spread, table
from .servers import redis_url

AT_ONCE = 32
LIMIT = 5.0

Get = Callable[[], Awaitable[object]]


async def cost(get: Get, at_once: int, commands: int) -> float:
    """Return CPU microseconds per command."""

    async def several() -> None:
        for _ in range(commands // at_once):
            await get()

    before = time.process_time()
    await asyncio.gather(*(several() for _ in range(at_once)))
    return (time.process_time() - before) / commands * 1e6


async def run(url: str, rounds: int, commands: int) -> list[list[str]]:
    """Measure, and return the rows of the table."""
    client: Any = Redis.from_url(url, socket_timeout=None)
    async with client:
        calls = Calls(client, LIMIT)
        await client.set("key", b"x" * 300)

        async def by_the_driver() -> None:
            async with asyncio.timeout(LIMIT):
                await client.execute_command("GET", "key", NEVER_DECODE=True)

        async def together() -> None:
            await calls.ask("GET", "key")

        ways = {"redis-py, with a time limit": by_the_driver, "ours": together}
        figures: dict[str, dict[int, list[float]]] = {name: {1: [], AT_ONCE: []} for name in ways}
        for number in range(rounds):
            progress(f"round {number + 1} of {rounds}")
            for name, get in ways.items():
                for at_once in (1, AT_ONCE):
                    figures[name][at_once].append(await cost(get, at_once, commands))
    return [[name, *(spread(taken) for taken in figures[name].values())] for name in ways]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--commands", type=int, default=3200, help="per figure and round")
    options = parser.parse_args()
    with redis_url() as url:
        pin()
        rows = asyncio.run(run(url, options.rounds, options.commands))
    print(table(["CPU us per GET", "one at a time", f"{AT_ONCE} at once"], rows))
    print(f"\n{say_machine(machine('.'))}")


if __name__ == "__main__":
    main()
