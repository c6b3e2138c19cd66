"""Authentication and permissions: aiohttp-security with the identity in the session.

Run it, and open http://localhost:8080::

    pip install aiohttp-security argon2-cffi
    python docs/examples/security.py

"ada" (password "analytical-engine") may read the books.  "grace"
(password "found-a-moth") may not.
"""

import asyncio
import secrets
from dataclasses import dataclass
from enum import Enum
from typing import Any

import aiohttp_security
from aiohttp import web
from aiohttp_security.abc import AbstractAuthorizationPolicy
from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from aiohttp_session_store import FileSystemStorage, SessionStorage, setup
from aiohttp_session_store.integrations.aiohttp_security import SessionIdentityPolicy

# --- users: in a real app they come from a database, which stores hashes and never passwords

_hasher = PasswordHasher()


@dataclass(frozen=True)
class User:
    """A user of the example."""

    password_hash: str
    permissions: frozenset[str] = frozenset()


USERS = {
    "ada": User(_hasher.hash("analytical-engine"), frozenset({"read books"})),
    "grace": User(_hasher.hash("found-a-moth")),
}
# If the name is unknown, this hash is verified, so that the time of the answer does not reveal whether a user exists.
_nobody = User(_hasher.hash(secrets.token_urlsafe()))


class UsersPolicy(AbstractAuthorizationPolicy):
    """Looks the user up in every request, so that a user who is removed from ``USERS`` is logged out at once."""

    async def authorized_userid(self, identity: str) -> str | None:
        """Return the name of the user, or None if the user no longer exists."""
        return identity if identity in USERS else None

    async def permits(self, identity: str | None, permission: str | Enum, context: Any = None) -> bool:
        """Whether the user has *permission*; a visitor who is not logged in has none."""
        return identity in USERS and permission in USERS[identity].permissions


async def check_password(name: str, password: str) -> bool:
    """Whether *password* belongs to *name*.  Runs in a thread, because hashing is slow on purpose."""
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
    """Show who is logged in, or the login form.  The names in ``USERS`` need no escaping; yours may."""
    user = await aiohttp_security.authorized_userid(request)
    return web.Response(text=LOGOUT.format(user) if user else LOGIN, content_type="text/html")


@routes.post("/login")
async def login(request: web.Request) -> web.Response:
    """Check the password and log the user in."""
    form = await request.post()
    name = str(form.get("name", ""))
    if not await check_password(name, str(form.get("password", ""))):
        raise web.HTTPForbidden(text="403: that name and password do not belong together")
    response = web.HTTPSeeOther("/")
    await aiohttp_security.remember(request, response, name)
    raise response


@routes.post("/logout")
async def logout(request: web.Request) -> web.Response:
    """Log the user out."""
    response = web.HTTPSeeOther("/")
    await aiohttp_security.forget(request, response)
    raise response


@routes.get("/books")
async def books(request: web.Request) -> web.Response:
    """Answer 401 to visitors who are not logged in, and 403 to users without the permission."""
    await aiohttp_security.check_permission(request, "read books")
    return web.Response(text="The books: nothing is missing.\n")


def make_app(storage: SessionStorage) -> web.Application:
    """Build the application."""
    app = web.Application()
    app.add_routes(routes)
    aiohttp_security.setup(app, SessionIdentityPolicy(), UsersPolicy())
    setup(app, storage)
    return app


if __name__ == "__main__":
    web.run_app(make_app(FileSystemStorage("var/sessions")), host="localhost", port=8080)
