"""Connections for a moment, from a pool that is given or made, with a limit to every wait."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg

from ...errors import StorageError

__all__ = ["Connections", "OwnPool"]

#: What the driver raises when the server fails, or is not there.
DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
# Of statements that a server set to a stricter isolation than its default gives up.
_ATTEMPTS = 10


class OwnPool:
    """A pool that is made when it is needed, and made again after it was closed, or in another event loop."""

    def __init__(self, dsn: str, size: int, timeout: float) -> None:
        """Prepare for *size* connections to *dsn* at most, each to be had within *timeout* seconds."""
        self._dsn = dsn
        self._size = size
        self._timeout = timeout
        self._loop: asyncio.AbstractEventLoop | None = None
        self._making = asyncio.Lock()
        self._pool: Any = None

    def get_max_size(self) -> int:
        """Return how many connections there can be at a time."""
        return self._size

    async def opened(self) -> Any:
        """Return the pool."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # that of the last test, perhaps: what was made there is of no use here
            self._loop, self._making, self._pool = loop, asyncio.Lock(), None
        async with self._making:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    self._dsn,
                    min_size=0,  # an app starts although its server is away
                    max_size=self._size,
                    timeout=self._timeout,
                    reset=_leave,
                )
        return self._pool

    async def aclose(self) -> None:
        """Close the connections."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(self._timeout):
                await pool.close()
        except TimeoutError:
            pool.terminate()


async def _leave(_: Any) -> None:
    """Spare the round trip that resets a connection: we change nothing about it that outlives a transaction."""


class Connections:
    """A pool, and what its errors mean to us."""

    def __init__(self, pool: "asyncpg.Pool | OwnPool", timeout: float, table: str) -> None:
        """Use *pool*, waiting for *timeout* seconds at each step; *table* is for messages."""
        self._given: Any = pool
        self._timeout = timeout
        self._table = table

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Any]:
        """Have a connection for the length of a block that does nothing but talk to the server.

        Raises:
            StorageError: There is none to be had in time, or the block met an error of the server.
        """
        pool: Any = None
        try:
            pool = await self.pool()
            connection = await pool.acquire(timeout=self._timeout)
            try:
                yield connection
            finally:
                # What the block came to counts, above all a cancellation; a connection that fails here is closed.
                with suppress(TimeoutError, *DRIVER_ERRORS):
                    await pool.release(connection, timeout=self._timeout)
        except asyncpg.ReadOnlySQLTransactionError as error:
            await pool.expire_connections()  # the server's name may lead to another one by now
            raise StorageError(f"PostgreSQL is read-only: {error}") from error
        except (TimeoutError, *DRIVER_ERRORS) as error:
            raise self.failure(error) from error

    async def pool(self) -> Any:
        """Return the pool of asyncpg."""
        return await self._given.opened() if isinstance(self._given, OwnPool) else self._given

    def failure(self, error: Exception) -> StorageError:
        """Say in our words what *error* means."""
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
        """Return the first value of the first row, or None; see :meth:`row`."""
        row = await self.row(statement, *arguments)
        return None if row is None else row[0]

    async def row(self, statement: str, *arguments: Any) -> Any:
        """Run one statement and return its first row, or None.

        Raises:
            StorageError: It was not carried out, or nobody can know.
        """
        for attempt in range(_ATTEMPTS):
            async with self.one() as connection:
                try:
                    return await connection.fetchrow(statement, *arguments, timeout=self._timeout)
                except (asyncpg.SerializationError, asyncpg.DeadlockDetectedError):
                    # under repeatable read, where the loser of a race has to ask again
                    if attempt == _ATTEMPTS - 1:
                        raise
        raise AssertionError("unreachable")

    async def aclose(self) -> None:
        """Close a pool of our own; the next call makes a new one."""
        if isinstance(self._given, OwnPool):
            await self._given.aclose()
