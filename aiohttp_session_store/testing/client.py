"""A look into the session of aiohttp's test client, and a hand in it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractCookieJar
from aiohttp.test_utils import TestClient
from yarl import URL

from ..errors import SessionUsageError
from ..session.session import Session, state_of
from ..web.cookie_settings import SessionCookie
from ..web.middleware import sessions_of

__all__ = ["edit_session"]


@asynccontextmanager
async def edit_session(client: TestClient[Any, Any], *, app: web.Application | None = None) -> AsyncIterator[Session]:
    """Open the session that the client's cookie leads to, and save it at the end of an ``async with`` block.

    Before a request to put somebody in it, after one to see what the app has left there::

        async with edit_session(client) as session:
            session["user_id"] = 5

    A client without a session gets a new one, stored and its cookie put into the client's jar if something is put in
    it.  Looking uses up no flash messages: the app's next request still sees them.  An exception in the block saves
    nothing.  After it the session can still be read.

    Args:
        client: Started, with an app that ``setup`` was called on.
        app: The sub-app whose session is meant, where it has a ``setup`` of its own; None for the client's app.

    Raises:
        SessionTooLargeError: It does not fit its cookie.
        SessionUsageError: The app has no sessions, or the client would not send their cookie: a Secure one over plain
            HTTP, one of another domain, or any, for its jar keeps none.
        StorageError: The storage failed.
    """
    sessions = sessions_of(app or client.app)
    storage, cookie = sessions.storage, sessions.cookie
    url, jar = client.make_url(cookie.path), client.session.cookie_jar
    session = await storage.read(None)
    for candidate in cookie.candidates([_cookie_header(jar, cookie, url)]):
        found = await storage.read(candidate.value)
        if state_of(found).stored is not None:
            session = found
            break
    state = state_of(session)
    state.cookie_limit = cookie.value_limit
    state.log.flashes.spare()
    try:
        yield session
        value = await storage.save(session)
    finally:
        state.sealed = True  # what is written after the block would be saved by nobody
    if value is not None:
        jar.update_cookies_from_headers([cookie.header(value, https=url.scheme == "https")], url)
        if not _cookie_header(jar, cookie, url) and value:
            raise SessionUsageError(f"the cookie jar of this client keeps no cookies, {cookie.name} neither")


def _cookie_header(jar: AbstractCookieJar, cookie: SessionCookie, url: URL) -> str:
    """Return the Cookie header that the client would send.

    Raises:
        SessionUsageError: It keeps our cookie to itself.
    """
    sent = jar.filter_cookies(url)
    if cookie.name in sent:
        return f"{cookie.name}={sent[cookie.name].value}"
    kept = next((morsel for morsel in jar if morsel.key == cookie.name), None)
    if kept is None:
        return ""
    if kept["secure"] and url.scheme != "https":
        raise SessionUsageError(
            f"the session cookie {cookie.name} is Secure, and this client keeps it from a plain HTTP server. Have it"
            " trust yours: aiohttp_client(server, cookie_jar=aiohttp.CookieJar(unsafe=True,"
            ' treat_as_secure_origin=server.make_url("/").origin())) with server = await aiohttp_server(app)'
        )
    raise SessionUsageError(
        f"the session cookie {cookie.name} is meant for {kept['domain'] or 'this host'}{kept['path']}, and this client"
        f" does not send it to {url}"
    )
