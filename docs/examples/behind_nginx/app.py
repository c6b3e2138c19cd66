"""An app behind nginx, which uses HTTPS to the browser and HTTP to the app.

Copy nginx.conf, which is beside this file, to /etc/nginx/conf.d.  Run the app and open https://example.org::

    python docs/examples/behind_nginx/app.py

The cookie is Secure although the app never sees HTTPS.  Because of its prefix ``__Host-``, the browser refuses a cookie
of that name from any other host.  To try the app without nginx, remove ``cookie=COOKIE``.
"""

from aiohttp import WSCloseCode, WSMsgType, web

from aiohttp_session_store import (
    FileSystemStorage,
    SessionCookie,
    SessionStorage,
    close_when_session_ends,
    get_session,
    protect_from_csrf,
    save_session,
    setup,
)

COOKIE = SessionCookie("__Host-session", secure=True)

routes = web.RouteTableDef()


@routes.get("/")
async def index(request: web.Request) -> web.Response:
    """Greet the visitor."""
    session = await get_session(request)
    return web.Response(text=f"{session.get('notice', 'Hello')}, {session.owner or 'stranger'}.\n")


@routes.post("/login")
async def login(request: web.Request) -> web.Response:
    """Log in.  A real app checks a password here, as security.py does."""
    name = (await request.post()).get("name")
    if name not in ("ada", "grace"):
        raise web.HTTPForbidden
    session = await get_session(request)
    session.login(str(name))
    session.flash("notice", "Welcome")
    raise web.HTTPSeeOther("/")


@routes.post("/logout")
async def logout(request: web.Request) -> web.Response:
    """End the session and leave a message in a new one."""
    session = await get_session(request)
    session.logout()
    session.flash("notice", "Goodbye")
    raise web.HTTPSeeOther("/")


@routes.get("/chat")
async def chat(request: web.Request) -> web.StreamResponse:
    """Count the messages of a WebSocket, which is closed when the visitor logs out elsewhere."""
    session = await get_session(request)
    if session.owner is None:
        raise web.HTTPForbidden
    socket = web.WebSocketResponse(heartbeat=30)  # nginx closes one that is silent for proxy_read_timeout
    await socket.prepare(request)
    close_when_session_ends(request, socket)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            session["messages"] = session.get("messages", 0) + 1
            if not await save_session(request):  # it has ended just now
                await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"ended")
                break
            await socket.send_str(f"{session['messages']}: {message.data}")
    return socket


def make_app(storage: SessionStorage) -> web.Application:
    """Build the application."""
    app = web.Application()
    app.add_routes(routes)
    protect_from_csrf(app)  # WebSockets, too: without it, a page of another host could open the chat
    setup(app, storage, cookie=COOKIE)
    return app


if __name__ == "__main__":
    # On the loopback interface only: a request that bypasses nginx would come without HTTPS.
    web.run_app(make_app(FileSystemStorage("var/sessions")), host="127.0.0.1", port=8080)
