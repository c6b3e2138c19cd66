"""An app whose workers share one directory and one port: started several times by the tests beside it.

``python worker.py DIRECTORY PORT``
"""

import asyncio
import os
import sys

from aiohttp import web

from aiohttp_session_store import FileSystemStorage, exclusive_session, get_session, setup


async def who(_: web.Request) -> web.Response:
    return web.Response(text=str(os.getpid()))


async def login(request: web.Request) -> web.Response:
    session = await get_session(request)
    session["user"] = "ada"
    return web.Response(text=str(os.getpid()))


async def write(request: web.Request) -> web.Response:
    """Change one key of a visitor who is logged in, some time after the session was loaded."""
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


async def logout(request: web.Request) -> web.Response:
    (await get_session(request)).destroy()
    return web.Response(text=str(os.getpid()))


async def show(request: web.Request) -> web.Response:
    return web.json_response(dict(await get_session(request)))


def make_app(directory: str) -> web.Application:
    app = web.Application()
    for handler in (who, login, write, count, logout, show):
        app.router.add_get(f"/{handler.__name__}", handler)
    setup(app, FileSystemStorage(directory, sweep_interval=1))
    return app


if __name__ == "__main__":
    web.run_app(make_app(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]), reuse_port=True, print=None)
