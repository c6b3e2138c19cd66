"""Lower bounds, written by hand: the fewest lines that load and save with a signed cookie, and check nothing else."""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

from aiohttp import web
from aiohttp.typedefs import Handler

from .handlers import POSTGRES, REDIS, SECRET, Session, add_handlers

FLOOR = web.RequestKey("floor", dict[str, Any])
_COOKIE = re.compile(r"(?:^|; )session=([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")


def sign(value: str) -> str:
    """Return the signature of *value*."""
    digest = hmac.digest(SECRET.encode(), value.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def opened(request: web.Request) -> str | None:
    """Return the value of the session cookie if its signature is right."""
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
    """Keep JSON in files; each read and each replace is one call in a thread."""

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


def postgres_floor() -> web.Application:
    """Keep JSON in PostgreSQL: SELECT, and an INSERT that overwrites."""
    import asyncpg  # noqa: PLC0415  needs the driver

    pool: asyncpg.Pool

    async def load(session_id: str) -> str | None:
        return cast("str | None", await pool.fetchval("SELECT data FROM floor WHERE id = $1", session_id))

    async def save(session_id: str, text: str) -> None:
        statement = "INSERT INTO floor VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET data = $2, expires_at = $3"
        await pool.execute(statement, session_id, text, int(time.time()) + 3600)

    async def create_table(_: web.Application) -> None:
        nonlocal pool
        pool = await asyncpg.create_pool(os.environ[POSTGRES], reset=_no_reset)
        columns = "id text PRIMARY KEY, data text NOT NULL, expires_at bigint NOT NULL"
        await pool.execute(f"CREATE TABLE IF NOT EXISTS floor ({columns})")
        await pool.execute("CREATE INDEX IF NOT EXISTS floor_expires_at ON floor (expires_at)")

    app = floor(load, save)
    app.on_startup.append(create_table)
    return app


async def _no_reset(_: Any) -> None:
    """Skip the driver's reset query, as our storage does, and save a round trip."""
