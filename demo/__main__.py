"""Serve the demo: ``python -m demo --help``."""

import argparse
import logging
import os
import secrets

from aiohttp import web

from aiohttp_session_store import CookieStorage, FileSystemStorage, MemoryStorage, SessionCookie, SessionStorage

from .app import make_app


def main() -> None:
    """Read the command line and serve until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m demo", description="Serve the demo of sessions for aiohttp.")
    parser.add_argument("--storage", choices=["memory", "filesystem", "cookie"], default="filesystem")
    parser.add_argument("--directory", default="var/sessions", help="for the session files (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8080, help="default: %(default)s")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")

    storage: SessionStorage
    cookie = SessionCookie()
    if options.storage == "memory":
        storage, where = MemoryStorage(), "memory"
    elif options.storage == "filesystem":
        storage, where = FileSystemStorage(options.directory), f"files in {options.directory}"
    else:
        storage, where = CookieStorage(), "signed cookies"
        secret = os.environ.get("DEMO_SECRET")
        cookie = SessionCookie(secrets=secret or secrets.token_urlsafe(32))
        where += "" if secret else " (set DEMO_SECRET, or they are invalid after a restart)"

    web.run_app(
        make_app(storage, cookie),
        host="localhost",
        port=options.port,
        print=lambda _: print(f"http://localhost:{options.port}  sessions: {where}", flush=True),
        access_log=None,
        handler_cancellation=True,  # a stream ends as soon as the visitor disconnects, not at its next event
    )


if __name__ == "__main__":
    main()
