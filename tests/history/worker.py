"""The app under test: its handlers do what the request tells them, and answer what they saw.

``python -m tests.history.worker STORAGE PORT CLOCK RING [BROKEN]``, where STORAGE is ``memory``, a directory or the URL
of a server, CLOCK a file that says how far the clock is moved, RING the number of one of ``RINGS``, and BROKEN one of
the names in ``broken.py``.
"""

import asyncio
import base64
import json
import logging
import mmap
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from aiohttp_session_store import (
    FileSystemStorage,
    KeyedStorage,
    KeyRing,
    MemoryStorage,
    Session,
    SessionCookie,
    SessionUsageError,
    StorageError,
    exclusive_session,
    get_session,
    get_storage,
    new_session,
    save_session,
    setup,
)
from aiohttp_session_store.storages.postgres import PostgresStorage
from aiohttp_session_store.storages.redis import RedisStorage
from tests.history.broken import IDLE_TIMEOUT, broken_storage
from tests.history.history import ADDED, COUNT, LIST, Step

SECRET = "known-secret-0123456789-abcdefghijklmnopqrstuvwxyz"
LONGEST_LIST = 4
# Limits of one session, in seconds, none of which a run reaches.
REMEMBERED, LONGEST_RUN = 30 * 86400, 80 * 86400
# Seconds that a request waits for the exclusive lock.
PATIENCE = 3.0


def seen(session: Session) -> dict[str, Any]:
    """Return what a handler finds: every value is a list, and known by its last element."""
    data = {key: value[-1] for key, value in session.items() if key not in (LIST, COUNT)}
    appended = session.get(LIST, [])
    data |= {ADDED + tag: tag for tag in appended}
    added = [len(appended), session.get(COUNT, 0)]
    key = None if session.new else session.key
    return {"new": session.new, "data": data, "owner": session.owner, "key": key, "added": added}


async def carry_out(request: web.Request, session: Session, steps: list[Step], report: dict[str, Any]) -> None:
    """Do *steps* to a session."""
    for name, *arguments in steps:
        if name == "set":
            session[arguments[0]] = [arguments[1]]
        elif name == "append":
            values = session.setdefault(arguments[0], [])
            values.append(arguments[1])
            del values[:-LONGEST_LIST]
        elif name == "add":
            session.setdefault(LIST, []).append(arguments[0])
            session.increment(COUNT)
        elif name == "unset":
            session.unset(arguments[0])
        elif name == "clear":
            session.clear()
        elif name == "flash":
            session.flash(arguments[0], [arguments[1]])
        elif name == "keep":
            session.keep_flashes()
        elif name == "discard":
            session.discard()
        elif name == "regenerate":
            if len(arguments) == 1 or (arguments[1] is None and session.owner is None):
                session.regenerate_id(arguments[0])
            elif arguments[1] is None:
                session.confirm_login()
            else:
                session.login(arguments[1], remember=REMEMBERED if arguments[2:] == [True] else None)
        elif name == "shorten":
            if session.owner is not None:
                session.shorten(lifetime=LONGEST_RUN + arguments[0])
        elif name == "destroy":
            if arguments:
                session.logout()
            else:
                session.destroy()
        elif name == "end":
            owner, keep = arguments
            report["ended"] = await get_storage(request).end_sessions(owner, keep=session if keep else None)
        elif name == "list":
            report["shown"] = [info.key for info in await get_storage(request).sessions_of(arguments[0])]
        elif name == "new":
            session = await new_session(request)
        elif name == "save":
            report["saved"].append(await save_session(request))
        elif name == "pause":
            await asyncio.sleep(arguments[0])
        else:
            raise ValueError(name)


async def order(request: web.Request) -> web.Response:
    """Carry out one order, and end as it says."""
    told = await request.json()
    report: dict[str, Any] = request.setdefault("report", {"saved": [], "error": ""})
    try:
        if told["exclusive"]:
            async with exclusive_session(request, timeout=PATIENCE) as session:
                report |= seen(session)
                await carry_out(request, session, told["steps"], report)
                if told["end"] != "ok":
                    return end_as(told["end"])
        else:
            session = await get_session(request)
            report |= seen(session)
            await carry_out(request, session, told["steps"], report)
    except SessionUsageError as error:  # the session ended meanwhile, and this handler writes on
        report["error"] = type(error).__name__
        return web.Response(status=500)
    return end_as(told["end"])


def end_as(end: str) -> web.Response:
    if end == "redirect":
        raise web.HTTPFound("/")
    if end == "raise":
        raise web.HTTPInternalServerError
    if end == "crash":
        raise RuntimeError("told to crash")
    return web.Response(status=500 if end == "status" else 200)


async def socket(request: web.Request) -> web.WebSocketResponse:
    """Do what the query says before the handshake, then what each message says, and save after each."""
    session = await get_session(request)
    request["report"] = {"saved": [], "error": "", **seen(session)}
    await carry_out(request, session, json.loads(request.query["steps"]), request["report"])
    channel = web.WebSocketResponse()
    await channel.prepare(request)
    async for message in channel:
        answer: dict[str, Any] = {"saved": [], "error": "", "stored": ""}
        try:
            await carry_out(request, session, json.loads(message.data), answer)
            answer["saved"].append(await save_session(request))
        except SessionUsageError as error:
            answer["error"] = type(error).__name__
        except StorageError as error:
            answer["stored"] = "unknown" if error.maybe_stored else "no"
        await channel.send_json(answer)
    return channel


@web.middleware
async def say_what_was_stored(request: web.Request, handler: Any) -> web.StreamResponse:
    try:
        response: web.StreamResponse = await handler(request)
    except web.HTTPServiceUnavailable as unavailable:
        if isinstance(unavailable.__cause__, StorageError):
            unavailable.headers["X-Stored"] = "unknown" if unavailable.__cause__.maybe_stored else "no"
        raise
    return response


async def say_what_was_seen(request: web.Request, response: web.StreamResponse) -> None:
    """Put the report in a header: an answer that aiohttp makes of an exception has it, too."""
    response.headers["X-Report"] = json.dumps(request.get("report", {}))


def clock_from(path: str) -> Callable[[], float]:
    """Return a clock that another process can move: the file holds one number."""
    with Path(path).open("rb") as file:
        moved = mmap.mmap(file.fileno(), 8, prot=mmap.PROT_READ)
    return lambda: time.time() + float(struct.unpack("d", moved[:8])[0])


FIRST, SECOND = (f"{name}:{base64.b64encode(name.encode() * 16).decode()}" for name in ("k1", "k2"))
# What a worker encrypts with: nothing, the first key, the second one, or nothing although it reads both.
RINGS = [None, KeyRing(FIRST, SECOND), KeyRing(SECOND, FIRST), KeyRing(FIRST, SECOND, decrypt_only=True)]


def make_storage(place: str, clock: Callable[[], float], ring: int = 0, broken: str = "") -> KeyedStorage:
    if broken:
        return broken_storage(broken, clock)
    options: Any = {"clock": clock, "idle_timeout": IDLE_TIMEOUT, "encryption": RINGS[ring]}
    if place == "memory":
        return MemoryStorage(**options)
    if place.startswith("redis:"):
        return RedisStorage.from_url(place, timeout=2, **options)
    if place.startswith("postgresql:"):
        return PostgresStorage.from_dsn(place, timeout=2, pool_size=5, **options)
    return FileSystemStorage(place, sweep_interval=5, **options)


def make_app(place: str, clock: Callable[[], float], ring: int, broken: str = "") -> web.Application:
    app = web.Application()
    app.router.add_post("/order", order)
    app.router.add_get("/socket", socket)
    setup(app, make_storage(place, clock, ring, broken), cookie=SessionCookie(secrets=SECRET))
    app.middlewares.insert(0, say_what_was_stored)
    app.on_response_prepare.append(say_what_was_seen)
    return app


if __name__ == "__main__":
    logging.basicConfig(level=logging.CRITICAL)
    web.run_app(
        make_app(sys.argv[1], clock_from(sys.argv[3]), int(sys.argv[4]), "".join(sys.argv[5:])),
        host="127.0.0.1",
        port=int(sys.argv[2]),
        print=None,
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=1,
    )
