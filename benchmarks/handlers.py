"""The handlers that all measured apps share.

``/untouched`` ignores the session, ``/read`` reads one key, ``/increment`` adds one to a counter, and ``/init``
creates a session of about 270 bytes.
"""

import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from aiohttp import web

# Environment variables with the addresses of the servers that benchmarks.http has started.
REDIS, POSTGRES = "BENCHMARK_REDIS", "BENCHMARK_POSTGRES"
SECRET = "benchmark-secret-benchmark-secret"
DATA: dict[str, Any] = {
    "user_id": 12345,
    "name": "Ada Lovelace",
    "roles": ["editor", "reviewer", "author"],
    "csrf": "kq3Vn0r7bJ2cW9xLzT5mY8dE1hG4aP6s",
    "cart": [{"sku": "A-1001", "qty": 2}, {"sku": "B-2002", "qty": 1}],
    "locale": "en-GB",
    "theme": "dark",
    "last_page": "/catalogue/looms/analytical?page=3",
    "counter": 0,
}

Session = MutableMapping[str, Any]
GetSession = Callable[[web.Request], Awaitable[Session]]


def add_handlers(app: web.Application, load: GetSession) -> web.Application:
    """Add the handlers to *app*; *load* returns the session of a request."""

    async def untouched(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def read(request: web.Request) -> web.Response:
        return web.Response(text=str((await load(request)).get("user_id")))

    async def increment(request: web.Request) -> web.Response:
        session = await load(request)
        session["counter"] = session["counter"] + 1
        return web.Response(text="ok")

    async def init(request: web.Request) -> web.Response:
        session = await load(request)
        session.update(DATA, csrf=secrets.token_urlsafe(24))  # no two sessions are equal
        return web.Response(text="ok")

    for handler in (untouched, read, increment, init):
        app.router.add_get(f"/{handler.__name__}", handler)
    return app
