"""``end``: one session, those of an owner, or all.  The ways are those of ``end_sessions``, so an ending is final."""

from contextlib import aclosing

from ..engine.ending import end
from ..engine.owners import Owners
from ..engine.writing import RecordWriter, Unreadable, unlink
from ..record.format import REVOKED
from ..session.state import Place
from ..storages.base import KeyedStorage
from .batches import AT_ONCE, Batches
from .entries import ENDED, LIVE, RETIRED, UNREADABLE, Entry, entries
from .exits import FINE, FOUND, NotThereError
from .listing import unreadable_of
from .running import Run
from .showing import count

__all__ = ["end_all", "end_key", "end_owner"]


async def end_key(run: Run, storage: KeyedStorage, key: str, *, dry_run: bool) -> int:
    """End the session that was listed with *key*."""
    owners = Owners(RecordWriter(storage))
    if dry_run:
        _, found = await owners.listed(key)
        there = isinstance(found, Unreadable) or (isinstance(found, Place) and storage.now() < found.ends)
    else:
        there = await owners.end_session(None, key)
    if not there:
        raise NotThereError("There is no live session with this key.")
    _said(run, 1, dry_run=dry_run)
    return run.exit_code(FINE)


async def end_owner(run: Run, storage: KeyedStorage, owner: str, *, dry_run: bool) -> int:
    """End all sessions of *owner*."""
    number = len(await storage.sessions_of(owner)) if dry_run else await storage.end_sessions(owner)
    left = await unreadable_of(storage, owner)
    _said(run, number, dry_run=dry_run, left=len(left))
    for entry in left:
        run.remark(f"{entry.key} is in the index of this owner and cannot be read, so it stays: {entry.fault}.")
    if left:
        run.remark("End it by its key, or set $SESSION_KEYS to the keys of the app.")
    return run.exit_code(FOUND if left else FINE)


async def end_all(run: Run, storage: KeyedStorage, *, dry_run: bool) -> int:
    """End every session that stood there when the command began."""
    ended, left, batches = 0, 0, Batches()
    run.so_far = lambda: f"{count(ended, 'session')} {'would have ended' if dry_run else 'ended'}."

    async def end_one(entry: Entry) -> None:
        nonlocal ended
        counts = entry.kind in (LIVE, UNREADABLE) if dry_run else await _end(storage, entry)
        ended += counts

    async with aclosing(run.over("Counting" if dry_run else "Ending", entries(storage))) as parts:
        async for part in parts:
            doomed = [entry for entry in part if entry.kind != ENDED and entry.stored is not None]
            left += sum(entry.stored is None for entry in part)
            for start in range(0, len(doomed), AT_ONCE):
                if run.stopping:
                    break
                await batches.each(doomed[start : start + AT_ONCE], lambda entry: entry.key, end_one)
    _said(run, ended, dry_run=dry_run, left=left + batches.failed)
    batches.say(run)
    if left:
        run.remark(f"{count(left, 'record')} cannot be read by this version and stay: see the command check.")
    return run.exit_code(FOUND if left or batches.failed else FINE)


async def _end(storage: KeyedStorage, entry: Entry) -> bool:
    """End what stands at the key of *entry*, or where its session has moved; return whether that ended a session.

    The mark of an old id may be met before its session: then the session ends here, and later counts as ended already.
    """
    ended = await end(storage, entry.key, entry.stored, REVOKED)
    if ended is None:
        return False
    await unlink(storage, ended.head, ended.key)
    return ended.ended and entry.kind in (LIVE, RETIRED, UNREADABLE)


def _said(run: Run, number: int, *, dry_run: bool, left: int = 0) -> None:
    if run.json:
        name = "would_end" if dry_run else "ended"
        run.document({name: number, "left": left, "complete": not run.cut})
    else:
        run.say(f"{count(number, 'session')} {'would end' if dry_run else 'ended'}.")
