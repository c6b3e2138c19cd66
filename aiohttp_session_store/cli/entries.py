"""What a walk finds, told apart: live sessions, those that ended, what is left of old ids, and what cannot be read."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from ..engine.verbs import Found
from ..errors import StorageError
from ..record.encryption import key_name
from ..record.format import Record, Retired, Stored
from ..record.session_id import snapshot_key
from ..record.timeouts import last_use
from ..storages.base import KeyedStorage

__all__ = ["ENDED", "EXPIRED", "LIVE", "RETIRED", "SNAPSHOT", "UNREADABLE", "Entry", "Session", "entries", "entry_of"]

LIVE, EXPIRED = "live", "expired"
#: The mark under an id that was changed; what the old id may still read for a while; the mark of a session that ended.
RETIRED, SNAPSHOT, ENDED = "retired", "snapshot", "ended"
UNREADABLE = "unreadable"

# A snapshot can only be told from a session by the mark that leads to it, which may be found later. So what ends within
# so many seconds is kept back to the end of the walk; but no more than so many bytes, as a walk takes a bounded memory.
_SOON, _MOST_KEPT_BACK = 600, 5_000_000


@dataclass(frozen=True, slots=True)
class Session:
    """A session as it is listed.  Times are whole Unix seconds."""

    key: str
    owner: str | None
    label: str | None
    created_at: int
    authenticated_at: int | None
    last_used_at: int
    expires_at: int


@dataclass(slots=True)
class Entry:
    """What stands at a key.

    Attributes:
        key: The key.
        kind: One of the constants of this module.
        stored: The record as it is stored, or None if the storage cannot read it.
        record: The record, or None if it cannot be read.
        fault: Why it cannot be read, or empty.
    """

    key: str
    kind: str
    stored: Stored | None
    record: Record | Retired | None = None
    fault: str = ""

    @property
    def size(self) -> int:
        """Bytes of the record."""
        return 0 if self.stored is None else len(self.stored.data)

    def ends_before(self, moment: int) -> bool:
        """Return whether it is a live session that ends by *moment*, in whole Unix seconds."""
        return self.kind == LIVE and self.stored is not None and self.stored.expires_at <= moment

    @property
    def form(self) -> str:
        """How the record is stored, in words."""
        if self.stored is None:
            return "unknown"
        if (name := self.encryption_key) is not None:
            return f"encrypted under {name}"
        words = self.stored.data[:200].partition(b"\n")[0].decode("ascii", "replace").split(" ")
        return f"codec {words[-1]}" if words[1:2] == ["C"] else f"format {words[0]}"

    @property
    def encryption_key(self) -> str | None:
        """The name of the key that the record is encrypted under, or None."""
        return None if self.stored is None else key_name(self.stored.data)

    @property
    def session(self) -> Session:
        """What is listed of a live or expired session."""
        record, stored = self.record, self.stored
        if not isinstance(record, Record) or stored is None:
            raise TypeError("that is no session")
        head = record.head
        return Session(
            self.key,
            None if head is None else head.owner,
            None if head is None else head.label,
            record.created_at,
            None if head is None else head.proved_at,
            last_use(record, stored.expires_at),
            stored.expires_at,
        )


def entry_of(storage: KeyedStorage, found: Found) -> Entry:
    """Return what *found* is."""
    key, stored, fault = found
    if stored is None:
        return Entry(key, UNREADABLE, None, fault=fault)
    try:
        record = storage.records.decode(stored.data, key)
    except ValueError as error:
        return Entry(key, UNREADABLE, stored, fault=str(error))
    if isinstance(record, Retired):
        return Entry(key, ENDED if record.successor is None else RETIRED, stored, record)
    return Entry(key, LIVE if storage.now() < stored.expires_at else EXPIRED, stored, record)


async def entries(storage: KeyedStorage) -> AsyncGenerator[tuple[Sequence[Entry], float], None]:
    """Yield what a walk over *storage* finds, in parts, and how much of it is done, from 0 to 1.

    Raises:
        StorageError: The storage failed, after all that was found.
    """
    snapshots, kept_back, room = set[str](), list[Entry](), _MOST_KEPT_BACK
    failed: StorageError | None = None
    try:
        async with aclosing(storage.walk()) as walk:
            async for part in walk:
                ready, now = list[Entry](), storage.now()
                for found in part.found:
                    entry = entry_of(storage, found)
                    record = entry.record
                    if isinstance(record, Retired):
                        if record.passes_on and record.successor is not None and now < record.dies_at:
                            snapshots.add(snapshot_key(entry.key, record.successor))
                    elif entry.kind == LIVE and entry.key in snapshots:
                        entry.kind = SNAPSHOT
                    elif entry.ends_before(now + _SOON) and room > 0:
                        kept_back.append(entry)
                        room -= entry.size
                        continue
                    ready.append(entry)
                yield ready, part.done
    except StorageError as error:
        failed = error
    for entry in kept_back:
        if entry.key in snapshots:
            entry.kind = SNAPSHOT
    if kept_back:
        yield kept_back, 1.0
    if failed is not None:
        raise failed
