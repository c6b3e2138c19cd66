"""Connections from a pool, given by the application or our own, with a time limit on every wait."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg

from ...errors import StorageError

__all__ = ["Connections", "OwnPool"]

#: What the driver raises when the server fails or is unavailable.
DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
# How often a statement is tried. A server set to a stricter isolation level than the default may abort it.
_ATTEMPTS = 10


class OwnPool:
    """A pool that is created on first use, and again after it was closed or in another event loop."""

    def __init__(self, dsn: str, size: int, timeout: float) -> None:
        """Prepare a pool; no I/O.

        Args:
            dsn: Where to connect to.
            size: The largest number of connections.
            timeout: Seconds in which a connection must be established.
        """
        self._dsn = dsn
        self._size = size
        self._timeout = timeout
        self._loop: asyncio.AbstractEventLoop | None = None
        self._making = asyncio.Lock()
        self._pool: Any = None

    def get_max_size(self) -> int:
        """Return the largest number of connections."""
        return self._size

    async def opened(self) -> Any:
        """Return the open pool."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # a pool from another loop, such as the last test's, cannot be used here
            self._loop, self._making, self._pool = loop, asyncio.Lock(), None
        async with self._making:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    self._dsn,
                    min_size=0,  # the app can start while the server is unavailable
                    max_size=self._size,
                    timeout=self._timeout,
                    reset=_leave,
                )
        return self._pool

    async def aclose(self) -> None:
        """Close the pool and its connections."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(self._timeout):
                await pool.close()
        except TimeoutError:
            pool.terminate()


async def _leave(_: Any) -> None:
    """Skip the round trip that resets a connection: none of our changes to it outlives a transaction."""


class Connections:
    """Runs statements on the connections of a pool, and turns the driver's errors into :class:`StorageError`."""

    def __init__(self, pool: "asyncpg.Pool | OwnPool", timeout: float, table: str) -> None:
        """Use *pool*, and wait *timeout* seconds at most at each step.  Error messages name *table*."""
        self._given: Any = pool
        self._timeout = timeout
        self._table = table

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Any]:
        """Borrow a connection for a block that does nothing but talk to the server.

        Raises:
            StorageError: No connection was available in time, or the server failed inside the block.
        """
        pool: Any = None
        try:
            pool = await self.pool()
            connection = await pool.acquire(timeout=self._timeout)
            try:
                yield connection
            finally:
                # An error here must not hide the outcome of the block, above all a cancellation. A connection that
                # fails here is closed.
                with suppress(TimeoutError, *DRIVER_ERRORS):
                    await pool.release(connection, timeout=self._timeout)
        except asyncpg.ReadOnlySQLTransactionError as error:
            await pool.expire_connections()  # after a failover, the host name may lead to another server
            raise StorageError(f"PostgreSQL is read-only: {error}") from error
        except (TimeoutError, *DRIVER_ERRORS) as error:
            raise self.failure(error) from error

    async def pool(self) -> Any:
        """Return the asyncpg pool."""
        return await self._given.opened() if isinstance(self._given, OwnPool) else self._given

    def failure(self, error: Exception) -> StorageError:
        """Return the :class:`StorageError` that describes *error*."""
        if isinstance(error, TimeoutError):
            size = self._given.get_max_size()
            return StorageError(
                f"PostgreSQL did not answer within {self._timeout:g} s, or all {size} connections were busy"
            )
        if isinstance(error, asyncpg.UndefinedTableError):
            return StorageError(
                f"the table {self._table} does not exist: await storage.create_schema(), or run the SQL of"
                " storage.schema_sql"
            )
        return StorageError(f"PostgreSQL: {type(error).__name__}: {error}")

    async def value(self, statement: str, *arguments: Any) -> Any:
        """Run one statement and return the first value of its first row, or None; see :meth:`row`."""
        row = await self.row(statement, *arguments)
        return None if row is None else row[0]

    async def row(self, statement: str, *arguments: Any) -> Any:
        """Run one statement and return its first row, or None.

        Raises:
            StorageError: The statement failed, or it is unknown whether it was carried out.
        """
        for attempt in range(_ATTEMPTS):
            async with self.one() as connection:
                try:
                    return await connection.fetchrow(statement, *arguments, timeout=self._timeout)
                except (asyncpg.SerializationError, asyncpg.DeadlockDetectedError):
                    # under repeatable read, the statement that loses a race has to be repeated
                    if attempt == _ATTEMPTS - 1:
                        raise
        raise AssertionError("unreachable")

    async def aclose(self) -> None:
        """Close the pool if it is our own.  The next statement creates a new one."""
        if isinstance(self._given, OwnPool):
            await self._given.aclose()
