"""Visits that send exactly the cookie that a test passes, unlike a cookie jar."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import DummyCookieJar, web
from aiohttp.test_utils import TestClient
from multidict import CIMultiDictProxy
from pytest_aiohttp.plugin import AiohttpClient

Client = TestClient[web.Request, web.Application]
ClientOf = Callable[[web.Application], Awaitable[Client]]


@dataclass(frozen=True)
class Visit:
    """The response to a visit.

    Attributes:
        text: The body.
        set_cookie: The one Set-Cookie header, or None.
    """

    status: int
    headers: CIMultiDictProxy[str]
    text: str
    set_cookie: str | None

    @property
    def cookie(self) -> str:
        """The value of the cookie that was set, ``""`` if the cookie was cleared."""
        assert self.set_cookie is not None
        return self.set_cookie.partition(";")[0].partition("=")[2]


async def visit(client: Client, path: str, cookie: str | None = None, name: str = "session", **headers: str) -> Visit:
    """Request *path* with a session cookie whose value is *cookie*."""
    if cookie is not None:
        headers["Cookie"] = f"{name}={cookie}"
    sent: Any = {key.replace("_", "-"): value for key, value in headers.items()}
    async with client.get(path, headers=sent, allow_redirects=False) as response:
        cookies = response.headers.getall("Set-Cookie", [])
        assert len(cookies) < 2
        return Visit(response.status, response.headers, await response.text(), cookies[0] if cookies else None)


async def without_jar(aiohttp_client: AiohttpClient, app: web.Application) -> Client:
    """Serve *app* to a client that keeps no cookies."""
    client: Client = await aiohttp_client(app, cookie_jar=DummyCookieJar())
    return client
