"""Commands to the server, each with a time limit.

The commands of one turn of the event loop share a round trip.  A command whose answer is lost is sent again.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from redis.asyncio.cluster import RedisCluster
from redis.exceptions import NoScriptError, ResponseError

from .cluster_calls import ClusterCalls
from .commands import PAUSES, Answer, Call, Word, is_read_only, may_pass, storage_error
from .connections import Connections
from .scripts import Script

__all__ = ["Calls"]

# Commands in one batch. Its answers are parsed in one go, at about 10 us each, which must block the loop for less than
# 1 ms.
_MOST = 32


class Calls:
    """Sends commands through one client.

    Commands that parallel requests send in the same turn of the loop go out as one pipeline, over one connection and
    with one system call.  Measured with 32 requests at once, a GET takes 14 us of CPU instead of 60
    (``benchmarks/redis_calls.py``).  Each command succeeds or fails by itself, unless the connection fails: then those
    without an answer are sent again.  Commands to a cluster go to different nodes, so they are sent one by one.
    """

    def __init__(self, client: Any, timeout: float) -> None:
        """Send through *client*.

        Args:
            client: A client of ``redis.asyncio``.
            timeout: Seconds that one command may take, including connecting and all repetitions.
        """
        self.timeout: float = timeout
        self._send_call: Callable[[Call], Awaitable[Answer]] = self._sent_together
        self._cluster: ClusterCalls | None = None
        if isinstance(client, RedisCluster):
            self._cluster = ClusterCalls(client, timeout)
            self._send_call = self._cluster.send
        else:
            self._connections = Connections(client, timeout)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: list[Call] = []
        self._sending: set[asyncio.Task[None]] = set()

    async def run(self, script: Script, key: str, *arguments: Word) -> Answer:
        """Run *script* on *key*.  This takes one round trip, or two if the server does not know the script yet.

        Raises:
            StorageError: The server did not answer, or answered with an error.
        """
        answer = await self._answer(("EVALSHA", script.sha, 1, key, *arguments), key)
        if isinstance(answer.value, NoScriptError):
            answer = await self._answer(("EVAL", script.text, 1, key, *arguments), key, lost=answer.lost)
        return self._checked(answer, "EVALSHA", stores=script.stores)

    async def run_on_all(self, script: Script, keys: Sequence[str]) -> Answer:
        """Run *script* on several keys; not on a cluster.  See :meth:`run`."""
        answer = await self._answer(("EVALSHA", script.sha, len(keys), *keys), keys[0])
        if isinstance(answer.value, NoScriptError):
            answer = await self._answer(("EVAL", script.text, len(keys), *keys), keys[0], lost=answer.lost)
        return self._checked(answer, "EVALSHA", stores=script.stores)

    async def ask(self, command: str, key: str, *arguments: Word, stores: bool = False) -> Any:
        """Send a command, and return the answer.

        Args:
            command: Such as ``GET`` or ``DEL``.
            key: Its first argument: a key, the section of ``INFO``, or the channel of ``PUBLISH``.
            arguments: Its other arguments.
            stores: Whether the command changes a record.

        Raises:
            StorageError: The server did not answer, or answered with an error.
        """
        return self._checked(await self._answer((command, key, *arguments), key), command, stores=stores).value

    async def ask_each(self, command: str, keys: Sequence[str], *arguments: Word) -> list[Any]:
        """Send a command for each of *keys*, which share round trips, and return the answers.

        The answer is None for a key with a value of another type.

        Raises:
            StorageError: The server did not answer one of them, or answered it with another error.
        """
        answers = await asyncio.gather(*(self._answer((command, key, *arguments), key) for key in keys))
        return [
            None if _is_of_another_type(answer.value) else self._checked(answer, command, stores=False).value
            for answer in answers
        ]

    async def scan(self, node: Any, cursor: int, pattern: str, count: int) -> tuple[int, list[bytes]]:
        """Send one SCAN, and return the next cursor, 0 at the end, and the keys that it found.

        Args:
            node: A node of a cluster; None for a single server.
            cursor: That of the SCAN before, or 0.
            pattern: What the keys look like.
            count: How many keys the server is to look at.

        Raises:
            StorageError: The server did not answer, or answered with an error.
        """
        command = ("SCAN", cursor, "MATCH", pattern, "COUNT", count)
        call = Call(command, "", asyncio.get_running_loop().create_future(), node=node)
        next_cursor, keys = self._checked(await self._send_call(call), "SCAN", stores=False).value
        if isinstance(next_cursor, dict):  # the client of a cluster names the node
            (next_cursor,) = next_cursor.values()
        return int(next_cursor), keys

    @property
    def has_nodes(self) -> bool:
        """Whether the client is one of a cluster."""
        return self._cluster is not None

    async def primaries(self) -> list[Any]:
        """Return the nodes of a cluster that hold keys; one None for a single server.

        Raises:
            StorageError: No node answered.
        """
        if self._cluster is None:
            return [None]
        try:
            return await self._cluster.primaries()
        except Exception as error:
            raise storage_error(error, "CLUSTER SLOTS", self.timeout, maybe_stored=False) from error

    async def finish(self) -> None:
        """Wait for the commands under way, also for those whose callers no longer wait for them.

        What another app that uses the storage sends meanwhile is not waited for: that could go on for ever.  The
        answers to commands that another event loop had sent when it ended are lost, so they are not waited for either.
        """
        if self._sending and self._loop is asyncio.get_running_loop():
            await asyncio.wait(self._sending)

    def _answer(self, command: tuple[Word, ...], key: str, *, lost: bool = False) -> Awaitable[Answer]:
        return self._send_call(Call(command, key, asyncio.get_running_loop().create_future(), lost))

    def _checked(self, answer: Answer, command: str, *, stores: bool) -> Answer:
        error = answer.value
        if isinstance(error, Exception):  # one of its own for each caller, or each would collect the tracebacks of all
            raise storage_error(error, command, self.timeout, maybe_stored=stores and answer.lost) from error
        return answer

    def _sent_together(self, call: Call) -> "asyncio.Future[Answer]":
        """Queue *call*, to be sent together with the other calls of this turn of the loop."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # nobody waits any more for commands of a loop that has ended
            self._loop, self._waiting, self._sending = loop, [], set()
        if not self._waiting:
            loop.call_soon(self._send_waiting)
        self._waiting.append(call)
        return call.answered

    def _send_waiting(self) -> None:
        waiting, self._waiting = [call for call in self._waiting if not call.answered.cancelled()], []
        for start in range(0, len(waiting), _MOST):
            task = asyncio.create_task(self._send(waiting[start : start + _MOST]))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _send(self, calls: list[Call]) -> None:
        try:
            error = await self._failure(calls)
        except BaseException:  # the loop is being stopped, and the callers with it
            for call in calls:
                call.answered.cancel()
            raise
        if error is not None:
            for call in calls:
                call.answer(error)

    async def _failure(self, calls: list[Call]) -> Exception | None:
        """Send *calls* until each has an answer; return the error of those that got none."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.timeout
        error: Exception | None = None
        failed_at: float | None = None
        for pause in (*PAUSES, None):
            try:
                await self._connections.exchange(calls, deadline, failed_at)
            except Exception as failure:  # noqa: BLE001  every caller raises it
                latest = failure
            else:
                return None
            if error is None or not isinstance(latest, TimeoutError):  # an earlier error says more than silence
                error = latest
            calls = [call for call in calls if not call.answered.done()]
            if pause is None or not calls or loop.time() + pause >= deadline:
                break
            if not may_pass(latest) or (failed_at is not None and is_read_only(latest)):
                break
            failed_at = loop.time()
            await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311  spreads retries, keeps no secret
        return error


def _is_of_another_type(answer: object) -> bool:
    return isinstance(answer, ResponseError) and "WRONGTYPE" in str(answer)
