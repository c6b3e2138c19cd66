"""Flash messages in every template of aiohttp-jinja2, with a context processor.

Run it, and open http://localhost:8080::

    pip install aiohttp-jinja2
    python docs/examples/flash_templates.py

aiohttp-jinja2 runs its context processors before *every* request, including those for images, polling and JSON.  If one
of them loaded the session, it would use up the message in a request that shows no page, and it would make every
response private.  So this context processor only passes a function to the templates.  The session is loaded when a page
that shows messages is rendered, and not before.  With ``enable_async=True``, templates await the function by
themselves.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import aiohttp_jinja2
import jinja2
from aiohttp import web
from aiohttp.typedefs import Handler

from aiohttp_session_store import FileSystemStorage, SessionStorage, get_session, setup

KINDS = ("error", "notice")

Flashed = Callable[[], Awaitable[list[tuple[str, str]]]]


async def flash_processor(request: web.Request) -> dict[str, Flashed]:
    """Make ``flashed()`` available in every template."""
    return {"flashed": partial(flashed, request)}


async def flashed(request: web.Request) -> list[tuple[str, str]]:
    """Return the messages that the previous request left, each with its kind."""
    session = await get_session(request)
    return [(kind, session[kind]) for kind in KINDS if kind in session]


TEMPLATES = {
    "base.html": """<!doctype html>
<html lang="en"><title>{% block title %}Shop{% endblock %}</title>
{% for kind, text in flashed() %}<p class="{{ kind }}" role="status">{{ text }}</p>
{% endfor %}{% block main %}{% endblock %}
</html>""",
    "shop.html": """{% extends "base.html" %}{% block main %}
<form method="post" action="/buy"><input name="what" placeholder="What?"><button>Buy</button></form>{% endblock %}""",
    "missing.html": """{% extends "base.html" %}{% block main %}<h1>There is no such page</h1>{% endblock %}""",
    "bare.html": """<!doctype html><title>About</title><p>The same for everybody, so caches may keep it.</p>""",
}

routes = web.RouteTableDef()


@routes.get("/")
@aiohttp_jinja2.template("shop.html")
async def shop(_: web.Request) -> dict[str, Any]:
    """Show a page that does not use the session itself; its base template shows the messages."""
    return {}


@routes.post("/buy")
async def buy(request: web.Request) -> web.Response:
    """Leave a message for the next page."""
    what = str((await request.post()).get("what", "")).strip()
    session = await get_session(request)
    if what:
        session.flash("notice", f"You have bought: {what}")
    else:
        session.flash("error", "What was it that you wanted?")
    raise web.HTTPSeeOther("/")


@routes.get("/about")
@aiohttp_jinja2.template("bare.html")
async def about(_: web.Request) -> dict[str, Any]:
    """Show a page without messages: the session is not touched."""
    return {}


@web.middleware
async def show_missing(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Show an error page, but only to a browser that asks for a page: a missing image must not use up the message."""
    try:
        return await handler(request)
    except web.HTTPNotFound:
        if "text/html" not in request.headers.get("Accept", ""):
            raise
        return await aiohttp_jinja2.render_template_async("missing.html", request, {}, status=404)


def make_app(storage: SessionStorage) -> web.Application:
    """Build the application."""
    app = web.Application(middlewares=[show_missing])
    app.add_routes(routes)
    aiohttp_jinja2.setup(
        app,
        loader=jinja2.DictLoader(TEMPLATES),
        autoescape=True,
        enable_async=True,
        context_processors=[flash_processor],
    )
    setup(app, storage)
    return app


if __name__ == "__main__":
    web.run_app(make_app(FileSystemStorage("var/sessions")), host="localhost", port=8080)
