"""The sessions that are watched, and the looks at their records that find out which of them have ended."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from heapq import heappop, heappush
from itertools import islice
from math import inf

from ..errors import StorageError
from ..record.format import ENDED, LOGIN, REPLACED, Retired, Stored
from ..session.state import Place
from .session_watch import Waiter
from .verbs import Announcement, Verbs

__all__ = ["WatchedSession", "WatchedSessions"]

# Sessions that one call asks about. Working on them holds the event loop for well under a millisecond.
_BATCH = 100
# Keys that are compared with hints in one turn of the loop, at about 0.1 us each.
_FILTERED = 2000
# Seconds between two batches, for other work.
_BREATH = 0.001
# Seconds between two watches that are told of an end. To close a WebSocket and to end its request takes half a
# millisecond, so other requests have most of the loop.
_TOLD_EVERY = 0.003
# Watches that are told in a row, before it is looked whether other sessions have ended.
_TOLD_IN_A_ROW = 50
# A session that is watched by no more requests than this need not wait until those of a larger one are told.
_FEW = 10


class WatchedSession:
    """A session that is watched, by one request or more.

    Attributes:
        key: Where its record stood when it was last seen.
        version: The version at which it was last seen; empty if it has to be looked at in any case.
        ends: Whole Unix seconds, or infinity if that is not known.
        passed: The keys that its record has moved through since it was last seen alive, or None.
        watches: Who waits for its end.
    """

    __slots__ = ("ends", "key", "passed", "version", "watches")

    def __init__(self, key: str, version: bytes, ends: float) -> None:
        self.key: str = key
        self.version: bytes = version
        self.ends: float = ends
        self.passed: set[str] | None = None
        self.watches: set[Waiter[WatchedSession]] = set()


class WatchedSessions:
    """Watched sessions of one storage, by the keys where their records stand."""

    def __init__(self, storage: Verbs, interval: float) -> None:
        """Watch nothing yet; no I/O.

        Args:
            storage: Where the records stand.
            interval: Seconds between two looks at all of them.
        """
        self._storage = storage
        self._interval = interval
        self._sessions: dict[str, WatchedSession] = {}
        self._due: dict[str, None] = {}  # keys to look at now, in order
        self._hinted: set[str] = set()  # beginnings of keys to look at now
        self._all_due = False
        self._reasons: dict[str, str] = {}  # what hints said of keys that are due
        self._soon: list[tuple[float, str]] = []  # a heap of what may end before the next look at all
        self._told: deque[tuple[Waiter[WatchedSession], str]] = deque()

    def __len__(self) -> int:
        """How many sessions are watched."""
        return len(self._sessions)

    def __bool__(self) -> bool:
        """Whether anything is watched, or is still to be told of an end."""
        return bool(self._sessions or self._told)

    def add(self, place: Place, on_end: Callable[[str], None] | None) -> Waiter[WatchedSession]:
        """Watch the session that stands at *place*; it is due to be looked at."""
        session = self._sessions.get(place.key)
        if session is None:
            session = self._sessions[place.key] = WatchedSession(place.key, place.stored.version, place.ends)
            self._note_end(session)
        watch = Waiter(session, self._forget, on_end)
        session.watches.add(watch)
        self._due[place.key] = None
        return watch

    def _forget(self, watch: Waiter[WatchedSession]) -> None:
        session = watch.session
        if session is None or watch not in session.watches:  # its end is about to be told
            return
        session.watches.remove(watch)
        if not session.watches and self._sessions.get(session.key) is session:
            del self._sessions[session.key]
            self._due.pop(session.key, None)
            self._reasons.pop(session.key, None)

    def clear(self) -> None:
        """Forget everything."""
        for found in (self._sessions, self._due, self._hinted, self._reasons, self._soon, self._told):
            found.clear()

    def all_due(self) -> None:
        """Have all of them looked at next time."""
        self._all_due = True

    def hint(self, hint: Announcement) -> bool:
        """Have those looked at next time that *hint* names; return whether there are any."""
        if not hint.key:
            self._all_due = True
        elif hint.key in self._sessions:
            self._due[hint.key] = None
            self._reasons[hint.key] = hint.reason
        elif hint.is_whole:
            return False
        else:
            self._hinted.add(hint.key)
        return True

    @property
    def unfinished(self) -> bool:
        """Whether somebody is still to be told of an end."""
        return bool(self._told)

    def next_end(self) -> float:
        """Return when the next session may end by one of its limits, in Unix seconds, or infinity."""
        return self._soon[0][0] if self._soon else inf

    # --- looking

    async def look(self) -> None:
        """Look at what is due, and tell those who wait of each end.

        Raises:
            StorageError: The storage failed; what was not looked at stays due.
        """
        await self._tell()
        now = self._storage.now()
        while self._soon and self._soon[0][0] <= now:
            _, key = heappop(self._soon)
            if key in self._sessions and self._sessions[key].ends <= now:
                self._due[key] = None
        await self._look_at_due()
        while self._all_due or self._hinted:
            await self._compare()
            await self._look_at_due()

    async def _compare(self) -> None:
        """Find out which of the sessions that may have changed have changed."""
        everything, self._all_due = self._all_due, False
        hinted, self._hinted = self._hinted, set()
        horizon = self._storage.now() + self._interval + 1
        try:
            keys = list(self._sessions) if everything else await self._beginning_with(hinted)
            for start in range(0, len(keys), _BATCH):
                batch = [key for key in keys[start : start + _BATCH] if key in self._sessions]
                versions = await self._storage.versions(batch)
                for key in batch:
                    session = self._sessions.get(key)
                    if session is None:
                        continue
                    if versions.get(key) != session.version:
                        self._due[key] = None
                    if everything and session.ends <= horizon:
                        heappush(self._soon, (session.ends, key))
                await self._look_at_due()
                await asyncio.sleep(_BREATH)
        except BaseException:
            self._all_due = True
            raise

    async def _beginning_with(self, beginnings: set[str]) -> list[str]:
        """Return the keys that begin with one of *beginnings*."""
        everything, found = list(self._sessions), list[str]()
        for length in {len(beginning) for beginning in beginnings}:
            for start in range(0, len(everything), _FILTERED):
                found += [key for key in everything[start : start + _FILTERED] if key[:length] in beginnings]
                await asyncio.sleep(0)
        return found

    async def _look_at_due(self) -> None:
        while self._due:
            batch = list(islice(self._due, _BATCH))
            for key in batch:
                del self._due[key]
            try:
                await self._look_at([key for key in batch if key in self._sessions])
            except BaseException:
                self._due.update(dict.fromkeys(batch))
                raise
            for key in batch:
                if key not in self._due:
                    self._reasons.pop(key, None)
            await self._tell()
        await self._tell()

    async def _look_at(self, keys: list[str]) -> None:
        """Read records, and note what became of their sessions."""
        if not keys:
            return
        now = self._storage.now()  # before they are read: they say nothing of what is used afterwards
        try:
            found = await self._storage.fetch_many(keys)
        except StorageError:
            found = await self._readable(keys)
        for key, stored in found.items():
            if key in self._sessions:
                self._seen(self._sessions[key], stored, now)
        missing = [key for key in keys if key not in found]
        versions = await self._storage.versions(missing) if missing else {}
        for key in missing:
            session = self._sessions.get(key)
            if session is None:
                continue
            if key in versions:  # it cannot be read, or was written just now; it is looked at again next time
                session.version = b""
            else:
                reason = self._reasons.get(key) or ENDED
                if reason == ENDED:
                    self._storage.observing.tell_end(key, None, reason)
                self._end(session, reason)

    async def _readable(self, keys: list[str]) -> dict[str, Stored]:
        """Return the records of *keys* that can be read; one that cannot must not hide the ends of the others.

        Raises:
            StorageError: It is the storage that fails.
        """
        await self._storage.versions(keys)
        found = dict[str, Stored]()
        for key in keys:
            with suppress(StorageError):
                found.update(await self._storage.fetch_many([key]))
        return found

    def _seen(self, session: WatchedSession, stored: Stored, now: int) -> None:
        try:
            record = self._storage.records.decode(stored.data, session.key)
        except ValueError:  # of a newer version, or damaged: that is no end
            session.version, session.ends = stored.version, inf
            return
        if isinstance(record, Retired):
            if record.passes_on and record.successor is not None:
                self._move(session, record.successor, stored)
            else:
                self._end(session, REPLACED if record.why == LOGIN else record.why or ENDED)
            return
        ends, _ = self._storage.timeouts.limits(record, stored.expires_at)
        if now >= ends:
            reason = self._storage.timeouts.passed(record, ends)
            self._storage.observing.tell_end(session.key, record.head, reason)
            self._end(session, reason)
            return
        session.version, session.passed = stored.version, None
        if session.ends != ends:
            session.ends = ends
            self._note_end(session)

    def _note_end(self, session: WatchedSession) -> None:
        if session.ends <= self._storage.now() + self._interval + 1:
            heappush(self._soon, (session.ends, session.key))

    def _move(self, session: WatchedSession, successor: str, stored: Stored) -> None:
        """Go on under the key of another id, to which the session's id was renewed."""
        passed = session.passed or {session.key}
        if successor in passed:  # records that lead in a circle are damage
            session.version, session.passed = stored.version, None
            return
        passed.add(successor)
        del self._sessions[session.key]
        other = self._sessions.get(successor)
        if other is None:
            session.key, session.version, session.passed = successor, b"", passed
            self._sessions[successor] = session
        else:
            for watch in session.watches:
                watch.session = other
            other.watches |= session.watches
        self._due[successor] = None

    def _end(self, session: WatchedSession, reason: str) -> None:
        del self._sessions[session.key]
        told = [(watch, reason) for watch in session.watches]
        if len(told) <= _FEW:
            self._told.extendleft(told)
        else:
            self._told.extend(told)
        session.watches = set()

    async def _tell(self) -> None:
        """Tell some of those who wait that their session has ended, one in each turn of the loop."""
        for _ in range(min(_TOLD_IN_A_ROW, len(self._told))):
            watch, reason = self._told.popleft()
            watch.tell(reason)
            await asyncio.sleep(_TOLD_EVERY if self._told else 0)
