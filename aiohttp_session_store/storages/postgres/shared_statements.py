"""Statements about single records.  Those of one turn of the event loop share a round trip."""

import asyncio
from dataclasses import dataclass
from typing import Any

from ...errors import StorageError
from .connections import Answer, Connections, LostAnswerError
from .statements import Shared, as_text

__all__ = ["SharedStatements"]

# Records in one statement. Its answer is parsed in one go, at about 5 us each, which must block the loop for less than
# 1 ms.
_MOST = 32


@dataclass(slots=True, eq=False)
class _Call:
    """A request that waits for its part of a shared statement.

    Attributes:
        arguments: Its parameters.
        done: What became of it: its answer; None if it has to find out alone; or the error.
    """

    arguments: tuple[Any, ...]
    done: "asyncio.Future[Answer | Exception | None]"

    def finish(self, outcome: Answer | Exception | None) -> None:
        """Hand the outcome to the request, unless the request has gone."""
        if not self.done.done():
            self.done.set_result(outcome)


class SharedStatements:
    """Runs statements about single records on the connections of a pool.

    What parallel requests ask for in the same turn of the loop goes out as one statement.  Measured with 32 at once, a
    fetch or a replacement takes less than a sixth of the CPU in this process, and less than a tenth on the server
    (``benchmarks/postgres_statements.py``).

    Each request succeeds or fails by itself.  If a shared statement was refused, if its answer was lost, or if it was
    not carried out for one of the requests, that request goes on with a statement of its own, which says why.  A
    request that is alone in its turn runs its own statement at once.

    A shared statement never waits for a row: it leaves out those that others are writing, and whoever asked for them
    then waits alone.  So no request waits for a row of another one, and two processes never wait for each other.  Only
    an insertion waits, if another transaction is just writing its key, which is random.
    """

    def __init__(self, connections: Connections) -> None:
        """Run statements on *connections*."""
        self._connections = connections
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: dict[Shared, list[_Call]] = {}
        self._running: set[asyncio.Task[None]] = set()

    async def run(self, shared: Shared, *arguments: Any) -> Answer:
        """Run a statement about one record, alone or together with others.

        Args:
            shared: The statement.
            arguments: The parameters of ``shared.one``.

        Raises:
            StorageError: It failed, or it is unknown whether it was carried out.
        """
        outcome = await self._together(shared, arguments)
        if isinstance(outcome, Answer):
            return outcome
        if isinstance(outcome, StorageError):  # one of its own for each, or it would collect the tracebacks of all
            raise StorageError(*outcome.args) from outcome.__cause__
        if not isinstance(outcome, LostAnswerError | None):
            raise outcome
        return await self.run_alone(shared, *arguments, before=outcome)

    async def run_alone(self, shared: Shared, *arguments: Any, before: LostAnswerError | None = None) -> Answer:
        """Run a statement about one record; see :meth:`run`.

        Args:
            shared: The statement.
            arguments: The parameters of ``shared.one``.
            before: An attempt together with others, whose answer was lost.

        Raises:
            StorageError: It failed, or it is unknown whether it was carried out.
        """
        return await self._connections.answer(
            shared.one, *arguments, again=shared.again, writes=shared.writes, before=before
        )

    async def finish(self) -> None:
        """Wait for the statements under way, also for those whose requests no longer wait for them.

        What another app that uses the storage sends meanwhile is not waited for: that could go on for ever.
        """
        if self._running and self._loop is asyncio.get_running_loop():
            await asyncio.wait(self._running)

    async def _together(self, shared: Shared, arguments: tuple[Any, ...]) -> Answer | Exception | None:
        """Run the statement together with others; return None if there are none, or if it was not carried out."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # nobody waits any more in a loop that has ended
            self._loop, self._waiting, self._running = loop, {}, set()
        waiting = self._waiting  # that of this loop: what a loop has left behind may be closed while a later one runs
        others = waiting.get(shared)
        if others is not None:
            call = _Call(arguments, loop.create_future())
            others.append(call)
            return await call.done
        others = waiting[shared] = []
        try:
            await asyncio.sleep(0)  # until this turn of the loop is over
        except asyncio.CancelledError:
            self._send(shared, others)
            raise
        finally:
            del waiting[shared]
        if not others:
            return None
        call = _Call(arguments, loop.create_future())
        self._send(shared, [call, *others])
        return await call.done

    def _send(self, shared: Shared, calls: list[_Call]) -> None:
        calls = [call for call in calls if not call.done.cancelled()]
        for start in range(0, len(calls), _MOST):
            task = asyncio.create_task(self._run(shared, calls[start : start + _MOST]))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _run(self, shared: Shared, calls: list[_Call]) -> None:
        outcome: Answer | Exception | None = None
        try:
            records = [map(as_text, call.arguments) for call in calls]
            rows = await self._connections.rows(shared.many, *zip(*records, strict=True))
            for number, *row in rows or ():
                calls[number - 1].finish(Answer(row, lost=False))
            if rows is not None and not shared.writes:
                outcome = Answer(None, lost=False)
        except Exception as error:  # noqa: BLE001  every request raises it, or goes on
            outcome = error
        except BaseException:  # the loop is being stopped, and the requests with it
            for call in calls:
                call.done.cancel()
            raise
        for call in calls:
            call.finish(outcome)
