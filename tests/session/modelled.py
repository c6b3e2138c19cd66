"""The parts of the plain model: what stands in the storage under an id, and what one request sees and changes."""

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

IDLE, SHORT_IDLE, LIFETIME, GRACE = 1000, 600, 5000, 60
# Seconds for which a tombstone stands, and after which expired records are swept.
TOMBSTONE_KEPT = MARGIN = 300
RENEWED, REPLACED, LOGOUT = "renewed", "replaced", "logout"
# One value of this size fits into a session, and two do not.
BIG, SIZE_LIMIT = "x" * 1000, 1900

FlashList = list[tuple[int, str, Any]]


def expiry(now: int, created_at: int, idle: int) -> int:
    return min(now + idle, created_at + LIFETIME)


@dataclass
class Live:
    """A session that is stored under its current id.

    Attributes:
        idle: The idle timeout under which it was written.
        version: Each write has another one.
    """

    data: dict[str, Any]
    flashes: FlashList
    created_at: int
    written_at: int
    idle: int
    expires_at: int
    version: int = 0

    @property
    def used_at(self) -> int:
        return max(self.written_at, self.expires_at - self.idle)

    def ends_at(self, idle: int) -> int:
        """Return when the session ends, while *idle* is the idle timeout of the storage."""
        return min(self.expires_at, self.created_at + LIFETIME, self.used_at + idle)

    def extension_due(self, idle: int, now: int) -> bool:
        """Return whether a use extends the session: after a tenth of the idle timeout, or if that was changed."""
        later = expiry(now, self.created_at, idle) > self.expires_at
        return self.idle != idle or (later and now - self.used_at >= idle / 10)

    def holds(self, data: dict[str, Any], flashes: FlashList) -> bool:
        return list(self.data.items()) == list(data.items()) and self.flashes == flashes


@dataclass
class Old:
    """An id that was changed.  ``dies_at`` is the end of the grace, in which the old id may read the snapshot."""

    successor: str
    why: str
    dies_at: int
    expires_at: int


@dataclass
class Tombstone:
    """What is left of a session that has ended."""

    why: str
    expires_at: int


@dataclass
class Snapshot:
    """What an id that was renewed may still read."""

    record: Live
    expires_at: int


@dataclass
class Request:
    """One request: what it sees, and what it has changed since its session was loaded or last saved.

    Attributes:
        id: The id of the session, which a pending change of id has changed already.
        original: The id before that pending change, or None.
        place: The id under which the record stands, as far as this request knows, or None if there is no record.
        seen: The version and the expiry that the record had when this request saw it last.
        given: The flashes of the record as this request may know them.
        used: The flashes that the next save removes.
        held: The keys whose lists the handler holds: what it does to them later is a change, too.
        replaces: The request whose session ends when this one is saved, after ``new_session()``.
        exclusive: Whether the request holds the session exclusively.
    """

    id: str
    base: dict[str, Any]
    view: dict[str, Any]
    flashes: dict[str, Any]
    used: set[int]
    created_at: int
    expires_at: int
    place: str | None = None
    seen: tuple[int, int] = (-1, 0)
    given: FlashList = field(default_factory=list)
    original: str | None = None
    delete_old: bool = False
    renew: bool = False
    destroy_pending: bool = False
    destroyed: bool = False
    assigned: dict[str, None] = field(default_factory=dict)
    unset: set[str] = field(default_factory=set)
    cleared: bool = False
    added: FlashList = field(default_factory=list)
    held: set[str] = field(default_factory=set)
    base_flashes: dict[str, Any] = field(default_factory=dict)
    replaces: "Request | None" = None
    exclusive: bool = False

    @property
    def led_on(self) -> bool:
        """Whether the record stands under an id that this request's browser does not have."""
        return self.place is not None and self.place != (self.original or self.id)

    # --- what the handler does

    def read(self) -> dict[str, Any]:
        self.held |= {key for key, value in self.view.items() if isinstance(value, list)} - self.assigned.keys()
        return {**self.flashes, **self.view}

    def set(self, key: str, value: Any) -> None:
        self.view[key] = deepcopy(value)
        self.held.discard(key)
        self.assigned[key] = None
        self.unset.discard(key)

    def append(self, key: str, value: Any) -> None:
        self.view[key].append(value)
        self.assigned[key] = None
        self.held.add(key)

    def remove(self, key: str) -> None:
        self.flashes.pop(key, None)
        if key in self.view:
            del self.view[key]
            self.held.discard(key)
            self.assigned.pop(key, None)
            self.unset.add(key)

    def clear(self) -> None:
        self.view, self.flashes, self.held = {}, {}, set()
        self.assigned, self.unset, self.cleared = {}, set(), True

    def regenerate(self, new_id: str, *, delete_old: bool, renew: bool) -> None:
        if self.place is not None:
            self.original = self.original or self.id
            self.delete_old |= delete_old
            self.renew |= renew
        self.id = new_id

    def discard(self) -> None:
        if self.original is not None:
            self.id = self.original
            self.rotated()
        if not self.destroyed:
            self.view, self.flashes, self.held = deepcopy(self.base), dict(self.base_flashes), set()
            self.forget()

    def destroy(self) -> None:
        if not self.destroyed:
            self.discard()
        self.destroy_pending = True
        self.end()

    # --- what a save does to the request

    @property
    def by_handler(self) -> bool:
        return bool(self.assigned or self.unset or self.cleared or self.added)

    def applied_to(self, data: dict[str, Any], flashes: FlashList) -> tuple[dict[str, Any], FlashList]:
        data = {} if self.cleared else deepcopy(data)
        data.update({key: deepcopy(self.view[key]) for key in self.assigned})
        for key in self.unset:
            data.pop(key, None)
        flashes = [] if self.cleared else [flash for flash in flashes if flash[0] not in self.used]
        for added in self.added:
            flashes = [*(flash for flash in flashes if flash[1] != added[1]), added]
        return data, flashes

    def stand(self, place: str, record: Live) -> None:
        """Note where the record stands, and that this request's changes are in it.

        Under the request's own id, the session reads the record from now on.  If another request changed the id, it
        goes on reading what its own id could read, with its own changes.
        """
        self._note(place, record)
        if self.led_on:
            self.base, self.given = self.applied_to(self.base, self.given)
            self.base_flashes = dict(self.flashes)
            self.taken()
        else:
            self.taken()
            self.created_at = record.created_at
            self.rebase(record)

    def confirm(self, place: str, record: Live) -> None:
        """Note where the record stands, and read it if it is another one and stands under this request's own id."""
        before = self.seen[0]
        self._note(place, record)
        if not self.led_on and record.version != before:
            self.rebase(record)

    def refresh(self, record: Live, ends_at: int) -> None:
        """Read the newest record, and keep the changes that are not saved yet; other lists are not watched any more."""
        self.seen, self.expires_at = (record.version, record.expires_at), ends_at
        self.held &= self.assigned.keys()
        self.rebase(record)

    def rebase(self, record: Live) -> None:
        before = self.view
        self.base, self.given = deepcopy(record.data), list(record.flashes)
        self.view = {} if self.cleared else deepcopy(record.data)
        for key in self.unset:
            self.view.pop(key, None)
        for key in [*self.assigned, *self.held]:
            if key in before:
                self.view[key] = before[key]
        self.base_flashes = dict(self.flashes)

    def _note(self, place: str, record: Live) -> None:
        self.place, self.seen, self.expires_at = place, (record.version, record.expires_at), record.expires_at

    def taken(self) -> None:
        self.held |= {key for key in self.assigned if isinstance(self.view[key], list)}
        self.used = set()
        self.forget()

    def forget(self) -> None:
        self.assigned, self.unset, self.cleared, self.added = {}, set(), False, []

    def rotated(self) -> None:
        self.original, self.delete_old, self.renew = None, False, False

    def end(self) -> None:
        self.destroyed = True
        self.base, self.view, self.flashes, self.base_flashes, self.used, self.held = {}, {}, {}, {}, set(), set()
        self.forget()
