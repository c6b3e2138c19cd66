"""Sessions for aiohttp: no write is lost, logout is final, an answered write is stored.

::

    setup(app, FileSystemStorage("var/sessions"))

    async def index(request: web.Request) -> web.Response:
        session = await get_session(request)
        session["visits"] = session.get("visits", 0) + 1
        return web.Response(text=f"visit {session['visits']}")
"""

from .cookie import SessionCookie
from .encoders import Codec
from .errors import (
    ConfigurationError,
    SessionCommittedError,
    SessionDestroyedError,
    SessionLockError,
    SessionStoreError,
    SessionTooLargeError,
    SessionUsageError,
    StorageError,
)
from .middleware import exclusive_session, get_session, new_session, save_session, setup
from .session import Session
from .session_key import SessionKey
from .storages.base import KeyedStorage, SessionStorage, Stored
from .storages.cookie import CookieStorage
from .storages.filesystem import FileSystemStorage
from .storages.memory import MemoryStorage

__all__ = [
    "Codec",
    "ConfigurationError",
    "CookieStorage",
    "FileSystemStorage",
    "KeyedStorage",
    "MemoryStorage",
    "Session",
    "SessionCommittedError",
    "SessionCookie",
    "SessionDestroyedError",
    "SessionKey",
    "SessionLockError",
    "SessionStorage",
    "SessionStoreError",
    "SessionTooLargeError",
    "SessionUsageError",
    "StorageError",
    "Stored",
    "exclusive_session",
    "get_session",
    "new_session",
    "save_session",
    "setup",
]
