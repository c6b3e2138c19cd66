"""Sessions that aiohttp-session stored, read once and then kept as ours."""

import base64
import json
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from ..errors import ConfigurationError, StorageError
from ..web.middleware import sessions_of
from .adopting import OldSessionAdopter
from .old_session import OldSession, OldSessionReader

if TYPE_CHECKING:
    from aiohttp import web

__all__ = [
    "EncryptedCookieReader",
    "ForgeableCookieReader",
    "RedisReader",
    "accept_old_sessions",
]

COOKIE_NAME = "AIOHTTP_SESSION"


class ReaderOptions(TypedDict, total=False):
    """The keyword options that every reader takes: the settings that the storage of aiohttp-session had.

    Attributes:
        cookie_name: What the old cookie is called.  Default: ``"AIOHTTP_SESSION"``.
        max_age: Seconds, or None for no limit.  Default: None.
        path: The path of the old cookie.  Default: ``"/"``.
        domain: The domain of the old cookie.  Default: None.
        decoder: Reads the stored text.  Default: ``json.loads``.
        clock: Gives the Unix time in seconds.  Default: ``time.time``.
    """

    cookie_name: str
    max_age: int | None
    path: str
    domain: str | None
    decoder: Callable[[str], Any]
    clock: Callable[[], float]


class _Reader:
    """What the readers share: the cookie, and the form that all storages of aiohttp-session write."""

    def __init__(self, options: ReaderOptions) -> None:
        for name in options.keys() - ReaderOptions.__annotations__.keys():
            raise TypeError(f"{type(self).__name__}() got an unexpected keyword argument {name!r}")
        max_age = options.get("max_age")
        if max_age is not None and (isinstance(max_age, bool) or not isinstance(max_age, int) or max_age < 1):
            raise ConfigurationError(f"max_age is a number of seconds, or None, not {max_age!r}")
        self.cookie_name = options.get("cookie_name", COOKIE_NAME)
        self.max_age = max_age
        self.path = options.get("path", "/")
        self.domain = options.get("domain")
        self._decoder = options.get("decoder", json.loads)
        self._clock = options.get("clock", time.time)

    def _session(self, text: str | bytes, identity: bytes | None) -> OldSession | None:
        """Return what *text* says, by the rules of aiohttp-session."""
        try:
            stored = self._decoder(text if isinstance(text, str) else text.decode())
            data, created = stored["session"], stored["created"]
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        if type(data) is not dict or type(created) is not int or not all(type(key) is str for key in data):
            return None
        now = int(self._clock())
        if not data or (self.max_age is not None and now - created > self.max_age):
            return None
        return OldSession(data, min(max(created, 0), now), identity)


class EncryptedCookieReader(_Reader):
    """Reads what ``EncryptedCookieStorage`` wrote; needs the package ``cryptography``, which that one needed, too."""

    def __init__(
        self,
        secret_key: "str | bytes | bytearray | Any",
        **options: Unpack[ReaderOptions],
    ) -> None:
        """Take the settings that ``EncryptedCookieStorage`` had.

        Args:
            secret_key: 32 bytes, their base64, or a ``Fernet`` or ``MultiFernet``.
            options: See :class:`ReaderOptions`.

        Raises:
            ConfigurationError: That is no key.
        """
        from cryptography.fernet import Fernet, InvalidToken  # noqa: PLC0415  for those who migrate alone

        super().__init__(options)
        if isinstance(secret_key, bytes | bytearray):
            secret_key = base64.urlsafe_b64encode(secret_key)
        try:
            self._fernet: Any = Fernet(secret_key) if isinstance(secret_key, str | bytes) else secret_key
        except ValueError as error:
            raise ConfigurationError(f"the key of EncryptedCookieStorage has 32 bytes: {error}") from None
        if not callable(getattr(self._fernet, "decrypt", None)):
            raise ConfigurationError(f"a key of EncryptedCookieStorage is no {type(secret_key).__name__}")
        self._invalid = InvalidToken

    async def read(self, value: str) -> OldSession | None:
        """See :meth:`OldSessionReader.read`."""
        try:
            text = self._fernet.decrypt(value.encode(), ttl=self.max_age)
            token = base64.urlsafe_b64decode(value.encode())  # which skips foreign characters, as Fernet does
        except (self._invalid, ValueError):
            return None
        return self._session(text, token)


class ForgeableCookieReader(_Reader):
    """Reads the plain JSON that ``SimpleCookieStorage`` wrote.

    Nothing proves who wrote such a cookie: **whoever can send a request can be whoever they like**, for as long as this
    reader is in use.  It is for apps in which that has been so all along, and warns.
    """

    def __init__(self, **options: Unpack[ReaderOptions]) -> None:
        """Take the settings that ``SimpleCookieStorage`` had.

        Args:
            options: See :class:`ReaderOptions`.
        """
        super().__init__(options)
        warnings.warn(
            "ForgeableCookieReader believes whatever a visitor's cookie says: anybody can log in as anybody",
            UserWarning,
            stacklevel=2,
        )

    async def read(self, value: str) -> OldSession | None:
        """See :meth:`OldSessionReader.read`."""
        return self._session(value, None)


class RedisReader(_Reader):
    """Reads what ``RedisStorage`` of aiohttp-session wrote, and leaves it there."""

    def __init__(
        self,
        client: Any,
        **options: Unpack[ReaderOptions],
    ) -> None:
        """Take the settings that ``RedisStorage`` had; see :class:`EncryptedCookieReader`.

        Args:
            client: Of ``redis.asyncio``; it stays yours to close.
            options: See :class:`ReaderOptions`.
        """
        super().__init__(options)
        self._client = client

    async def read(self, value: str) -> OldSession | None:
        """See :meth:`OldSessionReader.read`."""
        from redis.exceptions import RedisError  # noqa: PLC0415  for those who migrate from it alone

        try:
            text = await self._client.get(f"{self.cookie_name}_{value}")
        except (RedisError, OSError) as error:
            raise StorageError(f"the old sessions in Redis: {type(error).__name__}: {error}") from error
        except UnicodeError:
            return None
        return None if text is None else self._session(text, value.encode())


def accept_old_sessions(app: "web.Application", *readers: OldSessionReader) -> None:
    """Let visitors who come with a cookie of aiohttp-session keep their session, once.

    The first time that a handler asks for the session of a visitor who has none of ours, the *readers* are asked.  What
    they find becomes a session of ours, with an id of its own; the answer brings our cookie and clears the old one.
    For ``rotation_grace`` the old cookie still leads to that session, so that parallel first requests meet in one.
    After that, and after a logout at once, neither it nor a copy of it opens anything.

    That "once" needs a storage on the server, and cookies that nobody can forge: with ``CookieStorage``, or a
    :class:`ForgeableCookieReader`, an old cookie works as long as it ever did.  A session with a value that we cannot
    hold is not taken over at all, and said so: half of one may lack what matters.

    Args:
        app: One that ``setup`` was called on.
        readers: Asked in their order.

    Raises:
        ConfigurationError: There are none, or the app has some already.
        SessionUsageError: The app has no sessions.
    """
    sessions = sessions_of(app)
    if not readers:
        raise ConfigurationError("accept_old_sessions() needs at least one reader")
    if sessions.adopter is not None:
        raise ConfigurationError("this app accepts old sessions already: name all readers in one call")
    if any(reader.cookie_name == sessions.cookie.name for reader in readers):
        raise ConfigurationError(f"the old cookie and ours are both called {sessions.cookie.name!r}: rename ours")
    sessions.adopter = OldSessionAdopter(sessions.storage, readers, sessions.cookie.value_limit)
