"""``stats`` and ``check``: what all records come to, and which of them cannot be read."""

from collections import Counter
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from ..record.format import Record
from ..storages.base import KeyedStorage
from .entries import ENDED, EXPIRED, LIVE, RETIRED, SNAPSHOT, UNREADABLE, Entry, entries
from .exits import FINE, FOUND
from .running import Run
from .showing import as_json, count, moment, plainly, size

__all__ = ["check", "stats"]

# Formats and names of keys that are counted apart. Damage can make up any number of them.
_MOST_KINDS = 100


@dataclass
class _Counts:
    """What was counted.  *forms* and *keys* are about live, expired and unreadable records, not about marks."""

    kinds: Counter[str] = field(default_factory=Counter)
    owned: int = 0
    size: int = 0
    forms: Counter[str] = field(default_factory=Counter)
    keys: Counter[str] = field(default_factory=Counter)
    oldest: tuple[int, str] | None = None
    largest: tuple[int, str] | None = None

    def add(self, entry: Entry) -> None:
        self.kinds[entry.kind] += 1
        self.size += entry.size
        if self.largest is None or entry.size > self.largest[0]:
            self.largest = entry.size, entry.key
        if entry.kind not in (RETIRED, ENDED):
            form = entry.form
            self.forms[form if form in self.forms or len(self.forms) < _MOST_KINDS else "others"] += 1
            if (name := entry.encryption_key) is not None:
                self.keys[name if name in self.keys or len(self.keys) < _MOST_KINDS else "others"] += 1
        if entry.kind == LIVE and isinstance(entry.record, Record):
            self.owned += entry.record.head is not None
            if self.oldest is None or entry.record.created_at < self.oldest[0]:
                self.oldest = entry.record.created_at, entry.key


async def stats(run: Run, storage: KeyedStorage, shown: str) -> int:
    """Count all records of *storage*, which is called *shown*."""
    counts = _Counts()
    run.so_far = lambda: f"{count(counts.kinds.total(), 'record')} counted."
    async with aclosing(run.over("Counting", entries(storage))) as parts:
        async for part in parts:
            for entry in part:
                counts.add(entry)
    document = _document(counts, shown, complete=not run.cut)
    if run.json:
        run.document(document)
    else:
        run.fields(_fields(counts, shown))
    if counts.kinds[UNREADABLE]:
        run.remark("Some records cannot be read here: the command check names them, with the reason.")
    return run.exit_code(FINE)


def _document(counts: _Counts, shown: str, *, complete: bool) -> dict[str, Any]:
    kinds = counts.kinds
    return {
        "storage": shown,
        "records": kinds.total(),
        "live": kinds[LIVE],
        "live_with_owner": counts.owned,
        "expired": kinds[EXPIRED],
        "retired": kinds[RETIRED] + kinds[SNAPSHOT],
        "ended": kinds[ENDED],
        "unreadable": kinds[UNREADABLE],
        "bytes": counts.size,
        "formats": dict(sorted(counts.forms.items())),
        "encryption_keys": dict(sorted(counts.keys.items())),
        "oldest": None if counts.oldest is None else {"key": counts.oldest[1], "created_at": counts.oldest[0]},
        "largest": None if counts.largest is None else {"key": counts.largest[1], "bytes": counts.largest[0]},
        "complete": complete,
    }


def _fields(counts: _Counts, shown: str) -> list[tuple[str, str]]:
    kinds = counts.kinds
    fields = [
        ("storage", plainly(shown)),
        ("records", f"{kinds.total():,}, {size(counts.size)}"),
        ("live", f"{kinds[LIVE]:,}, of which {counts.owned:,} have an owner"),
        ("expired", f"{kinds[EXPIRED]:,}"),
        ("retired", f"{kinds[RETIRED] + kinds[SNAPSHOT]:,}"),
        ("ended", f"{kinds[ENDED]:,}"),
        ("unreadable", f"{kinds[UNREADABLE]:,}"),
    ]
    fields += [(plainly(form), f"{number:,}") for form, number in sorted(counts.forms.items())]
    if counts.oldest is not None:
        fields.append(("oldest", f"{counts.oldest[1]}, of {moment(counts.oldest[0])}"))
    if counts.largest is not None:
        fields.append(("largest", f"{counts.largest[1]}, {size(counts.largest[0])}"))
    return fields


async def check(run: Run, storage: KeyedStorage) -> int:
    """Read all records, and name those that cannot be read."""
    seen = unreadable = 0
    run.so_far = lambda: f"{count(seen, 'record')} read, {unreadable:,} of them unreadable."
    if run.json:
        run.write('{\n  "unreadable": [')
    async with aclosing(run.over("Reading", entries(storage))) as parts:
        async for part in parts:
            seen += len(part)
            for entry in part:
                if entry.kind != UNREADABLE:
                    continue
                unreadable += 1
                if run.json:
                    one = {"key": entry.key, "reason": entry.fault, "bytes": entry.size}
                    run.write(f"{'' if unreadable == 1 else ','}\n    {as_json(one)}")
                else:
                    run.say((entry.key, "cyan" if run.is_terminal else ""), f"  {plainly(entry.fault)}")
    if run.json:
        end = "\n  ]" if unreadable else "]"
        run.write(f'{end},\n  "records": {seen},\n')
        run.write(f'  "complete": {as_json(not run.cut)}\n}}\n')
    elif not run.cut:
        what = "all of them can be read" if not unreadable else f"{unreadable:,} of them cannot be read"
        run.remark(f"{count(seen, 'record')} read: {what}.")
    return run.exit_code(FOUND if unreadable else FINE)
