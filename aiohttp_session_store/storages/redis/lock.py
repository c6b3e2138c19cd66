"""A lock on a server that may forget it: held for a while, renewed, and never trusted longer than that."""

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from ...errors import SessionLockError, StorageError
from .scripts import RELEASE, RENEW, TAKE, Script

__all__ = ["RedisLock"]

_logger = logging.getLogger("aiohttp_session_store")

Run = Callable[..., Awaitable[int]]

# Between two looks at a lock that somebody else has, in seconds; at random, so that those who wait do not queue up.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.1
# Renewed at every third of it: two attempts may fail before it is lost.
_RENEWALS = 3


class RedisLock:
    """One holder's claim to one lock key.

    The server ends it *seconds* after it was last taken or renewed.  We count from when that command was *sent*, so
    that, whatever the network did, ours is over first; both clocks measure spans only.
    """

    def __init__(self, run: Run, key: str, seconds: float) -> None:
        """Prepare.

        Args:
            run: Runs a script on the server: ``await run(script, key, *arguments)``.
            key: Of the lock, as the server has it.
            seconds: How long it outlives a holder that died.
        """
        self._run = run
        self._key = key
        self._seconds = seconds
        self._token = secrets.token_bytes(16)
        self._valid_until = 0.0
        self._renewing: asyncio.Task[None] | None = None
        self._claiming: asyncio.Future[int] | None = None

    async def take(self) -> None:
        """Wait until it is ours, for as long as that takes.

        Raises:
            StorageError: The server failed.
        """
        pause = _FIRST_PAUSE
        while not await self._claim(TAKE):
            await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311  spreads retries, keeps no secret
            pause = min(pause * 2, _LONGEST_PAUSE)
        self._renewing = asyncio.create_task(self._renew())

    async def check(self) -> None:
        """Return if the lock is certainly ours: the server says so, too, which may have forgotten it in a failover.

        Raises:
            SessionLockError: It may be somebody else's.
        """
        lost = "the exclusive lock of the session was lost: nothing was stored; try again"
        try:
            if time.monotonic() >= self._valid_until or not await self._claim(RENEW):
                self._valid_until = 0.0  # lost once is lost for good
        except StorageError as error:
            raise SessionLockError(f"{lost}: {error}") from error
        if time.monotonic() >= self._valid_until:
            raise SessionLockError(lost)

    async def release(self) -> None:
        """Give it back, taken or not; one that the server cannot be told of ends by itself."""
        self._valid_until = 0.0
        if self._renewing is not None:
            self._renewing.cancel()
            with suppress(asyncio.CancelledError):
                await self._renewing
        if self._claiming is not None:  # of a holder that was cancelled: it must not come after the release
            await asyncio.wait([self._claiming])
        try:
            await self._run(RELEASE, self._key, self._token)
        except StorageError:
            _logger.warning("an exclusive lock could not be given back: it ends in %g s", self._seconds, exc_info=True)

    async def _claim(self, script: Script) -> bool:
        sent = time.monotonic()
        self._claiming = asyncio.ensure_future(self._run(script, self._key, self._token, int(self._seconds * 1000)))
        claimed = await asyncio.shield(self._claiming)
        if claimed:
            self._valid_until = sent + self._seconds
        return bool(claimed)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._seconds / _RENEWALS)
            try:
                if not await self._claim(RENEW):
                    self._valid_until = 0.0
                    return
            except StorageError:
                _logger.warning("an exclusive lock could not be renewed, and may be lost", exc_info=True)
