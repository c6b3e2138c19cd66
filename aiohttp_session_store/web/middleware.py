"""Where sessions meet aiohttp: ``setup`` and what handlers call."""

import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from aiohttp import web

from ..errors import ConfigurationError, SessionUsageError, StorageError
from ..session.session import Session
from ..storages.base import SessionStorage
from .cookie_settings import SessionCookie
from .request_session import SERVER_ERROR, AppSessions, RequestSession
from .response_headers import add_headers, take_back

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler, Middleware

__all__ = ["exclusive_session", "get_session", "new_session", "save_session", "setup"]

_logger = logging.getLogger("aiohttp_session_store")

# At module level: aiohttp names a key after the module that makes it, and fails to in a thread.
_APP = web.AppKey("aiohttp_session_store", AppSessions)
_REQUEST = web.RequestKey("aiohttp_session_store", RequestSession)

# Longer than any sane queue for one visitor's session, shorter than the patience of proxies (nginx: 60 s).
DEFAULT_LOCK_TIMEOUT = 10.0


def setup(app: web.Application, storage: SessionStorage, *, cookie: SessionCookie | None = None) -> None:
    """Give every request of *app*, and of its sub-apps, a session kept in *storage*.

    The middleware becomes the outermost one.  A sub-app may have its own ``setup``, with a storage and a cookie name of
    its own; ``get_session`` in its handlers then means that session.

    Args:
        app: Not yet started, nor added to another one.
        storage: It is started and closed with the app; several apps may share it.
        cookie: None for ``SessionCookie()``.

    Raises:
        ConfigurationError: The app has sessions already, has started or was added to another one, or there is no secret
            to sign cookies with.
    """
    if _APP in app:
        raise ConfigurationError("this app has sessions already: call setup() once")
    if app.pre_frozen:
        raise ConfigurationError("the app has started, or is part of another: call setup() before add_subapp() and run")
    sessions = AppSessions(storage, (cookie or SessionCookie()).bind(storage))

    async def look_around(app: web.Application) -> None:
        sessions.outermost = app.middlewares[0] is middleware
        sessions.nested = sessions.nested or False
        _check_cookie_names(app)

    async def run_storage(_: web.Application) -> AsyncIterator[None]:
        await storage.start()
        yield
        await storage.aclose()

    async def pay(request: web.Request, response: web.StreamResponse) -> None:
        if "Set-Cookie" in response.headers:
            take_back(sessions, response.headers)
        holder = request.get(_REQUEST)
        if holder is None or holder.app is not sessions or not holder.finished:
            await _before_headers(sessions, request, response)
        elif holder.session is not None:  # spelt out: every response passes here, and most have no session
            add_headers(holder, response.headers, request)

    app[_APP] = sessions
    middleware = _middleware(app, sessions)
    app.middlewares.insert(0, middleware)
    app.on_response_prepare.append(pay)
    app.on_startup.append(look_around)
    app.cleanup_ctx.append(run_storage)


async def get_session(request: web.Request) -> Session:
    """Return the request's session, loading it at the first call; it is the same object ever after.

    A visitor without a session gets an empty one, which is stored, and sends a cookie, once something is put in it.

    Raises:
        SessionUsageError: The app has no sessions.
        StorageError: The storage failed; left alone it answers 503.
    """
    holder = _holder(request)
    session = holder.session  # an empty one is false
    return session if session is not None else await holder.load(request.headers)


async def new_session(request: web.Request) -> Session:
    """Return an empty session with a new id, in the place of the current one, whose record dies with the save.

    If the request fails (an exception, a status of 500 or more), the current one lives on, unless ``destroy()`` was
    called on it before.  The logout that can still say goodbye::

        (await new_session(request)).flash("notice", "Bye.")

    Raises:
        SessionCommittedError: The headers are sent, and with them the chance of a new cookie.
        SessionUsageError: The app has no sessions.
        StorageError: The storage failed.
    """
    return await _holder(request).renew(request.headers)


async def save_session(request: web.Request) -> bool:
    """Store the session's changes now, instead of when the handler has finished.

    For a WebSocket or Server-Sent-Events loop that runs for hours, or before a step that must not come first.  What is
    saved stays so even if the request fails later.

    Returns:
        False if the session has been destroyed, by this request or another one, or its lifetime has passed: time to
        hang up.

    Raises:
        SessionTooLargeError: It does not fit its cookie.
        SessionUsageError: The app has no sessions.
        StorageError: Nothing was stored, and the session keeps its changes.
        TypeError: A value cannot be stored.
    """
    return await _holder(request).save_now(request.headers)


def exclusive_session(
    request: web.Request, *, timeout: float = DEFAULT_LOCK_TIMEOUT
) -> AbstractAsyncContextManager[Session]:
    """Have the session to oneself for the length of an ``async with`` block.

    For reading a value, computing with it and writing it back, as a counter or a balance needs.  Waits for everybody
    else who asked so for this session, in all processes; brings the session up to the newest record; and saves it when
    the block ends.  An exception, also of that save, discards what was changed and not saved.  Requests that do not ask
    are not held up.

    Args:
        timeout: Seconds to wait for the lock.

    Raises:
        SessionLockError: The lock was not to be had in time or was lost, or the session got another id meanwhile.
        SessionUsageError: It is nested, the app has no sessions, or its storage has no locks.
        StorageError: The storage failed.
    """
    return _holder(request).exclusive(request.headers, timeout)


def sessions_of(app: web.Application | None) -> AppSessions:
    """Return what :func:`setup` put on *app*; for those who work on sessions outside of a request.

    Raises:
        SessionUsageError: It has no sessions.
    """
    if app is None or _APP not in app:
        raise SessionUsageError(
            "this app has no sessions of its own: aiohttp_session_store.setup(app, storage) gives some"
        )
    return app[_APP]


def _holder(request: web.Request) -> RequestSession:
    holder: RequestSession | None = request.get(_REQUEST)
    if holder is None:
        raise SessionUsageError(
            "this request has no session: call aiohttp_session_store.setup(app, storage) on its app, or on the app"
            " around it; a middleware outside of that app cannot use sessions"
        )
    return holder


def _middleware(app: web.Application, sessions: AppSessions) -> "Middleware":
    @web.middleware
    async def session_middleware(request: web.Request, handler: "Handler") -> web.StreamResponse:
        outer = None if sessions.nested is False else request.get(_REQUEST)
        holder = request[_REQUEST] = RequestSession(sessions, outer)
        try:
            response = await handler(request)
        except web.HTTPException as raised:
            if holder.seal():
                await _finish(holder, raised)
            raise
        except BaseException as error:
            await _fail(holder, error)
            raise
        else:
            if holder.seal():
                await _finish(holder, response)
            return response
        finally:
            if holder.session is not None and not (sessions.outermost and request.match_info.apps[0] is app):
                sessions.answered[request.writer] = holder
            if outer is not None:
                request[_REQUEST] = outer

    return session_middleware


async def _finish(holder: RequestSession, response: web.StreamResponse) -> None:
    """Save because the handler answered; a storage that fails makes it a 503, or ends a response under way."""
    try:
        await holder.commit(getattr(response, "status", SERVER_ERROR))  # a handler may return None, and aiohttp says so
    except StorageError as error:
        _answer_unavailable(holder, error)


async def _fail(holder: RequestSession, error: BaseException) -> None:
    """Save nothing because the handler failed, unless all that happened is that the visitor went away."""
    left = holder.seal()
    if holder.headers_sent and _is_all(error, ConnectionError):
        if left:
            await holder.commit(holder.status)
        return
    try:
        if left:
            await holder.commit(SERVER_ERROR)
    except StorageError:
        _logger.exception("a session that a failing request had destroyed could not be deleted")
    if _is_all(error, StorageError):
        _answer_unavailable(holder, error)


def _is_all(error: BaseException, kind: type[Exception]) -> bool:
    """Whether *error* is of that kind, or a group of nothing else, which is what comes out of a task group."""
    return isinstance(error, kind) or (isinstance(error, BaseExceptionGroup) and error.split(kind)[1] is None)


def _answer_unavailable(holder: RequestSession, error: BaseException) -> None:
    if holder.headers_sent:
        raise error  # aiohttp logs it and closes the connection: too late for a status
    _logger.error("sessions are unavailable: %s", error, exc_info=error)
    raise web.HTTPServiceUnavailable(text="503: Service Unavailable") from error


async def _before_headers(sessions: AppSessions, request: web.Request, response: web.StreamResponse) -> None:
    """Save, if the handler prepares its response itself, and add what the browser is owed to what really leaves."""
    holder = request.get(_REQUEST)
    holder = (holder and holder.of(sessions)) or sessions.answered.get(request.writer)
    if holder is None:
        return
    if not holder.finished:
        try:
            await holder.before_headers(response.status)
        except BaseException:
            _keep_off_the_wire(request, response)
            raise
    add_headers(holder, response.headers, request)


def _keep_off_the_wire(request: web.Request, response: web.StreamResponse) -> None:
    """After a failed save: close the connection, for aiohttp takes *response* as prepared, and its headers are unsent.

    Its body would leave without them if the handler went on with it, as if it were a response of its own; and its
    length, chunks or compression stay set, and would garble another one.  A WebSocket writes nothing before its
    handshake and sets none of these: it can still be refused with a status.
    """
    if request.transport is not None and not isinstance(response, web.WebSocketResponse):
        request.transport.close()


def _check_cookie_names(app: web.Application) -> None:
    """Refuse a sub-app that would overwrite the cookie of an app around it, and let the others know of that one."""
    name = app[_APP].cookie.name
    for inner in _apps_within(app):
        if _APP not in inner:
            continue
        inner[_APP].nested = True
        if inner[_APP].cookie.name == name:
            raise ConfigurationError(
                f"the app and a sub-app both call their session cookie {name!r}, and would overwrite each other's: give"
                " the sub-app's setup() a cookie of another name, or leave it out to share the session"
            )


def _apps_within(app: web.Application) -> list[web.Application]:
    inner = list(app._subapps)  # noqa: SLF001  aiohttp has no public way to a mounted sub-app
    return inner + [deeper for subapp in inner for deeper in _apps_within(subapp)]
