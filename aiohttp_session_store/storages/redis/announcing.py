"""Announcements of ended sessions: one channel, and a connection of its own for whoever listens.

Keyspace notifications would not do: they are off by default, say nothing of other nodes of a cluster, and come late.
"""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

from redis.asyncio.cluster import RedisCluster
from redis.exceptions import ResponseError

from ...engine.verbs import Announcement
from ...errors import StorageError, one_line
from .commands import storage_error

__all__ = ["announcement_of", "listen", "packed"]

_logger = logging.getLogger("aiohttp_session_store")

# Seconds without any message after which the connection is tested. A firewall forgets a silent one after a minute at
# the earliest.
_SILENT = 10.0
_SUBSCRIBE = "SUBSCRIBE"


def packed(key: str, reason: str) -> str:
    """Return the message that says that the session of *key* has ended."""
    return f"{key} {reason}"


def announcement_of(message: bytes) -> Announcement | None:
    """Return what *message* says, or None if it is not one of ours."""
    key, _, reason = message.decode("ascii", "replace").partition(" ")
    found = Announcement(key, reason)
    return found if found.is_whole else None


async def listen(client: Any, channel: str, patience: float) -> AsyncGenerator[Announcement, None]:
    """Yield what is published on *channel*; first, and once only, an announcement with an empty key.

    Args:
        client: A client of ``redis.asyncio``.
        channel: The name of the channel.
        patience: Seconds to wait for a connection, and for the answer to a test of it.

    Raises:
        StorageError: The connection was lost, or could not be made.
    """
    connection: Any = None
    try:
        async with asyncio.timeout(patience):
            connection = await _new_connection(client)
            await connection.connect()
            await connection.send_command(_SUBSCRIBE, channel)
            await _answer(connection)
        yield Announcement("")
        while True:
            message = await _answer(connection, _SILENT)
            if message is None:
                await connection.send_command("PING")
                message = await _answer(connection, patience)
                if message is None:
                    raise StorageError(f"Redis: the connection for announcements was silent for {patience:g} s")
            if isinstance(message, list) and message[0] == b"message":
                found = announcement_of(message[2])
                if found is not None:
                    yield found
    except ResponseError as error:
        _logger.warning(
            "this Redis user may not listen to announcements of ended sessions, so they are noticed by looking alone."
            " Allow SUBSCRIBE and PUBLISH on the channel %s: %s",
            channel,
            one_line(storage_error(error, _SUBSCRIBE, patience, maybe_stored=False)),
        )
    except StorageError:
        raise
    except Exception as error:
        raise storage_error(error, _SUBSCRIBE, patience, maybe_stored=False) from error
    finally:
        if connection is not None:
            with suppress(Exception):
                await connection.disconnect(nowait=True)


async def _new_connection(client: Any) -> Any:
    """Return a connection of its own, outside of the pool: it is taken from no request.

    In a cluster, every node gets to know all that is published.
    """
    if not isinstance(client, RedisCluster):
        return client.connection_pool.make_connection()
    await client.initialize()
    node: Any = random.choice(client.get_nodes())  # noqa: S311  keeps no secret
    return node.connection_class(**node.connection_kwargs)


async def _answer(connection: Any, seconds: float | None = None) -> Any:
    """Return the next message, or None if none comes within so many seconds."""
    try:
        return await connection.read_response(
            disable_decoding=True, timeout=seconds, disconnect_on_error=False, push_request=True
        )
    except RuntimeError as error:  # the connection was closed, and uvloop says it so
        raise StorageError(f"Redis: {error}") from error
