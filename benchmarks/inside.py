"""What changes inside values cost: ``python -m benchmarks.inside``.

The first table: CPU time of reading, changing and saving one session in ``MemoryStorage``, for each way to change it.
Nobody else changes the session, so nothing is merged.  The ratio is to setting a key.

The second table: CPU time to merge two changes of one list, by the number of its elements.  One request has removed the
first element and appended one, and so has another one, with the second element.
"""

import argparse
import asyncio
import gc
import statistics
import time
from collections.abc import Callable
from decimal import Decimal
from itertools import count
from typing import Any

from aiohttp_session_store import MemoryStorage, Session
from aiohttp_session_store.record.changes import Edit
from aiohttp_session_store.record.merge_inside import merge_inside
from aiohttp_session_store.record.values import freeze, note_elements, thaw

from .handlers import DATA
from .report import machine, pin, progress, table, write

VALUES: dict[str, Any] = {
    **DATA,
    "counter": 0,
    "price": Decimal(0),
    "cart": ["a", "b", "c"],
    "prefs": {"ui": {"size": 1}},
}


def set_key(session: Session, number: int) -> None:
    session["counter"] = number


def append(session: Session, number: int) -> None:
    cart = session["cart"]
    cart.append(number)
    del cart[:-4]


def set_inside(session: Session, number: int) -> None:
    session["prefs"]["ui"]["size"] = number


def increment(session: Session, _: int) -> None:
    session.increment("counter")


def add_decimal(session: Session, _: int) -> None:
    session.increment("price", Decimal("0.10"))


CHANGES: dict[str, Callable[[Session, int], None]] = {
    "set a key": set_key,
    "append to a list of 3": append,
    "set a value two levels down": set_inside,
    "increment": increment,
    "increment by a Decimal": add_decimal,
}
ELEMENTS: dict[str, Callable[[int], Any]] = {
    "numbers": lambda number: number,
    "dicts with an id": lambda number: {"id": number, "qty": 1, "name": f"article {number}"},
}
LENGTHS = (10, 100, 1000, 5000)


async def cycles(change: Callable[[Session, int], None], operations: int) -> float:
    """Return the CPU microseconds of a read, a change and a save."""
    storage = MemoryStorage(sweep_interval=None)
    session = await storage.read(None)
    session.update(VALUES)
    value, numbers = await storage.save(session), count(2)
    gc.collect()
    begun = time.process_time()
    for _ in range(operations):
        session = await storage.read(value)
        change(session, next(numbers))
        await storage.save(session)
    return (time.process_time() - begun) / operations * 1e6


def merge(element: Callable[[int], Any], length: int, rounds: int) -> float:
    """Return the least CPU microseconds of a merge."""
    given = freeze([element(number) for number in range(length)], "list")
    objects: dict[int, Any] = {}
    held = thaw(given, objects)
    del held[0]
    held.append(element(-1))
    left = freeze(held, "list")
    note_elements(left, held, objects)
    newest = freeze([element(number) for number in range(length) if number != 1] + [element(-2)], "list")
    taken = []
    for _ in range(rounds):
        begun = time.process_time()
        merged = merge_inside(Edit(given, left, objects), newest)
        taken.append((time.process_time() - begun) * 1e6)
        if len(merged) != length:
            raise RuntimeError("the merge is wrong")
    return min(taken)


def main() -> None:
    """Print the tables and write all figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operations", type=int, default=3000, help="per figure and round")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--directory", default=".", help="whose disk the figures name")
    parser.add_argument("--json", default="bench-results/inside.json")
    options = parser.parse_args()
    pin()
    taken: dict[str, list[float]] = {name: [] for name in CHANGES}
    for number in range(options.rounds):
        progress(f"round {number + 1} of {options.rounds}")
        for name, change in CHANGES.items():
            taken[name].append(asyncio.run(cycles(change, options.operations)))
    least = {name: min(figures) for name, figures in taken.items()}
    ratios = {
        name: statistics.median(one / other for one, other in zip(figures, taken["set a key"], strict=True))
        for name, figures in taken.items()
    }
    print(table(["change", "us", "ratio"], [[name, f"{least[name]:.1f}", f"x{ratios[name]:.2f}"] for name in taken]))
    merges = {
        name: [merge(element, length, options.rounds) for length in LENGTHS] for name, element in ELEMENTS.items()
    }
    print()
    print(
        table(
            ["us to merge a list of", *(f"{length:,}" for length in LENGTHS)],
            [[name, *(f"{figure:.0f}" for figure in figures)] for name, figures in merges.items()],
        )
    )
    write(options.json, {"machine": machine(options.directory), "us": least, "ratios": ratios, "merges": merges})


if __name__ == "__main__":
    main()
