"""The visitor's address behind a proxy: aiohttp-remotes corrects ``request.remote``, ``scheme`` and ``host``.

Run it behind the nginx of ``behind_nginx/``, and open https://example.org::

    pip install aiohttp-remotes
    python docs/examples/remotes.py

The session cookie does not need aiohttp-remotes: it is Secure if the proxy says that the visitor came over HTTPS.  Log
files, rate limits and links to your own site do need it.  The session middleware stays the outermost one, whatever is
set up first.
"""

import aiohttp_remotes
from aiohttp import web

from aiohttp_session_store import FileSystemStorage, SessionStorage, get_session, setup


async def index(request: web.Request) -> web.Response:
    """Count the visits and show the visitor's address."""
    session = await get_session(request)
    session["visits"] = session.get("visits", 0) + 1
    return web.json_response({"visits": session["visits"], "remote": request.remote, "url": str(request.url)})


async def make_app(storage: SessionStorage) -> web.Application:
    """Build the application."""
    app = web.Application()
    app.router.add_get("/", index)
    setup(app, storage)
    await aiohttp_remotes.setup(
        app,
        aiohttp_remotes.XForwardedRelaxed(num=1),  # trusts the last proxy: every request must come through it
        # After it, because it uses the corrected scheme.  Redirects plain HTTP to HTTPS.  nginx.conf sends the header.
        aiohttp_remotes.Secure(sts=None),
    )
    return app


if __name__ == "__main__":
    web.run_app(make_app(FileSystemStorage("var/sessions")), host="127.0.0.1", port=8080)
