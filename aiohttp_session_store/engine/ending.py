"""Ending a session, so that nothing brings it back."""

from ..record.format import TOMBSTONE, Retired, Stored, encode_retired
from .retry import Attempts
from .verbs import Verbs
from .writing import decode

_TOMBSTONE = encode_retired(TOMBSTONE)


async def destroy(storage: Verbs, key: str, stored: Stored | None) -> None:
    """Delete the record of *key* and, if its id was regenerated, the session that it became.

    A plain delete would miss a rotation that runs in parallel, so the record is made a tombstone first.

    Raises:
        StorageError: It may still be there.
    """
    attempts = Attempts(key)
    doomed = [key]
    while stored is not None:
        record = decode(storage, key, stored)
        if isinstance(record, Retired):
            if record.successor is None:
                break
            key = record.successor
            if key in doomed:
                break
            doomed.append(key)
        elif record is None or await storage.replace(key, _TOMBSTONE, storage.now(), stored.version):
            break
        else:
            await attempts.conflict()
        stored = await storage.fetch(key)
    for key in reversed(doomed):  # the successor first: whatever stops us here, the id that leads to it is left
        await storage.delete(key)
