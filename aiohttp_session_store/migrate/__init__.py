"""Migration without logging visitors out: from aiohttp-session, and between storages of this package.

:func:`accept_old_sessions` lets visitors with a cookie of aiohttp-session keep their session.
:class:`MigratingStorage` moves sessions from one storage to another while both are in use.
"""

from .aiohttp_session import (
    AiohttpSessionReader,
    EncryptedCookieReader,
    ForgeableCookieReader,
    ReaderOptions,
    RedisReader,
    accept_old_sessions,
)
from .migrating_storage import MigratingStorage
from .old_session import OldSession, OldSessionReader

__all__ = [
    "AiohttpSessionReader",
    "EncryptedCookieReader",
    "ForgeableCookieReader",
    "MigratingStorage",
    "OldSession",
    "OldSessionReader",
    "ReaderOptions",
    "RedisReader",
    "accept_old_sessions",
]
