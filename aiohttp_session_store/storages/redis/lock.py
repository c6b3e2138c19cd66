"""A lock on a server that may lose it.

The lock is held for a limited time and renewed.  After that time it is no longer trusted.
"""

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from ...errors import SessionLockError, StorageError, one_line
from .commands import Answer
from .scripts import RELEASE, RENEW, TAKE, Script

__all__ = ["RedisLock"]

_logger = logging.getLogger("aiohttp_session_store")

Run = Callable[..., Awaitable[Answer]]

# Seconds between two attempts at a lock that is taken. They are random, so that waiters do not try at the same moment.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.1
# A lock is renewed whenever a third of its time has passed, so two attempts may fail before it is lost.
_RENEWALS = 3


class RedisLock:
    """One holder's claim to one lock key.

    The server ends the lock *seconds* after it was last taken or renewed.  We count these seconds from the moment when
    we *sent* that command, so our count always ends first, however slow the network was.  The two clocks need not agree
    on the time, because each only measures a span.
    """

    def __init__(self, run: Run, key: str, seconds: float) -> None:
        """Prepare to take the lock; no I/O.

        Args:
            run: Runs a script on the server: ``await run(script, key, *arguments)``.
            key: The lock's key on the server.
            seconds: How long the lock outlives a holder that died.
        """
        self._run = run
        self._key = key
        self._seconds = seconds
        self._token = secrets.token_bytes(16)
        self._valid_until = 0.0
        self._renewing: asyncio.Task[None] | None = None
        self._claiming: asyncio.Future[Answer] | None = None

    async def take(self) -> None:
        """Take the lock, and wait for it as long as it takes.

        Raises:
            StorageError: The server failed.
        """
        pause = _FIRST_PAUSE
        while not await self._claim(TAKE):
            await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311  spreads retries, keeps no secret
            pause = min(pause * 2, _LONGEST_PAUSE)
        self._renewing = asyncio.create_task(self._renew())

    async def check(self) -> None:
        """Check that the lock is certainly still held.

        The server is asked, too, because it may have lost the lock in a failover.

        Raises:
            SessionLockError: Somebody else may hold the lock.
        """
        lost = "the exclusive lock of the session was lost and nothing was stored, so try again"
        try:
            if time.monotonic() >= self._valid_until or not await self._claim(RENEW):
                self._valid_until = 0.0  # a lock that was lost once stays lost
        except StorageError as error:
            raise SessionLockError(f"{lost} ({error})") from error
        if time.monotonic() >= self._valid_until:
            raise SessionLockError(lost)

    async def release(self) -> None:
        """Release the lock, whether it was taken or not.  If the server cannot be told, the lock ends by itself."""
        self._valid_until = 0.0
        if self._renewing is not None:
            self._renewing.cancel()
            with suppress(asyncio.CancelledError):
                await self._renewing
        if self._claiming is not None:  # a cancelled holder's claim must not reach the server after the release
            await asyncio.wait([self._claiming])
        try:
            await self._run(RELEASE, self._key, self._token)
        except StorageError as error:  # harmless; where its request failed, that is the one line of the log
            _logger.debug(
                "an exclusive lock could not be released: it ends in %g s: %s", self._seconds, one_line(error)
            )

    async def _claim(self, script: Script) -> bool:
        sent = time.monotonic()
        self._claiming = asyncio.ensure_future(self._run(script, self._key, self._token, int(self._seconds * 1000)))
        claimed = bool((await asyncio.shield(self._claiming)).value)
        if claimed:
            self._valid_until = sent + self._seconds
        return claimed

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._seconds / _RENEWALS)
            try:
                if not await self._claim(RENEW):
                    self._valid_until = 0.0
                    return
            except StorageError as error:  # if it is lost, the save says so
                _logger.debug("an exclusive lock could not be renewed, and may be lost: %s", one_line(error))
