"""``sweep`` and ``reencrypt``: removing what has expired, and bringing all records under the newest key."""

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

from ..engine.retry import Attempts
from ..engine.verbs import RECLAIM_AFTER, Found
from ..storages.base import KeyedStorage
from .batches import AT_ONCE, Batches
from .exits import FINE, FOUND, UsageError
from .opening import KEYS
from .running import Run
from .showing import count, plainly

__all__ = ["reencrypt", "sweep"]

# Records that are named because they cannot be read.
_MOST_NAMED = 32
# Seconds between two looks at whether Ctrl-C was pressed.
_LOOK = 0.1


async def sweep(run: Run, storage: KeyedStorage, *, dry_run: bool) -> int:
    """Remove what expired some minutes ago, as the app does from time to time."""
    removed = 0
    run.so_far = lambda: f"{count(removed, 'record')} removed."

    def report(so_far: int, done: float) -> None:
        nonlocal removed
        removed = so_far
        run.progress(done, so_far)

    if dry_run:
        removed = await _sweepable(run, storage)
    else:
        run.begin("Sweeping")
        removed = await _unless_stopped(run, _sweep_of(storage, report)) or removed
        run.finish()
    if run.json:
        run.document({"would_remove" if dry_run else "removed": removed, "complete": not run.cut})
    elif not run.cut:
        run.say(f"{count(removed, 'expired record')} {'would be removed' if dry_run else 'removed'}.")
        if not removed and not dry_run:
            run.remark("Redis removes them itself; elsewhere the app does, and only one sweep runs at a time.")
    return run.exit_code(FINE)


def _sweep_of(storage: KeyedStorage, report: Callable[[int, float], None]) -> Any:
    """Return the sweep of *storage*, which reports how far it came if it can."""
    run: Any = storage.sweep
    return run(report) if inspect.signature(run).parameters else run()


async def _unless_stopped(run: Run, work: Any) -> int | None:
    """Return what *work* returns.  If Ctrl-C is pressed, *work* is cancelled between two slices; None then."""
    task: asyncio.Task[int] = asyncio.ensure_future(work)
    try:
        while not task.done() and not run.stopping:
            await asyncio.wait([task], timeout=_LOOK)
    finally:
        if not task.done():
            run.cut = True
            task.cancel()
            await asyncio.wait([task])
    return None if task.cancelled() else task.result()


async def _sweepable(run: Run, storage: KeyedStorage) -> int:
    number, before = 0, storage.now() - RECLAIM_AFTER
    async with aclosing(run.over("Counting", _found(storage))) as parts:
        async for part in parts:
            number += sum(one.stored is not None and one.stored.expires_at <= before for one in part)
    return number


async def _found(storage: KeyedStorage) -> AsyncGenerator[tuple[Sequence[Found], float], None]:
    async with aclosing(storage.walk()) as walk:
        async for part in walk:
            yield part.found, part.done


async def reencrypt(run: Run, storage: KeyedStorage, *, dry_run: bool) -> int:
    """Bring all records under the newest key of the ring."""
    ring = storage.records.ring
    if ring is None:
        raise UsageError(f"Set ${KEYS} to the keys of the app, the newest first: there is no key to encrypt with.")
    work = _Reencryption(storage, dry_run=dry_run)
    run.so_far = work.in_words
    async with aclosing(run.over("Reading" if dry_run else "Encrypting", _found(storage))) as parts:
        async for part in parts:
            for start in range(0, len(part), AT_ONCE):
                if run.stopping:
                    break
                await work.batches.each(part[start : start + AT_ONCE], lambda found: found.key, work.on)
    for key, fault in work.faults:
        run.remark(f"{key} cannot be read: {plainly(fault)}")
    work.batches.say(run)
    if work.unreadable > len(work.faults):
        run.remark("More records cannot be read: the command check names them all.")
    if run.json:
        run.document(
            {
                "key": ring.names[0],
                "would_reencrypt" if dry_run else "reencrypted": work.done,
                "left": work.left + (work.done if dry_run else 0),
                "unreadable": work.unreadable,
                "complete": not run.cut,
            }
        )
    elif not run.cut:
        run.say(work.in_words())
    return run.exit_code(FOUND if work.left or (dry_run and work.done) else FINE)


class _Reencryption:
    """Rewrites records, each by a compare-and-set, so that no write of the app is undone.

    Attributes:
        done: How many were rewritten, or would be.
        unreadable: How many no key opens.
        batches: What the storage did not let us rewrite.
        faults: The first of those that cannot be read, with the reason.
    """

    def __init__(self, storage: KeyedStorage, *, dry_run: bool) -> None:
        self._storage, self._dry_run = storage, dry_run
        self.done = self.unreadable = 0
        self.batches: Batches = Batches()
        self.faults: list[tuple[str, str]] = []

    @property
    def left(self) -> int:
        """How many are still not under the newest key."""
        return self.unreadable + self.batches.failed

    def in_words(self) -> str:
        """Return how far it came."""
        ring = self._storage.records.ring
        name = "" if ring is None else ring.names[0]
        if self._dry_run:
            return f"{count(self.done + self.left, 'record')} left to bring under the key {name}."
        return f"{count(self.done, 'record')} brought under the key {name}, {self.left:,} left."

    async def on(self, found: Found) -> None:
        """Rewrite a record, unless there is nothing to do."""
        key, stored, fault = found
        records, attempts = self._storage.records, Attempts(key)
        while stored is not None:
            try:
                data = records.reencrypted(stored.data, key)
            except ValueError as error:
                fault = str(error)
                break
            if data is None:
                return
            if self._dry_run or await self._storage.rewrite(key, data, stored.version):
                self.done += 1
                return
            await attempts.conflict()  # the app has written it, perhaps under an older key, or ended it
            stored = await self._storage.fetch(key)
        if fault:
            self.unreadable += 1
            if len(self.faults) < _MOST_NAMED:
                self.faults.append((key, fault))
