"""A lock in a row, which holds no connection.

The lock is held for a limited time and renewed.  After that time it is no longer trusted, and is free for others.
"""

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

from ...errors import SessionLockError, StorageError, one_line
from .statements import Statements

__all__ = ["Looks", "PostgresLock"]

_logger = logging.getLogger("aiohttp_session_store")

# Seconds between two looks at a lock that is taken. They are random, so that waiters do not look at the same moment.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.1
# If many requests of a process wait for locks, their pauses grow. A look takes about 150 us of CPU.
_LOOKS_PER_SECOND = 500
_FEWEST_LOOKS = 20
# A lock is renewed whenever a third of its time has passed, so two attempts may fail before it is lost.
_RENEWALS = 3

_LOST = "the exclusive lock of the session was lost and nothing was stored, so try again"


class Looks:
    """Limits how much the requests that wait for locks burden the pool and the server.

    Only some connections at a time are used to look whether a lock is free, so that there are always others for
    everything else.
    """

    def __init__(self, places: int) -> None:
        """Let *places* requests of this process look at a time."""
        self._places = places
        self._loop: asyncio.AbstractEventLoop | None = None
        self._free = asyncio.Semaphore(places)
        self._waiting = 0
        self._stuck: StorageError | None = None
        self._stuck_at = 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count a request that waits for a lock, for the length of a block."""
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    def longest_pause(self) -> float:
        """Return how many seconds may pass between two looks of one request."""
        return max(_LONGEST_PAUSE, self._waiting / _LOOKS_PER_SECOND)

    def first_pause(self) -> float:
        """Return how many seconds may pass until the second look."""
        return max(_FIRST_PAUSE, self.longest_pause() / _FEWEST_LOOKS)

    async def look(self, take: Callable[[], Awaitable[bool]]) -> bool:
        """Run *take* when it is its turn, and return what it returns.

        Raises:
            StorageError: It failed; or, while it waited for its turn, another one had to wait too long for a connection
                or an answer.
        """
        asked = time.monotonic()
        async with self._turn():
            if self._stuck is not None and self._stuck_at > asked:
                raise StorageError(*self._stuck.args) from self._stuck.__cause__
            try:
                return await take()
            except StorageError as error:
                if isinstance(error.__cause__, TimeoutError):
                    self._stuck, self._stuck_at = error, time.monotonic()
                raise

    def _turn(self) -> asyncio.Semaphore:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # a semaphore belongs to the first loop in which a task waited for it
            self._loop, self._free, self._stuck = loop, asyncio.Semaphore(self._places), None
        return self._free


class PostgresLock:
    """One holder's claim to the lock of one session.

    The server ends the lock *seconds* after it was last taken or renewed.  We count these seconds from the moment when
    we *sent* that statement, so our count always ends first, however slow the network was.  The two clocks need not
    agree on the time, because each only measures a span.
    """

    def __init__(self, run: Callable[..., Awaitable[object]], statements: Statements, key: str, seconds: float) -> None:
        """Prepare to take the lock; no I/O.

        Args:
            run: Runs a statement on the server: ``await run(statement, *arguments, again=statement)``.
            statements: The SQL.
            key: The key of the session.
            seconds: How long the lock outlives a holder that died.
        """
        self._run = run
        self._statements = statements
        self._key = key
        self._seconds = seconds
        self._token = secrets.token_bytes(16)
        self._valid_until = 0.0
        self._over = False
        self._renewing: asyncio.Task[None] | None = None
        self._taking: asyncio.Future[bool] | None = None
        self._perhaps_ours = False  # whether the server may have a row with our token

    async def take(self, looks: Looks) -> None:
        """Take the lock, and wait for it as long as it takes.  No connection is held between two looks.

        Raises:
            StorageError: The server failed, or the pool had no connection.
        """
        with looks.waiting():
            pause = looks.first_pause()
            while not await looks.look(self._take):
                await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311  spreads looks, keeps no secret
                pause = min(pause * 2, looks.longest_pause())
        self._renewing = asyncio.create_task(self._renew())

    async def check(self) -> None:
        """Check that the lock is certainly still held.

        The server is asked, too, because it may have lost the lock in a failover.

        Raises:
            SessionLockError: Somebody else may hold the lock.
        """
        try:
            if (
                self._over
                or time.monotonic() >= self._valid_until
                or not await self._claim(self._statements.renew_lock)
            ):
                self._over = True  # a lock that was lost once stays lost
        except StorageError as error:
            raise SessionLockError(f"{_LOST} ({error})") from error
        if self._over or time.monotonic() >= self._valid_until:
            raise SessionLockError(_LOST)

    async def release(self) -> None:
        """Release the lock, whether it was taken or not.  If the server cannot be told, the lock ends by itself."""
        self._over = True
        if self._renewing is not None:
            self._renewing.cancel()
            with suppress(asyncio.CancelledError):
                await self._renewing
        if self._taking is not None:  # a cancelled request's attempt must not reach the server after the release
            await asyncio.wait([self._taking])
        if not self._perhaps_ours:
            return
        statement = self._statements.release_lock
        try:
            await self._run(statement, self._key, self._token, again=statement)
        except StorageError as error:  # harmless; where its request failed, that is the one line of the log
            _logger.debug(
                "an exclusive lock could not be released: it ends in %g s: %s", self._seconds, one_line(error)
            )

    async def _take(self) -> bool:
        self._perhaps_ours = True
        self._taking = asyncio.ensure_future(self._claim(self._statements.take_lock))
        taken = self._perhaps_ours = await asyncio.shield(self._taking)
        return taken

    async def _claim(self, statement: str) -> bool:
        sent = time.monotonic()
        claimed = bool(await self._run(statement, self._key, self._token, self._seconds, again=statement))
        if claimed:
            self._valid_until = sent + self._seconds
        return claimed

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._seconds / _RENEWALS)
            try:
                if not await self._claim(self._statements.renew_lock):
                    self._over = True
                    return
            except StorageError as error:  # if it is lost, the save says so
                _logger.debug("an exclusive lock could not be renewed, and may be lost: %s", one_line(error))
