"""Who is it, and what may they do?  aiohttp-security, with the identity kept in our session.

Run it, and open http://localhost:8080::

    pip install aiohttp-security argon2-cffi
    python docs/examples/security.py

``SessionIdentityPolicy`` is the part to copy.  "ada" (password "analytical-engine") may read the books, "grace"
("found-a-moth") may not.
"""

import asyncio
import secrets
from dataclasses import dataclass
from enum import Enum
from typing import Any

import aiohttp_security
from aiohttp import web
from aiohttp_security.abc import AbstractAuthorizationPolicy, AbstractIdentityPolicy
from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from aiohttp_session_store import FileSystemStorage, SessionStorage, get_session, new_session, setup


class SessionIdentityPolicy(AbstractIdentityPolicy):
    """Keeps the identity in the session: the response is not needed, and may even be one that is raised."""

    async def identify(self, request: web.Request) -> str | None:
        """Return who logged in with this session, or None."""
        identity: str | None = (await get_session(request)).get("identity")
        return identity

    async def remember(
        self, request: web.Request, response: web.StreamResponse, identity: str, **kwargs: object
    ) -> None:
        """Log in under a new id, so that nobody who knew the old one is logged in, too."""
        session = await get_session(request)
        if session.destroyed or session.get("identity", identity) != identity:
            session = await new_session(request)  # nobody inherits what another user left
        else:
            session.regenerate_id(True)
        session["identity"] = identity

    async def forget(self, request: web.Request, response: web.StreamResponse) -> None:
        """End the session on the server: a copy of its cookie is worthless from now on."""
        (await get_session(request)).destroy()


# --- users: yours come from a database, which holds hashes and never passwords

_hasher = PasswordHasher()


@dataclass(frozen=True)
class User:
    """What is known of a user."""

    password_hash: str
    permissions: frozenset[str] = frozenset()


USERS = {
    "ada": User(_hasher.hash("analytical-engine"), frozenset({"read books"})),
    "grace": User(_hasher.hash("found-a-moth")),
}
# Verified when the name is unknown, so that the answer takes as long and does not tell.
_nobody = User(_hasher.hash(secrets.token_urlsafe()))


class UsersPolicy(AbstractAuthorizationPolicy):
    """Looks the user up at every request: whoever is removed from ``USERS`` is out at once, session or not."""

    async def authorized_userid(self, identity: str) -> str | None:
        """Return the user's name, unless there is no such user any more."""
        return identity if identity in USERS else None

    async def permits(self, identity: str | None, permission: str | Enum, context: Any = None) -> bool:
        """Whether the user has *permission*; somebody who is not logged in has none."""
        return identity in USERS and permission in USERS[identity].permissions


async def check_password(name: str, password: str) -> bool:
    """Whether *password* is the one of *name*; in a thread, because hashing is slow on purpose."""
    return await asyncio.to_thread(_verify, USERS.get(name, _nobody).password_hash, password)


def _verify(password_hash: str, password: str) -> bool:
    try:
        return _hasher.verify(password_hash, password)
    except VerificationError:
        return False


# --- handlers

routes = web.RouteTableDef()

LOGIN = """<!doctype html><title>Log in</title><form method="post" action="/login">
<input name="name" placeholder="Name"><input name="password" type="password" placeholder="Password">
<button>Log in</button></form>"""
LOGOUT = """<!doctype html><title>Logged in</title><p>You are {}. <a href="/books">The books</a>
<form method="post" action="/logout"><button>Log out</button></form>"""


@routes.get("/")
async def index(request: web.Request) -> web.Response:
    """Say who it is, or ask; the names in ``USERS`` need no escaping, yours may."""
    user = await aiohttp_security.authorized_userid(request)
    return web.Response(text=LOGOUT.format(user) if user else LOGIN, content_type="text/html")


@routes.post("/login")
async def login(request: web.Request) -> web.Response:
    """Check the password, and remember who it was."""
    form = await request.post()
    name = str(form.get("name", ""))
    if not await check_password(name, str(form.get("password", ""))):
        raise web.HTTPForbidden(text="403: that name and password do not belong together")
    response = web.HTTPSeeOther("/")
    await aiohttp_security.remember(request, response, name)
    raise response


@routes.post("/logout")
async def logout(request: web.Request) -> web.Response:
    """Forget who it was."""
    response = web.HTTPSeeOther("/")
    await aiohttp_security.forget(request, response)
    raise response


@routes.get("/books")
async def books(request: web.Request) -> web.Response:
    """Answer 401 to strangers, 403 to those who may not."""
    await aiohttp_security.check_permission(request, "read books")
    return web.Response(text="The books: nothing is missing.\n")


def make_app(storage: SessionStorage) -> web.Application:
    """Put the application together."""
    app = web.Application()
    app.add_routes(routes)
    aiohttp_security.setup(app, SessionIdentityPolicy(), UsersPolicy())
    setup(app, storage)
    return app


if __name__ == "__main__":
    web.run_app(make_app(FileSystemStorage("var/sessions")), host="localhost", port=8080)
