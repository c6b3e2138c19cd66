"""Plots of figures: ``python -m benchmarks.plot`` draws those of ``bench-results/``.

``http.svg``: CPU microseconds that sessions add to a request.  ``scale.svg``: what a cycle costs as the number of
sessions grows.  The background is transparent, and all colours can be read on white and on near black.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import ticker
from matplotlib.figure import Figure

from .tables import HTTP_PATHS

TEXT, GRID = "#7d7d7d", "#7d7d7d55"
OURS, FLOOR, PEER = ("#2f7fd6", "#7db4ee", "#1a56a0"), ("#9a9a9a",), ("#e0812b", "#b8561a")
STYLE: dict[Any, Any] = {
    "axes.edgecolor": TEXT,
    "axes.labelcolor": TEXT,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": "medium",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.size": 10,
    "grid.color": GRID,
    "legend.frameon": False,
    "legend.labelcolor": TEXT,
    "savefig.facecolor": "none",
    "svg.hashsalt": "aiohttp_session_store",  # the same figures make the same file
    "text.color": TEXT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
}
FAMILIES = {"memory": "memory", "cookie": "cookie", "files": "files", "redis": "Redis", "postgres": "PostgreSQL"}


def family(case: str) -> str:
    """Return where *case* keeps its sessions."""
    for word in FAMILIES:
        if word in case.lower():
            return word
    return "cookie"  # the other storages of aiohttp-session


def palette(case: str) -> Sequence[str]:
    """Return the colours for cases like *case*: ours, those of aiohttp-session, or the floors."""
    if case.startswith("aiohttp-session"):
        return PEER
    return FLOOR if case.endswith("floor") else OURS


def http(document: dict[str, Any]) -> Figure:
    """Draw a panel for each place where sessions are kept, in it a group for each path, in it a bar for each case."""
    cases = document["figures"]
    families = [name for name in FAMILIES if any(family(case) == name for case in cases)]
    figure = Figure(figsize=(3.1 * len(families) + 0.6, 4.2), layout="constrained")
    panels = figure.subplots(1, len(families), sharey=True, squeeze=False)[0]
    for panel, name in zip(panels, families, strict=True):
        inside = [case for case in cases if family(case) == name]
        width = 0.8 / len(inside)
        used: dict[Sequence[str], int] = {}
        for number, case in enumerate(inside):
            colours = palette(case)
            used[colours] = used.get(colours, -1) + 1
            places = [group + (number - (len(inside) - 1) / 2) * width for group in range(len(HTTP_PATHS))]
            rounds = [[added for added, _ in cases[case][path]] for path in HTTP_PATHS]
            middle = [statistics.median(values) for values in rounds]
            below = [median - min(values) for median, values in zip(middle, rounds, strict=True)]
            above = [max(values) - median for median, values in zip(middle, rounds, strict=True)]
            panel.bar(places, middle, width * 0.92, label=case, color=colours[used[colours] % len(colours)])
            panel.errorbar(places, middle, [below, above], fmt="none", ecolor=TEXT, elinewidth=1, capsize=2)
        panel.set_title(FAMILIES[name])
        panel.set_xticks(range(len(HTTP_PATHS)), ["not\ntouched", "read", "read, change,\nsave"])
        panel.tick_params(axis="x", length=0)
        panel.grid(axis="y")
        panel.set_axisbelow(True)
        panel.legend(loc="upper left", fontsize="small")
    panels[0].set_ylabel("CPU added per request, microseconds")
    panels[0].set_ylim(bottom=0, top=panels[0].get_ylim()[1] * 1.15)  # room for the legends
    return figure


def scale(document: dict[str, Any]) -> Figure:
    """Draw a line for each case: CPU time of a cycle over the number of sessions."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for number, (case, by_number) in enumerate(document["cycles"].items()):
        sizes = sorted(by_number, key=int)
        rounds = [[one["cpu_us"] for one in by_number[size]] for size in sizes]
        middle = [statistics.median(values) for values in rounds]
        below = [median - min(values) for median, values in zip(middle, rounds, strict=True)]
        above = [max(values) - median for median, values in zip(middle, rounds, strict=True)]
        colour = (OURS[0], PEER[0], "#3d9a63")[number % 3]
        counts = [int(size) for size in sizes]
        axes.errorbar(counts, middle, [below, above], label=case, color=colour, marker="os^"[number % 3], capsize=3)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("sessions in the storage")
    axes.set_ylabel("CPU per read, change and save, microseconds")
    axes.grid(axis="y")
    axes.legend()
    return figure


PLOTS = {"http": http, "scale": scale}


def main() -> None:
    """Draw what there are figures of."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", default="bench-results", help="where the JSON files are")
    parser.add_argument("--to", default="bench-results", help="the folder to write to; docs/images for the documents")
    parser.add_argument("--format", default="svg", choices=["svg", "png"])
    options = parser.parse_args()
    mpl.rcParams.update(STYLE)
    for name, draw in PLOTS.items():
        source, target = Path(options.results, f"{name}.json"), Path(options.to, f"{name}.{options.format}")
        if not source.exists():
            print(f"{name}: there is no {source}")
            continue
        metadata = {"Date": None} if options.format == "svg" else None
        draw(json.loads(source.read_text())).savefig(target, metadata=metadata, dpi=110)
        print(target)


if __name__ == "__main__":
    main()
