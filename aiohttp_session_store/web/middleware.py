"""The middleware: ``setup``, and the functions that handlers call."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING

from aiohttp import web

from ..engine.observing import Observer, observing_of
from ..errors import SessionLockError, SessionUsageError, StorageError
from ..record.settings import number_of_seconds
from ..session.old_names import explains_old_arguments
from ..session.session import Session
from ..storages.base import SessionStorage
from .app_sessions import APP, AppSessions
from .arriving import Arrival
from .cookie_settings import SessionCookie
from .request_session import SERVER_ERROR, RequestSession
from .response_headers import add_headers, take_back
from .setup_checks import check_cookie_names, check_setup

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler, Middleware

__all__ = ["exclusive_session", "get_session", "get_storage", "new_session", "save_session", "setup"]

_logger = logging.getLogger("aiohttp_session_store")

# At module level, because aiohttp names a key after the module that makes it. It cannot do so in a thread.
_REQUEST = web.RequestKey("aiohttp_session_store", RequestSession)

# What json and orjson say about our Session. A class of the app may be called AsyncSession.
_OF_JSON = ("Object of type Session is not JSON serializable", "Type is not JSON serializable: Session")
# Longer than any reasonable queue for one visitor's session, and shorter than the timeout of proxies (nginx: 60 s).
DEFAULT_LOCK_TIMEOUT = 10.0
# Whoever has logged out may read on for that long at worst. Of 10,000 sessions, 670 are then looked at each second.
DEFAULT_WATCH_INTERVAL = 15.0


@explains_old_arguments
def setup(
    app: web.Application,
    storage: SessionStorage,
    *,
    cookie: SessionCookie | None = None,
    owner_of: Callable[[Session], str | None] | None = None,
    observer: Observer | None = None,
    watch_interval: float = DEFAULT_WATCH_INTERVAL,
) -> None:
    """Give every request of *app* and of its sub-apps a session that is kept in *storage*.

    The session middleware becomes the outermost one.  A sub-app may have its own ``setup``, with its own storage and
    its own cookie name.  In its handlers, ``get_session`` then returns the session of the sub-app.

    Args:
        app: An app that has not started yet and was not added to another app.
        storage: It is started and closed with the app.  Several apps may share it.
        cookie: The settings of the session cookie.  None for ``SessionCookie()``.
        owner_of: Returns the owner of a session as a string, or None.  This is for sessions from before
            ``Session.login`` was used, and for those taken over from another library.  It is asked when such a session
            is loaded, and the session keeps its id.  For example: ``lambda session: session.get("user_id")``.
        observer: Hears of what happens to sessions and of each call to the storage, for metrics and audits.  If several
            apps share a storage, it hears of all that happens in it, once.
        watch_interval: Seconds, at least 0.1, after which the end of a session is noticed in any case by
            :func:`close_when_session_ends` and :func:`watch_session`.  Most ends are noticed within one second.

    Raises:
        ConfigurationError: The app has sessions already, has started or was added to another app, there is no secret
            to sign cookies with, or an argument is of the wrong type.
    """
    check_setup(app, storage, cookie, owner_of, observer)
    interval = number_of_seconds("watch_interval", watch_interval, 0.1)
    bound = (cookie or SessionCookie()).bind(storage)
    sessions = AppSessions(storage, bound, owner_of=owner_of, watch_interval=interval)
    sessions.observing = observing_of(storage)
    sessions.outages = getattr(storage, "outages", sessions.outages)  # one without our base has none

    async def look_around(app: web.Application) -> None:
        sessions.outermost = app.middlewares[0] is middleware
        sessions.nested = sessions.nested or False
        check_cookie_names(app)

    async def run_storage(_: web.Application) -> AsyncIterator[None]:
        with nullcontext() if observer is None else sessions.observing.telling(observer):
            await storage.start()
            yield
            await sessions.stop_watching()
            await storage.aclose()
            sessions.outages.close()

    async def pay(request: web.Request, response: web.StreamResponse) -> None:
        if "Set-Cookie" in response.headers:
            take_back(sessions, response.headers)
            if not sessions.nested:  # an app around this one may have added its own cookie just now
                for other in sessions.beside:
                    take_back(other, response.headers)
        holder = request.get(_REQUEST)
        if holder is None or holder.app is not sessions or not holder.finished:
            await _before_headers(sessions, request, response)
        elif holder.session is not None:  # checked before the call: every response passes here, most without a session
            add_headers(holder, response.headers, request)

    app[APP] = sessions
    middleware = _middleware(app, sessions)
    app.middlewares.insert(0, middleware)
    app.on_response_prepare.append(pay)
    app.on_startup.append(look_around)
    app.cleanup_ctx.append(run_storage)


def get_storage(request: web.Request) -> SessionStorage:
    """Return the storage that the app was set up with.

    Args:
        request: The request that is being handled.  In a sub-app that has its own ``setup``, that app's storage is
            returned.

    Raises:
        SessionUsageError: The app has no sessions.
    """
    return holder_of(request).app.storage


async def get_session(request: web.Request) -> Session:
    """Return the request's session.

    The first call loads the session.  Later calls return the same object.

    A visitor without a session gets an empty one.  Once something is put in it, it is stored and a cookie is sent.

    Args:
        request: The request that is being handled.

    Raises:
        SessionUsageError: The app has no sessions.
        StorageError: The storage failed.  If the handler does not catch this error, the response is a 503.
    """
    holder = holder_of(request)
    session = holder.session  # compared with None below, because an empty session is false
    return session if session is not None else await holder.load(request)


async def new_session(request: web.Request) -> Session:
    """Replace the current session with an empty one that has a new id, and return it.

    It is the object that :func:`get_session` has returned before, so a middleware that holds it writes to the new
    session.  What is to be kept of the old session has to be read before this call.

    The old session is deleted when the new one is saved.  If the request fails (a status of 500 or more, or an
    exception that is no HTTP response), nothing is saved and the old session stays valid.  To end the old session even
    then, call its ``destroy()`` first.  This logout can still show a message on the next page::

        (await new_session(request)).flash("notice", "Bye.")

    Args:
        request: The request that is being handled.

    Raises:
        SessionCommittedError: The request is over, or the headers are already sent and cannot carry a new cookie.
        SessionUsageError: The app has no sessions.
        StorageError: The storage failed.
    """
    return await holder_of(request).renew(request)


async def save_session(request: web.Request) -> bool:
    """Store the session's changes now, instead of when the handler has finished.

    Use this in a WebSocket or Server-Sent Events loop that runs for hours, or before a step that must not happen until
    the changes are stored.  What is saved stays saved, even if the request fails later.

    Args:
        request: The request that is being handled.

    Returns:
        False if the session has ended, because it was destroyed or has passed one of its limits.  The handler should
        then close the connection.  True otherwise.

    Raises:
        SessionTooLargeError: The session does not fit in its cookie, or is larger than ``max_session_size``.
        SessionUsageError: The app has no sessions.
        StorageError: The storage failed.  The session keeps its changes.  Nothing was stored, unless ``maybe_stored``
            is true.
        TypeError: A value cannot be stored.
    """
    return await holder_of(request).save_now(request)


def exclusive_session(
    request: web.Request, *, timeout: float = DEFAULT_LOCK_TIMEOUT
) -> AbstractAsyncContextManager[Session]:
    """Hold the session exclusively for the length of an ``async with`` block.

    Use this to read a value, compute with it and write it back, as for a counter or a balance.  While one request holds
    the exclusive session, other exclusive requests for it wait, in all processes.  Requests that do not use
    ``exclusive_session`` are not held up.

    The block starts with the newest record, and the session is saved when the block ends.  If the block or that save
    raises an exception, changes that are not saved yet are discarded.

    Args:
        request: The request that is being handled.
        timeout: Seconds to wait for the lock.

    Raises:
        SessionLockError: The lock was not free in time or was lost, or the session ended or got another id meanwhile.
            Nothing was stored: it is safe to try again.
        SessionUsageError: The call is nested, the timeout is no number of seconds, the app has no sessions, or its
            storage has no locks.
        StorageError: The storage failed.  If ``maybe_stored`` is true, the changes may be stored all the same, so
            trying again may carry them out twice.
    """
    holder = holder_of(request)
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout >= 0:
        raise SessionUsageError(
            f"the timeout of exclusive_session() must be a number of seconds, 0 or more, not {timeout!r}"
        )
    return holder.exclusive(request, timeout)


def sessions_of(app: web.Application | None) -> AppSessions:
    """Return what :func:`setup` put on *app*, for code that works on sessions outside of a request.

    Raises:
        SessionUsageError: The app has no sessions of its own.
    """
    if app is None or APP not in app:
        raise SessionUsageError(
            "this app has no sessions of its own: call aiohttp_session_store.setup(app, storage) on it"
        )
    return app[APP]


def put_session(request: web.Request, storage: SessionStorage, session: Session) -> None:
    """Let *request* have *session*, for tests that call a handler without a server."""
    _check_request(request)
    holder = request[_REQUEST] = RequestSession(AppSessions(storage, SessionCookie().bind(storage)), None)
    holder.begin(Arrival(session), request)


def holder_of(request: web.Request) -> RequestSession:
    """Return what *request* knows of its session.

    Raises:
        SessionUsageError: The app has no sessions.
    """
    try:
        holder: RequestSession | None = request.get(_REQUEST)
    except (AttributeError, TypeError):
        holder = None
    if holder is None:
        _check_request(request)
        raise SessionUsageError(
            "this request has no session: call aiohttp_session_store.setup(app, storage) on its app, or on the app"
            " around it. A middleware outside of that app cannot use sessions"
        )
    return holder


def _check_request(request: object) -> None:
    if not isinstance(request, web.BaseRequest):
        raise SessionUsageError(
            f"the functions for sessions take the request, not a value of type {type(request).__name__}: write"
            " get_session(request), or get_session(self.request) in a class-based view"
        )


def _middleware(app: web.Application, sessions: AppSessions) -> "Middleware":
    @web.middleware
    async def session_middleware(request: web.Request, handler: "Handler") -> web.StreamResponse:
        outer = None if sessions.nested is False else request.get(_REQUEST)
        holder = request[_REQUEST] = RequestSession(sessions, outer)
        try:
            response = await handler(request)
        except web.HTTPException as raised:
            if holder.seal():
                await _finish(holder, request, raised)
            raise
        except BaseException as error:
            await _fail(holder, request, error)
            raise
        else:
            if holder.seal():
                await _finish(holder, request, response)
            return response
        finally:
            if holder.watches:
                holder.forget_watches()
            if holder.session is not None and not (sessions.outermost and request.match_info.apps[0] is app):
                sessions.answered[request.writer] = holder
            if outer is not None:
                request[_REQUEST] = outer

    return session_middleware


async def _finish(holder: RequestSession, request: web.Request, response: web.StreamResponse) -> None:
    """Save because the handler answered.

    If the storage fails, the response becomes a 503.  A response that is under way is ended instead.
    """
    try:
        await holder.commit(getattr(response, "status", SERVER_ERROR))  # a handler may return None; aiohttp reports it
    except StorageError as error:
        _answer_unavailable(holder, request, error)


async def _fail(holder: RequestSession, request: web.Request, error: BaseException) -> None:
    """Save nothing but a ``destroy()``, because the handler failed.

    If the handler failed only because the visitor went away after the headers were sent, the changes are saved.
    """
    if isinstance(error, TypeError) and str(error) in _OF_JSON:
        error.add_note("A session is a mapping, but no dict: write web.json_response(dict(session))")
    left = holder.seal()
    if holder.headers_sent and _is_all(error, ConnectionError):
        if left:
            await holder.commit(holder.status)
        return
    try:
        if left:
            await holder.commit(SERVER_ERROR)
    except StorageError as failure:
        if not _is_all(error, StorageError):
            left_alive = "a request destroyed its session and then failed, and the session could not be deleted"
            holder.app.outages.note(logging.ERROR, failure, left_alive)
    if _is_all(error, StorageError):
        _answer_unavailable(holder, request, error)


def _is_all(error: BaseException, kind: type[Exception]) -> bool:
    """Return whether *error* is of *kind*, or a group of nothing else, as a task group raises it."""
    return isinstance(error, kind) or (isinstance(error, BaseExceptionGroup) and error.split(kind)[1] is None)


def _answer_unavailable(holder: RequestSession, request: web.Request, error: BaseException) -> None:
    if holder.headers_sent and request.transport is not None:
        request.transport.close()  # too late for a status: the browser must not take the response for a whole one
    if _is_all(error, SessionLockError) and error.__cause__ is None:  # a race for the session is no outage
        _logger.info("a request did not get its session exclusively: %s", error)
    else:
        holder.app.outages.note(logging.ERROR, error, "sessions are unavailable", with_traceback=True)
    raise web.HTTPServiceUnavailable(text="503: Service Unavailable") from error


async def _before_headers(sessions: AppSessions, request: web.Request, response: web.StreamResponse) -> None:
    """Save if the handler prepares its response itself, and add our headers to the response that is really sent."""
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
    """Close the connection after a failed save, because aiohttp takes *response* as prepared.

    The headers of *response* are not sent yet.  If the handler went on writing, the body would leave without them, and
    the browser would take it for a response of its own.  The length, chunking or compression of *response* stay set on
    the connection and would garble another response.  A WebSocket writes nothing before its handshake and sets none of
    these, so it can still be refused with a status.
    """
    if request.transport is not None and not isinstance(response, web.WebSocketResponse):
        request.transport.close()
