"""Announcements of ended sessions: NOTIFY on one channel, and a connection of its own for whoever listens."""

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

import asyncpg

from ...engine.verbs import Announcement
from ...errors import StorageError
from .connections import Connections

__all__ = ["announcement_of", "listen", "notify", "packed"]

_logger = logging.getLogger("aiohttp_session_store")

# Seconds without any message after which the connection is tested. A firewall forgets a silent one after a minute at
# the earliest.
_SILENT = 10.0
# Seconds for the server to take the listener off. Then we hang up.
_LONGEST_STOP = 1.0
_NOTIFY = "SELECT pg_notify($1, $2)"


def packed(key: str, reason: str) -> str:
    """Return the message that says that the session of *key* has ended."""
    return f"{key} {reason}"


def announcement_of(message: str) -> Announcement | None:
    """Return what *message* says, or None if it is not one of ours."""
    key, _, reason = message.partition(" ")
    found = Announcement(key, reason)
    return found if found.is_whole else None


async def notify(connections: Connections, channel: str, message: str) -> None:
    """Send *message* to all who listen on *channel*.

    Raises:
        StorageError: The server failed.
    """
    await connections.value(_NOTIFY, channel, message, again=_NOTIFY)


async def listen(connections: Connections, channel: str) -> AsyncGenerator[Announcement, None]:
    """Yield what is sent to *channel*; first, and once only, an announcement with an empty key.

    It ends by itself, and has said why, if nothing can be heard.

    Raises:
        StorageError: The connection was lost, or could not be made.
    """
    if not connections.can_spare_one:
        _logger.warning(
            "ends of sessions are noticed by looking alone, because the pool of asyncpg has one connection, and"
            " listening takes one: give it two or more"
        )
        return
    messages: asyncio.Queue[str | None] = asyncio.Queue()

    def hear(_connection: Any, _pid: int, _channel: str, message: object) -> None:
        messages.put_nowait(str(message))

    def lose(_connection: Any) -> None:
        messages.put_nowait(None)

    async with connections.alone() as connection:
        connection.add_termination_listener(lose)
        await connection.add_listener(channel, hear)
        try:
            if not await _hears_itself(connections, connection, channel, messages):
                _logger.warning(
                    "ends of sessions are noticed by looking alone, because nothing arrives that PostgreSQL announces:"
                    " behind a pooler in transaction mode, LISTEN does not work"
                )
                return
            yield Announcement("")
            while True:
                try:
                    async with asyncio.timeout(_SILENT):
                        message = await messages.get()
                except TimeoutError:
                    await connection.execute("SELECT 1", timeout=connections.timeout)
                    continue
                if message is None:
                    raise StorageError("PostgreSQL: the connection for announcements was lost")
                if (found := announcement_of(message)) is not None:
                    yield found
        finally:
            await _stop(connection, channel, hear, lose)


async def _hears_itself(
    connections: Connections, connection: Any, channel: str, messages: "asyncio.Queue[str | None]"
) -> bool:
    """Return whether a message that is sent over another connection arrives."""
    probe = f"probe {secrets.token_hex(8)}"
    await notify(connections, channel, probe)
    try:
        async with asyncio.timeout(connections.timeout):
            while (message := await messages.get()) != probe:
                if message is None:
                    raise StorageError("PostgreSQL: the connection for announcements was lost")
    except TimeoutError:
        # A server delivers what was sent before together with this answer.
        await connection.execute("SELECT 1", timeout=connections.timeout)
        return any(messages.get_nowait() == probe for _ in range(messages.qsize()))
    return True


async def _stop(connection: Any, channel: str, hear: Any, lose: Any) -> None:
    """Take the listeners off, or the pool would warn of them."""
    connection.remove_termination_listener(lose)
    if not connection.is_closed():
        with suppress(TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            async with asyncio.timeout(_LONGEST_STOP):
                await connection.remove_listener(channel, hear)
