"""An app whose workers share a storage and a port; the tests in this folder start it several times.

``python worker.py STORAGE PORT``, where STORAGE is a directory or the URL of a server.
"""

import asyncio
import os
import sys
from decimal import Decimal
from pathlib import Path

from aiohttp import web

from aiohttp_session_store import (
    FileSystemStorage,
    KeyedStorage,
    SessionCookie,
    close_when_session_ends,
    exclusive_session,
    get_session,
    get_storage,
    setup,
)
from aiohttp_session_store.device import bind_devices, device_state
from aiohttp_session_store.storages.postgres import PostgresStorage
from aiohttp_session_store.storages.redis import RedisStorage
from aiohttp_session_store.web.app_sessions import APP

SECRET = "known-secret-0123456789-abcdefghijklmnopqrstuvwxyz"


async def who(_: web.Request) -> web.Response:
    return web.Response(text=str(os.getpid()))


async def login(request: web.Request) -> web.Response:
    session = await get_session(request)
    session["user"] = "ada"
    return web.Response(text=str(os.getpid()))


async def write(request: web.Request) -> web.Response:
    """Change one key of a logged-in visitor, some time after the session was loaded."""
    session = await get_session(request)
    await asyncio.sleep(float(request.query.get("pause", "0")))
    if "user" in session:
        session[request.query["key"]] = True
    return web.Response(text=str(os.getpid()))


async def count(request: web.Request) -> web.Response:
    async with exclusive_session(request) as session:
        before = session.get("count", 0)
        await asyncio.sleep(0)
        session["count"] = before + 1
    return web.Response(text=str(os.getpid()))


async def append(request: web.Request) -> web.Response:
    """Change values inside, and count, some time after the session was loaded."""
    session, own = await get_session(request), int(request.query["own"])
    await asyncio.sleep(float(request.query.get("pause", "0")))
    session.setdefault("cart", []).append(own)
    session["items"] += [own]
    session["items"].remove(-own)
    session["tags"] |= {own}
    session["prefs"]["ui"][str(own)] = True
    session["prefs"]["ui"].pop(f"old {own}")
    session["rows"][own - 1]["qty"] = own
    return web.Response(text=str(os.getpid()))


async def fill(request: web.Request) -> web.Response:
    """Put what *append* changes into the session, for the numbers from 1 to *most*."""
    session, numbers = await get_session(request), range(1, int(request.query["most"]) + 1)
    session["items"] = [-number for number in numbers]
    session["tags"] = set()
    session["prefs"] = {"ui": {f"old {number}": True for number in numbers}}
    session["rows"] = [{"id": number} for number in numbers]
    return web.Response(text=str(os.getpid()))


async def increment(request: web.Request) -> web.Response:
    session = await get_session(request)
    await asyncio.sleep(0)
    session.increment("n")
    session.increment("amount", Decimal("0.10"))
    return web.Response(text=str(os.getpid()))


async def values(request: web.Request) -> web.Response:
    """Show the session with its values as text: JSON has no sets and no Decimal."""
    return web.json_response({key: str(value) for key, value in (await get_session(request)).items()})


async def logout(request: web.Request) -> web.Response:
    (await get_session(request)).destroy()
    return web.Response(text=str(os.getpid()))


async def show(request: web.Request) -> web.Response:
    return web.json_response(dict(await get_session(request)))


# --- owners


async def enter(request: web.Request) -> web.Response:
    """Log an owner in, who may have *most* sessions."""
    get_storage(request).max_sessions_per_owner = int(request.query.get("most", "0")) or None  # type: ignore[attr-defined]
    (await get_session(request)).login(request.query["owner"])
    return web.Response(text=str(os.getpid()))


async def renew(request: web.Request) -> web.Response:
    """Change the id of a session, if there is one."""
    session = await get_session(request)
    await asyncio.sleep(float(request.query.get("pause", "0")))
    if session.owner is not None:
        session.regenerate_id(request.query.get("old") == "worthless")
    return web.Response(text=str(os.getpid()))


async def leave(request: web.Request) -> web.Response:
    (await get_session(request)).logout()
    return web.Response(text=str(os.getpid()))


async def end(request: web.Request) -> web.Response:
    """End all sessions of an owner."""
    return web.json_response({"ended": await get_storage(request).end_sessions(request.query["owner"])})


async def mine(request: web.Request) -> web.Response:
    """Say whose session it is."""
    session = await get_session(request)
    key = None if session.new else session.key
    return web.json_response({"owner": session.owner, "key": key, "device": device_state(request)})


async def devices(request: web.Request) -> web.Response:
    """List the sessions of an owner."""
    shown = await get_storage(request).sessions_of(request.query["owner"])
    return web.json_response({"keys": [info.key for info in shown]})


# --- sockets


async def socket(request: web.Request) -> web.WebSocketResponse:
    """Be open until the session ends or the client leaves, and fail if it sends something."""
    await get_session(request)
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    close_when_session_ends(request, socket)
    await socket.send_str("open")
    async for _ in socket:
        raise web.HTTPInternalServerError
    return socket


async def left(request: web.Request) -> web.Response:
    """Say how much this worker has to do with sockets, and how large it is."""
    mine = request.app[APP]
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return web.json_response(
        {
            "worker": os.getpid(),
            "watched": len(mine.watching or ()),
            "closing": len(mine.closing),
            "tasks": len(asyncio.all_tasks()),
            "bytes": pages * os.sysconf("SC_PAGE_SIZE"),
        }
    )


def make_storage(place: str) -> KeyedStorage:
    if place.startswith("redis:"):
        return RedisStorage.from_url(place)
    if place.startswith("postgresql:"):
        return PostgresStorage.from_dsn(place, sweep_interval=1)
    return FileSystemStorage(place, sweep_interval=1)


async def prepare(storage: KeyedStorage) -> None:
    """Prepare the storage once, before the workers start."""
    if isinstance(storage, PostgresStorage):
        await storage.create_schema()
    await storage.aclose()


_HANDLERS = (
    who, login, write, count, append, fill, increment, values, logout, show, enter, renew, leave, end, mine, devices,
    socket, left,
)  # fmt: skip


def make_app(place: str) -> web.Application:
    app = web.Application()
    for handler in _HANDLERS:
        app.router.add_get(f"/{handler.__name__}", handler)
    # The file storage has a secret of its own, which one of the workers creates.
    cookie = None if "://" not in place else SessionCookie(secrets=SECRET)
    setup(app, make_storage(place), cookie=cookie)
    bind_devices(app)
    return app


if __name__ == "__main__":
    web.run_app(make_app(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]), reuse_port=True, print=None)
