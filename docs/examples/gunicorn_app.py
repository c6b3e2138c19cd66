"""Several worker processes with one directory of sessions.

Run it, and open http://localhost:8080::

    pip install gunicorn
    python -m gunicorn --config docs/examples/gunicorn_conf.py --chdir docs/examples gunicorn_app:make_app

gunicorn gets the function that makes the app, not an app, so each worker makes its own app in its own event loop.  Each
request may reach a different worker.  All workers see the same sessions, because the sessions are in files.  With
``MemoryStorage``, each worker would have its own sessions and its own secret, so visitors would be logged out at
random.
"""

import os

from aiohttp import web

from aiohttp_session_store import FileSystemStorage, get_session, setup


async def index(request: web.Request) -> web.Response:
    """Count the visits and name the worker."""
    session = await get_session(request)
    session["visits"] = session.get("visits", 0) + 1
    return web.json_response({"visits": session["visits"], "worker": os.getpid()})


async def put(request: web.Request) -> web.Response:
    """Store one key.  Parallel requests that reach different workers lose no key."""
    session = await get_session(request)
    session[request.match_info["key"]] = os.getpid()
    return web.json_response({"worker": os.getpid()})


async def show(request: web.Request) -> web.Response:
    """Return what is in the session."""
    return web.json_response(dict(await get_session(request)))


async def make_app() -> web.Application:
    """Build the application; gunicorn calls this function in each worker."""
    app = web.Application()
    app.add_routes([web.get("/", index), web.put("/keys/{key}", put), web.get("/keys", show)])
    # The path is relative to the directory that --chdir names.
    setup(app, FileSystemStorage("var/sessions"))
    return app
