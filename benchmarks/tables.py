"""Tables: ``python -m benchmarks.tables`` prints the figures in ``bench-results/``.

``--into docs/performance.md`` writes them between the markers in that page, so that no figure is copied by hand.
"""

import argparse
import json
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .report import say_machine, spread, table

Document = dict[str, Any]

HTTP_PATHS = {"untouched": "not touched", "read": "read", "increment": "read, change, save"}
STEPS = {"read": "`read`", "save": "`save` of one changed key", "cycle": "read, change and save"}


def http_tables(document: Document) -> str:
    """Return the table of :mod:`benchmarks.http`."""
    rows = [
        [case]
        + [
            f"{spread([added for added, _ in measured[path]], 0, '+')} "
            f"x{statistics.median(ratio for _, ratio in measured[path]):.2f}"
            for path in HTTP_PATHS
        ]
        for case, measured in document["figures"].items()
    ]
    head = ["", *(f"{name}: us added, x requests/s" for name in HTTP_PATHS.values())]
    return f"{table(head, rows)}\n\n{say_machine(document['machine'])}"


def storage_tables(document: Document) -> str:
    """Return the tables of :mod:`benchmarks.storage`: one for each step, with a row for each case."""
    figures = document["figures"]
    cases = list(dict.fromkeys(figure["case"] for figure in figures))
    ways = list(dict.fromkeys(figure["way"] for figure in figures))
    cells = {(figure["step"], figure["case"], figure["way"]): cell(figure) for figure in figures}
    nothing = [cells["nothing", cases[0], way] for way in ways]
    parts = []
    for step, title in STEPS.items():
        rows = [[case, *(cells[step, case, way] for way in ways)] for case in cases]
        parts.append(table([title, *ways], [*rows, ["*an empty coroutine*", *nothing]]))
    return "\n\n".join([*parts, *not_measured(document), say_machine(document["machine"])])


def cell(figure: Document) -> str:
    """Return CPU time with its spread, wall-clock time, and calls handed to a thread."""
    cpu, wall = spread(figure["cpu_us"]), statistics.median(figure["wall_us"])
    return f"{cpu} / {wall:.1f} / {figure['hops']:.2g}"


def scale_tables(document: Document) -> str:
    """Return the tables of :mod:`benchmarks.scale`: memory per session, and CPU per cycle by number of sessions."""
    parts = []
    if document["memory"]:
        parts.append(memory_table(document))
    if document["cycles"]:
        parts.append(cycles_table(document["cycles"]))
    return "\n\n".join([*parts, *not_measured(document), say_machine(document["machine"])])


def owners_table(document: Document) -> str:
    """Return the table of :mod:`benchmarks.owners`: a list and an ending among few and among many sessions."""
    rows = []
    for kind, steps in document["figures"].items():
        for step, by_number in steps.items():
            (few, before), (many, after) = by_number.items()
            ratio = statistics.median(late / early for early, late in zip(before, after, strict=True))
            name = {"list": "`sessions_of`", "end": "`end_sessions`"}[step]
            rows.append(
                [
                    kind,
                    name,
                    f"{int(few):,}: {spread(before, 0)}",
                    f"{int(many):,}: {spread(after, 0)}",
                    f"x{ratio:.2f}",
                ]
            )
    head = ["storage", "microseconds of", "among few sessions", "among many sessions", "ratio"]
    return "\n\n".join([table(head, rows), say_machine(document["machine"])])


def memory_table(document: Document) -> str:
    """Return bytes per session, compared with a plain dict of the same keys and records."""
    sessions, rows = document["options"]["sessions"], []
    names = {"dict": "a plain dict", "memory": "`MemoryStorage`"}
    plain = statistics.median(taken["resident_bytes"] for taken in document["memory"]["dict"])
    for kind, name in names.items():
        taken = document["memory"][kind]
        ratio = statistics.median(one["resident_bytes"] for one in taken) / plain
        rows.append(
            [
                name,
                f"{taken[0]['key_and_record_bytes'] / sessions:.0f}",
                spread([one["resident_bytes"] / sessions for one in taken], 0),
                f"x{ratio:.2f}",
                spread([one["collection_seconds"] * 1000 for one in taken], 0),
            ]
        )
    head = [
        f"{sessions:,} sessions",
        "bytes of key and record",
        "bytes of memory each",
        "to a dict",
        "full garbage collection, ms",
    ]
    return table(head, rows)


def cycles_table(cycles: dict[str, dict[str, list[Document]]]) -> str:
    """Return CPU microseconds per cycle, and their ratio to the smallest number of sessions in the same round."""
    numbers = sorted({int(number) for by_number in cycles.values() for number in by_number})
    rows = []
    for case, by_number in cycles.items():
        first = by_number[min(by_number, key=int)]
        row = [case]
        for number in numbers:
            measured = by_number.get(str(number))
            if measured is None:
                row.append("not measured")
                continue
            ratios = [one["cpu_us"] / other["cpu_us"] for one, other in zip(measured, first, strict=True)]
            row.append(f"{spread([one['cpu_us'] for one in measured])}, x{statistics.median(ratios):.2f}")
        rows.append(row)
    return table(["CPU us per cycle", *(f"{number:,} sessions" for number in numbers)], rows)


def not_measured(document: Document) -> list[str]:
    """Return a line for each case that was skipped, with the reason."""
    return [f"Not measured, {case}: {reason}." for case, reason in document.get("skipped", {}).items()]


TABLES: dict[str, Callable[[Document], str]] = {
    "http": http_tables,
    "http-one-session": http_tables,
    "storage": storage_tables,
    "scale": scale_tables,
    "owners": owners_table,
}


def put(text: str, name: str, tables: str) -> str:
    """Return *text* with *tables* between the markers of *name*.

    Raises:
        ValueError: *text* has no such markers.
    """
    start, end = f"<!-- figures: {name} -->\n", "<!-- end of figures -->"
    place = re.compile(f"({re.escape(start)}).*?({re.escape(end)})", re.DOTALL)
    if not place.search(text):
        raise ValueError(f"there is no {start.strip()} marker with an end marker")
    return place.sub(lambda found: f"{found[1]}\n{tables}\n\n{found[2]}", text, count=1)


def main() -> None:
    """Print the tables of every file of figures, or write them into a document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", default="bench-results", help="where the JSON files are")
    parser.add_argument("--into", metavar="DOCUMENT", help="write them into this file")
    options = parser.parse_args()
    for name, tables in TABLES.items():
        path = Path(options.results, f"{name}.json")
        if not path.exists():
            print(f"{name}: there is no {path}")
            continue
        made = tables(json.loads(path.read_text()))
        if options.into:
            document = Path(options.into)
            document.write_text(put(document.read_text(), name, made))
        else:
            print(made, end="\n\n")


if __name__ == "__main__":
    main()
