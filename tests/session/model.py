"""A plain model of the rules: what a storage holds after each request, and what later requests read."""

from copy import deepcopy
from dataclasses import replace

from tests.session.modelled import (
    BIG,
    GRACE,
    IDLE,
    LOGOUT,
    MARGIN,
    RENEWED,
    REPLACED,
    TOMBSTONE_KEPT,
    Live,
    Old,
    Request,
    Snapshot,
    Tombstone,
    expiry,
)


class TooLargeError(Exception):
    """The session would be too large: nothing is stored."""


class LockLostError(Exception):
    """The session is not held exclusively any more, or has ended or got another id: nothing is stored."""


class Model:
    """The records by id, and the snapshots by the old and the new id."""

    def __init__(self) -> None:
        self.records: dict[str, Live | Old | Tombstone] = {}
        self.snapshots: dict[tuple[str, str], Snapshot] = {}
        self.idle = IDLE
        self.versions = 0

    # --- what stands

    def live(self, session_id: str | None, now: int) -> Live | None:
        """Return the live record of an id, unless it has passed one of its limits."""
        record = self.records.get(session_id or "")
        return record if isinstance(record, Live) and now < record.ends_at(self.idle) else None

    def follow(self, session_id: str) -> str:
        """Return the id at which a change made under *session_id* arrives: only a renewed id leads on."""
        record = self.records.get(session_id)
        while isinstance(record, Old) and record.why == RENEWED:
            session_id = record.successor
            record = self.records.get(session_id)
        return session_id

    def newest(self, session_id: str) -> str:
        """Return the id that the session of *session_id* has now, for whatever reason it was changed."""
        record = self.records.get(session_id)
        while isinstance(record, Old):
            session_id = record.successor
            record = self.records.get(session_id)
        return session_id

    def snapshot(self, session_id: str, now: int) -> Live | None:
        """Return what an id that was renewed may still read, during the grace."""
        record = self.records.get(session_id)
        if not isinstance(record, Old) or record.why != RENEWED or now >= record.dies_at:
            return None
        kept = self.snapshots.get((session_id, record.successor))
        return kept.record if kept is not None and now < kept.expires_at else None

    def readable(self, session_id: str, now: int) -> Live | None:
        """Return what a new request with this id reads."""
        if self.live(self.follow(session_id), now) is None:
            return None
        return self.live(session_id, now) or self.snapshot(session_id, now)

    def sweep(self, now: int) -> None:
        for session_id, record in list(self.records.items()):
            if record.expires_at <= now - MARGIN:
                del self.records[session_id]
        for ids, snapshot in list(self.snapshots.items()):
            if snapshot.expires_at <= now - MARGIN:
                del self.snapshots[ids]

    # --- loading

    def load(self, session_id: str, now: int, *, extends: bool = True) -> Request | None:
        """Load a session, which extends it, unless the storage cannot."""
        found = self.readable(session_id, now)
        if found is None:
            return None
        place = self.follow(session_id)
        own = place == session_id
        record = self._use(place, now, extends=extends)
        flashes = {key: value for _, key, value in found.flashes}
        return Request(
            session_id, deepcopy(found.data), deepcopy(found.data), flashes,
            used={uid for uid, _, _ in found.flashes} if own else set(),
            created_at=found.created_at, expires_at=record.ends_at(self.idle),
            place=place, seen=(record.version, record.expires_at),
            given=list(found.flashes) if own else [], base_flashes=dict(flashes),
        )  # fmt: skip

    def _use(self, session_id: str, now: int, *, extends: bool) -> Live:
        record = self.records[session_id]
        assert isinstance(record, Live)
        if extends and record.extension_due(self.idle, now):
            if record.idle != self.idle:
                return self._put(session_id, record, now)
            record.expires_at = expiry(now, record.created_at, self.idle)
        return record

    def refresh(self, request: Request, now: int) -> None:
        """Bring a request that begins to hold its session exclusively up to the newest record."""
        if request.place is None or request.destroyed:
            return
        record = self.live(request.place, now)
        if request.led_on or record is None:
            raise LockLostError
        record.version = self.next_version()  # a write of the holder before must fail
        request.refresh(record, record.ends_at(self.idle))

    # --- saving; each returns the cookie value

    def save(self, request: Request, now: int, *, confirm: bool = False, held: bool = True) -> str | None:
        """Save a request's session.

        Args:
            request: The request.
            now: The time.
            confirm: Whether the handler asks if the session still stands.
            held: Whether the lock is still held, if the request holds its session exclusively.

        Raises:
            TooLargeError: The session would be too large.
            LockLostError: The session is not held exclusively any more.
        """
        if request.destroyed:
            return self._destroy(request, now)
        if request.place is None:
            return self._create(request, now)
        if request.original is not None:
            return self._rotate(request, now, held=held)
        if request.by_handler or request.used:
            self._update(request, now, confirm=confirm, held=held)
        elif confirm:
            self._confirm(request, now, held=held)
        return None

    def _destroy(self, request: Request, now: int) -> str | None:
        if not request.destroy_pending:
            return None
        request.destroy_pending = False
        for doomed in (request, request.replaces):
            if doomed is not None and doomed.place is not None:
                self._end(doomed.place, LOGOUT, now)
        return ""

    def _end(self, session_id: str, why: str, now: int) -> None:
        newest = self.newest(session_id)
        if isinstance(self.records.get(newest), Live):
            self.records[newest] = Tombstone(why, now + TOMBSTONE_KEPT)

    def _create(self, request: Request, now: int) -> str | None:
        if not request.by_handler and request.replaces is None:
            return None
        data, flashes = request.applied_to({}, [])
        answer: str | None = None
        if data or flashes:
            check_size(data)
            record = self._put(request.id, Live(data, flashes, request.created_at, now, self.idle, 0), now)
            request.stand(request.id, record)
            answer = request.id
        request.taken()
        if request.replaces is not None:
            if request.replaces.place is not None:
                self._end(request.replaces.place, REPLACED, now)
            request.replaces, answer = None, answer or ""
        return answer

    def _update(self, request: Request, now: int, *, confirm: bool, held: bool) -> None:
        written = self._write(request, now, held=held)
        if written is not None:
            request.stand(*written)
            return
        by_handler = request.by_handler
        request.taken()
        if by_handler or confirm:
            request.end()

    def _confirm(self, request: Request, now: int, *, held: bool) -> None:
        found = self._find(request, now, held=held)
        if found is None:
            request.end()
            return
        place, record, known = found
        if record.extension_due(self.idle, now):
            stored = self.records[place]
            if known and record.idle == self.idle and isinstance(stored, Live):
                record.expires_at = stored.expires_at = expiry(now, record.created_at, self.idle)
            else:
                record = self._put(place, record, now)
        request.confirm(place, record)

    def _write(self, request: Request, now: int, *, held: bool) -> tuple[str, Live] | None:
        """Merge the changes of *request* onto the newest record; None: there is none that they may go to."""
        found = self._find(request, now, held=held)
        if found is None:
            return None
        place, record, _ = found
        data, flashes = request.applied_to(record.data, record.flashes)
        check_size(data)
        if record.holds(data, flashes) and not record.extension_due(self.idle, now):
            return place, record
        return place, self._put(place, replace(record, data=data, flashes=flashes), now)

    def _find(self, request: Request, now: int, *, held: bool) -> tuple[str, Live, bool] | None:
        """Return where the session of *request* stands, its record, and whether it is the one that it knows.

        If it is, the request also goes by the expiry that it knows: it may not know that others have extended the
        session since.
        """
        assert request.place is not None
        if request.exclusive and not isinstance(self.records.get(request.place), Live):
            raise LockLostError
        place = self.follow(request.place)
        record = self.live(place, now)
        if request.exclusive and (record is None or not held):
            raise LockLostError
        if record is None:
            return None
        version, expires_at = request.seen
        known = replace(record, expires_at=expires_at)
        if place == request.place and record.version == version and now < known.ends_at(self.idle):
            return place, known, True
        return place, record, False

    # --- another id

    def _rotate(self, request: Request, now: int, *, held: bool) -> str | None:
        assert request.place is not None
        own, new_id = request.place, request.id
        place = self.follow(own)
        renewed = request.led_on or place != own
        if request.exclusive and (not held or self.live(own, now) is None):
            raise LockLostError
        if renewed and not request.delete_old:
            self._save_instead(request, now)
            return None
        record = self.live(place, now)
        if record is None:
            request.rotated()
            request.end()
            return None
        source = record
        if renewed:
            known = Live(request.base, request.given, request.created_at, 0, 0, 0)
            source = known if request.led_on else self.snapshot(own, now) or known
        data, flashes = request.applied_to(source.data, source.flashes)
        check_size(data)
        ends = expiry(now, record.created_at, self.idle)
        if request.delete_old:
            self.records[place] = Old(new_id, REPLACED, 0, ends)
        else:
            dies_at = min(now + GRACE, ends)
            self.snapshots[place, new_id] = Snapshot(deepcopy(record), dies_at)
            self.records[place] = Old(new_id, RENEWED, dies_at, ends)
        created_at = now if request.renew else source.created_at
        request.rotated()
        request.stand(new_id, self._put(new_id, Live(data, flashes, created_at, now, self.idle, 0), now))
        return new_id

    def _save_instead(self, request: Request, now: int) -> None:
        """Save plainly, because another request has renewed the id: the browser gets its cookie from that one."""
        written = self._write(request, now, held=True)
        if written is None:
            request.rotated()
            request.end()
        else:
            assert request.original is not None
            request.id = request.original
            request.rotated()
            request.stand(*written)

    def _put(self, session_id: str, record: Live, now: int) -> Live:
        record = replace(
            record, written_at=now, idle=self.idle, version=self.next_version(),
            expires_at=expiry(now, record.created_at, self.idle),
        )  # fmt: skip
        self.records[session_id] = record
        return record

    def next_version(self) -> int:
        self.versions += 1
        return self.versions


def check_size(data: dict[str, object]) -> None:
    if repr(data).count(BIG) > 1:  # also inside a list
        raise TooLargeError
