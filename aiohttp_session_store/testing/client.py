"""Reads and changes the session of aiohttp's test client."""

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
    """Open the session of the client's cookie, and save it at the end of an ``async with`` block.

    Use it before a request to put data into the session, or after a request to see what the app has stored::

        async with edit_session(client) as session:
            session["user_id"] = 5

    If the test server is not in the domain of the cookie, the client's jar keeps the cookie for the test server.

    A client without a session gets a new one.  If the block puts something into it, the session is stored, and its
    cookie is put into the client's jar.  Flash messages can be read without using them up: the app's next request still
    sees them.  If the block raises an exception, nothing is saved.  After the block, the session can still be read.

    Args:
        client: A started client, with an app that ``setup`` was called on.
        app: The sub-app whose session is meant, if it has a ``setup`` of its own.  None for the client's app.

    Raises:
        SessionTooLargeError: The session does not fit into its cookie.
        SessionUsageError: The app has no sessions, or the client would not send their cookie.  This is the case for a
            Secure cookie over plain HTTP, for a cookie of another path, and for a jar that keeps no cookies.
        StorageError: The storage failed.
    """
    sessions = sessions_of(app or client.app)
    storage, cookie = sessions.storage, sessions.cookie
    url, jar = client.make_url(cookie.path), client.session.cookie_jar
    session = await storage.read(None)
    for candidate in cookie.candidates([_cookie_header(jar, cookie, url)]):
        found = await storage.read(candidate.value)
        if state_of(found).place is not None:
            session = found
            break
    state = state_of(session)
    state.cookie_limit = cookie.value_limit
    state.log.flashes.spare()
    try:
        yield session
        value = await storage.save(session)
    finally:
        state.sealed = True  # nobody would save what is written after the block
    if value is not None:
        https = url.scheme == "https"
        lines = [cookie.header(value, https=https), *(cookie.clearing(name, https=https) for name in cookie.old_names)]
        jar.update_cookies_from_headers([_for_host(line, cookie, url) for line in lines], url)
        if not _cookie_header(jar, cookie, url) and value:
            raise SessionUsageError(
                f"the cookie jar of this client keeps no cookies, so the cookie {cookie.name} is lost"
            )


def _for_host(line: str, cookie: SessionCookie, url: URL) -> str:
    """Return *line* without the cookie's domain if the server is not in that domain: the jar would drop it."""
    if cookie.domain is None or f".{url.host}".endswith(f".{cookie.domain.lower()}"):
        return line
    return line.replace(f"; Domain={cookie.domain}", "", 1)


def _cookie_header(jar: AbstractCookieJar, cookie: SessionCookie, url: URL) -> str:
    """Return the Cookie header that the client would send.

    Raises:
        SessionUsageError: The jar has our cookie, but the client would not send it.
    """
    sent = jar.filter_cookies(url)
    if cookies := [f"{name}={sent[name].value}" for name in cookie.names if name in sent]:
        return "; ".join(cookies)
    kept = next((morsel for morsel in jar if morsel.key == cookie.name), None)
    if kept is None:
        return ""
    if kept["secure"] and url.scheme != "https":
        raise SessionUsageError(
            f"the session cookie {cookie.name} is Secure, so this client does not send it to a plain HTTP server. Let"
            " the client trust your server: aiohttp_client(server, cookie_jar=aiohttp.CookieJar(unsafe=True,"
            ' treat_as_secure_origin=server.make_url("/").origin())) with server = await aiohttp_server(app)'
        )
    raise SessionUsageError(
        f"the session cookie {cookie.name} is meant for {kept['domain'] or 'this host'}{kept['path']}, and this client"
        f" does not send it to {url}"
    )
