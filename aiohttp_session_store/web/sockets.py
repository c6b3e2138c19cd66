"""WebSockets and streams that end with their session, whoever ends it, and in whatever process."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from aiohttp import WSCloseCode, web

from ..engine.session_watch import SessionWatch
from ..errors import SessionUsageError
from ..record.format import ENDED
from ..session.session import state_of
from ..storages.base import KeyedStorage
from .middleware import holder_of

__all__ = ["close_when_session_ends", "watch_session"]

# Seconds that a client has to read what it was sent, before its connection is cut. As long as aiohttp waits for it to
# confirm that the WebSocket is closed.
_PATIENCE = 10.0


def close_when_session_ends(request: web.Request, socket: web.WebSocketResponse) -> None:
    """Close *socket* when the session of *request* ends, whoever ends it, in whatever process.

    Call it after ``prepare()``::

        session = await get_session(request)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        close_when_session_ends(request, socket)
        async for message in socket:
            ...

    The WebSocket is closed with code 1008 and one of the reasons of :attr:`SessionWatch.reason`.  If the session gets
    another id by ``regenerate_id()`` or ``confirm_login()``, the WebSocket stays open.  Messages and pings do not
    extend the session: see :func:`save_session`.

    If the session is not stored, or has ended already, the WebSocket is closed at once.

    Args:
        request: Its session must be loaded.
        socket: It must be prepared.

    Raises:
        SessionUsageError: The session was not loaded, the WebSocket is not prepared, the request is over, or the
            storage keeps no records, so that nobody can end a session elsewhere (``CookieStorage``).
    """
    if not isinstance(socket, web.WebSocketResponse):
        raise SessionUsageError(
            f"close_when_session_ends() takes the request and a web.WebSocketResponse, not {type(socket).__name__}: for"
            " other streams, use watch_session(request)"
        )
    if not socket.prepared:
        raise SessionUsageError("call close_when_session_ends() after `await socket.prepare(request)`")

    closing = holder_of(request).app.closing

    def close(reason: str) -> None:
        task = asyncio.get_running_loop().create_task(_close(socket, reason, request.transport))
        closing.add(task)
        task.add_done_callback(closing.discard)

    watch = _watch(request, close)
    if watch.reason is not None:
        close(watch.reason)


def watch_session(request: web.Request) -> SessionWatch:
    """Watch the session of *request*, to learn when it ends, whoever ends it, in whatever process.

    This is for server-sent events and other responses that take long.  ``await watch.ended()`` waits for the end and
    returns the reason.  The watch is forgotten when the request ends.

    If the session is not stored, or has ended already, the watch has a reason at once.

    Args:
        request: Its session must be loaded, and changes of its id must be saved: call this after ``prepare()``.

    Raises:
        SessionUsageError: The session was not loaded, a new session or id is not saved yet, the request is over, or the
            storage keeps no records, so that nobody can end a session elsewhere (``CookieStorage``).
    """
    return _watch(request, None)


def _watch(request: web.Request, on_end: Callable[[str], None] | None) -> SessionWatch:
    holder = holder_of(request)
    storage, session = holder.app.storage, holder.session
    if not isinstance(storage, KeyedStorage):
        raise SessionUsageError(
            f"{type(storage).__name__} keeps no records, so nothing can end a session elsewhere, and nothing can be"
            " watched. Use MemoryStorage, FileSystemStorage, RedisStorage or PostgresStorage"
        )
    if session is None:
        raise SessionUsageError("the session was not loaded: call `await get_session(request)` first")
    if holder.finished:
        raise SessionUsageError("the request is over, so nothing is watched for it any more")
    state = state_of(session)
    if state.needs_cookie:
        raise SessionUsageError(
            "a new session or a new id is not saved yet: watch the session after prepare(), or after `await"
            " save_session(request)`"
        )
    if state.place is None or state.destroyed:
        return SessionWatch(ENDED)
    if holder.app.watching is None:
        holder.app.watching = storage.watching(holder.app.watch_interval)
    watch = holder.app.watching.add(state.place, on_end)
    holder.watches = [*(one for one in holder.watches if one.session is not None), watch]
    return watch


async def _close(socket: web.WebSocketResponse, reason: str, transport: asyncio.Transport | None) -> None:
    """Close *socket*, and see that a client that reads nothing is cut off, too."""
    loop = asyncio.get_running_loop()
    # The close frame itself may have to wait until the client reads.
    stuck = None if transport is None else loop.call_later(_PATIENCE, _cut_off, transport)
    try:
        with suppress(RuntimeError, ConnectionError):  # the client has gone meanwhile
            await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=reason.encode(), drain=False)
    finally:
        if stuck is not None:
            stuck.cancel()
    if transport is not None and transport.get_write_buffer_size():
        loop.call_later(_PATIENCE, _cut_off, transport)


def _cut_off(transport: asyncio.Transport) -> None:
    """End the connection, unless the client has read everything."""
    if transport.get_write_buffer_size():
        transport.abort()
