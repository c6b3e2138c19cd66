"""An app on uvloop: sessions need no setting for it.

Run it, and open http://localhost:8080::

    pip install uvloop
    python docs/examples/uvloop_app.py

``run_app`` takes a loop and also handles signals.  An app with its own ``main`` passes it to ``uvloop.run`` instead.
``python docs/examples/uvloop_app.py --main`` shows this second way.
"""

import asyncio
import signal
import sys

import uvloop
from aiohttp import web

from aiohttp_session_store import FileSystemStorage, SessionStorage, get_session, setup


async def index(request: web.Request) -> web.Response:
    """Count the visits and name the event loop."""
    session = await get_session(request)
    session["visits"] = session.get("visits", 0) + 1
    loop = type(asyncio.get_running_loop())
    return web.Response(text=f"visit {session['visits']}, on {loop.__module__}\n")


def make_app(storage: SessionStorage) -> web.Application:
    """Build the application."""
    app = web.Application()
    app.router.add_get("/", index)
    setup(app, storage)
    return app


async def main() -> None:
    """Serve until SIGTERM or Ctrl-C; the process may do other things in the same loop."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = web.AppRunner(make_app(FileSystemStorage("var/sessions")))
    await runner.setup()
    try:
        await web.TCPSite(runner, "localhost", 8080).start()
        await stop.wait()
    finally:
        await runner.cleanup()  # ends the sweep and closes the storage


if __name__ == "__main__":
    if "--main" in sys.argv:
        uvloop.run(main())
    else:
        web.run_app(
            make_app(FileSystemStorage("var/sessions")),
            host="localhost",
            port=8080,
            loop=uvloop.new_event_loop(),
        )
