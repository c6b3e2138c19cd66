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
# A server in the same data centre answers within milliseconds; a visitor waits for seconds at most.
DEFAULT_TIMEOUT = 5.0
DEFAULT_POOL_SIZE = 10
# Rows that one statement of the sweep removes: some milliseconds of work.
_BATCH = 1000
_LONGEST_REST = 0.05


class PostgresOptions(SweptOptions, total=False):
    """The keyword options of :class:`PostgresStorage` beside those of ``from_dsn``; the class documents them."""

    table: str
    schema: str | None


class PostgresStorage(KeyedStorage):
    """Keeps each session in a row, and makes every change with one statement.

    The table is there after ``await storage.create_schema()``, or by a migration with the SQL of :attr:`schema_sql`.

    ``exclusive_session`` is an advisory lock of a transaction on a connection of its own, so that it works behind a
    pooler, too; half of the pool's connections can be such.  Whoever has lost that connection saves nothing and gets
    :class:`SessionLockError`.
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
        """Keep sessions where the connections of *pool* lead; no I/O.

        Args:
            pool: Of asyncpg, with two connections at least.  It stays yours to close.
            table: Its name, unquoted, of 48 bytes at most.
            schema: The name of its schema, unquoted; None for the first one of the ``search_path``.
            timeout: Seconds to wait for a free connection, and again for the answer.
            options: See :class:`SweptOptions`.

        Raises:
            ConfigurationError: A setting makes no sense, or the pool is too small.
        """
        super().__init__(**options)
        if not isinstance(pool, asyncpg.Pool | OwnPool):
            raise ConfigurationError(f"PostgresStorage takes a pool of asyncpg, not {pool!r}")
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < float("inf"):
            raise ConfigurationError(f"timeout is a positive number of seconds, not {timeout!r}")
        size = pool.get_max_size()
        if isinstance(size, bool) or not isinstance(size, int) or size < 2:
            raise ConfigurationError(f"a pool has two connections at least, one for exclusive_session, not {size!r}")
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
        """Keep sessions at *dsn*, with a pool that is made when it is needed and closed with the app.

        Args:
            dsn: ``postgresql://user:password@host/database``, or what else libpq takes.
            pool_size: The most connections at a time, two at least.
            timeout: See the class.
            options: The other arguments of the class.

        Raises:
            ConfigurationError: A setting makes no sense.
        """
        return cls(OwnPool(dsn, pool_size, timeout), timeout=timeout, **options)

    # --- the table

    @property
    def schema_sql(self) -> str:
        """The statements that create the table and its index where they are missing, for a migration."""
        return self._statements.create

    async def create_schema(self) -> None:
        """Create the table and its index, and the schema if one was named, where they are missing.

        Several processes may call it at the same time, and at every start: what is there is not locked, and needs no
        right to create it.

        Raises:
            StorageError: The server failed, or does not allow it.
        """
        if await self._connections.value(self._statements.exists, *self._statements.names):
            return
        # IF NOT EXISTS alone fails for one of two that do it at once. Sent together, all of it is one transaction.
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

    async def delete(self, key: str) -> None:
        """See :meth:`KeyedStorage.delete`."""
        await self._connections.row(self._statements.delete, key)

    async def sweep(self) -> int:
        """See :meth:`KeyedStorage.sweep`; in batches, each by one process at a time."""
        reclaimable, removed = self.now() - RECLAIM_AFTER, 0
        while True:
            batch = await self._sweep_batch(reclaimable)
            if batch is None:
                return removed
            removed += batch
            if batch < _BATCH:
                return removed
            await asyncio.sleep(random.uniform(0, _LONGEST_REST))  # noqa: S311  lets others come first

    async def _sweep_batch(self, reclaimable: int) -> int | None:
        """Return how many rows were removed, or None: another process is at it."""
        statement, turn = self._statements.sweep, self._statements.sweep_lock
        removed: int | None = await self._connections.value(statement, reclaimable, _BATCH, turn)
        return removed

    # --- the lock

    @asynccontextmanager
    async def lock(self, key: str) -> AsyncIterator[Lease]:
        """See :meth:`KeyedStorage.lock`; within a process who came first gets it first, among processes any may.

        Whoever waits holds no connection.
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
        """Return the places for holders, who need a second connection: they must never have all of the pool."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # a semaphore belongs to the first loop in which somebody waited for it
            self._loop, self._places = loop, asyncio.Semaphore(self._size // 2)
        return self._places

    async def _released(self, lease: PostgresLock) -> None:
        """Give *lease* back, also if the request is cancelled meanwhile."""
        task = asyncio.create_task(lease.release())
        self._releases.add(task)
        task.add_done_callback(self._releases.discard)
        await asyncio.shield(task)

    # --- lifetime

    async def aclose(self) -> None:
        """Extends :meth:`KeyedStorage.aclose`: closes a pool that ``from_dsn`` has made."""
        await super().aclose()
        if self._releases:
            await asyncio.wait(self._releases)
        if self._users == 0:
            await self._connections.aclose()
