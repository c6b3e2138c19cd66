"""A lock that a transaction holds: it ends with the connection, even if this process dies."""

import asyncio
import logging
import random
from contextlib import suppress
from typing import Any

from ...errors import SessionLockError
from .connections import DRIVER_ERRORS, Connections

__all__ = ["PostgresLock"]

_logger = logging.getLogger("aiohttp_session_store")

# Seconds between two attempts at a lock that is taken. They are random, so that waiters do not try at the same moment.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.1


class PostgresLock:
    """One holder's claim to an advisory lock, and the connection whose transaction holds it."""

    def __init__(self, connections: Connections, number: int, places: asyncio.Semaphore, timeout: float) -> None:
        """Prepare to take the lock; no I/O.

        Args:
            connections: Where the lock's connection comes from.
            number: The number of the advisory lock.
            places: Limits how many connections of this process are used for locks at a time.
            timeout: Seconds to wait for each answer.
        """
        self._connections = connections
        self._number = number
        self._places = places
        self._timeout = timeout
        self._connection: Any = None
        self._asking = asyncio.Lock()  # a connection runs one statement at a time

    async def take(self) -> None:
        """Take the lock, and wait for it as long as it takes.  No connection is held between two attempts.

        Raises:
            StorageError: The server failed.
        """
        pause = _FIRST_PAUSE
        while not await self._attempt():
            await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311  spreads retries, keeps no secret
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def check(self) -> None:
        """Check that the lock is still held: its transaction must still answer.

        Raises:
            SessionLockError: The lock is over, or somebody else may hold it.
        """
        async with self._asking:
            if self._connection is None:
                raise SessionLockError("the exclusive lock of the session is over: nothing was stored")
            try:
                async with asyncio.timeout(self._timeout):  # see _ended
                    await self._connection.fetchval("SELECT true")
            except (TimeoutError, *DRIVER_ERRORS) as error:
                _hang_up(self._connection)  # a lock that was lost once stays lost: the server must release it, too
                raise SessionLockError(
                    "the exclusive lock of the session was lost and nothing was stored, so try again"
                    f" ({self._connections.failure(error)})"
                ) from error

    async def release(self) -> None:
        """Release the lock.  If its connection is lost, the lock has ended already."""
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
            # Between its statements, a read committed transaction keeps no snapshot, so it does not hold up a vacuum.
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
                    _logger.debug("a connection was lost while taking a lock", exc_info=True)
                finally:
                    self._places.release()
        return False

    async def _ended(self, connection: Any) -> None:
        """End the transaction and return the connection to the pool.  If that fails, close the connection."""
        try:
            # asyncpg up to 0.31 first waits until an abandoned statement is cancelled. Its own timeout does not limit
            # that wait.
            async with asyncio.timeout(self._timeout):
                await connection.execute("ROLLBACK")
        except BaseException:
            _hang_up(connection)
            raise
        finally:
            await (await self._connections.pool()).release(connection, timeout=self._timeout)


def _hang_up(connection: Any) -> None:
    with suppress(*DRIVER_ERRORS):  # a connection that was closed has returned to its pool, and terminate() fails
        connection.terminate()
