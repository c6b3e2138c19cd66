"""The measured apps: ``python -m benchmarks.apps CASE PORT DIRECTORY`` serves one of them.

All of them use the handlers of :mod:`benchmarks.handlers`.
"""

import os
import sys
from collections.abc import Callable
from typing import cast

import aiohttp_session
from aiohttp import web
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

from .floors import cookie_floor, file_floor, memory_floor, postgres_floor, redis_floor
from .handlers import POSTGRES, REDIS, SECRET, GetSession, Session, add_handlers


def ours(storage: SessionStorage, cookie: SessionCookie | None = None) -> web.Application:
    """Return an app that uses this library."""
    app = web.Application()
    setup(app, storage, cookie=cookie)
    return add_handlers(app, get_session)


def peer(storage: aiohttp_session.AbstractStorage) -> web.Application:
    """Return an app that uses aiohttp-session."""
    app = web.Application()
    aiohttp_session.setup(app, storage)
    return add_handlers(app, cast("GetSession", aiohttp_session.get_session))


def peer_on_redis() -> web.Application:
    """Return an app that uses aiohttp-session's Redis storage."""
    from aiohttp_session.redis_storage import RedisStorage  # noqa: PLC0415  needs the driver
    from redis.asyncio import Redis  # noqa: PLC0415

    return peer(RedisStorage(Redis.from_url(os.environ[REDIS])))


def ours_on_redis() -> web.Application:
    """Return an app that uses our Redis storage."""
    from aiohttp_session_store.storages.redis import RedisStorage  # noqa: PLC0415  needs the driver

    return ours(RedisStorage.from_url(os.environ[REDIS]), signed())


def ours_on_postgres() -> web.Application:
    """Return an app that uses our PostgreSQL storage."""
    from aiohttp_session_store.storages.postgres import PostgresStorage  # noqa: PLC0415  needs the driver

    storage = PostgresStorage.from_dsn(os.environ[POSTGRES])
    app = ours(storage, signed())

    async def create_table(_: web.Application) -> None:
        await storage.create_schema()

    app.on_startup.append(create_table)
    return app


def bare() -> web.Application:
    """Return an app with the same handlers and no session middleware."""

    async def load(_: web.Request) -> Session:
        return {"counter": 0}

    return add_handlers(web.Application(), load)


def signed() -> SessionCookie:
    """Return a cookie signed with a secret of its own."""
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
    "postgres floor": lambda _: postgres_floor(),
    "aiohttp-session simple": lambda _: peer(aiohttp_session.SimpleCookieStorage()),
    "aiohttp-session encrypted": lambda _: peer(EncryptedCookieStorage(b"0123456789abcdef0123456789abcdef")),
    "aiohttp-session redis": lambda _: peer_on_redis(),
}


def main() -> None:
    """Serve one case on the first core."""
    case, port, directory = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {0})
    web.run_app(CASES[case](directory), host="127.0.0.1", port=port, print=None, access_log=None)


if __name__ == "__main__":
    main()
