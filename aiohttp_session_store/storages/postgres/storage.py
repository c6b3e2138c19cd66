"""Sessions in a table of PostgreSQL."""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Unpack

import asyncpg

from ...engine.verbs import Announcement, Found, Lease, Walked
from ...errors import ConfigurationError, StorageError
from ...record.format import Stored
from ...record.session_id import is_key
from ...record.settings import check_flag, number_of_seconds, whole_number
from ...tracebacks import hides_locals, hides_settings
from ..base import (
    RECLAIM_AFTER,
    KeyedStorage,
    SweptOptions,
)
from ..keyed_lock import KeyedLock
from .announcing import listen, notify, packed
from .connections import Connections
from .lock import Looks, PostgresLock
from .own_pool import OwnPool
from .server_checks import connect_once
from .shared_statements import SharedStatements
from .statements import Shared, Statements
from .versions import became_of, first_version, next_version

__all__ = ["PostgresStorage"]

_logger = logging.getLogger("aiohttp_session_store")

DEFAULT_TABLE = "aiohttp_sessions"
# A server in the same data centre answers within milliseconds, and a visitor waits a few seconds at most.
DEFAULT_TIMEOUT = 5.0
DEFAULT_POOL_SIZE = 10
# Longer than any pause of a healthy process, but short enough to wait for if the holder died.
DEFAULT_LOCK_LEASE = 10.0
# Rows that one statement of the sweep removes at most: a few milliseconds of work.
_BATCH = 1000
_LONGEST_REST = 0.05
# Rows that a walk reads in one go.
_PAGE = 100
# Bytes of the largest record whose write shares a statement. A larger one would delay the others.
_LARGEST_SHARED = 64 * 1024


class PostgresOptions(SweptOptions, total=False):
    """The keyword options that ``from_dsn`` passes on to :class:`PostgresStorage`, which documents them."""

    table: str
    schema: str | None
    lock_lease: float


class PostgresStorage(KeyedStorage):
    """Keeps each session in a row, and makes every change with one statement.

    To create the tables, call ``await storage.create_schema()``, or run the SQL of :attr:`schema_sql` in a migration.

    ``exclusive_session`` holds a row in a table of locks for a limited time and renews it.  It holds no connection, and
    works behind a connection pooler.  A request that has lost the lock (after a long pause or a failover) saves nothing
    and gets :class:`SessionLockError`.
    """

    @hides_settings
    def __init__(
        self,
        pool: "asyncpg.Pool | OwnPool",
        *,
        table: str = DEFAULT_TABLE,
        schema: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        lock_lease: float = DEFAULT_LOCK_LEASE,
        **options: Unpack[SweptOptions],
    ) -> None:
        """Keep sessions in the database that *pool* connects to; no I/O.

        Args:
            pool: An asyncpg pool.  The storage does not close it: you do.
            table: The unquoted name of the table, at most 48 bytes.  Two more tables have the same name and ``_locks``
                and ``_owners``.
            schema: The unquoted name of their schema, or None for the first schema of the ``search_path``.
            timeout: Seconds to wait for a free connection, and then again for the answer.
            lock_lease: Seconds after which the lock of a process that died is free again, at least 1.
            options: See :class:`SweptOptions`.

        Raises:
            ConfigurationError: A setting makes no sense.
        """
        super().__init__(**options)
        if not isinstance(pool, asyncpg.Pool | OwnPool):  # what it is instead may be a DSN with a password: not shown
            raise ConfigurationError(
                f"PostgresStorage takes a pool of asyncpg, not {type(pool).__name__}: for a DSN, call"
                " PostgresStorage.from_dsn"
            )
        size = whole_number("pool_size", pool.get_max_size())
        self._statements = Statements.build(table, schema)
        self._lock_lease = number_of_seconds("lock_lease", lock_lease, 1)
        self._connections = Connections(pool, number_of_seconds("timeout", timeout, 0.001))
        self._shared = SharedStatements(self._connections)
        self._exclusive = KeyedLock()
        self._looks = Looks(max(1, size // 2))
        self._releases: set[asyncio.Task[None]] = set()
        self._warned_of: set[str] = set()  # statements whose table is missing

    @classmethod
    @hides_settings
    def from_dsn(
        cls,
        dsn: str,
        *,
        pool_size: int = DEFAULT_POOL_SIZE,
        timeout: float = DEFAULT_TIMEOUT,
        prepared_statements: bool = True,
        **options: Unpack[PostgresOptions],
    ) -> "PostgresStorage":
        """Keep sessions in the database at *dsn*, with a pool that is created on first use and closed with the app.

        Args:
            dsn: ``postgresql://user:password@host/database``.  Percent-encode special characters of the user name and
                the password.
            pool_size: The largest number of connections.
            timeout: See the class.
            prepared_statements: Whether connections keep prepared statements on the server.  Set it to False behind
                PgBouncer, or another pooler that gives each transaction another connection.
            options: The other arguments of the class.

        Raises:
            ConfigurationError: A setting makes no sense.  The message does not show the DSN.
        """
        timeout = number_of_seconds("timeout", timeout, 0.001)
        check_flag("prepared_statements", prepared_statements)
        pool = OwnPool(dsn, pool_size, timeout, prepared_statements=prepared_statements)
        return cls(pool, timeout=timeout, **options)

    # --- the tables

    @property
    def schema_sql(self) -> str:
        """The SQL for a migration: creates what is missing of the schema if one was named, the tables and indexes."""
        sql = self._statements
        return sql.make_schema + sql.create + sql.create_locks + sql.create_owners

    @hides_locals
    async def create_schema(self) -> None:
        """Create what is missing of the schema if one was named, and of the tables of sessions, locks and owners.

        Several processes may call this at the same time, and at every start.  What exists is not locked.  If everything
        exists, no privilege to create anything is needed.

        Raises:
            StorageError: The server failed, or the user has no privilege to create them.
        """
        sql = self._statements
        creations = (sql.create, sql.create_locks, sql.create_owners)
        exist = await self._connections.row(sql.exists, *sql.names)
        missing = "".join(create for create, exists in zip(creations, exist, strict=True) if not exists)
        if not missing:
            return
        # Of two processes that run IF NOT EXISTS at once, one can fail, so a lock comes first. Statements that are sent
        # together are one transaction.
        script = f"SELECT pg_advisory_xact_lock({sql.create_lock});\n{sql.make_schema}{missing}"
        async with self._connections.one() as connection:
            await connection.execute(script, timeout=self._connections.timeout)

    # --- the verbs

    async def fetch(self, key: str) -> Stored | None:
        """See :meth:`KeyedStorage.fetch`."""
        row = (await self._shared.run(self._statements.fetch, key)).row
        return None if row is None else Stored(*row)

    async def insert(self, key: str, data: bytes, expires_at: int) -> bytes | None:
        """See :meth:`KeyedStorage.insert`."""
        version = first_version()
        return await self._write(self._statements.insert, version, key, data, version, expires_at)

    async def replace(self, key: str, data: bytes, expires_at: int, version: bytes) -> bytes | None:
        """See :meth:`KeyedStorage.replace`."""
        newer = next_version(version)
        return await self._write(self._statements.replace, newer, key, data, newer, expires_at, version)

    async def _write(
        self, statement: Shared, version: bytes, key: str, data: bytes, *arguments: object
    ) -> bytes | None:
        """Write a record at *version*; return that, or None if it was not written.

        Raises:
            StorageError: The server failed; ``maybe_stored`` if nobody can know what it has done.
        """
        run = self._shared.run if len(data) <= _LARGEST_SHARED else self._shared.run_alone
        row, lost = await run(statement, key, data, *arguments)
        if row is not None:
            return version
        if not lost:
            return None
        # A first attempt that arrives only now changes nothing: what it was to replace does not stand any more.
        look = self._statements.version
        try:
            standing = await self._connections.value(look, key, again=look)
        except StorageError as error:
            error.maybe_stored = True
            raise
        became = became_of(version, standing)
        if became is None:
            raise StorageError(
                "PostgreSQL: the answer to a write was lost, and other requests have written since", maybe_stored=True
            )
        return version if became else None

    async def touch(self, key: str, expires_at: int, version: bytes) -> bool:
        """See :meth:`KeyedStorage.touch`."""
        return (await self._shared.run(self._statements.touch, key, expires_at, version)).row is not None

    async def delete(self, key: str, version: bytes | None = None) -> bool:
        """See :meth:`KeyedStorage.delete`."""
        if version is not None:
            return (await self._shared.run(self._statements.delete_version, key, version)).row is not None
        await self._shared.run(self._statements.delete, key)
        return True

    async def sweep(self, report: Callable[[int, float], None] | None = None) -> int:
        """See :meth:`KeyedStorage.sweep`.  Works in batches, and only one process at a time removes a batch.

        What is alive by the server's clock is left, even if our clock is ahead.

        Args:
            report: Called after each batch with how many records were removed so far, and 0, because nobody knows how
                many are left.
        """
        reclaimable, removed = self.now() - RECLAIM_AFTER, 0
        while True:
            batch = await self._sweep_batch(reclaimable)
            if batch is None:
                return removed
            removed += batch
            if report is not None:
                report(removed, 0.0)
            if batch < _BATCH:
                break
            await asyncio.sleep(random.uniform(0, _LONGEST_REST))  # noqa: S311  lets other work run
        await self._sweep_optional(self._statements.sweep_locks)
        entries: int | None = _BATCH
        while entries == _BATCH:
            entries = await self._sweep_optional(self._statements.sweep_owners, reclaimable, _BATCH)
            await asyncio.sleep(0)
        return removed

    async def _sweep_batch(self, reclaimable: int) -> int | None:
        """Remove one batch and return how many rows that were, or None if another process is sweeping."""
        statement, turn = self._statements.sweep, self._statements.sweep_lock
        removed: int | None = await self._connections.value(statement, reclaimable, _BATCH, turn)
        return removed

    async def _sweep_optional(self, statement: str, *arguments: int) -> int | None:
        """Sweep the locks of processes that died, or the index of owners.

        An app that uses neither may lack their tables.
        """
        try:
            removed: int | None = await self._connections.value(statement, *arguments)
        except StorageError as error:
            if not isinstance(error.__cause__, asyncpg.UndefinedTableError | asyncpg.InsufficientPrivilegeError):
                raise
            if statement not in self._warned_of:
                self._warned_of.add(statement)
                what = "exclusive_session" if statement == self._statements.sweep_locks else "session.login"
                _logger.warning("%s cannot work: %s", what, error)
            return None
        return removed

    # --- the index of owners

    async def link(self, owner_key: str, key: str, until: int) -> None:
        """See :meth:`Verbs.link`."""
        statement = self._statements.link
        await self._connections.row(statement, owner_key, key, until, again=statement, writes=True)

    async def unlink(self, owner_key: str, key: str) -> None:
        """See :meth:`Verbs.unlink`."""
        statement = self._statements.unlink
        await self._connections.row(statement, owner_key, key, again=statement, writes=True)

    async def linked(self, owner_key: str) -> Sequence[str]:
        """See :meth:`Verbs.linked`."""
        statement = self._statements.linked
        return await self._connections.value(statement, owner_key, again=statement) or []

    # --- for watched sessions

    async def fetch_many(self, keys: Sequence[str]) -> Mapping[str, Stored]:
        """See :meth:`Verbs.fetch_many`."""
        rows = await self._connections.table(self._statements.fetch_many, list(keys))
        return {key: Stored(*rest) for key, *rest in rows}

    async def versions(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        """See :meth:`Verbs.versions`."""
        rows = await self._connections.table(self._statements.versions, list(keys))
        return {row["key"]: row["version"] for row in rows}

    async def announce(self, key: str, reason: str) -> None:
        """See :meth:`Verbs.announce`."""
        await notify(self._connections, self._statements.channel, packed(key, reason))

    def announcements(self) -> AsyncGenerator[Announcement, None]:
        """See :meth:`Verbs.announcements`.

        Takes a connection: one more than those of the pool that ``from_dsn`` makes, or one of a pool that was given.
        """
        return listen(self._connections, self._statements.channel)

    # --- for the command line

    async def walk(self) -> AsyncGenerator[Walked, None]:
        """See :meth:`Verbs.walk`.  In the order of the keys, a page at a time, each with one statement of its own."""
        last = ""
        while True:
            rows = await self._connections.table(self._statements.walk, last, _PAGE)
            found = [Found(key, Stored(*rest)) for key, *rest in rows]
            last = found[-1].key if found else last
            yield Walked([one for one in found if is_key(one.key)], _part_before(last))
            if len(found) < _PAGE:
                return

    async def rewrite(self, key: str, data: bytes, version: bytes) -> bytes | None:
        """See :meth:`Verbs.rewrite`."""
        newer = next_version(version)
        return await self._write(self._statements.rewrite, newer, key, data, newer, version)

    # --- the lock

    @asynccontextmanager
    async def lock(self, key: str) -> AsyncIterator[Lease]:
        """See :meth:`KeyedStorage.lock`.

        Requests of one process get the lock in the order in which they asked for it.  Between processes there is no
        order.  Neither a holder nor a request that waits holds a connection.
        """
        async with self._exclusive.holding(key):
            lease = PostgresLock(self._connections.value, self._statements, key, self._lock_lease)
            try:
                await lease.take(self._looks)
            except BaseException:
                self._released(lease)  # in the background: the request has waited long enough, or was cancelled
                raise
            try:
                yield lease.check
            finally:
                await asyncio.shield(self._released(lease))

    def _released(self, lease: PostgresLock) -> "asyncio.Task[None]":
        """Release *lease*, even if the request is cancelled meanwhile."""
        task = asyncio.create_task(lease.release())
        self._releases.add(task)
        task.add_done_callback(self._releases.discard)
        return task

    # --- lifetime

    async def start(self) -> None:
        """Extends :meth:`KeyedStorage.start`: connects once.

        An unavailable server does not keep the app from starting: a warning is logged, and requests get 503 until it is
        available.

        Raises:
            ConfigurationError: Connecting can never succeed: the driver refuses the settings, or the pool is not open
                or was made in another event loop.
        """
        await connect_once(self._connections)
        await super().start()

    async def aclose(self) -> None:
        """Extends :meth:`KeyedStorage.aclose`: also closes the pool that ``from_dsn`` created."""
        await super().aclose()
        loop = asyncio.get_running_loop()
        releases = [task for task in self._releases if task.get_loop() is loop]  # others ended with their loop
        if releases:
            await asyncio.wait(releases)
        await self._shared.finish()
        if self._users == 0:
            await self._connections.aclose()


def _part_before(key: str) -> float:
    """Return which part of all keys, which are random, comes before *key*: from 0 to 1."""
    return int(key[:8], 16) / 16**8 if is_key(key) else 0.0
