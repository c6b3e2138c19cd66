"""A session for the unit test of a handler, without a server."""

from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from aiohttp import web

from ..errors import SessionUsageError
from ..session.session import Session
from ..session.typed_key import SessionKey
from ..storages.memory.storage import MemoryStorage
from ..web.middleware import put_session

__all__ = ["session_for"]

T = TypeVar("T")


def session_for(
    request: web.Request,
    data: Mapping[str, Any] | Mapping[SessionKey[Any], Any] | None = None,
    *,
    owner: str | None = None,
    storage: MemoryStorage | None = None,
) -> Session:
    """Give *request* a session, so that a handler can be called with it directly.

    ::

        request = make_mocked_request("GET", "/basket")
        session = session_for(request, {"basket": ["loom"]}, owner="7")
        response = await basket(request)
        assert session["basket"] == []

    All functions that take a request work in the handler, such as ``get_session`` and ``save_session``.  Nothing is
    saved when the handler returns, and no cookie is sent: the session shows what the handler has asked for.  If the
    handler called ``new_session``, the same object shows the new one.

    Args:
        request: A request that no server has received, as ``aiohttp.test_utils.make_mocked_request`` makes it.
        data: What is stored in the session.  If there is neither data nor an owner, the session is new.
        owner: The account that is logged in, or None.
        storage: The storage of the session, for requests that share one.  None for a storage of its own.

    Raises:
        SessionUsageError: *request* is none, or the storage is none that works in memory alone.
        TypeError: A value cannot be stored, or *owner* is not a string of 1 to 255 characters.
    """
    storage = MemoryStorage(sweep_interval=None) if storage is None else storage
    if not isinstance(storage, MemoryStorage) or storage.suspends:
        raise SessionUsageError(
            "session_for() needs a MemoryStorage, because it cannot wait for another storage. To test an app with its"
            " storage, use aiohttp's test client and edit_session()"
        )
    session = _result(storage.read(None))
    for key, value in (data or {}).items():
        session[key] = value
    if owner is not None:
        session.login(owner)
    cookie_value = _result(storage.save(session))
    if cookie_value is not None:
        session = _result(storage.read(cookie_value))
    put_session(request, storage, session)
    return session


def _result(call: Coroutine[Any, Any, T]) -> T:
    """Return what a call to a storage in memory returns, which never waits."""
    try:
        call.send(None)
    except StopIteration as finished:
        result: T = finished.value
        return result
    raise AssertionError("a storage in memory has to wait")
