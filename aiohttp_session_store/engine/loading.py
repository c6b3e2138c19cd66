"""What loading a session comes to: a live record, a retired one within its grace, or a new session."""

import asyncio
import logging
from math import inf

from ..errors import SessionLockError
from ..record.format import NewerRecordError, Record, Retired, Stored
from ..record.session_id import is_id, key_of
from ..session.change_log import ChangeLog
from ..session.session import Session
from ..session.state import SessionState
from .retry import Attempts
from .verbs import Verbs

_logger = logging.getLogger("aiohttp_session_store")


class Loader:
    """Loads the sessions of one keyed storage."""

    def __init__(self, storage: Verbs) -> None:
        """Work on *storage*."""
        self._storage = storage

    async def read(self, cookie_value: str | None) -> Session:
        """Return the live session whose id is *cookie_value*, or a new one; see :meth:`SessionStorage.read`."""
        if cookie_value is None or not is_id(cookie_value):
            return self._fresh()
        key = key_of(cookie_value)
        stored = await self._storage.fetch(key)
        if stored is None:
            return self._fresh()
        try:
            record = self._storage.records.decode(stored.data)
            live = record if isinstance(record, Record) else await self._original(record, stored)
        except NewerRecordError as error:
            self._storage.warn_newer(key, error)
            return self._fresh()
        except ValueError as error:
            _logger.warning("session %s is set aside: %s", key, error)
            await self._storage.set_aside(key, stored)
            return self._fresh()
        if live is None:
            return self._fresh()
        expires_at, renew_at = self._storage.timeouts.limits(live, stored.expires_at)
        if self._storage.now() >= expires_at:
            return self._fresh()
        retired = live is not record
        state = SessionState(
            ChangeLog(live.data, live.flashes, use_flashes=not retired),
            created_at=live.created_at,
            expires_at=expires_at,
            session_id=cookie_value,
            stored=stored,
            record=live,
        )
        state.retired = retired
        state.renew_at = inf if retired else renew_at
        return Session(state)

    async def _original(self, retired: Retired, stored: Stored) -> Record | None:
        """Return what a visitor with an id that was regenerated may still read."""
        if retired.original is None or self._storage.now() >= min(retired.dies_at, stored.expires_at):
            return None
        original = self._storage.records.decode(retired.original)
        if isinstance(original, Retired):
            raise ValueError("a retired record inside another")  # noqa: TRY004  damage, not a wrong argument
        return original if await self._leads_to_life(retired) else None

    async def refresh(self, state: SessionState) -> None:
        """Bring a session up to the newest record; see :meth:`SessionStorage.refresh`."""
        while state.saving is not None:
            await asyncio.wait([state.saving])
        if state.stored is None or state.destroyed:
            return
        key = key_of(state.stored_id)
        attempts = Attempts(key)
        while (stored := await self._storage.fetch(key)) is not None:
            try:
                record = self._storage.records.decode(stored.data)
            except ValueError:  # the save will find the same, and say so
                return
            if isinstance(record, Record):
                newest = stored if state.lease is None else await self._fenced(key, stored)
                if newest is not None:
                    state.stored, state.record = newest, record
                    state.log.refresh(record.data)
                    return
                await attempts.conflict()
            elif record.successor is not None:
                raise SessionLockError(
                    f"session {key} got another id meanwhile, and its newest data is not for the old one to read: the"
                    " request may be tried again with the new cookie"
                )
            else:
                return

    async def _fenced(self, key: str, stored: Stored) -> Stored | None:
        """Give what a new holder has read a version of its own, or return None if that is not the newest any more.

        Whoever had the lock before, and has lost it just after the lease was asked, may still have a write under way.
        It is made from this version, and so it fails.
        """
        version = await self._storage.replace(key, stored.data, stored.expires_at, stored.version)
        return None if version is None else Stored(stored.data, version, stored.expires_at)

    async def _leads_to_life(self, retired: Retired) -> bool:
        """Whether the session that *retired* became is still there: logout ends what its older ids can read, too."""
        record: Record | Retired = retired
        passed: set[str] = set()
        while isinstance(record, Retired):
            if not record.passes_changes_on or record.successor is None or record.successor in passed:
                return False
            passed.add(record.successor)
            stored = await self._storage.fetch(record.successor)
            if stored is None:
                return False
            try:
                record = self._storage.records.decode(stored.data)
            except ValueError:
                return False
        return True

    def _fresh(self) -> Session:
        now = self._storage.now()
        return Session(SessionState(ChangeLog({}), created_at=now, expires_at=self._storage.timeouts.expiry(now, now)))
