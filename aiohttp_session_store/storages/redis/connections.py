"""The connections of a client: what is sent over one of them, and which of them are still trusted."""

import asyncio
import inspect
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from redis.exceptions import ConnectionError as DisconnectedError
from redis.exceptions import ReadOnlyError
from redis.exceptions import TimeoutError as DriverTimeoutError

from .commands import ANSWERED, Call, is_read_only, may_pass

__all__ = ["Connections"]

# Shares of a call's time limit. A firewall or proxy may forget a connection without closing it. So a connection that
# does not answer is given up while there is still time to send again over a new one. This costs no round trip. Most
# connections that are forgotten were idle before, and from these the answer has to come soon.
_PATIENCE, _PATIENCE_IF_IDLE = 0.5, 0.1
# Seconds without an answer after which a connection counts as idle. Firewalls forget after a minute at the earliest.
_IDLE = 5.0


class Connections:
    """Sends commands over the connections of a client's pool.

    The client's own methods are not used, because they send commands again without telling us.  We have to know
    whether a command was sent, and how often.
    """

    def __init__(self, client: Any, timeout: float) -> None:
        """Use the pool of *client*.

        Args:
            client: A ``redis.asyncio.Redis``.
            timeout: Seconds that one call may take with all of its repetitions.
        """
        self._pool = client.connection_pool
        self._get_connection: Callable[[], Awaitable[Any]] = self._pool.get_connection
        name = inspect.signature(self._get_connection).parameters.get("command_name")
        if name is not None and name.default is name.empty:  # redis-py before 5.3
            self._get_connection = partial(self._get_connection, "EVALSHA")
        self._patience = timeout * _PATIENCE
        self._patience_if_idle = timeout * _PATIENCE_IF_IDLE
        self._used_at: WeakKeyDictionary[Any, float] = WeakKeyDictionary()  # when it was used and did answer
        self._trusted_from = 0.0
        self._pid = os.getpid()
        self._left_to_parent: list[Any] = []

    async def exchange(self, calls: Sequence[Call], deadline: float, failed_at: float | None) -> None:
        """Send *calls* over one connection and hand each its answer.

        Args:
            calls: What to send.
            deadline: The time of the event loop at which to give up.
            failed_at: The time at which the same calls failed the last time, if they did.

        Raises:
            Exception: Calls are left without an answer.  Those that were sent are marked as lost.
        """
        if os.getpid() != self._pid:
            self._leave_to_parent()
        now = asyncio.get_running_loop().time()
        exchange = _Exchange(calls, deadline)
        try:
            async with asyncio.timeout_at(min(deadline, now + self._patience)) as limit:
                connection = await self._get_connection()
                try:
                    await self._check(connection, exchange, limit, now, failed_at)
                    await exchange.run(connection, limit)
                except BaseException:
                    await _disconnect(connection)
                    raise
                finally:
                    await self._pool.release(connection)
        except (TimeoutError, DriverTimeoutError):
            if exchange.sent and not exchange.over_new_connection:
                self._distrust()
            raise
        finally:
            exchange.mark_lost()
        self._used_at[connection] = now
        if exchange.refusal is not None:
            if is_read_only(exchange.refusal):  # the name of the server may lead to another one by now
                self._distrust()
            raise exchange.refusal

    async def _check(
        self, connection: Any, exchange: "_Exchange", limit: asyncio.Timeout, now: float, failed_at: float | None
    ) -> None:
        """Replace a connection that may have been lost, and give one that was idle less time to answer."""
        used_at = self._used_at.get(connection)
        if failed_at is None:
            is_suspect = used_at is not None and used_at < self._trusted_from
        else:
            is_suspect = used_at is None or used_at < max(failed_at, self._trusted_from)
        if is_suspect:
            limit.reschedule(exchange.deadline)
            exchange.over_new_connection = True
            await _disconnect(connection)
            await connection.connect()
        elif used_at is not None and now - used_at >= _IDLE:
            limit.reschedule(min(exchange.deadline, now + self._patience_if_idle))

    def _leave_to_parent(self) -> None:
        """Make new connections in a forked child, which shares those of its parent.

        They are kept and not closed: to close one would also have the parent's event loop forget it.
        """
        self._pid = os.getpid()
        self._left_to_parent += list(self._used_at)
        self._used_at.clear()
        self._pool.reset()

    def _distrust(self) -> None:
        """Have every connection that is in use or idle now replaced before it is used again."""
        self._trusted_from = asyncio.get_running_loop().time()


class _Exchange:
    """Commands that are sent over one connection, and the answers that came.

    Attributes:
        sent: How many were sent.
        refusal: A refusal that may be over soon.  The calls that it concerns have no answer yet.
    """

    def __init__(self, calls: Sequence[Call], deadline: float) -> None:
        self._calls = calls
        self.deadline = deadline
        self.sent = 0
        self._read = 0
        self.over_new_connection = False
        self.refusal: Exception | None = None

    async def run(self, connection: Any, limit: asyncio.Timeout) -> None:
        """Send all calls and read all answers.  From the first answer on, the rest has until the deadline."""
        # Python 3.12.1 writes to a closed connection all the same, and so disturbs the next one with its file number.
        writer = getattr(connection, "_writer", None)
        if writer is not None and writer.is_closing():
            raise DisconnectedError("the connection was closed")
        packed = connection.pack_commands([call.command for call in self._calls])
        self.sent = len(self._calls)
        try:
            await connection.send_packed_command(packed, check_health=False)
        except RuntimeError as error:  # uvloop, if it has closed the connection; asyncio, if its loop was another one
            raise DisconnectedError(str(error)) from error
        for call in self._calls:
            answer = await _answer(connection)
            self._read += 1
            if isinstance(answer, Exception) and may_pass(answer):
                self.refusal = answer
            else:
                call.answer(answer)
            if self._read == 1 and self.sent > 1:
                limit.reschedule(self.deadline)

    def mark_lost(self) -> None:
        """Mark the calls that were sent and not answered."""
        for call in self._calls[self._read : self.sent]:
            call.lost = True


async def _answer(connection: Any) -> Any:
    """Read one answer.  An error that the server answered with is returned."""
    try:
        return await connection.read_response(disable_decoding=True, disconnect_on_error=False)
    except ANSWERED as error:
        return error
    except DisconnectedError as error:
        if isinstance(error.__context__, ReadOnlyError):  # Sentinel's connection makes one out of the other
            return error.__context__
        raise
    except RuntimeError as error:  # the connection was made in another event loop
        raise DisconnectedError(str(error)) from error


async def _disconnect(connection: Any) -> None:
    with suppress(RuntimeError):  # the event loop of the connection has been closed
        await connection.disconnect(nowait=True)
