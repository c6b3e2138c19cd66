"""A lock that a transaction holds: it ends with its connection, whatever becomes of us."""

import asyncio
import logging
import random
from contextlib import suppress
from typing import Any

from ...errors import SessionLockError
from .connections import DRIVER_ERRORS, Connections

__all__ = ["PostgresLock"]

_logger = logging.getLogger("aiohttp_session_store")

# Between two looks at a lock that somebody else has, in seconds; at random, so that those who wait do not queue up.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.1


class PostgresLock:
    """One holder's claim to an advisory lock, and the connection whose transaction holds it."""

    def __init__(self, connections: Connections, number: int, places: asyncio.Semaphore, timeout: float) -> None:
        """Prepare.

        Args:
            connections: Where one comes from.
            number: Of the lock.
            places: How many holders there can be in this process.
            timeout: Seconds to wait for each answer.
        """
        self._connections = connections
        self._number = number
        self._places = places
        self._timeout = timeout
        self._connection: Any = None
        self._asking = asyncio.Lock()  # a connection answers one question at a time

    async def take(self) -> None:
        """Wait until it is ours, without a connection, for as long as that takes.

        Raises:
            StorageError: The server failed.
        """
        pause = _FIRST_PAUSE
        while not await self._attempt():
            await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311  spreads retries, keeps no secret
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def check(self) -> None:
        """Return if the lock is ours: its transaction still answers.

        Raises:
            SessionLockError: It may be somebody else's.
        """
        async with self._asking:
            if self._connection is None:
                raise SessionLockError("the exclusive lock of the session is over: nothing was stored")
            try:
                async with asyncio.timeout(self._timeout):  # see _ended
                    await self._connection.fetchval("SELECT true")
            except (TimeoutError, *DRIVER_ERRORS) as error:
                _hang_up(self._connection)  # lost once is lost for good, and the server knows it, too
                raise SessionLockError(
                    "the exclusive lock of the session was lost, and nothing was stored; try again:"
                    f" {self._connections.failure(error)}"
                ) from error

    async def release(self) -> None:
        """Give it back; one whose connection is lost has ended with it."""
        async with self._asking:
            connection, self._connection = self._connection, None
            if connection is None:
                return
            try:
                await self._ended(connection)
            except (TimeoutError, *DRIVER_ERRORS):
                _logger.warning("the connection of an exclusive lock was lost, and the lock with it", exc_info=True)
            finally:
                self._places.release()

    async def _attempt(self) -> bool:
        await self._places.acquire()
        connection: Any = None
        try:
            pool = await self._connections.pool()
            connection = await pool.acquire(timeout=self._timeout)
            # Read committed: between its statements such a transaction keeps no snapshot, and holds up no vacuum.
            await connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED", timeout=self._timeout)
            statement = "SELECT pg_try_advisory_xact_lock($1)"
            if await connection.fetchval(statement, self._number, timeout=self._timeout):
                self._connection, connection = connection, None
                return True
        except (TimeoutError, *DRIVER_ERRORS) as error:
            raise self._connections.failure(error) from error
        finally:
            if self._connection is None:
                try:
                    if connection is not None:
                        await self._ended(connection)
                except (TimeoutError, *DRIVER_ERRORS):
                    _logger.debug("a connection was lost while it waited for a lock", exc_info=True)
                finally:
                    self._places.release()
        return False

    async def _ended(self, connection: Any) -> None:
        """End the transaction and give the connection back, which is closed if that fails."""
        try:
            # asyncpg up to 0.31 waits, whatever its own timeout says, until a statement given up before is cancelled.
            async with asyncio.timeout(self._timeout):
                await connection.execute("ROLLBACK")
        except BaseException:
            _hang_up(connection)
            raise
        finally:
            await (await self._connections.pool()).release(connection, timeout=self._timeout)


def _hang_up(connection: Any) -> None:
    with suppress(*DRIVER_ERRORS):  # it may be back in its pool, which it returns to when it is closed
        connection.terminate()
