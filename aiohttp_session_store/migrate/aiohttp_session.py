"""Readers of the sessions that aiohttp-session stored, and the call that takes these sessions over."""

import base64
import inspect
import json
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from math import isfinite
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from ..errors import ConfigurationError, StorageError
from ..tracebacks import hides_settings
from ..web.middleware import sessions_of
from .adopting import OldSessionAdopter
from .old_session import OldSession, OldSessionReader

if TYPE_CHECKING:
    from aiohttp import web

__all__ = [
    "AiohttpSessionReader",
    "EncryptedCookieReader",
    "ForgeableCookieReader",
    "ReaderOptions",
    "RedisReader",
    "accept_old_sessions",
]

COOKIE_NAME = "AIOHTTP_SESSION"
# Seconds to wait for Redis, as in our own storage.
_TIMEOUT = 5.0


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


class AiohttpSessionReader(ABC):
    """The base of all readers: it knows the old cookie, and the format that every storage of aiohttp-session writes.

    For a storage that this package has no reader for, derive a class that gets the stored text, and pass that text to
    :meth:`session_in`.

    Attributes:
        cookie_name: The name of the old cookie.
        max_age: Seconds for which the old cookie is accepted, or None for as long as browsers keep it.
        path: The path of the old cookie, with which it is cleared.
        domain: The domain of the old cookie, with which it is cleared.
    """

    def __init__(self, **options: Unpack[ReaderOptions]) -> None:
        """Take the settings that the old storage had.

        Args:
            options: See :class:`ReaderOptions`.

        Raises:
            ConfigurationError: ``max_age`` is not a positive number.
            TypeError: There is no such option.
        """
        for name in options.keys() - ReaderOptions.__annotations__.keys():
            raise TypeError(f"{type(self).__name__}() got an unexpected keyword argument {name!r}")
        max_age = options.get("max_age")
        if max_age is not None and (isinstance(max_age, bool) or not isinstance(max_age, int) or max_age < 1):
            raise ConfigurationError(f"max_age must be a number of seconds, or None, not {max_age!r}")
        self.cookie_name: str = options.get("cookie_name", COOKIE_NAME)
        self.max_age: int | None = max_age
        self.path: str = options.get("path", "/")
        self.domain: str | None = options.get("domain")
        self._decoder = options.get("decoder", json.loads)
        self._clock = options.get("clock", time.time)

    @abstractmethod
    async def read(self, value: str) -> OldSession | None:
        """See :meth:`OldSessionReader.read`.

        Args:
            value: The value of the old cookie, unquoted.
        """

    def session_in(self, text: str | bytes, identity: bytes | None) -> OldSession | None:
        """Return the session in a stored *text*, or None if by the rules of aiohttp-session it holds none.

        It holds none if it is empty, if it is older than ``max_age``, or if it is not in the format of aiohttp-session.
        A text that a visitor made up never raises an error.

        Args:
            text: What the old storage stored, or what was in the cookie, decrypted.
            identity: Bytes that are the same for all spellings of one cookie, and differ for any two cookies, such as
                the encrypted token or the key in a database.  None if anybody can write such a cookie.
        """
        try:
            stored = self._decoder(text if isinstance(text, str) else text.decode())
            data, created = stored["session"], stored.get("created")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        now = int(self._clock())
        if created is None and self.max_age is None:
            created = now
        elif type(created) is float and isfinite(created):
            created = int(created)
        if type(data) is not dict or type(created) is not int or not all(type(key) is str for key in data):
            return None
        if not data or (self.max_age is not None and now - created > self.max_age):
            return None
        return OldSession(data, min(max(created, 0), now), identity)


class EncryptedCookieReader(AiohttpSessionReader):
    """Reads what ``EncryptedCookieStorage`` wrote.  Needs the package ``cryptography``, as that storage did."""

    @hides_settings
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
            ConfigurationError: The key is not a valid one.
        """
        from cryptography.fernet import Fernet, InvalidToken  # noqa: PLC0415  only a migration needs it

        super().__init__(**options)
        if isinstance(secret_key, bytes | bytearray):
            secret_key = base64.urlsafe_b64encode(secret_key)
        try:
            self._fernet: Any = Fernet(secret_key) if isinstance(secret_key, str | bytes) else secret_key
        except ValueError as error:
            raise ConfigurationError(f"the key of EncryptedCookieStorage must have 32 bytes: {error}") from None
        if not callable(getattr(self._fernet, "decrypt", None)):
            raise ConfigurationError(f"a key of EncryptedCookieStorage cannot be of type {type(secret_key).__name__}")
        self._invalid = InvalidToken

    async def read(self, value: str) -> OldSession | None:
        """See :meth:`OldSessionReader.read`."""
        try:
            text = self._fernet.decrypt(value.encode(), ttl=self.max_age)
            token = base64.urlsafe_b64decode(value.encode())  # skips foreign characters, as Fernet does
        except (self._invalid, ValueError):
            return None
        return self.session_in(text, token)


class ForgeableCookieReader(AiohttpSessionReader):
    """Reads the plain JSON that ``SimpleCookieStorage`` wrote.

    Nothing proves who wrote such a cookie.  As long as this reader is in use, **anyone who can send a request can log
    in as anyone**.  It is meant for apps in which that was always possible, and it warns when it is created.

    It is also for tests that log in by writing such a cookie themselves: ``ForgeableCookieReader(for_tests=True)``.
    """

    def __init__(self, *, for_tests: bool = False, **options: Unpack[ReaderOptions]) -> None:
        """Take the settings that ``SimpleCookieStorage`` had.

        Args:
            for_tests: Do not warn.
            options: See :class:`ReaderOptions`.
        """
        super().__init__(**options)
        if for_tests:
            return
        warnings.warn(
            "ForgeableCookieReader trusts whatever a visitor's cookie says: anybody can log in as anybody",
            UserWarning,
            stacklevel=2,
        )

    async def read(self, value: str) -> OldSession | None:
        """See :meth:`OldSessionReader.read`."""
        return self.session_in(value, None)


class RedisReader(AiohttpSessionReader):
    """Reads what ``RedisStorage`` of aiohttp-session wrote, and leaves it there.  Redis has 5 seconds to answer."""

    @hides_settings
    def __init__(
        self,
        client: Any,
        **options: Unpack[ReaderOptions],
    ) -> None:
        """Take the settings that ``RedisStorage`` had; see :class:`EncryptedCookieReader`.

        Args:
            client: A client of ``redis.asyncio``.  The reader does not close it: you do.
            options: See :class:`ReaderOptions`.

        Raises:
            ConfigurationError: *client* is not a client.
        """
        super().__init__(**options)
        if not inspect.iscoroutinefunction(getattr(client, "execute_command", None)):
            kind = type(client)  # the message must not show the value, as it may hold a password
            raise ConfigurationError(
                f"RedisReader takes a client of redis.asyncio, not {kind.__module__}.{kind.__qualname__}: for a URL,"
                " pass redis.asyncio.Redis.from_url(url)"
            )
        from ..storages.redis.shared_calls import Calls  # noqa: PLC0415  only this reader needs redis-py

        # Error trackers record the commands of the client's own methods, and the key is the old session id.
        self._calls = Calls(client, _TIMEOUT)

    async def read(self, value: str) -> OldSession | None:
        """See :meth:`OldSessionReader.read`."""
        if not value.isascii():  # it could not be sent, and would keep others from being sent together with it
            return None
        try:
            text = await self._calls.ask("GET", f"{self.cookie_name}_{value}")
        except StorageError as error:
            raise StorageError(f"the old sessions in Redis are unavailable: {error}") from error.__cause__
        return None if text is None else self.session_in(text, value.encode())


def accept_old_sessions(app: "web.Application", *readers: OldSessionReader) -> None:
    """Let visitors who come with a cookie of aiohttp-session keep their session, once.

    When a handler first asks for the session of a visitor who has no session of ours, the *readers* are asked.  The
    session that they find becomes one of ours, with an id of its own.  The response sends our cookie and clears the old
    one.  For ``rotation_grace``, the old cookie still leads to that session, so that parallel first requests share one
    session.  After that, and at once after a logout, neither the old cookie nor a copy of it opens anything.

    An old cookie works only once if the storage is on the server and nobody can forge the cookie.  With
    ``CookieStorage`` or a :class:`ForgeableCookieReader`, an old cookie works for as long as it ever did.

    A session with a value that cannot be stored is not taken over at all, because half a session may lack what matters.
    A warning is logged then.

    Args:
        app: An app that ``setup`` was called on.
        readers: They are asked in this order.

    Raises:
        ConfigurationError: There are no readers, one of them is none, the app has some already, or an old cookie has
            the name of ours.
        SessionUsageError: The app has no sessions.
    """
    sessions = sessions_of(app)
    if not readers:
        raise ConfigurationError("accept_old_sessions() needs at least one reader")
    for reader in readers:
        if isinstance(reader, type) or not isinstance(getattr(reader, "cookie_name", None), str):
            kind = f"the class {reader.__name__}" if isinstance(reader, type) else f"a {type(reader).__name__}"
            raise ConfigurationError(
                f"accept_old_sessions() takes readers with the name of a cookie, not {kind}: write"
                " accept_old_sessions(app, EncryptedCookieReader(key)), for example"
            )
    if sessions.adopter is not None:
        raise ConfigurationError("this app accepts old sessions already: pass all readers in one call")
    if any(reader.cookie_name in sessions.cookie.names for reader in readers):
        raise ConfigurationError(f"the old cookie and ours are both called {sessions.cookie.name!r}: rename ours")
    sessions.adopter = OldSessionAdopter(sessions.storage, readers, sessions.cookie.value_limit)
