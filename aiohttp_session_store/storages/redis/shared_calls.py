"""Commands to the server, each with a time limit.

The commands of one turn of the event loop share a round trip.
"""

import asyncio
import logging
from contextlib import suppress
from typing import Any, NamedTuple

from redis.asyncio.cluster import RedisCluster
from redis.exceptions import NoScriptError, ReadOnlyError, RedisClusterException, RedisError

from ...errors import StorageError
from .scripts import Script

__all__ = ["Calls"]

_logger = logging.getLogger("aiohttp_session_store")

# Commands in one batch. Its answers are parsed in one go, at about 10 us each, which must block the loop for less than
# 1 ms.
_MOST = 32
_DRIVER_ERRORS = (RedisError, RedisClusterException, OSError)

Word = str | bytes | int


class _Call(NamedTuple):
    """A command that waits to be sent.  The result of *answered* is the answer, or the error that came instead."""

    command: tuple[Word, ...]
    options: dict[str, Any]
    answered: "asyncio.Future[Any]"


class Calls:
    """Sends commands through one client.

    Commands that parallel requests send in the same turn of the loop go out as one pipeline, over one connection and
    with one system call.  Measured with 32 requests at once, a GET takes 18 us of CPU instead of 60
    (``benchmarks/redis_calls.py``).  Each command succeeds or fails by itself, unless the connection fails.  Commands
    to a cluster go to different nodes, so they are sent one by one.
    """

    def __init__(self, client: Any, timeout: float) -> None:
        """Send through *client*.

        Args:
            client: A client of ``redis.asyncio``.
            timeout: Seconds that one call may take, including connecting and the driver's retries.
        """
        self._client = client
        self.timeout: float = timeout
        self._one_by_one = isinstance(client, RedisCluster)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: list[_Call] = []
        self._sending: set[asyncio.Task[None]] = set()

    async def run(self, script: Script, key: str, *arguments: bytes | int) -> int:
        """Run *script* on *key*.  This takes one round trip, or two if the server does not know the script yet.

        Raises:
            StorageError: The server did not answer, or answered with an error.
        """
        try:
            return int(await self.ask("EVALSHA", script.sha, 1, key, *arguments))
        except StorageError as error:
            if not isinstance(error.__cause__, NoScriptError):
                raise
        return int(await self.ask("EVAL", script.text, 1, key, *arguments))

    async def ask(self, *command: Word, **options: Any) -> Any:
        """Send one command and return the answer.

        Raises:
            StorageError: The server did not answer, or answered with an error.
        """
        if self._one_by_one:
            try:
                answer = await self._sent_alone(command, options)
            except (TimeoutError, *_DRIVER_ERRORS) as error:
                answer = error
        else:
            answer = await self._sent_together(command, options)
        if not isinstance(answer, Exception):
            return answer
        if isinstance(answer, TimeoutError):
            raise StorageError(f"Redis did not answer {command[0]!s} within {self.timeout:g} s") from answer
        if isinstance(answer, _DRIVER_ERRORS):
            raise StorageError(f"Redis: {type(answer).__name__}: {answer}") from answer
        raise answer

    async def finish(self) -> None:
        """Wait for commands whose callers no longer wait for them.

        The answers to commands that another event loop had sent when it ended are lost, so they are not waited for.
        """
        while self._sending and self._loop is asyncio.get_running_loop():
            await asyncio.wait(self._sending)

    def _sent_together(self, command: tuple[Word, ...], options: dict[str, Any]) -> "asyncio.Future[Any]":
        """Queue *command*, to be sent together with the other commands of this turn of the loop."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # nobody waits any more for commands of a loop that has ended
            self._loop, self._waiting, self._sending = loop, [], set()
        if not self._waiting:
            loop.call_soon(self._send_waiting)
        call = _Call(command, options, loop.create_future())
        self._waiting.append(call)
        return call.answered

    def _send_waiting(self) -> None:
        waiting, self._waiting = [call for call in self._waiting if not call.answered.cancelled()], []
        for start in range(0, len(waiting), _MOST):
            task = asyncio.create_task(self._send(waiting[start : start + _MOST]))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _send(self, batch: list[_Call]) -> None:
        try:
            answers = await self._answers(batch)
        except Exception as error:  # noqa: BLE001  every caller raises it
            answers = [error] * len(batch)
        except BaseException:  # the loop is being stopped, and the callers with it
            for call in batch:
                call.answered.cancel()
            raise
        try:
            if any(_is_read_only(answer) for answer in answers):
                await self._let_connections_go()
        finally:
            for call, answer in zip(batch, answers, strict=True):
                if not call.answered.done():
                    call.answered.set_result(answer)

    async def _let_connections_go(self) -> None:
        """Close the idle connections to a server that has become a replica.

        The same host name may by now lead new connections to another server.
        """
        try:
            with suppress(*_DRIVER_ERRORS):
                async with asyncio.timeout(self.timeout):
                    await self._client.connection_pool.disconnect(inuse_connections=False)
        except Exception:
            _logger.exception("connections to a Redis server that became a replica could not be closed")

    async def _answers(self, batch: list[_Call]) -> list[Any]:
        async with asyncio.timeout(self.timeout):
            if len(batch) == 1:
                ((command, options, _),) = batch
                return [await self._client.execute_command(*command, **options)]
            pipeline = self._client.pipeline(transaction=False)
            for command, options, _ in batch:
                pipeline.execute_command(*command, **options)
            answers: list[Any] = await pipeline.execute(raise_on_error=False)
            return answers

    async def _sent_alone(self, command: tuple[Word, ...], options: dict[str, Any]) -> Any:
        async with asyncio.timeout(self.timeout):
            before = _cancellations()
            answer = await self._client.execute_command(*command, **options)
            # The driver uses asyncio.wait_for. Before Python 3.12, that loses a cancellation that arrives as it ends.
            if _cancellations() > before:
                raise asyncio.CancelledError
            return answer


def _is_read_only(answer: Any) -> bool:
    return isinstance(answer, ReadOnlyError) or (isinstance(answer, RedisError) and "READONLY" in str(answer))


def _cancellations() -> int:
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()
