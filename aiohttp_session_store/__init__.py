"""Sessions for aiohttp.  No write is lost, a logout is final, and changes are stored before the response is sent.

::

    setup(app, FileSystemStorage("var/sessions"))

    async def index(request: web.Request) -> web.Response:
        session = await get_session(request)
        session["visits"] = session.get("visits", 0) + 1
        return web.Response(text=f"visit {session['visits']}")
"""

from typing import TYPE_CHECKING

from .engine.observing import Observer, SessionEvent
from .engine.owners import SessionInfo
from .engine.session_watch import SessionWatch
from .engine.verbs import Announcement, Found, Walked
from .errors import (
    ConfigurationError,
    SessionCommittedError,
    SessionConflictError,
    SessionDestroyedError,
    SessionLockError,
    SessionStoreError,
    SessionTooLargeError,
    SessionUsageError,
    StorageError,
)
from .record.format import Stored
from .record.json_encoders import Codec
from .record.key_ring import KeyRing
from .session.session import Session
from .session.typed_key import SessionKey
from .storages.base import KeyedStorage, SessionStorage
from .storages.filesystem import FileSystemStorage
from .storages.memory.storage import MemoryStorage
from .storages.signed_cookie import CookieStorage
from .web.cookie_settings import SessionCookie
from .web.csrf import csrf_exempt, protect_from_csrf
from .web.middleware import exclusive_session, get_session, get_storage, new_session, save_session, setup
from .web.sockets import close_when_session_ends, watch_session

if not TYPE_CHECKING:  # so that type checkers still see that there is no such name

    def __getattr__(name: str) -> object:
        """Explain the names of aiohttp-session.  An ImportError, because ``import`` would hide an AttributeError."""
        from .session.old_names import NAMES, explained  # noqa: PLC0415  for mistakes only

        if name in NAMES:
            raise ImportError(explained(name, NAMES[name]))
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "Announcement",
    "Codec",
    "ConfigurationError",
    "CookieStorage",
    "FileSystemStorage",
    "Found",
    "KeyRing",
    "KeyedStorage",
    "MemoryStorage",
    "Observer",
    "Session",
    "SessionCommittedError",
    "SessionConflictError",
    "SessionCookie",
    "SessionDestroyedError",
    "SessionEvent",
    "SessionInfo",
    "SessionKey",
    "SessionLockError",
    "SessionStorage",
    "SessionStoreError",
    "SessionTooLargeError",
    "SessionUsageError",
    "SessionWatch",
    "StorageError",
    "Stored",
    "Walked",
    "close_when_session_ends",
    "csrf_exempt",
    "exclusive_session",
    "get_session",
    "get_storage",
    "new_session",
    "protect_from_csrf",
    "save_session",
    "setup",
    "watch_session",
]
