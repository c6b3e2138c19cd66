"""Serve the demo: ``python -m demo --help``."""

import argparse
import logging
import os
import secrets

from aiohttp import web

from aiohttp_session_store import CookieStorage, FileSystemStorage, MemoryStorage, SessionCookie, SessionStorage

from .app import make_app
from .certificate import make_certificate


def main() -> None:
    """Read the command line and serve until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m demo", description="Serve the demo of sessions for aiohttp.")
    parser.add_argument("--storage", choices=["memory", "filesystem", "cookie"], default="filesystem")
    parser.add_argument("--directory", default="var/sessions", help="for the session files (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8080, help="default: %(default)s")
    parser.add_argument("--https", action="store_true", help="with a certificate of its own, and device-bound logins")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")

    storage: SessionStorage
    name = "__Host-session" if options.https else "session"
    cookie = SessionCookie(name, secure=options.https or None)
    if options.storage == "memory":
        storage, where = MemoryStorage(), "memory"
    elif options.storage == "filesystem":
        storage, where = FileSystemStorage(options.directory), f"files in {options.directory}"
    else:
        storage, where = CookieStorage(), "signed cookies"
        secret = os.environ.get("DEMO_SECRET")
        cookie = SessionCookie(name, secure=options.https or None, secrets=secret or secrets.token_urlsafe(32))
        where += "" if secret else " (set DEMO_SECRET, or they are invalid after a restart)"

    context, hint = make_certificate() if options.https else (None, "")
    url = f"http{'s' if options.https else ''}://localhost:{options.port}"
    lines = [f"{url}  sessions: {where}"]
    if options.https and storage.kind == "id":
        lines.append(f"For device-bound logins, start Chromium so: chromium {hint} {url}")

    web.run_app(
        make_app(storage, cookie, bound=options.https),
        host="localhost",
        port=options.port,
        ssl_context=context,
        print=lambda _: print("\n".join(lines), flush=True),
        access_log=None,
        handler_cancellation=True,  # a stream ends as soon as the visitor disconnects, not at its next event
    )


if __name__ == "__main__":
    main()
