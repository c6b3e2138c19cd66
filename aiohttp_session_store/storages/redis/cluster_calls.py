"""Commands to a cluster: the client knows which node keeps which key."""

import asyncio
import random

from redis.asyncio.cluster import RedisCluster
from redis.exceptions import ClusterDownError, ClusterError, MaxConnectionsError, RedisClusterException
from redis.exceptions import ConnectionError as DisconnectedError
from redis.exceptions import TimeoutError as DriverTimeoutError

from .commands import ANSWERED, PAUSES, Answer, Call, may_pass

__all__ = ["ClusterCalls"]

# No node was found, or there was no free connection, or each node said that another one has the key.
_NOT_SENT = (RedisClusterException, MaxConnectionsError, ClusterError)
# Seconds, at most, after which a command that found all connections of its node in use looks for one again. The client
# has no way to wait for one.
_BUSY_PAUSE = 0.02


class ClusterCalls:
    """Sends each command to the node that keeps its key.

    The client follows redirections itself.  Repetitions are ours: we have to know how often a command was sent.  After
    a failure, the client looks for the nodes anew.
    """

    def __init__(self, client: RedisCluster, timeout: float) -> None:
        """Send through *client*.

        Args:
            client: The client.
            timeout: Seconds that one command may take, including connecting and all repetitions.
        """
        self._client = client
        self._timeout = timeout

    async def send(self, call: Call) -> Answer:
        """Send *call*, several times if need be, and return the answer or the error that came instead."""
        loop, pauses = asyncio.get_running_loop(), iter(PAUSES)
        deadline = loop.time() + self._timeout
        while True:
            try:
                return Answer(await self._sent_once(call, deadline), call.lost)
            except Exception as failure:  # noqa: BLE001  the caller raises it
                error = failure
            if not _was_refused(error):
                call.lost = True
            pause = _BUSY_PAUSE if isinstance(error, MaxConnectionsError) else next(pauses, None)
            if pause is None or loop.time() + pause >= deadline:
                break
            if not may_pass(error) and not isinstance(error, ClusterDownError):
                break
            await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311  spreads retries, keeps no secret
        return Answer(error, call.lost)

    async def primaries(self) -> list[object]:
        """Return the nodes that hold keys.

        Raises:
            Exception: No node answered.
        """
        async with asyncio.timeout(self._timeout):
            await self._client.initialize()
            return list(self._client.get_primaries())

    async def _sent_once(self, call: Call, deadline: float) -> object:
        async with asyncio.timeout_at(deadline):
            before = _cancellations()
            await self._client.initialize()
            node = call.node or self._client.get_node_from_key(call.key)
            # With a node of our choice, the client does not send the command again behind our back.
            answer = await self._client.execute_command(*call.command, target_nodes=node, NEVER_DECODE=True)
            # The driver uses asyncio.wait_for. Before Python 3.12, that loses a cancellation that arrives as it ends.
            if _cancellations() > before:
                raise asyncio.CancelledError
            return answer


def _was_refused(error: Exception) -> bool:
    """Whether *error* says that the command was not carried out: it was not sent, or the server refused it."""
    if isinstance(error, ANSWERED + _NOT_SENT):
        return True
    # The driver has no class of its own for this, but all of its versions have these words.
    return isinstance(error, DisconnectedError | DriverTimeoutError) and "connecting to" in str(error)


def _cancellations() -> int:
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()
