"""Sessions that aiohttp-session stored, read once and then kept as ours."""

import base64
import json
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ..errors import ConfigurationError, StorageError
from ..middleware import sessions_of
from .adopting import Adopter

if TYPE_CHECKING:
    from aiohttp import web

__all__ = [
    "EncryptedCookieReader",
    "ForgeableCookieReader",
    "OldSession",
    "OldSessionReader",
    "RedisReader",
    "accept_old_sessions",
]

COOKIE_NAME = "AIOHTTP_SESSION"


class OldSession(NamedTuple):
    """What was found of an old session.

    Attributes:
        data: Its keys and values.
        created_at: Whole Unix seconds of its last change, which is what aiohttp-session calls created.
        identity: What only this session's cookie leads to, however it is spelt; None where anybody can write one, so
            that equal cookies may be two visitors'.
    """

    data: dict[str, Any]
    created_at: int
    identity: bytes | None


class OldSessionReader(Protocol):
    """Reads one kind of old session; for kinds that are not here, write your own.

    Attributes:
        cookie_name: What its cookie is called.
        max_age: Seconds for which the old cookie is accepted, or None for as long as browsers keep it.
        path: The old cookie's, to clear it.
        domain: The old cookie's, to clear it.
    """

    @property
    def cookie_name(self) -> str: ...  # noqa: D102

    @property
    def max_age(self) -> int | None: ...  # noqa: D102

    @property
    def path(self) -> str: ...  # noqa: D102

    @property
    def domain(self) -> str | None: ...  # noqa: D102

    async def read(self, value: str) -> OldSession | None:
        """Return the session behind a cookie's *value*, which may be anything, or None.

        Raises:
            StorageError: What keeps it failed.
        """


class _Reader:
    """What the readers share: the cookie, and the form that all storages of aiohttp-session write."""

    def __init__(
        self,
        cookie_name: str,
        max_age: int | None,
        path: str,
        domain: str | None,
        decoder: Callable[[str], Any],
        clock: Callable[[], float],
    ) -> None:
        if max_age is not None and (isinstance(max_age, bool) or not isinstance(max_age, int) or max_age < 1):
            raise ConfigurationError(f"max_age is a number of seconds, or None, not {max_age!r}")
        self.cookie_name = cookie_name
        self.max_age = max_age
        self.path = path
        self.domain = domain
        self._decoder = decoder
        self._clock = clock

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
        *,
        cookie_name: str = COOKIE_NAME,
        max_age: int | None = None,
        path: str = "/",
        domain: str | None = None,
        decoder: Callable[[str], Any] = json.loads,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take the settings that ``EncryptedCookieStorage`` had.

        Args:
            secret_key: 32 bytes, their base64, or a ``Fernet`` or ``MultiFernet``.
            cookie_name: What the old cookie is called.
            max_age: As it was there: seconds, or None.
            path: As it was there.
            domain: As it was there.
            decoder: As it was there.
            clock: Gives the Unix time in seconds.

        Raises:
            ConfigurationError: That is no key.
        """
        from cryptography.fernet import Fernet, InvalidToken  # noqa: PLC0415  for those who migrate alone

        super().__init__(cookie_name, max_age, path, domain, decoder, clock)
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

    def __init__(
        self,
        *,
        cookie_name: str = COOKIE_NAME,
        max_age: int | None = None,
        path: str = "/",
        domain: str | None = None,
        decoder: Callable[[str], Any] = json.loads,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take the settings that ``SimpleCookieStorage`` had; see :class:`EncryptedCookieReader`."""
        super().__init__(cookie_name, max_age, path, domain, decoder, clock)
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
        *,
        cookie_name: str = COOKIE_NAME,
        max_age: int | None = None,
        path: str = "/",
        domain: str | None = None,
        decoder: Callable[[str], Any] = json.loads,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take the settings that ``RedisStorage`` had; see :class:`EncryptedCookieReader`.

        Args:
            client: Of ``redis.asyncio``; it stays yours to close.
            cookie_name: What the old cookie is called.
            max_age: As it was there.
            path: As it was there.
            domain: As it was there.
            decoder: As it was there.
            clock: Gives the Unix time in seconds.
        """
        super().__init__(cookie_name, max_age, path, domain, decoder, clock)
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
    sessions.adopter = Adopter(sessions.storage, readers, sessions.cookie.value_limit)
