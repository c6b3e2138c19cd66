"""Watching sessions, to learn when they end, whoever ends them and in whatever process.

The end of a session is a fact in its storage, and a message about it is only a hint.  So all watched sessions are
looked at again from time to time, in batches, which makes it certain.  A hint makes it quick: the session that it names
is looked at now.  Nothing is closed because of a hint alone.

One task looks, and one more listens for hints if the storage has any.  Both end when nothing is watched any more.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import aclosing, suppress
from heapq import heappop, heappush
from itertools import islice
from math import inf

from ..errors import StorageError, one_line
from ..record.format import ENDED, IDLE, LIFETIME, LOGIN, REPLACED, Record, Retired, Stored
from ..session.state import Place
from ..tracebacks import hide_locals
from .session_watch import SessionWatch, Waiter
from .verbs import Announcement, Verbs

__all__ = ["Watching"]

_logger = logging.getLogger("aiohttp_session_store")

# Sessions that one call asks about. Working on them holds the event loop for well under a millisecond.
_BATCH = 100
# Keys that are compared with hints in one turn of the loop, at about 0.1 us each.
_FILTERED = 2000
# Watches that are told of an end in one turn of the loop: closing a WebSocket takes about 0.1 ms. Other work comes in
# between.
_TOLD_AT_ONCE = 5
_BREATH = 0.001
# An id is renewed now and then. More renewals than this between two looks are records that lead in a circle.
_MOST_MOVES = 20
# Seconds after which a subscription that fails has not failed at once.
_STEADY = 60.0
# Seconds until what has failed is tried again: the first and the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 15.0


class _Session:
    """A session that is watched, by one request or more.

    Attributes:
        key: Where its record stood when it was last seen.
        version: The version at which it was last seen; empty if it has to be looked at in any case.
        ends: Whole Unix seconds, or infinity if that is not known.
        moves: How often its record has moved since it was last seen alive.
        watches: Who waits for its end.
    """

    __slots__ = ("ends", "key", "moves", "version", "watches")

    def __init__(self, key: str, version: bytes, ends: float) -> None:
        self.key, self.version, self.ends = key, version, ends
        self.moves = 0
        self.watches: set[Waiter[_Session]] = set()


class Watching:
    """Watches sessions of one storage, for one app."""

    def __init__(self, storage: Verbs, interval: float) -> None:
        """Watch nothing yet; no I/O.

        Args:
            storage: Where the records stand.
            interval: Seconds between two looks at all that is watched.
        """
        self._storage = storage
        self._interval = interval
        self._sessions: dict[str, _Session] = {}
        self._due: dict[str, None] = {}  # keys to look at now, in order
        self._hinted: set[str] = set()  # beginnings of keys to look at now
        self._all_due = False
        self._reasons: dict[str, str] = {}  # what hints said of keys that are due
        self._soon: list[tuple[float, str]] = []  # a heap of what may end before the next look at all
        self._next_look = 0.0
        self._told: deque[tuple[Waiter[_Session], str]] = deque()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._listener: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._failing = False

    def __len__(self) -> int:
        """How many sessions are watched."""
        return len(self._sessions)

    def __bool__(self) -> bool:
        """Be true even if nothing is watched."""
        return True

    def add(self, place: Place, on_end: Callable[[str], None] | None = None) -> SessionWatch:
        """Watch the session that stands at *place*, and call *on_end* with the reason when it ends.

        It is looked at once at the beginning: it may have ended since it was loaded.
        """
        session = self._sessions.get(place.key)
        if session is None:
            session = self._sessions[place.key] = _Session(place.key, place.stored.version, place.ends)
            self._note_end(session)
        watch = Waiter(session, self._forget, on_end)
        session.watches.add(watch)
        self._due[place.key] = None
        if self._task is None or self._task.get_loop() is not asyncio.get_running_loop():
            self._start()
        self._wake.set()
        return watch

    def _forget(self, watch: Waiter[_Session]) -> None:
        session = watch.session
        if session is None or watch not in session.watches:  # its end is about to be told
            return
        session.watches.remove(watch)
        if not session.watches and self._sessions.get(session.key) is session:
            del self._sessions[session.key]
            self._due.pop(session.key, None)

    async def stop(self) -> None:
        """End the tasks; what is watched is forgotten."""
        tasks = [task for task in (self._task, self._listener, *self._ending) if task is not None]
        self._task = self._listener = None
        self._sessions.clear()
        running = [task for task in tasks if task.get_loop() is asyncio.get_running_loop()]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    # --- the tasks

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._next_look = loop.time() + self._interval
        self._task = loop.create_task(self._run(), name="session watch")
        self._listener = None
        if self._storage.has_announcements:
            self._listener = loop.create_task(self._listen(), name="session announcements")

    async def _run(self) -> None:
        loop, pause = asyncio.get_running_loop(), 0.0
        while True:
            await self._sleep(loop)
            if loop.time() >= self._next_look:
                if not self._sessions and not self._told:
                    break
                self._next_look = loop.time() + self._interval
                self._all_due = True
            try:
                await self._look()
            except StorageError as error:
                if not self._failing:
                    _logger.warning("watched sessions could not be looked at; this is repeated: %s", one_line(error))
            except Exception as error:
                hide_locals(error)
                _logger.exception("watched sessions could not be looked at; this is repeated")
            else:
                self._failing, pause = False, 0.0
                continue
            self._failing, pause = True, min(max(2 * pause, _FIRST_PAUSE), _LONGEST_PAUSE, self._interval)
            await asyncio.sleep(pause)
            self._wake.set()
        self._task, self._soon = None, []
        if self._listener is not None:
            self._ending.add(self._listener)
            self._listener.add_done_callback(self._ending.discard)
            self._listener.cancel()
            self._listener = None

    async def _sleep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Sleep until there is something to do: a hint, the end of a session by time, or the next look at all."""
        until = self._next_look
        if self._soon:
            until = min(until, loop.time() + max(0.0, self._soon[0][0] - self._storage.now()))
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._wake.wait()
        self._wake.clear()

    async def _listen(self) -> None:
        """Take hints, and ask for them again after a failure."""
        loop, pause, failing = asyncio.get_running_loop(), _FIRST_PAUSE, False
        while True:
            began = loop.time()
            try:
                async with aclosing(self._storage.announcements()) as announcements:
                    async for one in announcements:
                        self._hint(one)
                break  # the storage has found, and said, that there are none
            except StorageError as error:
                if loop.time() - began > _STEADY:
                    pause, failing = _FIRST_PAUSE, False
                if not failing:
                    _logger.warning(
                        "ends of sessions are not announced for now, and are noticed every %g s: %s",
                        self._interval,
                        one_line(error),
                    )
            except Exception as error:
                hide_locals(error)
                _logger.exception("ends of sessions are not announced for now")
            failing = True
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _hint(self, hint: Announcement) -> None:
        if not hint.key:
            self._all_due = True
        elif hint.key in self._sessions:
            self._due[hint.key] = None
            self._reasons[hint.key] = hint.reason
        elif hint.is_whole:
            return
        else:
            self._hinted.add(hint.key)
        self._wake.set()

    # --- looking

    async def _look(self) -> None:
        """Look at what is due.

        Raises:
            StorageError: The storage failed; what was not looked at stays due.
        """
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
        found = await self._storage.fetch_many(keys)
        missing = [key for key in keys if key not in found]
        versions = await self._storage.versions(missing) if missing else {}
        for key in keys:
            session = self._sessions.get(key)
            if session is None:
                continue
            if key in found:
                self._seen(session, found[key])
            elif key in versions:  # it cannot be read, or was written just now; it is looked at again next time
                session.version = b""
            else:
                self._end(session, self._reasons.get(key) or ENDED)

    def _seen(self, session: _Session, stored: Stored) -> None:
        try:
            record = self._storage.records.decode(stored.data)
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
        if self._storage.now() >= ends:
            self._end(session, self._limit(record, ends))
            return
        session.version, session.moves = stored.version, 0
        if session.ends != ends:
            session.ends = ends
            self._note_end(session)

    def _limit(self, record: Record, ends: int) -> str:
        """Return which of the two limits has ended a session."""
        lifetime = self._storage.timeouts.lifetime
        return IDLE if lifetime is None or ends < record.created_at + lifetime else LIFETIME

    def _note_end(self, session: _Session) -> None:
        if session.ends <= self._storage.now() + self._interval + 1:
            heappush(self._soon, (session.ends, session.key))

    def _move(self, session: _Session, successor: str, stored: Stored) -> None:
        """Go on under the key of another id, to which the session's id was renewed."""
        if session.moves == _MOST_MOVES:
            session.version, session.moves = stored.version, 0
            return
        del self._sessions[session.key]
        other = self._sessions.get(successor)
        if other is None:
            session.key, session.version = successor, b""
            session.moves += 1
            self._sessions[successor] = session
        else:
            for watch in session.watches:
                watch.session = other
            other.watches |= session.watches
        self._due[successor] = None

    def _end(self, session: _Session, reason: str) -> None:
        del self._sessions[session.key]
        self._told.extend((watch, reason) for watch in session.watches)
        session.watches = set()

    async def _tell(self) -> None:
        """Tell those who wait that their session has ended, a few in each turn of the loop."""
        while self._told:
            for _ in range(min(_TOLD_AT_ONCE, len(self._told))):
                watch, reason = self._told.popleft()
                watch.tell(reason)
            await asyncio.sleep(_BREATH if self._told else 0)
