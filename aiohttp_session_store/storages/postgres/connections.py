"""Statements on the connections of a pool, with a time limit on every wait, and errors that say what was stored."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import asyncpg

from ...errors import StorageError
from .failures import DRIVER_ERRORS, forget_values, is_lost, no_connection, storage_error
from .own_pool import OwnPool

__all__ = ["Answer", "Connections", "LostAnswerError"]

# How often a statement is tried. A server set to a stricter isolation level than the default may abort it.
_ATTEMPTS = 10
# Seconds after which an idle connection is tested before it is used. Nothing forgets a connection that fast.
_IDLE = 3.0
# The limit of that test: a share of the timeout, and the most in seconds. A healthy server needs milliseconds. While
# one request waits for the outcome, the others test their connections for a tenth of this time, and then connect anew;
# so do several requests that share a statement. After an answer was lost, time is short, so a test may take half of it.
_TEST_SHARE, _LONGEST_TEST, _HURRY, _SHORT = 5, 1.0, 10, 2
# The limit, in the same form, for the server to confirm that it has cancelled a statement. Then we hang up.
_CANCEL_SHARE, _LONGEST_CANCEL = 5, 0.5
# How many connections we remember for each one that the pool can have. Those that were replaced are forgotten in time.
_REMEMBERED = 4


class _Borrowed(NamedTuple):
    """A connection, the pool that it belongs to, and the process id of the server's end.

    The id tells the connections of a pool apart, also behind a pooler, which invents one for each.
    """

    pool: Any
    connection: Any
    pid: int


class Answer(NamedTuple):
    """The answer to a statement.

    Attributes:
        row: Its first row, or None.
        lost: Whether the statement had been sent before without an answer, so that it may have been carried out twice.
    """

    row: Any
    lost: bool


class LostAnswerError(Exception):
    """Raised if a statement may have been carried out although no answer came.

    Attributes:
        cause: What went wrong.
        deadline: The time of the monotonic clock until which the statement may be sent again.
    """

    def __init__(self, cause: Exception, deadline: float) -> None:
        """Keep *cause* and *deadline*."""
        super().__init__(str(cause))
        self.cause: Exception = cause
        self.deadline: float = deadline


class Connections:
    """Runs statements on the connections of a pool, and turns the driver's errors into :class:`StorageError`.

    A proxy or a firewall can forget a connection without a word to either side.  Then nothing that is sent on it is
    answered, while new connections work.  Therefore:

    - A connection that was idle for some seconds is tested before it is used.  If the test fails, it is replaced, and
      so are all others that have been idle since then, without a test.
    - A statement whose answer does not come within half of the time, or whose connection is lost, is sent again on
      another connection, which is tested first, unless it is new.
    """

    def __init__(self, pool: "asyncpg.Pool | OwnPool", timeout: float) -> None:
        """Use *pool*.

        Args:
            pool: Where the connections come from.
            timeout: Seconds to wait for a connection, and then again for the answer.
        """
        self._given: Any = pool
        self.timeout: float = timeout
        self._answered: dict[int, float] = {}  # by the process id: when the connection answered last
        self._doubted = self._failed = float("-inf")  # when an answer was lost, and when a test failed
        self._testing = 0

    async def pool(self) -> Any:
        """Return the asyncpg pool."""
        return await self._given.opened() if isinstance(self._given, OwnPool) else self._given

    async def value(self, statement: str, *arguments: Any, again: str | None = None, writes: bool = False) -> Any:
        """Run one statement and return the first value of its first row, or None; see :meth:`answer`."""
        row = await self.row(statement, *arguments, again=again, writes=writes)
        return None if row is None else row[0]

    async def row(self, statement: str, *arguments: Any, again: str | None = None, writes: bool = False) -> Any:
        """Run one statement and return its first row, or None; see :meth:`answer`."""
        return (await self.answer(statement, *arguments, again=again, writes=writes)).row

    async def table(self, statement: str, *arguments: Any) -> "Sequence[asyncpg.Record]":
        """Run one statement that only reads, and return all of its rows; see :meth:`answer`.

        Rows instead of arrays, because of the arrays the driver knows only those of text; see
        :func:`~.statements.as_text`.
        """
        rows: Sequence[asyncpg.Record] = (await self.answer(statement, *arguments, again=statement, every=True)).row
        return rows

    async def answer(
        self,
        statement: str,
        *arguments: Any,
        again: str | None = None,
        writes: bool = False,
        before: LostAnswerError | None = None,
        every: bool = False,
    ) -> Answer:
        """Run one statement.

        Args:
            statement: The SQL.
            arguments: Its parameters.
            again: What to run instead if the answer to *statement* was lost.  It must do no harm if *statement* was
                carried out, or still will be.  None if *statement* must not be repeated.
            writes: Whether an error has to say that the statement may have been carried out.
            before: An attempt to do the same in another way, whose answer was lost.
            every: Whether to return all rows, in the place of the first one.

        Raises:
            StorageError: The statement failed, or it is unknown whether it was carried out.
        """
        lost: Exception | None = None
        limit, deadline, attempts = self.timeout, 0.0, 0
        if before is not None:
            lost, deadline, attempts, statement = before.cause, before.deadline, 1, again or statement
            limit = deadline - time.monotonic()
        while True:
            try:
                borrowed = await self._borrow(limit)
            except StorageError:
                if lost is None:
                    raise
                raise self._failure(lost, maybe_stored=writes) from lost
            attempts += 1
            if attempts == 1:
                deadline = time.monotonic() + self.timeout
                limit = self.timeout if again is None else self.timeout / 2
            else:
                limit = deadline - time.monotonic()
            try:
                fetch = borrowed.connection.fetch if every else borrowed.connection.fetchrow
                row = await self._answer(borrowed, fetch, limit, statement, arguments)
                return Answer(row, lost is not None)
            except (asyncpg.SerializationError, asyncpg.DeadlockDetectedError) as error:
                # Under repeatable read, the statement that loses a race has to be repeated.
                if attempts == _ATTEMPTS or time.monotonic() >= deadline:
                    raise self._failure(error, maybe_stored=writes and lost is not None) from error
            except (TimeoutError, *DRIVER_ERRORS) as error:
                if is_lost(error):
                    lost, self._doubted = error, time.monotonic()
                if again is None or error is not lost or attempts == _ATTEMPTS or time.monotonic() >= deadline:
                    await self._learn(error)
                    raise self._failure(error, maybe_stored=writes and lost is not None) from error
                statement = again
            limit = deadline - time.monotonic()

    async def rows(self, statement: str, *arguments: Any) -> "Sequence[asyncpg.Record] | None":
        """Run one statement for several callers, once, and return its rows.

        Returns:
            None if the server or the driver has refused it.  Nothing was done then, and each caller finds out alone
            what is wrong.

        Raises:
            LostAnswerError: The statement may have been carried out.
            StorageError: There was no connection, so nothing was done.
        """
        borrowed = await self._borrow(self.timeout, several=True)
        deadline = time.monotonic() + self.timeout
        try:
            rows: Sequence[asyncpg.Record] = await self._answer(
                borrowed, borrowed.connection.fetch, self.timeout / 2, statement, arguments
            )
        except (TimeoutError, *DRIVER_ERRORS) as error:
            if not is_lost(error):
                return None
            self._doubted = time.monotonic()
            raise LostAnswerError(error, deadline) from error
        return rows

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Any]:
        """Borrow a connection for a block that does nothing but talk to the server.

        Raises:
            StorageError: No connection was available in time, or the server failed inside the block.
        """
        borrowed = await self._borrow(self.timeout)
        answered = False
        try:
            yield borrowed.connection
            answered = True
        except (TimeoutError, *DRIVER_ERRORS) as error:
            answered = not is_lost(error)
            await self._learn(error)
            raise self._failure(error) from error
        finally:
            await self._give_back(borrowed, answered=answered)

    @property
    def can_spare_one(self) -> bool:
        """Whether a connection can be kept for long: a pool that was given to us would lack it."""
        return isinstance(self._given, OwnPool) or self._given.get_max_size() > 1

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[Any]:
        """Use a connection for a block that may take for ever.

        Of a pool that was given to us, it is one; our own pool makes one more.

        Raises:
            StorageError: No connection was available in time, or the server failed inside the block.
        """
        pool: Any = None
        connection: Any = None
        try:
            async with asyncio.timeout(self.timeout):
                if isinstance(self._given, OwnPool):
                    connection = await self._given.connect()
                else:
                    pool = await self.pool()
                    connection = await pool.acquire()
            yield connection
        except (TimeoutError, *DRIVER_ERRORS) as error:
            raise self._failure(error) from error
        finally:
            if connection is not None:
                _hang_up(connection)
                if pool is not None:
                    with suppress(TimeoutError, *DRIVER_ERRORS):
                        await pool.release(connection, timeout=self.timeout)

    async def aclose(self) -> None:
        """Close the pool if it is our own.  The next statement creates a new one."""
        if isinstance(self._given, OwnPool):
            await self._given.aclose()

    # --- one connection

    async def _borrow(self, limit: float, *, several: bool = False) -> "_Borrowed":
        """Return a connection that works as far as we can know; it has to be given back.

        Args:
            limit: Seconds to wait for it.
            several: Whether several requests wait for it.

        Raises:
            StorageError: There was none within *limit* seconds.  Nothing was sent.
        """
        pool: Any = None
        try:
            async with asyncio.timeout(limit):
                pool = await self.pool()
                while True:
                    connection, works = await pool.acquire(), False
                    try:
                        borrowed = _Borrowed(pool, connection, connection.get_server_pid())
                        works = await self._works(borrowed, several=several)
                    finally:
                        if not works:
                            _hang_up(connection)
                    if works:
                        return borrowed
        except TimeoutError as error:
            raise StorageError(no_connection(pool, limit)) from error
        except DRIVER_ERRORS as error:
            raise self._failure(error) from error

    async def _works(self, borrowed: "_Borrowed", *, several: bool) -> bool:
        """Return whether a connection can be used; only one that was idle or is doubtful costs a round trip."""
        answered = self._answered.get(borrowed.pid)
        if answered is None:  # it is new
            return True
        was_idle, doubtful = time.monotonic() - answered > _IDLE, self._doubted >= answered
        if not was_idle and not doubtful:
            return True
        if self._failed > answered:
            return False
        limit = min(_LONGEST_TEST, self.timeout / _TEST_SHARE)
        if doubtful:
            limit /= _SHORT
        elif self._testing or several:
            limit /= _HURRY
        self._testing += 1
        try:
            await borrowed.connection.execute("SELECT 1", timeout=limit)
        except (TimeoutError, *DRIVER_ERRORS):
            self._failed = time.monotonic()
            return False
        finally:
            self._testing -= 1
        return True

    async def _answer(
        self,
        borrowed: "_Borrowed",
        run: Callable[..., Awaitable[Any]],
        limit: float,
        statement: str,
        arguments: tuple[Any, ...],
    ) -> Any:
        """Run one statement by a method of the connection, and give the connection back."""
        answered = False
        try:
            found = await run(statement, *arguments, timeout=limit)
            answered = True
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            answered = isinstance(error, asyncpg.PostgresError) and not is_lost(error)
            forget_values(error)
            raise
        finally:
            await self._give_back(borrowed, answered=answered)
        return found

    async def _give_back(self, borrowed: "_Borrowed", *, answered: bool) -> None:
        """Return a connection to its pool, or close it if it does not work any more.

        An error here must not hide the outcome of the statement, above all a cancellation.
        """
        pool, connection, pid = borrowed
        if answered:
            self._remember(pid)
            with suppress(TimeoutError, *DRIVER_ERRORS):  # a connection that fails here is closed by its pool
                await pool.release(connection, timeout=self.timeout)
            return
        # The driver has asked the server to cancel the statement, and waits until that is done. Up to asyncpg 0.31, its
        # own timeout does not limit that wait.
        limit = min(_LONGEST_CANCEL, self.timeout / _CANCEL_SHARE)
        releasing = asyncio.ensure_future(pool.release(connection, timeout=limit))
        releasing.add_done_callback(_noted)
        try:
            await asyncio.wait([releasing], timeout=limit)
        finally:
            if not releasing.done() or releasing.cancelled() or releasing.exception() is not None:
                _hang_up(connection)

    def _remember(self, pid: int) -> None:
        if pid not in self._answered and len(self._answered) >= _REMEMBERED * self._given.get_max_size():
            del self._answered[min(self._answered, key=self._answered.__getitem__)]
        self._answered[pid] = time.monotonic()

    async def _learn(self, error: Exception) -> None:
        """Replace all connections if the server has become read-only.

        After a failover, the host name may lead to another server.
        """
        if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
            await (await self.pool()).expire_connections()

    def _failure(self, error: Exception, *, maybe_stored: bool = False) -> StorageError:
        return storage_error(error, self.timeout, maybe_stored=maybe_stored)


def _hang_up(connection: Any) -> None:
    with suppress(*DRIVER_ERRORS):  # a connection that was closed has returned to its pool, and terminate() fails
        connection.terminate()


def _noted(task: "asyncio.Future[Any]") -> None:
    if not task.cancelled():
        task.exception()  # else asyncio logs one that nobody has waited for
