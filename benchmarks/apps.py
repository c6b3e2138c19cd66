"""The apps that are measured: ``python -m benchmarks.apps CASE PORT DIRECTORY`` serves one of them.

All have the same handlers: ``/untouched`` ignores the session, ``/read`` reads one key, ``/increment`` counts, and
``/init`` makes a session of about 270 bytes.
"""

import base64
import hashlib
import hmac
import json
import os
import re
import secrets
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any, cast

import aiohttp_session
from aiohttp import web
from aiohttp.typedefs import Handler
from aiohttp_session.cookie_storage import EncryptedCookieStorage

from aiohttp_session_store import (
    CookieStorage,
    FileSystemStorage,
    MemoryStorage,
    SessionCookie,
    SessionStorage,
    get_session,
    setup,
)

# Where the servers are that benchmarks.http has started.
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
    """Give *app* the handlers, on sessions that *load* gets."""

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
        session.update(DATA, csrf=secrets.token_urlsafe(24))  # no two alike
        return web.Response(text="ok")

    for handler in (untouched, read, increment, init):
        app.router.add_get(f"/{handler.__name__}", handler)
    return app


def ours(storage: SessionStorage, cookie: SessionCookie | None = None) -> web.Application:
    """Return an app on this library."""
    app = web.Application()
    setup(app, storage, cookie=cookie)
    return add_handlers(app, get_session)


def peer(storage: aiohttp_session.AbstractStorage) -> web.Application:
    """Return an app on aiohttp-session."""
    app = web.Application()
    aiohttp_session.setup(app, storage)
    return add_handlers(app, cast("GetSession", aiohttp_session.get_session))


def peer_on_redis() -> web.Application:
    """Return an app on aiohttp-session's Redis storage."""
    from aiohttp_session.redis_storage import RedisStorage  # noqa: PLC0415  needs the driver
    from redis.asyncio import Redis  # noqa: PLC0415

    return peer(RedisStorage(Redis.from_url(os.environ[REDIS])))


def ours_on_redis() -> web.Application:
    """Return an app on our Redis storage."""
    from aiohttp_session_store.storages.redis import RedisStorage  # noqa: PLC0415  needs the driver

    return ours(RedisStorage.from_url(os.environ[REDIS]), signed())


def ours_on_postgres() -> web.Application:
    """Return an app on our PostgreSQL storage."""
    from aiohttp_session_store.storages.postgres import PostgresStorage  # noqa: PLC0415  needs the driver

    storage = PostgresStorage.from_dsn(os.environ[POSTGRES])
    app = ours(storage, signed())

    async def create_table(_: web.Application) -> None:
        await storage.create_schema()

    app.on_startup.append(create_table)
    return app


# --- floors: the fewest lines that load and save with an authentic cookie, and check nothing else

FLOOR = web.RequestKey("floor", dict[str, Any])
_COOKIE = re.compile(r"(?:^|; )session=([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")


def sign(value: str) -> str:
    """Return the signature of *value*."""
    digest = hmac.digest(SECRET.encode(), value.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def opened(request: web.Request) -> str | None:
    """Return the signed value of the session cookie."""
    found = _COOKIE.search(request.headers.get("Cookie", ""))
    return found[1] if found and hmac.compare_digest(sign(found[1]), found[2]) else None


Load = Callable[[str], Awaitable[str | None]]
Save = Callable[[str, str], Awaitable[None]]


def floor(load: Load, save: Save, *, in_cookie: bool = False) -> web.Application:
    """Return an app whose middleware loads, saves, sets the headers and does nothing else."""

    async def get(request: web.Request) -> Session:
        session_id = opened(request)
        text = await load(session_id) if session_id else None
        session: dict[str, Any] = json.loads(text) if text else {}
        request[FLOOR] = {"id": session_id, "session": session, "before": text}
        return session

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        state = request.get(FLOOR)
        if state is None:
            return response
        text = json.dumps(state["session"])
        response.headers["Vary"] = "Cookie"
        response.headers["Cache-Control"] = "private"
        if text != state["before"]:
            session_id = state["id"]
            if in_cookie:
                session_id = base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()
            elif session_id is None:
                session_id = secrets.token_urlsafe(32)
            await save(session_id, text)
            if session_id != state["id"]:
                response.headers["Set-Cookie"] = f"session={session_id}.{sign(session_id)}; Path=/; HttpOnly"
        return response

    return add_handlers(web.Application(middlewares=[middleware]), get)


def memory_floor() -> web.Application:
    """Keep JSON in a dict."""
    records: dict[str, str] = {}

    async def load(session_id: str) -> str | None:
        return records.get(session_id)

    async def save(session_id: str, text: str) -> None:
        records[session_id] = text

    return floor(load, save)


def cookie_floor() -> web.Application:
    """Keep JSON in the cookie."""

    async def load(value: str) -> str | None:
        return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).decode()

    async def save(_: str, __: str) -> None:
        pass

    return floor(load, save, in_cookie=True)


def file_floor(directory: str) -> web.Application:
    """Keep JSON in files, read and replaced in a thread, one hop each."""
    import asyncio  # noqa: PLC0415

    def path_of(session_id: str) -> str:
        return f"{directory}/{hashlib.sha256(session_id.encode()).hexdigest()}"

    def read(session_id: str) -> str | None:
        try:
            return Path(path_of(session_id)).read_text()
        except FileNotFoundError:
            return None

    def write(session_id: str, text: str) -> None:
        temporary = f"{directory}/{secrets.token_hex(8)}"
        Path(temporary).write_text(text)
        os.replace(temporary, path_of(session_id))

    async def load(session_id: str) -> str | None:
        return await asyncio.get_running_loop().run_in_executor(None, read, session_id)

    async def save(session_id: str, text: str) -> None:
        await asyncio.get_running_loop().run_in_executor(None, write, session_id, text)

    return floor(load, save)


def redis_floor() -> web.Application:
    """Keep JSON in Redis: GET, and SET with an expiry."""
    from redis.asyncio import Redis  # noqa: PLC0415  needs the driver

    client = Redis.from_url(os.environ[REDIS], decode_responses=True)

    async def load(session_id: str) -> str | None:
        return cast("str | None", await client.get(f"floor:{session_id}"))

    async def save(session_id: str, text: str) -> None:
        await client.set(f"floor:{session_id}", text, ex=3600)

    return floor(load, save)


def bare() -> web.Application:
    """Return the handlers without any middleware."""

    async def load(_: web.Request) -> Session:
        return {"counter": 0}

    return add_handlers(web.Application(), load)


def signed() -> SessionCookie:
    """Return a cookie with a secret of its own."""
    return SessionCookie(secrets=SECRET)


CASES: dict[str, Callable[[str], web.Application]] = {
    "bare": lambda _: bare(),
    "memory": lambda _: ours(MemoryStorage()),
    "memory floor": lambda _: memory_floor(),
    "cookie": lambda _: ours(CookieStorage(), signed()),
    "cookie floor": lambda _: cookie_floor(),
    "files": lambda directory: ours(FileSystemStorage(f"{directory}/ours")),
    "files, no cache": lambda directory: ours(FileSystemStorage(f"{directory}/ours", cache_size=0)),
    "files floor": file_floor,
    "redis": lambda _: ours_on_redis(),
    "redis floor": lambda _: redis_floor(),
    "postgres": lambda _: ours_on_postgres(),
    "aiohttp-session simple": lambda _: peer(aiohttp_session.SimpleCookieStorage()),
    "aiohttp-session encrypted": lambda _: peer(EncryptedCookieStorage(b"0123456789abcdef0123456789abcdef")),
    "aiohttp-session redis": lambda _: peer_on_redis(),
}


def main() -> None:
    """Serve one case, pinned to the first core."""
    case, port, directory = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {0})
    web.run_app(CASES[case](directory), host="127.0.0.1", port=port, print=None, access_log=None)


if __name__ == "__main__":
    main()
