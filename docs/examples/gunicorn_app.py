"""Several worker processes, and one directory of sessions.

Run it, and open http://localhost:8080::

    pip install gunicorn
    python -m gunicorn --config docs/examples/gunicorn_conf.py --chdir docs/examples gunicorn_app:make_app

gunicorn gets the function that makes the app, not an app: so each worker makes its own, in its own event loop.  Every
request may meet another worker; all of them see the same sessions, because these are in files.  ``MemoryStorage`` would
give each worker sessions and a secret of its own, and log visitors out at random.
"""

import os

from aiohttp import web

from aiohttp_session_store import FileSystemStorage, get_session, setup


async def index(request: web.Request) -> web.Response:
    """Count the visits, and name the worker."""
    session = await get_session(request)
    session["visits"] = session.get("visits", 0) + 1
    return web.json_response({"visits": session["visits"], "worker": os.getpid()})


async def put(request: web.Request) -> web.Response:
    """Store one key; parallel requests that reach different workers lose none."""
    session = await get_session(request)
    session[request.match_info["key"]] = os.getpid()
    return web.json_response({"worker": os.getpid()})


async def show(request: web.Request) -> web.Response:
    """Return what is in the session."""
    return web.json_response(dict(await get_session(request)))


async def make_app() -> web.Application:
    """Put the application together; gunicorn calls it in each worker."""
    app = web.Application()
    app.add_routes([web.get("/", index), web.put("/keys/{key}", put), web.get("/keys", show)])
    # Beside the other directories of the app: --chdir is where a relative path begins.
    setup(app, FileSystemStorage("var/sessions"))
    return app
