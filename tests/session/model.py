"""A plain model of what a storage holds and what requests see and change; the state machine compares with it."""

from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

IDLE, LIFETIME, GRACE, MARGIN = 1000, 5000, 60, 300


def expiry(now: int, created_at: int) -> int:
    return min(now + IDLE, created_at + LIFETIME)


def touch_due(written_at: int, created_at: int, seen_expiry: int, now: int) -> bool:
    last = max(written_at, seen_expiry - IDLE)
    return now - last >= IDLE / 10 and expiry(now, created_at) > seen_expiry


@dataclass
class Live:
    """A session that is stored under its current id."""

    data: dict[str, Any]
    flashes: list[tuple[int, str, Any]]
    created_at: int
    written_at: int
    expires_at: int
    used_at: int
    version: int = 0

    def touch_due(self, seen_expiry: int, now: int) -> bool:
        return touch_due(self.written_at, self.created_at, seen_expiry, now)


@dataclass
class Old:
    """An id that was regenerated: the id that succeeds it, and what it can still read, or None."""

    successor: str
    dies_at: int
    snapshot: Live | None


@dataclass
class Request:
    """One request: what it sees, and what it has changed since its session was loaded or last saved."""

    id: str
    base: dict[str, Any]
    view: dict[str, Any]
    flashes: dict[str, Any]
    used: set[int]
    created_at: int
    stored: bool
    retired: bool = False
    successor: str | None = None  # of the retired record that was loaded
    seen: tuple[int, int] = (-1, 0)  # version and expiry
    seen_written_at: int = 0
    original: str | None = None  # the id before a pending regenerate
    delete_old: bool = False
    renew: bool = False
    destroy_pending: bool = False
    destroyed: bool = False
    assigned: set[str] = field(default_factory=set)
    unset: set[str] = field(default_factory=set)
    cleared: bool = False
    added: list[tuple[int, str, Any]] = field(default_factory=list)
    held: set[str] = field(default_factory=set)  # lists that the handler holds
    base_flashes: dict[str, Any] = field(default_factory=dict)

    def read(self) -> dict[str, Any]:
        self.held |= {key for key, value in self.view.items() if isinstance(value, list)} - self.assigned
        return {**self.flashes, **self.view}

    def set(self, key: str, value: Any) -> None:
        self.view[key] = deepcopy(value)
        self.held.discard(key)
        self.assigned.add(key)
        self.unset.discard(key)

    def append(self, key: str, value: Any) -> None:
        self.view[key].append(value)
        self.assigned.add(key)
        self.held.add(key)

    def remove(self, key: str) -> None:
        self.flashes.pop(key, None)
        if key in self.view:
            del self.view[key]
            self.held.discard(key)
            self.assigned.discard(key)
            self.unset.add(key)

    def clear(self) -> None:
        self.view, self.flashes, self.held = {}, {}, set()
        self.assigned, self.unset, self.cleared = set(), set(), True

    def discard(self) -> None:
        if self.original is not None:
            self.id, self.original = self.original, None
            self.delete_old = self.renew = False
        if not self.destroyed:
            self.view, self.flashes, self.held = deepcopy(self.base), dict(self.base_flashes), set()
            self.forget()

    def forget(self) -> None:
        self.assigned, self.unset, self.cleared, self.added = set(), set(), False, []

    def end(self) -> None:
        self.destroyed = True
        self.base, self.view, self.flashes, self.base_flashes, self.used, self.held = {}, {}, {}, {}, set(), set()
        self.forget()

    @property
    def by_handler(self) -> bool:
        return bool(self.assigned or self.unset or self.cleared or self.added)

    def applied_to(self, data: dict[str, Any], flashes: list[tuple[int, str, Any]]) -> tuple[Any, Any]:
        data = {} if self.cleared else deepcopy(data)
        data.update({key: deepcopy(self.view[key]) for key in self.assigned})
        for key in self.unset:
            data.pop(key, None)
        flashes = [] if self.cleared else [flash for flash in flashes if flash[0] not in self.used]
        for added in self.added:
            flashes = [*(flash for flash in flashes if flash[1] != added[1]), added]
        return data, flashes

    def stand_on(self, record: Live) -> None:
        """Continue from the record that was just written."""
        before = self.view
        self.base, self.view = deepcopy(record.data), deepcopy(record.data)
        for key in self.held:
            if key in before:
                self.view[key] = before[key]
        self.base_flashes = dict(self.flashes)
        self.stored, self.retired, self.successor = True, False, None
        self.seen, self.seen_written_at = (record.version, record.expires_at), record.written_at
        self.created_at = record.created_at

    def taken(self) -> None:
        self.held |= {key for key in self.assigned if isinstance(self.view[key], list)}
        self.used = set()
        self.forget()


class Model:
    """The records by id."""

    def __init__(self) -> None:
        self.records: dict[str, Live | Old] = {}
        self.versions = 0

    def readable(self, session_id: str, now: int) -> Live | None:
        """Return what a request with this id can read."""
        record = self.records.get(session_id)
        if isinstance(record, Live):
            return record if now < record.expires_at else None
        if record is None or record.snapshot is None or now >= record.dies_at:
            return None
        return record.snapshot if self.follow(session_id) is not None else None

    def follow(self, session_id: str) -> str | None:
        """Return the id whose record gets a change made under *session_id*, or None."""
        record = self.records.get(session_id)
        while isinstance(record, Old):
            if record.snapshot is None:
                return None
            session_id = record.successor
            record = self.records.get(session_id)
        return session_id if record is not None else None

    def load(self, session_id: str, now: int) -> Request | None:
        found = self.readable(session_id, now)
        if found is None:
            return None
        record = self.records[session_id]
        retired = isinstance(record, Old)
        flashes = {key: value for _, key, value in found.flashes}
        used = set() if retired else {uid for uid, _, _ in found.flashes}
        return Request(
            session_id, deepcopy(found.data), deepcopy(found.data), flashes, used, found.created_at, stored=True,
            retired=retired, seen=(found.version, found.expires_at),
            seen_written_at=found.written_at, base_flashes=dict(flashes),
            successor=record.successor if isinstance(record, Old) else None,
        )  # fmt: skip

    def sweep(self, now: int) -> None:
        for session_id, record in list(self.records.items()):
            if (record.expires_at if isinstance(record, Live) else record.dies_at) <= now - MARGIN:
                del self.records[session_id]

    # --- saving; each returns the cookie value

    def save(self, request: Request, now: int) -> str | None:
        if request.destroyed:
            return self._destroy(request)
        if not request.stored:
            return self._create(request, now)
        if request.original is not None:
            return self._rotate(request, request.original, now)
        if request.by_handler or request.used:
            self._update(request, request.successor or request.id, now)
        elif not request.retired:
            self._touch(request, now)
        return None

    def _destroy(self, request: Request) -> str | None:
        if not request.destroy_pending:
            return None
        request.destroy_pending = False
        session_id: str | None = request.id
        if request.successor is not None:  # still known if the retired record was swept meanwhile
            self.records.pop(request.id, None)
            session_id = request.successor
        while session_id is not None:
            record = self.records.pop(session_id, None)
            session_id = record.successor if isinstance(record, Old) else None
        return ""

    def _create(self, request: Request, now: int) -> str | None:
        data, flashes = request.applied_to({}, [])
        request.taken()
        if not data and not flashes:
            return None
        record = self._put(request.id, Live(data, flashes, request.created_at, now, 0, now), now)
        request.stand_on(record)
        return request.id

    def _rotate(self, request: Request, original: str, now: int) -> str | None:
        record = self.records.get(original)
        successor = record.successor if isinstance(record, Old) else request.successor
        new_id, delete_old, renew = request.id, request.delete_old, request.renew
        request.original, request.delete_old, request.renew = None, False, False
        if successor is not None and delete_old:
            if record is None:  # swept meanwhile
                original, record = successor, self.records.get(successor)
            while (
                isinstance(record, Old) and record.snapshot is not None
            ):  # without a snapshot, it may be another visitor's login
                original, record = record.successor, self.records.get(record.successor)
        elif successor is not None:
            if isinstance(record, Old) and record.snapshot is None:
                successor = original  # under this id the change is dropped
            asked_id, request.id = request.id, original
            self._update(request, successor, now, rotating=True)
            request.retired = not request.destroyed
            request.id = asked_id if request.destroyed else original
            return None
        if not isinstance(record, Live):
            request.end()
            return None
        data, flashes = request.applied_to(record.data, record.flashes)
        request.taken()
        dies_at = min(now + GRACE, expiry(now, record.created_at))
        self.records[original] = Old(new_id, dies_at, None if delete_old else deepcopy(record))
        created_at = now if renew else record.created_at
        request.stand_on(self._put(new_id, Live(data, flashes, created_at, now, 0, now), now))
        return new_id

    def _update(self, request: Request, session_id: str, now: int, *, rotating: bool = False) -> None:
        target, by_handler = self.follow(session_id), request.by_handler
        record = self.records[target] if target is not None else None
        if target is None or not isinstance(record, Live):
            request.taken()
            if by_handler or rotating:
                request.end()
            return
        data, flashes = request.applied_to(record.data, record.flashes)
        request.taken()
        seen_version, seen_expiry = request.seen
        if seen_version != record.version or target != request.id:
            seen_expiry = record.expires_at
        if (data, flashes) != (record.data, record.flashes) or record.touch_due(seen_expiry, now):
            record = self._put(target, replace(record, data=data, flashes=flashes), now)
        if target == request.id:
            request.stand_on(record)
        else:
            request.retired = True

    def _touch(self, request: Request, now: int) -> None:
        record = self.records.get(request.id)
        version, seen_expiry = request.seen
        if not touch_due(request.seen_written_at, request.created_at, seen_expiry, now):
            return
        if isinstance(record, Live) and record.version == version:
            record.expires_at = max(record.expires_at, expiry(now, record.created_at))
            request.seen = (version, expiry(now, record.created_at))
        elif self.follow(request.id) is None:
            request.end()
        else:  # the session was changed since: extend the newest record
            self._update(request, request.id, now)

    def _put(self, session_id: str, record: Live, now: int) -> Live:
        self.versions += 1
        record = replace(
            record, written_at=now, expires_at=expiry(now, record.created_at), used_at=now, version=self.versions
        )
        self.records[session_id] = record
        return record
