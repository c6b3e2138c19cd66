"""What watched sessions cost: ``python -m benchmarks.watching``.

The first table: a process watches many sessions, and nothing happens.  The bytes are those that Python allocated for
each watch.  The share of a core is the CPU time of the process over the time on the wall.  The longest step is the CPU
time of one callback of the event loop: for so long, no other request gets its turn.  It is taken of each interval, and
the shortest of them is shown, because other work on the machine only adds to it.

The second table: one process serves many WebSockets of one session, and it logs out.  Another process asks for a small
page all the time, before and while the WebSockets are closed.
"""

import argparse
import asyncio
import multiprocessing
import os
import resource
import secrets
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from multiprocessing.connection import Connection
from socket import create_connection as connect
from typing import Any

from aiohttp import web

from aiohttp_session_store import (
    FileSystemStorage,
    KeyedStorage,
    MemoryStorage,
    SessionCookie,
    close_when_session_ends,
    get_session,
    setup,
)
from aiohttp_session_store.record.format import Record
from aiohttp_session_store.session.state import Place
from aiohttp_session_store.storages.postgres import PostgresStorage
from aiohttp_session_store.storages.redis import RedisStorage

from .handlers import DATA
from .report import machine, progress, write
from .servers import postgres_dsn, redis_url

SECRET = "a-secret-of-the-benchmark-0123456789-abcdefgh"
UPGRADE = (
    "GET /socket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nCookie: {cookie}\r\n\r\n"
)
CLOSE = 0x88


# --- nothing happens


class Steps:
    """Measures the CPU time of the callbacks of the event loop."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._run: Any = asyncio.Handle._run  # noqa: SLF001  there is no other way to see each step

    def __enter__(self) -> "Steps":
        run, steps = self._run, self

        def timed(handle: asyncio.Handle) -> None:
            begun = time.thread_time()
            run(handle)
            steps.longest = max(steps.longest, time.thread_time() - begun)

        asyncio.Handle._run = timed  # type: ignore[assignment, method-assign]  # noqa: SLF001
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.Handle._run = self._run  # type: ignore[method-assign]  # noqa: SLF001


async def made(kind: str, place: str) -> KeyedStorage:
    storage: KeyedStorage
    if kind == "memory":
        storage = MemoryStorage(sweep_interval=None)
    elif kind == "files":
        storage = FileSystemStorage(place, sweep_interval=None)
    elif kind == "redis":
        storage = RedisStorage.from_url(place)
    else:
        storage = PostgresStorage.from_dsn(place, sweep_interval=None)
        await storage.create_schema()
    await storage.start()
    return storage


async def places(storage: KeyedStorage, number: int) -> list[Place]:
    """Store so many sessions, and return where they stand."""
    now, found = storage.now(), []
    record = Record(now, now, storage.timeouts.idle, DATA)
    expires_at = storage.timeouts.expiry(now, now)

    async def one() -> Place:
        key = secrets.token_hex(32)
        data = storage.records.encode(record, key)
        await storage.insert(key, data, expires_at)
        stored = await storage.fetch(key)
        assert stored is not None
        return Place(key, stored, record, expires_at, expires_at)

    for _ in range(0, number, 64):
        found += await asyncio.gather(*(one() for _ in range(64)))
    return found[:number]


def closer(place: Place, watching: object, storage: object) -> Callable[[str], None]:
    """Return a function with as many variables as the one that closes a WebSocket."""

    def close(reason: str) -> None:
        raise AssertionError(place.key, reason, watching, storage)

    return close


async def idle(kind: str, place: str, number: int, seconds: float, interval: float) -> dict[str, float]:
    storage = await made(kind, place)
    found = await places(storage, number)
    watching = storage.watching(interval)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    watches = [[watching.add(one, closer(one, watching, storage))] for one in found]
    taken = (tracemalloc.get_traced_memory()[0] - before) / number
    tracemalloc.stop()
    await asyncio.sleep(min(seconds, 5))  # the look at the beginning
    cpu, wall, longest = time.process_time(), time.perf_counter(), []
    for _ in range(max(1, int(seconds / interval))):
        with Steps() as steps:
            await asyncio.sleep(interval)
        longest.append(steps.longest)
    share = (time.process_time() - cpu) / (time.perf_counter() - wall)
    assert all(watch.reason is None for (watch,) in watches)
    await watching.stop()
    await storage.aclose()
    return {"bytes": taken, "share": share, "longest": min(longest)}


# --- all end at once


async def login(request: web.Request) -> web.Response:
    (await get_session(request)).login("ada")
    return web.Response()


async def logout(request: web.Request) -> web.Response:
    (await get_session(request)).logout()
    return web.Response()


async def page(_: web.Request) -> web.Response:
    return web.Response(text="x" * 1000)


async def socket(request: web.Request) -> web.WebSocketResponse:
    await get_session(request)
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    close_when_session_ends(request, ws)
    async for _ in ws:
        pass
    return ws


def serve(port: Connection) -> None:
    pin(0)

    async def run() -> None:
        app = web.Application()
        setup(app, MemoryStorage(), cookie=SessionCookie(secrets=SECRET))
        app.add_routes([web.get("/", page), web.get("/login", login), web.get("/logout", logout)])
        app.add_routes([web.get("/socket", socket)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        assert site._server is not None  # noqa: SLF001  the port is not known elsewhere
        port.send(site._server.sockets[0].getsockname()[1])  # type: ignore[attr-defined]  # noqa: SLF001
        await asyncio.to_thread(port.recv)
        await runner.cleanup()

    asyncio.run(run())


def pin(core: int) -> None:
    """Run this process on one of the cores, so that the one of the server is left to it.  Only Linux can do that."""
    if not hasattr(os, "sched_getaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[core]})


def probe(port: int, pipe: Connection) -> None:
    """Ask for the page again and again, and send the seconds that each took, with the time."""
    pin(-1)

    async def run() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        taken, stop = [], asyncio.get_running_loop().run_in_executor(None, pipe.recv)
        while not stop.done():
            begun = time.perf_counter()
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            await reader.readexactly(1000)
            taken.append((time.time(), time.perf_counter() - begun))
            await asyncio.sleep(0.002)
        pipe.send(taken)
        writer.close()

    asyncio.run(run())


def get(port: int, path: str, cookie: str) -> str:
    with connect(("127.0.0.1", port)) as connection:
        connection.sendall(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n".encode()
        )
        return b"".join(iter(lambda: connection.recv(4096), b"")).decode()


def burst(port: int, pipe: Connection, number: int, quiet: float) -> None:
    """Open sockets, wait, and log out; send when the wait began and ended, and when the last socket was closed.

    This process works with bare sockets, and only while nobody else wants its core.  Real clients are elsewhere, and
    take nothing from the two processes that are measured.
    """
    pin(-1)
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    answer = get(port, "/login", "")
    cookie = answer.partition("Set-Cookie: ")[2].partition(";")[0]
    sockets = []
    for _ in range(number):
        connection = connect(("127.0.0.1", port))
        connection.sendall(UPGRADE.format(cookie=cookie).encode())
        head = connection.recv(4096)
        assert b" 101 " in head, head
        assert head.endswith(b"\r\n\r\n"), head
        sockets.append(connection)
    time.sleep(2)
    begun = time.time()
    time.sleep(quiet)
    ended = time.time()
    get(port, "/logout", cookie)
    for connection in sockets:
        first = connection.recv(1)
        assert first[0] == CLOSE, first
        connection.close()
    pipe.send((begun, ended, time.time()))


def all_at_once(number: int, quiet: float) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(theirs,))
    server.start()
    port = ours.recv()
    to_probe, from_us = context.Pipe()
    prober = context.Process(target=probe, args=(port, from_us))
    prober.start()
    from_clients, to_us = context.Pipe(duplex=False)
    clients = context.Process(target=burst, args=(port, to_us, number, quiet))
    clients.start()
    to_us.close()
    try:
        begun, ended, closed = from_clients.recv()
        to_probe.send("stop")
        taken = to_probe.recv()
    finally:
        ours.send("stop")
        for process in (clients, prober):
            process.join(10)
            process.kill()
        server.join(70)
        server.kill()
    before = [seconds for at, seconds in taken if begun <= at < ended]
    during = [seconds for at, seconds in taken if ended <= at <= closed]
    return {
        "seconds": closed - ended,
        "before": statistics.quantiles(before, n=100)[98],
        "during": statistics.quantiles(during, n=100)[98],
    }


# --- the command


def main() -> None:
    """Print the tables and write all figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("storages", nargs="*", default=["memory", "files", "redis", "postgres"])
    parser.add_argument("--number", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=45)
    parser.add_argument("--interval", type=float, default=15)
    parser.add_argument("--rounds", type=int, default=3, help="of logouts; 0: none")
    parser.add_argument("--directory", default=".", help="where a temporary folder is created")
    parser.add_argument("--json", default="bench-results/watching.json")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    document: dict[str, Any] = {"machine": machine(options.directory), "figures": {}}
    print("| storage | bytes for each watch | share of a core | longest step |\n|---|---|---|---|")
    for kind in options.storages:
        progress(f"{kind}: {options.number} watched sessions")
        figures = run(kind, options)
        document["figures"][kind] = figures
        print(
            f"| {kind} | {figures['bytes']:.0f} | {figures['share']:.2%} | {figures['longest'] * 1000:.2f} ms |",
            flush=True,
        )
    if options.rounds:
        print("\n| WebSockets | closed within | p99 before | p99 meanwhile | ratio |\n|---|---|---|---|---|")
    for _ in range(options.rounds):
        figures = all_at_once(options.number, 10)
        document["figures"].setdefault("burst", []).append(figures)
        print(
            f"| {options.number} | {figures['seconds']:.1f} s | {figures['before'] * 1000:.2f} ms"
            f" | {figures['during'] * 1000:.2f} ms | x{figures['during'] / figures['before']:.2f} |",
            flush=True,
        )
    write(options.json, document)


def run(kind: str, options: argparse.Namespace) -> dict[str, float]:
    """Start the server of a storage, if it has one, and measure."""
    arguments = options.number, options.seconds, options.interval
    if kind == "redis":
        with redis_url() as url:
            return asyncio.run(idle(kind, url, *arguments))
    if kind == "postgres":
        with postgres_dsn() as dsn:
            return asyncio.run(idle(kind, dsn, *arguments))
    with tempfile.TemporaryDirectory(dir=options.directory) as place:
        return asyncio.run(idle(kind, place, *arguments))


if __name__ == "__main__":
    main()
