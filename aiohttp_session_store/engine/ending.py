"""Ending a session, so that nothing brings it back.

A tombstone takes the place of the record, and says why the session ended.  Nothing replaces a tombstone, and no insert
succeeds where one stands.  It is never deleted; it expires after some minutes, when every request that could still
write has long ended.
"""

import logging
from typing import NamedTuple

from ..errors import StorageError
from ..record.format import IDLE, Record, Retired, Stored, encode_retired
from ..record.head import Head
from ..session.state import Place
from .retry import Attempts
from .verbs import RECLAIM_AFTER, Verbs
from .writing import decode

# Longer than any call that is under way can take; a late step finds the tombstone and fails.
TOMBSTONE_KEPT: int = RECLAIM_AFTER


class Ended(NamedTuple):
    """What became of an ending.

    Attributes:
        key: Where it found a record that can never live again, or made one.
        head: The head of the session that it ended, or None if it ended none, or one without an owner.
        ended: Whether it ended one.
    """

    key: str
    head: Head | None
    ended: bool = False


async def end(storage: Verbs, key: str, stored: Stored | None, why: str, *, owner: str | None = None) -> Ended | None:
    """End the session that stood at *key*.

    Retired records are followed: ending a session by an id that was changed ends the session that it became.

    Args:
        storage: Where the record stands.
        key: The key of the record.
        stored: What stood there when it was last seen.
        why: The reason that the tombstone gives, one of those in :mod:`~..record.format`.
        owner: End the session only as long as it belongs to this owner: somebody else may have logged in over it.

    Returns:
        None if nothing stands there, so that there was nothing to end.

    Raises:
        StorageError: The session may still be there.
    """
    attempts, passed = Attempts(key), {key}
    while stored is not None:
        record = decode(storage, key, stored)
        if isinstance(record, Retired):
            await storage.settle(key)
            if record.successor is None or record.successor in passed:
                return Ended(key, None)
            key = record.successor
            passed.add(key)
        else:
            head = None if record is None else record.head
            if owner is not None and head is not None and head.owner != owner:
                return Ended(key, None)
            if await _entomb(storage, key, stored, why):
                return Ended(key, head, ended=True)
            await attempts.conflict()
        stored = await storage.fetch(key)
    await storage.settle(key)
    return Ended(key, None) if len(passed) > 1 else None  # what the retired record led to has expired


async def bury(storage: Verbs, key: str, why: str, *, owner: str | None = None) -> Ended:
    """End what stands at *key*, and if nothing does, see that nothing can come to stand there.

    This is for a write that may still be on its way: its answer was lost, or it is that of a login under way.

    Raises:
        StorageError: Nobody can know what stands there, or will.
    """
    attempts = Attempts(key)
    while True:
        ended = await end(storage, key, await storage.fetch(key), why, owner=owner)
        if ended is not None:
            return ended
        if await storage.insert(key, *_tombstone(storage, why)):
            return Ended(key, None)
        await attempts.conflict()  # it came in between; or it is a file of a newer format, which reads as nothing


async def close(storage: Verbs, key: str, found: Place | None) -> bool:
    """See that no live record can come to stand at *key*, where nothing stands, or a session that has ended by itself.

    Returns:
        False if something else stands there by now.

    Raises:
        StorageError: Nobody can know.
    """
    if found is None:
        return await storage.insert(key, *_tombstone(storage, IDLE)) is not None
    return await _entomb(storage, key, found.stored, IDLE)


async def fence(storage: Verbs, key: str) -> Record | Retired | None:
    """Give the live record of *key* a new version, so that a late write to the version before fails.

    For whoever got no answer to a write: the write may have been carried out, or may still be on its way.  After this
    it is certain.

    Returns:
        What stands at *key*.

    Raises:
        StorageError: Nobody can know.
    """
    attempts = Attempts(key)
    while (stored := await storage.fetch(key)) is not None:
        record = decode(storage, key, stored)
        if not isinstance(record, Record):
            return record
        if await storage.replace(key, stored.data, stored.expires_at, stored.version):
            return record
        await attempts.conflict()
    return None


async def _entomb(storage: Verbs, key: str, stored: Stored, why: str) -> bool:
    """Put a tombstone in the place of *stored*; False if another version stands there.

    A full disk or server refuses the tombstone.  The record is then deleted, which needs no space and is as final: no
    write can replace it, and where an insert would find no space either, none is made.  If the fate of the tombstone is
    unknown, there may be space, and a late insert could make the record anew: then nothing is deleted.
    """
    try:
        ended = await storage.retire(key, *_tombstone(storage, why), stored.version) is not None
    except StorageError as refused:
        if refused.maybe_stored or not storage.deletes_at_version:
            raise
        try:
            ended = await storage.delete(key, stored.version)
        except StorageError as failed:
            refused.maybe_stored |= failed.maybe_stored
            raise refused from refused.__cause__
    if ended and why != IDLE:  # who watches it knows by the time
        await announce(storage, key, why)
    return ended


async def announce(storage: Verbs, key: str, why: str) -> None:
    """Tell those who watch the session of *key* that it has ended, or that it has another id.

    This is a hint: if it cannot be sent, they find out a little later.
    """
    if storage.announces:
        try:
            await storage.announce(key, why)
        except StorageError as error:
            storage.outages.note(
                logging.INFO, error, "the end of session %s was not announced, and is noticed later", key
            )


def _tombstone(storage: Verbs, why: str) -> tuple[bytes, int]:
    return encode_retired(Retired(None, 0, why=why)), storage.now() + TOMBSTONE_KEPT
