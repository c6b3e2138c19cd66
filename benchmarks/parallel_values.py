"""What is left of 20 changes of one value at once, beside other libraries: ``python -m benchmarks.parallel_values``.

Each round sends 20 requests with one cookie: each loads the session, works for 2 to 8 ms, and appends its own item to a
list, or adds one to a counter.  Every server is a process of its own, and all keep their records in one Redis.

The other libraries are not among the requirements of this package: ``pip install aiohttp-session starsessions litestar
uvicorn``.  Those that are missing are left out.
"""

import argparse
import asyncio
import importlib.util
import os
import random
import socket
import statistics
import subprocess
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import contextmanager
from typing import Any

import aiohttp

from .report import progress, table
from .servers import redis_url

AT_ONCE = 20
SECRET = "known-secret-0123456789-abcdefghijklmnopqrstuvwxyz"

Data = MutableMapping[str, Any]


async def work() -> None:
    """Be busy for a while, as a handler that asks a database."""
    await asyncio.sleep(random.uniform(0.002, 0.008))


async def change(session: Data, what: str, item: str) -> None:
    """Do in any library what its users write, after the session was loaded."""
    await work()
    if what == "append":
        items = session["items"]
        items.append(item)
        session["items"] = items  # most of them do not notice the change without this line; ours needs neither of them
    elif what == "increment":
        increment = getattr(session, "increment", None)
        if increment is not None:
            increment("count")
        else:
            session["count"] += 1
    else:
        session["items"], session["count"] = [], 0


def ours(place: str, port: int) -> None:
    """Serve with this package."""
    from aiohttp import web

    from aiohttp_session_store import SessionCookie, get_session, setup
    from aiohttp_session_store.storages.redis import RedisStorage

    async def handle(request: web.Request) -> web.Response:
        session = await get_session(request)
        if request.path == "/show":
            return web.json_response(dict(session))
        await change(session, request.path[1:], request.query.get("item", ""))
        return web.Response()

    app = web.Application()
    app.router.add_get("/{what}", handle)
    setup(app, RedisStorage.from_url(place), cookie=SessionCookie(secrets=[SECRET]))
    web.run_app(app, host="127.0.0.1", port=port, print=None)


def aiohttp_session(place: str, port: int) -> None:
    """Serve with aiohttp-session."""
    from aiohttp import web
    from aiohttp_session import get_session, setup
    from aiohttp_session.redis_storage import RedisStorage
    from redis import asyncio as redis

    async def handle(request: web.Request) -> web.Response:
        session = await get_session(request)
        if request.path == "/show":
            return web.json_response(dict(session))
        await change(session, request.path[1:], request.query.get("item", ""))
        return web.Response()

    async def build() -> web.Application:
        app = web.Application()
        app.router.add_get("/{what}", handle)
        setup(app, RedisStorage(redis.Redis.from_url(place)))
        return app

    web.run_app(build(), host="127.0.0.1", port=port, print=None)


def starsessions(place: str, port: int) -> None:
    """Serve with starsessions on Starlette."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route
    from starsessions import SessionAutoloadMiddleware, SessionMiddleware
    from starsessions.stores.redis import RedisStore

    async def handle(request: Request) -> Response:
        if request.url.path == "/show":
            return JSONResponse(request.session)
        await change(request.session, request.url.path[1:], request.query_params.get("item", ""))
        return Response()

    store = RedisStore(place)
    app = Starlette(
        routes=[Route("/{what}", handle)],
        middleware=[
            Middleware(SessionMiddleware, store=store, cookie_https_only=False, lifetime=3600),
            Middleware(SessionAutoloadMiddleware),
        ],
    )
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


def litestar(place: str, port: int) -> None:
    """Serve with Litestar's server-side sessions."""
    import uvicorn
    from litestar import Litestar, Request, get
    from litestar.middleware.session.server_side import ServerSideSessionConfig
    from litestar.stores.redis import RedisStore

    async def handle(request: Request[Any, Any, Any], what: str, item: str = "") -> Any:
        if what == "show":
            return dict(request.session)
        await change(request.session, what, item)
        return {}

    store = RedisStore.with_client(place)
    app = Litestar(
        [get("/{what:str}")(handle)], middleware=[ServerSideSessionConfig().middleware], stores={"sessions": store}
    )
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


SERVERS: dict[str, tuple[Callable[[str, int], None], str]] = {
    "this library": (ours, "aiohttp_session_store"),
    "aiohttp-session": (aiohttp_session, "aiohttp_session"),
    "starsessions": (starsessions, "starsessions"),
    "Litestar": (litestar, "litestar"),
}


@contextmanager
def serving(name: str, place: str) -> Any:
    """Run a server in a process of its own, and yield its URL."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks.parallel_values", "--serve", name, place, str(port)]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": "."})
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


async def until_it_answers(url: str) -> None:
    """Wait for a server that was just started."""
    async with aiohttp.ClientSession() as client:
        for _ in range(600):
            try:
                async with client.get(f"{url}/show"):
                    return
            except aiohttp.ClientError:
                await asyncio.sleep(0.1)
    raise RuntimeError(f"{url} does not answer")


async def measure(url: str, rounds: int) -> tuple[list[int], list[int]]:
    """Return how many of the appends and increments of each round are there at the end."""
    await until_it_answers(url)
    kept: tuple[list[int], list[int]] = ([], [])
    for _ in range(rounds):
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(url, cookie_jar=jar) as client:

            async def get(path: str, client: aiohttp.ClientSession = client) -> Any:
                async with client.get(path) as response:
                    response.raise_for_status()
                    return await response.json() if path == "/show" else None

            await get("/begin")
            await gathered(get(f"/append?item={number}") for number in range(AT_ONCE))
            shown = await get("/show")
            kept[0].append(len(set(shown["items"])))
            await gathered(get("/increment") for _ in range(AT_ONCE))
            kept[1].append((await get("/show"))["count"])
    return kept


async def gathered(calls: Any) -> None:
    """Wait for all of *calls*."""
    everything: list[Awaitable[None]] = list(calls)
    await asyncio.gather(*everything)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--serve", nargs=3, metavar=("NAME", "PLACE", "PORT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        name, place, port = options.serve
        SERVERS[name][0](place, int(port))
        return
    rows = []
    with redis_url() as place:
        for name, (_, module) in SERVERS.items():
            if importlib.util.find_spec(module) is None:
                progress(f"{name} is not installed")
                continue
            progress(name)
            with serving(name, place) as url:
                kept = asyncio.run(measure(url, options.rounds))
            rows.append([name, *(f"{statistics.mean(one):.1f} ({min(one)}-{max(one)})" for one in kept)])
    print(table(["on Redis, mean of the rounds (least-most)", "kept of 20 appends", "counted of 20 increments"], rows))


if __name__ == "__main__":
    main()
