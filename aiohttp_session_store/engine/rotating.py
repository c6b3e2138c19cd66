"""Moving a session to another id."""

from collections.abc import Sequence
from contextlib import suppress

from ..errors import StorageError
from ..record.changes import Changes
from ..record.format import Retired, Stored, encode_retired
from .retry import Attempts
from .verbs import Lease, Verbs
from .writing import RecordWriter, Written, decode


async def rotate(
    writer: RecordWriter,
    *,
    old_key: str,
    new_key: str,
    stored: Stored | None,
    changes: Sequence[Changes],
    delete_old: bool,
    renew_lifetime: bool,
    lease: Lease | None = None,
) -> Written | None:
    """Move the session from *old_key* to *new_key*, with *changes*.

    The new record is written first, then the old one is retired by compare-and-set, which decides all races: with
    a logout (it wins) and with a write (it is merged).  Where a parallel rotation came first and the old id was to
    die at once, this one is dropped: the successor may be somebody else's login.  Otherwise it is a plain save,
    which the successor gets; but with *delete_old*, as at a login, the successor is rotated in its turn: whoever
    asked for it may be somebody who planted the old id.

    Returns:
        Where the session went, under *new_key* or a parallel rotation's; None: it was destroyed.

    Raises:
        StorageError: The old record is intact.
    """
    storage, attempts, passed = writer.storage, Attempts(old_key), {old_key}
    version: bytes | None = None
    written: Written | None = None
    try:
        while stored is not None:
            record = decode(storage, old_key, stored)
            if record is None:
                break
            if isinstance(record, Retired):
                if written is not None and record.successor == new_key:
                    return written  # a driver that lost the answer asked again
                if record.successor is None or not record.passes_changes_on or record.successor in passed:
                    break
                if not delete_old:
                    if version is not None:
                        await storage.delete(new_key)
                    return await writer.write(old_key, stored, changes, lease=lease)
                old_key = record.successor
                passed.add(old_key)
                stored = await storage.fetch(old_key)
                continue
            if lease is not None:
                await lease()
            now = storage.now()
            dies_at = min(now + storage.rotation_grace, storage.timeouts.expiry(now, record.created_at))
            if renew_lifetime:
                record = record._replace(created_at=now)
            merged = writer.merged(record, changes, now)
            data, expires_at = storage.records.encode(merged), storage.timeouts.expiry(now, merged.created_at)
            if version is None:
                version = await storage.insert(new_key, data, expires_at)
            else:
                version = await storage.replace(new_key, data, expires_at, version)
            if version is None:
                raise StorageError("the storage lost or already had the record of a new session id")
            written = Written(new_key, Stored(data, version, expires_at), merged)
            retired = encode_retired(Retired(new_key, dies_at, None if delete_old else stored.data))
            if await storage.replace(old_key, retired, dies_at, stored.version):
                return written
            await attempts.conflict()
            stored = await storage.fetch(old_key)
        if version is not None:
            await storage.delete(new_key)
    except StorageError:
        if written is not None and await _took_effect(storage, old_key, written):
            return written
        raise
    return None


async def _took_effect(storage: Verbs, old_key: str, written: Written) -> bool:
    """Whether a rotation that failed has been carried out all the same; if not, remove the new record.

    A server can lose the answer, and what it has done stays done.
    """
    with suppress(StorageError):  # then nobody can know: the new record stays, and expires
        stored = await storage.fetch(old_key)
        record = None if stored is None else decode(storage, old_key, stored)
        if isinstance(record, Retired) and record.successor == written.key:
            return True
        await storage.delete(written.key)
    return False
