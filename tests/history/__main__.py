"""Run the history checker: ``python -m tests.history --minutes 60 --storage redis --chaos``."""

import argparse
import secrets
import sys
import time
from collections import Counter
from pathlib import Path

from tests.history.chaos import Chaos
from tests.history.history import History
from tests.history.judge import judge
from tests.history.running import STORAGES, Settings, run
from tests.history.shrink import describe, shrink

# A longer run is a row of runs of this length, each with a seed of its own: its history is judged and then forgotten.
SLICE = 60.0
SHOWN = 5


def figures(history: History, chaos: Chaos) -> Counter[str]:
    """Return what there was of everything."""
    calls = history.calls
    counted = Counter(chaos.count)
    counted["requests"] = len(calls)
    counted["answered"] = sum(call.answered is not None for call in calls)
    changes = {"set", "append", "add", "unset", "clear", "flash"}
    counted["answered writes"] = sum(
        call.succeeded and any(step[0] in changes for step in call.steps) for call in calls
    )
    counted["logouts"] = sum(call.succeeded and call.has("destroy") for call in calls)
    counted["logins"] = sum(bool(call.given) and call.has("regenerate", True) for call in calls)
    counted["logins of owners"] = sum(bool(call.given) and call.logs_in is not None for call in calls)
    counted["endings of all sessions"] = sum(call.ended is not None for call in calls)
    counted["lists of sessions"] = sum(call.shown is not None for call in calls)
    counted["renewals"] = sum(bool(call.given) and call.has("regenerate", False) for call in calls)
    counted["exclusive blocks"] = sum(call.succeeded and call.exclusive for call in calls)
    counted["messages on sockets"] = sum(call.kind == "message" for call in calls)
    counted["failed handlers"] = sum(call.status == 500 for call in calls)
    counted["refused (503)"] = sum(call.status == 503 for call in calls)
    return counted


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.history", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--storage", choices=STORAGES, action="append")
    parser.add_argument("--chaos", action="store_true", help="stop and kill workers, restart servers, cut connections")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--broken", default="", help="a name in broken.py")
    parser.add_argument("--keep", type=Path, default=Path("history-failed.jsonl"), help="where a failed history goes")
    parser.add_argument("--judge", type=Path, help="judge a history that was kept")
    told = parser.parse_args()
    if told.judge:
        return report(History.load(told.judge), None)
    failed = 0
    for storage in told.storage or STORAGES:
        left, seed, total = told.minutes * 60, told.seed, Counter[str]()
        while left > 0:
            settings = Settings(storage, min(left, SLICE), seed, chaos=told.chaos, broken=told.broken)
            history, chaos = run(settings)
            total += figures(history, chaos)
            again = f"--storage {storage} --seed {seed}{' --chaos' if told.chaos else ''}"
            print(f"{time.strftime('%H:%M:%S')} {again}: {len(history.calls)} calls", flush=True)
            failed += report(history, told.keep.with_stem(f"{told.keep.stem}-{storage}-{seed}"))
            left, seed = left - SLICE, seed + 1
        print(f"{storage}: " + ", ".join(f"{count:,} {name}" for name, count in total.most_common()), flush=True)
    return 1 if failed else 0


def report(history: History, keep: Path | None) -> int:
    """Judge a history, and print the few calls that show what is wrong."""
    verdicts = judge(history)
    if verdicts and keep is not None:
        history.save(keep)
        print(f"{len(verdicts)} broken promises; the history is in {keep}")
    for rule, count in Counter(verdict.rule for verdict in verdicts).items():
        print(f"  {rule}: {count}")
    for verdict in verdicts[:SHOWN]:
        print(describe(verdict, shrink(history, verdict)))
    return 1 if verdicts else 0


if __name__ == "__main__":
    sys.exit(main())
