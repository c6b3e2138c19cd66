"""Extending a session that is used, without rewriting its record."""

from ..record.changes import NO_CHANGES
from ..session.state import Place
from .verbs import Lease
from .writing import RecordWriter


async def extend(writer: RecordWriter, place: Place, lease: Lease | None = None) -> Place | None:
    """Let the session end later, because it is used now.

    Args:
        writer: Writes the record if a touch is not enough.
        place: Where the session stood when it was last seen.
        lease: That of an exclusive lock; see :meth:`RecordWriter.write`.

    Returns:
        Where the session stands, with the newest record if it was written meanwhile; or None: it has ended.

    Raises:
        SessionLockError: The lock was lost, or the session has ended or got another id.
        StorageError: The storage failed.
    """
    storage, (key, stored, record, _, _) = writer.storage, place
    # It names another idle timeout, the index of its owner soon forgets it, or another key encrypts: it is rewritten.
    if (
        storage.timeouts.outdated(record)
        or storage.timeouts.until_due(record, storage.now())
        or storage.records.outdated(stored.data)
    ):
        return await writer.write(place, [NO_CHANGES], lease)
    expires_at = max(stored.expires_at, storage.timeouts.expiry(storage.now(), record.created_at, record.head))
    if await storage.touch(key, expires_at, stored.version):
        return writer.place(key, stored._replace(expires_at=expires_at), record)
    return await writer.write(place, [NO_CHANGES], lease)


async def confirm(writer: RecordWriter, place: Place, lease: Lease | None = None) -> Place | None:
    """Ask the storage whether the session still stands, and extend it if that is due; otherwise as :func:`extend`."""
    if writer.storage.now() < place.ends:  # or another request may have extended it since: the write looks
        if lease is not None:
            await lease()
        if writer.use_is_due(place):
            return await extend(writer, place, lease)
        if await writer.storage.touch(place.key, place.stored.expires_at, place.stored.version):
            return place
    return await writer.write(place, [NO_CHANGES], lease)
