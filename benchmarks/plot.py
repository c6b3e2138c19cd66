"""Plots: ``python -m benchmarks.plot`` draws the figures in ``bench-results/``.

``http.svg``: CPU microseconds that sessions add to a request.  ``scale.svg``: the cost of a cycle as the number of
sessions grows.  The background is transparent; every colour is readable on white and on near black.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import ticker
from matplotlib.figure import Figure

from .tables import HTTP_PATHS

TEXT, GRID = "#7d7d7d", "#7d7d7d55"
OURS, FLOOR, PEER, OTHER = "#2f7fd6", "#9a9a9a", "#e0812b", "#3d9a63"
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
    "svg.hashsalt": "aiohttp_session_store",  # equal figures give an identical file
    "text.color": TEXT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
}
FAMILIES = ("memory", "cookie", "files", "redis", "postgres")


def family(case: str) -> str:
    """Return where *case* keeps its sessions."""
    for word in FAMILIES:
        if word in case.lower():
            return word
    return "cookie"  # the other storages of aiohttp-session


def colour(case: str) -> str:
    """Return the colour of *case*: ours, aiohttp-session's, or that of a hand-written lower bound."""
    return PEER if case.startswith("aiohttp-session") else FLOOR if case.endswith("floor") else OURS


def http(document: dict[str, Any]) -> Figure:
    """Draw a bar for each case, grouped by storage, in one panel for reading and one for changing."""
    cases = sorted(document["figures"], key=lambda case: FAMILIES.index(family(case)))
    paths = [path for path in HTTP_PATHS if path != "untouched"]  # almost zero in every case
    figure = Figure(figsize=(7, 0.31 * len(cases) + 1), layout="constrained")
    panels = figure.subplots(1, len(paths), sharey=True, squeeze=False)[0]
    places = [number + 0.6 * FAMILIES.index(family(case)) for number, case in enumerate(cases)]
    for panel, path in zip(panels, paths, strict=True):
        rounds = [[added for added, _ in document["figures"][case][path]] for case in cases]
        middle = [statistics.median(values) for values in rounds]
        panel.barh(places, middle, color=[colour(case) for case in cases])
        for place, median, values in zip(places, middle, rounds, strict=True):
            panel.plot([min(values), max(values)], [place, place], color=TEXT, linewidth=1)
            panel.annotate(f" {median:.0f}", (max(*values, median), place), va="center", fontsize="small")
        panel.set_title(HTTP_PATHS[path])
        panel.set_xlim(0, max(map(max, rounds)) * 1.12)
        panel.grid(axis="x")
        panel.set_axisbelow(True)
    panels[0].set_yticks(places, cases)
    for panel in panels:
        panel.tick_params(axis="y", length=0)
    panels[0].invert_yaxis()
    figure.supxlabel("CPU added per request, microseconds; the line spans the rounds", fontsize="medium")
    return figure


def scale(document: dict[str, Any]) -> Figure:
    """Draw a line for each case: the CPU time of a cycle by the number of sessions."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for number, (case, by_number) in enumerate(document["cycles"].items()):
        sizes = sorted(by_number, key=int)
        rounds = [[one["cpu_us"] for one in by_number[size]] for size in sizes]
        middle = [statistics.median(values) for values in rounds]
        below = [median - min(values) for median, values in zip(middle, rounds, strict=True)]
        above = [max(values) - median for median, values in zip(middle, rounds, strict=True)]
        line = (OURS, PEER, OTHER)[number % 3]
        counts = [int(size) for size in sizes]
        axes.errorbar(counts, middle, [below, above], label=case, color=line, marker="os^"[number % 3], capsize=3)
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
    """Draw a plot for every file of figures that exists."""
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
