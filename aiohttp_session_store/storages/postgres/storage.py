"""Sessions in a table of PostgreSQL."""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Unpack

import asyncpg

from ...engine.verbs import Lease
from ...errors import ConfigurationError
from ...record.format import Stored
from ..base import (
    RECLAIM_AFTER,
    KeyedStorage,
    SweptOptions,
)
from ..keyed_lock import KeyedLock
from .connections import Connections, OwnPool
from .lock import PostgresLock
from .statements import Statements

__all__ = ["PostgresStorage"]

DEFAULT_TABLE = "aiohttp_sessions"
# A server in the same data centre answers within milliseconds, and a visitor waits a few seconds at most.
DEFAULT_TIMEOUT = 5.0
DEFAULT_POOL_SIZE = 10
# Rows that one statement of the sweep removes at most: a few milliseconds of work.
_BATCH = 1000
_LONGEST_REST = 0.05


class PostgresOptions(SweptOptions, total=False):
    """The keyword options that ``from_dsn`` passes on to :class:`PostgresStorage`, which documents them."""

    table: str
    schema: str | None


class PostgresStorage(KeyedStorage):
    """Keeps each session in a row, and makes every change with one statement.

    To create the table, call ``await storage.create_schema()``, or run the SQL of :attr:`schema_sql` in a migration.

    ``exclusive_session`` takes an advisory lock in a transaction, so it works behind a connection pooler, too.  Each
    lock needs a connection of its own, and at most half of the pool's connections are used for locks.  A request that
    loses this connection saves nothing and gets :class:`SessionLockError`.
    """

    def __init__(
        self,
        pool: "asyncpg.Pool | OwnPool",
        *,
        table: str = DEFAULT_TABLE,
        schema: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        **options: Unpack[SweptOptions],
    ) -> None:
        """Keep sessions in the database that *pool* connects to; no I/O.

        Args:
            pool: An asyncpg pool with at least two connections.  The storage does not close it: you do.
            table: The unquoted name of the table, at most 48 bytes.
            schema: The unquoted name of its schema, or None for the first schema of the ``search_path``.
            timeout: Seconds to wait for a free connection, and then again for the answer.
            options: See :class:`SweptOptions`.

        Raises:
            ConfigurationError: A setting makes no sense, or the pool is too small.
        """
        super().__init__(**options)
        if not isinstance(pool, asyncpg.Pool | OwnPool):
            raise ConfigurationError(f"PostgresStorage takes a pool of asyncpg, not {pool!r}")
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < float("inf"):
            raise ConfigurationError(f"timeout must be a positive number of seconds, not {timeout!r}")
        size = pool.get_max_size()
        if isinstance(size, bool) or not isinstance(size, int) or size < 2:
            raise ConfigurationError(
                f"the pool must have at least two connections, one of them for exclusive_session, not {size!r}"
            )
        self._statements = Statements.build(table, schema)
        self._timeout = float(timeout)
        self._connections = Connections(pool, self._timeout, self._statements.table)
        self._exclusive = KeyedLock()
        self._size = size
        self._loop: asyncio.AbstractEventLoop | None = None
        self._places = asyncio.Semaphore()
        self._releases: set[asyncio.Task[None]] = set()

    @classmethod
    def from_dsn(
        cls,
        dsn: str,
        *,
        pool_size: int = DEFAULT_POOL_SIZE,
        timeout: float = DEFAULT_TIMEOUT,
        **options: Unpack[PostgresOptions],
    ) -> "PostgresStorage":
        """Keep sessions in the database at *dsn*, with a pool that is created on first use and closed with the app.

        Args:
            dsn: ``postgresql://user:password@host/database``, or any other form that libpq takes.
            pool_size: The largest number of connections, at least two.
            timeout: See the class.
            options: The other arguments of the class.

        Raises:
            ConfigurationError: A setting makes no sense.
        """
        return cls(OwnPool(dsn, pool_size, timeout), timeout=timeout, **options)

    # --- the table

    @property
    def schema_sql(self) -> str:
        """The SQL for a migration.  It creates the table and its index, and a named schema, if they are missing."""
        return self._statements.create

    async def create_schema(self) -> None:
        """Create the table and its index, and the schema if one was named, if they are missing.

        Several processes may call this at the same time, and at every start.  If the table and its index exist, nothing
        is locked, and no privilege to create anything is needed.

        Raises:
            StorageError: The server failed, or the user has no privilege to create them.
        """
        if await self._connections.value(self._statements.exists, *self._statements.names):
            return
        # Of two processes that run IF NOT EXISTS at once, one can fail, so a lock comes first. Statements that are sent
        # together are one transaction.
        sql = f"SELECT pg_advisory_xact_lock({self._statements.create_lock});\n{self.schema_sql}"
        async with self._connections.one() as connection:
            await connection.execute(sql, timeout=self._timeout)

    # --- the verbs

    async def fetch(self, key: str) -> Stored | None:
        """See :meth:`KeyedStorage.fetch`."""
        row = await self._connections.row(self._statements.fetch, key)
        return None if row is None else Stored(*row)

    async def insert(self, key: str, data: bytes, expires_at: int) -> bytes | None:
        """See :meth:`KeyedStorage.insert`."""
        version = secrets.token_bytes(8)
        done = await self._connections.value(self._statements.insert, key, data, version, expires_at)
        return version if done else None

    async def replace(self, key: str, data: bytes, expires_at: int, version: bytes) -> bytes | None:
        """See :meth:`KeyedStorage.replace`."""
        newer = secrets.token_bytes(8)
        done = await self._connections.value(self._statements.replace, key, data, newer, expires_at, version)
        return newer if done else None

    async def touch(self, key: str, expires_at: int, version: bytes) -> bool:
        """See :meth:`KeyedStorage.touch`."""
        return bool(await self._connections.value(self._statements.touch, key, expires_at, version))

    async def delete(self, key: str, version: bytes | None = None) -> bool:
        """See :meth:`KeyedStorage.delete`."""
        if version is not None:
            return bool(await self._connections.value(self._statements.delete_version, key, version))
        await self._connections.row(self._statements.delete, key)
        return True

    async def sweep(self) -> int:
        """See :meth:`KeyedStorage.sweep`.  Works in batches, and only one process at a time removes a batch."""
        reclaimable, removed = self.now() - RECLAIM_AFTER, 0
        while True:
            batch = await self._sweep_batch(reclaimable)
            if batch is None:
                return removed
            removed += batch
            if batch < _BATCH:
                return removed
            await asyncio.sleep(random.uniform(0, _LONGEST_REST))  # noqa: S311  lets other work run

    async def _sweep_batch(self, reclaimable: int) -> int | None:
        """Remove one batch and return how many rows that were, or None if another process is sweeping."""
        statement, turn = self._statements.sweep, self._statements.sweep_lock
        removed: int | None = await self._connections.value(statement, reclaimable, _BATCH, turn)
        return removed

    # --- the lock

    @asynccontextmanager
    async def lock(self, key: str) -> AsyncIterator[Lease]:
        """See :meth:`KeyedStorage.lock`.

        Requests of one process get the lock in the order in which they asked for it.  Between processes there is no
        order.  A request that waits holds no connection, except for the moment of each attempt.
        """
        number = self._statements.session_lock(key)
        async with self._exclusive.holding(key):
            lease = PostgresLock(self._connections, number, self._lockable(), self._timeout)
            await lease.take()
            try:
                yield lease.check
            finally:
                await self._released(lease)

    def _lockable(self) -> asyncio.Semaphore:
        """Return the semaphore that keeps locks from using up the pool: a holder needs a second connection."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # a semaphore belongs to the first loop in which a task waited for it
            self._loop, self._places = loop, asyncio.Semaphore(self._size // 2)
        return self._places

    async def _released(self, lease: PostgresLock) -> None:
        """Release *lease*, even if the request is cancelled meanwhile."""
        task = asyncio.create_task(lease.release())
        self._releases.add(task)
        task.add_done_callback(self._releases.discard)
        await asyncio.shield(task)

    # --- lifetime

    async def aclose(self) -> None:
        """Extends :meth:`KeyedStorage.aclose`: also closes the pool that ``from_dsn`` created."""
        await super().aclose()
        if self._releases:
            await asyncio.wait(self._releases)
        if self._users == 0:
            await self._connections.aclose()
