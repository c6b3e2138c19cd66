"""Watching sessions, to learn when they end, whoever ends them and in whatever process.

The end of a session is a fact in its storage, and a message about it is only a hint.  So all watched sessions are
looked at again from time to time, in batches, which makes it certain.  A hint makes it quick: the session that it names
is looked at now.  Nothing is closed because of a hint alone.

One task looks, and one more listens for hints if the storage has any.  Both end when nothing is watched any more.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing, suppress

from ..errors import StorageError, one_line
from ..session.state import Place
from ..tracebacks import hide_locals
from .session_watch import Waiter
from .verbs import Verbs
from .watched_sessions import WatchedSession, WatchedSessions

__all__ = ["Watching"]

_logger = logging.getLogger("aiohttp_session_store")

# Seconds after which a subscription that fails has not failed at once.
_STEADY = 60.0
# Seconds until what has failed is tried again: the first and the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 15.0


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
        self._watched = WatchedSessions(storage, interval)
        self._next_look = 0.0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._listener: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """How many sessions are watched."""
        return len(self._watched)

    def __bool__(self) -> bool:
        """Be true even if nothing is watched."""
        return True

    def add(self, place: Place, on_end: Callable[[str], None] | None = None) -> Waiter[WatchedSession]:
        """Watch the session that stands at *place*, and call *on_end* with the reason when it ends.

        It is looked at once at the beginning: it may have ended since it was loaded.
        """
        watch = self._watched.add(place, on_end)
        task = self._task
        if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
            self._start()
        self._wake.set()
        return watch

    async def stop(self) -> None:
        """End the tasks; what is watched is forgotten."""
        tasks = [task for task in (self._task, self._listener, *self._ending) if task is not None]
        self._task = self._listener = None
        self._watched.clear()
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
        loop, pause, failing = asyncio.get_running_loop(), 0.0, False
        while True:
            await self._sleep(loop)
            if loop.time() >= self._next_look:
                if not self._watched:
                    break
                self._next_look = loop.time() + self._interval
                self._watched.all_due()
            try:
                await self._watched.look()
            except StorageError as error:
                if not failing:
                    _logger.warning("watched sessions could not be looked at; this is repeated: %s", one_line(error))
            except Exception as error:
                hide_locals(error)
                _logger.exception("watched sessions could not be looked at; this is repeated")
            else:
                failing, pause = False, 0.0
                if self._watched.unfinished:
                    self._wake.set()
                continue
            failing, pause = True, min(max(2 * pause, _FIRST_PAUSE), _LONGEST_PAUSE, self._interval)
            await asyncio.sleep(pause)
            self._wake.set()
        self._task = None
        self._watched.clear()
        if self._listener is not None:
            self._ending.add(self._listener)
            self._listener.add_done_callback(self._ending.discard)
            self._listener.cancel()
            self._listener = None

    async def _sleep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Sleep until there is something to do: a hint, the end of a session by time, or the next look at all."""
        until = min(self._next_look, loop.time() + max(0.0, self._watched.next_end() - self._storage.now()))
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
                        if self._watched.hint(one):
                            self._wake.set()
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
