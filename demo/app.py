"""The demo application: its handlers and its security measures."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp_jinja2
import jinja2
from aiohttp import web

from aiohttp_session_store import (
    Session,
    SessionCookie,
    SessionStorage,
    get_session,
    get_storage,
    protect_from_csrf,
    save_session,
    setup,
    watch_session,
)
from aiohttp_session_store.device import bind_devices, device_state

from .devices import device_of
from .users import PASSWORDS, SHORTEST_PASSWORD, change_password, check_password, password_number

HERE = Path(__file__).parent
MOST_NOTES, LONGEST_NOTE = 10, 100
REMEMBERED, FRESH = timedelta(days=30), timedelta(minutes=10)
STOPPING = web.AppKey("stopping", asyncio.Event)
BOUND = web.AppKey("bound", bool)  # whether logins are bound to the browser's key
KEEPS_RECORDS = web.AppKey("keeps_records", bool)  # without records, a session cannot change after the headers are sent

routes = web.RouteTableDef()
routes.static("/static", HERE / "static")


@routes.get("/", name="home")
@aiohttp_jinja2.template("home.html")
async def home(request: web.Request) -> dict[str, Any]:
    """Show the visitor's session, and count the visit."""
    session = await current_session(request)
    session["visits"] = session.get("visits", 0) + 1
    return {"session": describe(session), "device": device_state(request) if request.app[BOUND] else None}


@routes.get("/login", name="login")
@aiohttp_jinja2.template("login.html")
async def login_form(request: web.Request) -> dict[str, Any]:
    """Show the login form."""
    return {"session": describe(await current_session(request)), "passwords": PASSWORDS}


@routes.post("/login")
async def login(request: web.Request) -> web.Response:
    """Log in under a new session id, so that whoever knew the old id is not logged in as well."""
    form = await request.post()
    name = str(form.get("name", ""))
    session = await current_session(request)
    number = await check_password(name, str(form.get("password", "")))
    if number is None:
        session.flash("error", "Wrong name or password.")
        raise web.HTTPSeeOther("/login")
    session.login(
        name,
        remember=REMEMBERED if "remember" in form else None,
        label=device_of(request.headers.get("User-Agent", "")),
    )
    session["password_number"] = number
    session.flash("notice", f"Welcome, {name.capitalize()}!")
    raise web.HTTPSeeOther("/")


@routes.post("/logout")
async def logout(request: web.Request) -> web.Response:
    """End the session, and say goodbye in a new one."""
    session = await current_session(request)
    session.logout()
    session.flash("notice", "You are logged out. Goodbye!")
    # A browser that has a key for this login forgets it at once.
    raise web.HTTPSeeOther("/login", headers={"Clear-Site-Data": '"storage"'} if request.app[BOUND] else None)


@routes.get("/password", name="password")
@aiohttp_jinja2.template("password.html")
async def password_form(request: web.Request) -> dict[str, Any]:
    """Show the form, with a field for the old password if the login is too old."""
    session = await current_session(request)
    if session.owner is None:
        raise web.HTTPSeeOther("/login")
    return {"session": describe(session), "fresh": session.authenticated_within(FRESH), "shortest": SHORTEST_PASSWORD}


@routes.post("/password")
async def new_password(request: web.Request) -> web.Response:
    """Change the password, and log out every other device of the account."""
    session, form = await current_session(request), await request.post()
    if session.owner is None:
        raise web.HTTPSeeOther("/login")
    if not session.authenticated_within(FRESH):
        if await check_password(session.owner, str(form.get("old", ""))) is None:
            session.flash("error", "That is not your current password.")
            raise web.HTTPSeeOther("/password")
        session.confirm_login()
    password = str(form.get("new", ""))
    if len(password) < SHORTEST_PASSWORD:
        session.flash("error", f"The new password needs at least {SHORTEST_PASSWORD} characters.")
        raise web.HTTPSeeOther("/password")
    session["password_number"] = await change_password(session.owner, password)
    if request.app[KEEPS_RECORDS]:  # otherwise the number in them ends the other sessions
        await get_storage(request).end_sessions(session.owner, keep=session)
    session.flash("notice", "Your password is changed. All other devices are logged out.")
    raise web.HTTPSeeOther("/devices" if request.app[KEEPS_RECORDS] else "/")


@routes.get("/devices", name="devices")
@aiohttp_jinja2.template("devices.html")
async def devices(request: web.Request) -> dict[str, Any]:
    """List the sessions of the account; storages that keep no records cannot."""
    session = await current_session(request)
    if session.owner is None or not request.app[KEEPS_RECORDS]:
        raise web.HTTPSeeOther("/login")
    infos = await get_storage(request).sessions_of(session.owner)
    return {"session": describe(session), "devices": [{"info": info, "own": info.key == session.key} for info in infos]}


@routes.post("/devices/end")
async def end_device(request: web.Request) -> web.Response:
    """Log out one other device of the account."""
    session, key = await current_session(request), str((await request.post()).get("key", ""))
    if session.owner is None:
        raise web.HTTPSeeOther("/login")
    if await get_storage(request).end_session(session.owner, key):
        session.flash("notice", "That device is logged out.")
    raise web.HTTPSeeOther("/devices")


@routes.post("/devices/end-others")
async def end_other_devices(request: web.Request) -> web.Response:
    """Log out every device of the account except this one."""
    session = await current_session(request)
    if session.owner is None:
        raise web.HTTPSeeOther("/login")
    ended = await get_storage(request).end_sessions(session.owner, keep=session)
    session.flash("notice", f"{ended} other device{'' if ended == 1 else 's'} logged out.")
    raise web.HTTPSeeOther("/devices")


@routes.post("/notes")
async def add_note(request: web.Request) -> web.Response:
    """Append to a list inside the session; the session notices the change and saves it."""
    session = await current_session(request)
    text = " ".join(str((await request.post()).get("text", "")).split())
    notes = session.setdefault("notes", [])
    if not text or len(text) > LONGEST_NOTE or len(notes) >= MOST_NOTES:
        session.flash(
            "error", f"Note not added. Up to {MOST_NOTES} notes of up to {LONGEST_NOTE} characters are allowed."
        )
    else:
        notes.append(text)
    raise web.HTTPSeeOther("/")


@routes.post("/notes/remove")
async def remove_note(request: web.Request) -> web.Response:
    """Remove one note from the list, unless another tab has already removed it."""
    session = await current_session(request)
    text, notes = (await request.post()).get("text"), session.get("notes", [])
    if text in notes:
        notes.remove(text)
    raise web.HTTPSeeOther("/")


@routes.post("/notes/clear")
async def clear_notes(request: web.Request) -> web.Response:
    """Remove one key from the session."""
    (await current_session(request)).unset("notes")
    raise web.HTTPSeeOther("/")


@routes.get("/stream", name="stream")
@aiohttp_jinja2.template("stream.html")
async def stream_page(request: web.Request) -> dict[str, Any]:
    """Show the stream."""
    session = await current_session(request)
    session.setdefault("ticks", 0)  # /events needs a stored session
    return {"session": describe(session)}


@routes.get("/events")
async def events(request: web.Request) -> web.StreamResponse:
    """Send a counter from the session once a second, until the session ends or the server stops.

    The watch wakes the loop when the session ends: by a logout in another tab, or from another device.
    """
    session = await current_session(request)
    if session.new or not request.app[KEEPS_RECORDS]:
        raise web.HTTPNoContent  # tells an EventSource not to reconnect
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    watch, stopping = watch_session(request), request.app[STOPPING]
    wakers = [asyncio.ensure_future(watch.ended()), asyncio.ensure_future(stopping.wait())]
    try:
        while not stopping.is_set():
            session["ticks"] = session.get("ticks", 0) + 1
            if not await save_session(request):
                end = json.dumps({"reason": await watch.ended()})
                await response.write(f"event: end\ndata: {end}\n\n".encode())
                break
            await response.write(f"data: {json.dumps({'ticks': session['ticks']})}\n\n".encode())
            await asyncio.wait(wakers, timeout=1, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waker in wakers:
            waker.cancel()
    return response


async def current_session(request: web.Request) -> Session:
    """Return the visitor's session.  One that began with a password that was changed since is logged out."""
    session = await get_session(request)
    if session.owner is not None and session.get("password_number") != password_number(session.owner):
        session.logout()
    return session


def moment(at: int) -> str:
    """Return a time of a session as machines read it."""
    return datetime.fromtimestamp(at, UTC).isoformat()


def spoken(at: int) -> str:
    """Return a time of a session as people read it."""
    return f"{datetime.fromtimestamp(at, UTC):%-d %b %Y, %H:%M} UTC"


def describe(session: Session) -> dict[str, Any]:
    """Return the parts of a session that the pages show; the id is never one of them."""
    return {
        "key": session.key[:12],
        "created": session.created_at,
        "expires": session.expires_at,
        "user": session.owner,
        "data": dict(session),
        "error": session.get("error"),
        "notice": session.get("notice"),
    }


async def add_security_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Allow only what the pages use; forbid storing pages, or the back button would show them after the logout."""
    response.headers["Content-Security-Policy"] = (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "same-origin"
    if not isinstance(response, web.FileResponse):
        response.headers["Cache-Control"] = "no-store"


async def stop_streams(app: web.Application) -> None:
    """End the streams, which would otherwise delay the shutdown."""
    app[STOPPING].set()


def make_app(storage: SessionStorage, cookie: SessionCookie | None = None, *, bound: bool = False) -> web.Application:
    """Create the application.

    Args:
        storage: Where the sessions are.
        cookie: The settings of their cookie.
        bound: Whether logins are bound to the browser, if it can and the storage keeps records.  This needs HTTPS.
    """
    app = web.Application()
    protect_from_csrf(app)
    app[STOPPING] = asyncio.Event()
    app[KEEPS_RECORDS] = storage.kind == "id"
    app.on_response_prepare.append(add_security_headers)
    app.on_shutdown.append(stop_streams)
    app.add_routes(routes)
    loader, filters = jinja2.FileSystemLoader(HERE / "templates"), {"moment": moment, "spoken": spoken}
    pages = aiohttp_jinja2.setup(app, loader=loader, autoescape=True, filters=filters)
    pages.globals["live"] = app[KEEPS_RECORDS]
    setup(app, storage, cookie=cookie)
    app[BOUND] = bound and app[KEEPS_RECORDS]
    if app[BOUND]:
        bind_devices(app, exclude=["/static"])
    return app
