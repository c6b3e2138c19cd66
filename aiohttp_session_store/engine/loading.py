"""Loading a session: its live record, what an old id may still read, or a new session."""

import asyncio
import logging

from ..errors import SessionLockError, StorageError
from ..record.format import NewerRecordError, Record, Stored
from ..record.session_id import is_id, key_of
from ..session.change_log import ChangeLog
from ..session.session import Session
from ..session.state import Place, Refused, SessionState
from ..tracebacks import hide_locals
from .extending import extend
from .observing import (
    COOKIE_CONTENT,
    RECORD_DAMAGED,
    RECORD_ENDED,
    RECORD_EXPIRED,
    RECORD_MISSING,
    why_unreadable,
)
from .retry import Attempts
from .rotating import follow, read_snapshot
from .telling import owner_of, tell_over
from .verbs import Verbs, unlosable
from .writing import RecordWriter

_logger = logging.getLogger("aiohttp_session_store")


class Loader:
    """Loads the sessions of one keyed storage."""

    def __init__(self, storage: Verbs) -> None:
        """Work on *storage*."""
        self._storage = storage
        self._writer = RecordWriter(storage)

    async def read(self, cookie_value: str | None) -> Session:
        """Return the live session whose id is *cookie_value*, or a new one; see :meth:`SessionStorage.read`."""
        try:
            if cookie_value is None:
                return self._fresh()
            if not is_id(cookie_value):
                return self._fresh(Refused(COOKIE_CONTENT))
            key = key_of(cookie_value)
            why, ended = RECORD_MISSING, None
            while (stored := await self._storage.fetch(key)) is not None:
                found = await self._found(key, stored)
                if isinstance(found, str):
                    why = found
                    break
                place, readable = found
                if self._storage.now() >= place.ends:
                    why, ended = RECORD_EXPIRED, place
                    tell_over(self._storage, place)
                    break
                if self._writer.use_is_due(place):
                    extended = await self._extended(place)
                    if extended is None:
                        why, ended = RECORD_ENDED, place
                        break
                    if extended.key != place.key and place.key == key:
                        continue  # its id was renewed just now: the next look sees it
                    place, readable = extended, readable if extended.key != key else extended.record
                return self._session(cookie_value, place, readable)
            return self._fresh(Refused(why, key) if ended is None else Refused(why, ended.key, owner_of(ended.record)))
        except BaseException as error:
            hide_locals(error)
            raise

    async def _found(self, key: str, stored: Stored) -> tuple[Place, Record] | str:
        """Return where the session of *key* stands and what may be read of it, or why there is no session."""
        try:
            record = self._storage.records.decode(stored.data, key)
            if isinstance(record, Record):
                return self._writer.place(key, stored, record), record
            readable = await read_snapshot(self._storage, key, record)
        except NewerRecordError as error:
            self._storage.warn_newer(key, error)
            return why_unreadable(error)
        except ValueError as error:
            _logger.warning("session %s is set aside: %s", key, error)
            await self._storage.set_aside(key, stored)
            return RECORD_DAMAGED
        place = None if readable is None else await follow(self._writer, record)
        return RECORD_ENDED if place is None or readable is None else (place, readable)

    async def _extended(self, place: Place) -> Place | None:
        """Extend a session because it is used; a storage that cannot, does not fail the request."""
        try:
            return await extend(self._writer, place)
        except StorageError as error:
            self._storage.outages.note(logging.WARNING, error, "session %s could not be extended", place.key)
            return place

    def _session(self, session_id: str, place: Place, readable: Record) -> Session:
        led_on = place.key != key_of(session_id)  # two equal records are one object in the cache
        state = SessionState(
            ChangeLog(readable.data, readable.flashes, use_flashes=not led_on),
            created_at=readable.created_at,
            expires_at=place.ends,
            session_id=session_id,
            place=place,
            now=self._storage.now,
        )
        state.warn = _logger.warning
        if readable.head is not None:
            state.head = readable.head
        if led_on:
            state.readable = readable._replace(flashes=())  # this request reads them, and so they are used up
        return Session(state)

    async def refresh(self, state: SessionState) -> None:
        """Bring a session that is held exclusively up to the newest record; see :meth:`SessionStorage.refresh`."""
        while state.saving is not None:
            await asyncio.wait([state.saving])
        if state.place is None or state.destroyed:
            return
        key, attempts = state.place.key, Attempts(state.place.key)
        while not state.led_on and isinstance(found := await self._writer.look(key), Place):
            if self._storage.now() >= found.ends:
                break
            newest = found if state.lease in (None, unlosable) else await self._fenced(found)
            if newest is not None:
                state.place, state.expires_at = newest, newest.ends
                state.log.refresh(newest.record)
                return
            await attempts.conflict()
        raise SessionLockError(
            f"session {key} ended or got another id before it could be held exclusively: nothing was stored. Try again"
            " with the browser's new cookie"
        )

    async def _fenced(self, place: Place) -> Place | None:
        """Give what a new holder has read a version of its own, or return None if that is not the newest any more.

        The holder before may have lost the lock just after the lease was asked, and still have a write under way.  That
        write was made from the version before, and so it fails.
        """
        stored = place.stored
        version = await self._storage.replace(place.key, stored.data, stored.expires_at, stored.version)
        return None if version is None else place._replace(stored=stored._replace(version=version))

    def _fresh(self, refused: Refused | None = None) -> Session:
        now = self._storage.now()
        expires_at = self._storage.timeouts.expiry(now, now)
        state = SessionState(ChangeLog({}), created_at=now, expires_at=expires_at, now=self._storage.now)
        if refused is not None:
            state.refused = refused
        return Session(state)
