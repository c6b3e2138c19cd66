"""A process that writes the same rows as others like it, many at a time: ``python -m ... DSN SCHEMA SEED``.

It says when it is ready, and begins when it is told to.  At its end it says how many of its writes succeeded, and how
many met one of another process.
"""

import asyncio
import random
import sys
from collections.abc import Coroutine
from typing import Any

from aiohttp_session_store.storages.postgres import PostgresStorage

EXPIRES_AT = 4_000_000_000
KEYS = [f"{number:064x}" for number in range(24)]
ROUNDS = 5


async def main(dsn: str, schema: str, seed: int) -> tuple[int, int]:
    """Write in rounds, each in another order."""
    order = random.Random(seed)
    storage = PostgresStorage.from_dsn(dsn, schema=schema, prepared_statements=False, timeout=60)
    written = conflicts = 0
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    for _ in range(ROUNDS):
        keys = order.sample(KEYS, len(KEYS))
        found = await storage.fetch_many(keys)
        calls: list[Coroutine[Any, Any, object]] = []
        for key in keys:
            if key not in found:
                calls.append(storage.insert(key, b"data", EXPIRES_AT))
            elif order.random() < 0.2:
                calls.append(storage.delete(key, found[key].version))
            elif order.random() < 0.2:
                calls.append(storage.touch(key, EXPIRES_AT + order.randrange(1000), found[key].version))
            else:
                calls.append(storage.replace(key, b"data", EXPIRES_AT, found[key].version))
        answers = await asyncio.gather(*calls)
        written += sum(map(bool, answers))
        conflicts += sum(not answer for answer in answers)
    await storage.aclose()
    return written, conflicts


if __name__ == "__main__":
    sys.stdout.write("{} {}".format(*asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))))
