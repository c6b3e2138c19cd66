"""From STORAGE, as an operator writes it, to an open storage.  No error repeats a password."""

import os
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from ..errors import ConfigurationError, StorageError, one_line
from ..record.key_ring import KeyRing
from ..storages.base import KeyedOptions, KeyedStorage
from ..storages.filesystem import FileSystemStorage
from ..storages.filesystem.recognising import is_used
from .exits import UnreachableError, UsageError

__all__ = ["KEYS", "Target", "without_secrets"]

#: The environment variable that holds the keys of encryption.
KEYS = "SESSION_KEYS"
# The limits of the app are not known here. What counts is the end that stands in each record: no limit of ours is
# shorter. In seconds.
_FOR_EVER = 10**12
_REDIS, _CLUSTERS = ("redis", "rediss", "unix"), {"redis-cluster": "redis", "rediss-cluster": "rediss"}
_POSTGRES = ("postgresql", "postgres")
_FORMS = (
    "files:DIRECTORY, redis://HOST, rediss://HOST, unix:///SOCKET, redis-cluster://HOST, rediss-cluster://HOST or"
    " postgresql://HOST/DATABASE"
)
# Shorter texts than this occur by chance.
_SECRET_LENGTH = 4


@dataclass(frozen=True, slots=True)
class Target:
    """The storage that a command works on, as the operator named it.

    Attributes:
        storage: The value of ``--storage``, or empty.
        prefix: That of Redis, or None for the default.
        schema: That of PostgreSQL, or None for the default.
        table: That of PostgreSQL, or None for the default.
    """

    storage: str
    prefix: str | None = None
    schema: str | None = None
    table: str | None = None

    def __repr__(self) -> str:
        """Show no URL: it may hold a password."""
        return f"<Target {self.shown}>"

    @property
    def scheme(self) -> str:
        """What comes before the first colon."""
        return self.storage.partition(":")[0].lower()

    @property
    def shown(self) -> str:
        """The storage without user, password and options."""
        if self.scheme == "files":
            return f"files:{os.path.abspath(self._directory)}"  # noqa: PTH100  it need not exist
        try:
            parts = urlsplit(self.storage)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            return f"{self.scheme}://"
        return f"{self.scheme}://{f'[{host}]' if ':' in host else host}{f':{port}' if port else ''}{parts.path}"

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[KeyedStorage]:
        """Open the storage for the length of a block.

        Raises:
            UsageError: It is not named in a way that can be understood, or an option is not for it.
            UnreachableError: It cannot be used.
        """
        async with AsyncExitStack() as closing:
            try:
                storage = self._storage(ring_of_environment(), closing)
            except ImportError as error:  # of a driver; it says which extra is missing
                raise UsageError(str(error)) from None
            closing.push_async_callback(storage.aclose)
            try:
                yield storage
            except StorageError as error:
                raise UnreachableError(one_line(error)) from None

    def _storage(self, ring: KeyRing | None, closing: AsyncExitStack) -> KeyedStorage:
        options = KeyedOptions(idle_timeout=None, lifetime=_FOR_EVER, encryption=ring)
        if not self.storage:
            raise UsageError(f"Which storage? Give --storage or set $SESSION_STORAGE: {_FORMS}")
        self._check_options()
        if self.scheme == "files":
            return self._files(options)
        try:
            if self.scheme in _POSTGRES:
                return self._postgres(options)
            if self.scheme in (*_REDIS, *_CLUSTERS):
                return self._redis(options, closing)
        except ConfigurationError as error:
            raise UsageError(str(error)) from None
        raise UsageError(f"The value of --storage or $SESSION_STORAGE is not understood. Write {_FORMS}")

    def _check_options(self) -> None:
        if self.prefix is not None and self.scheme not in (*_REDIS, *_CLUSTERS):
            raise UsageError("--prefix is for Redis only")
        if (self.schema is not None or self.table is not None) and self.scheme not in _POSTGRES:
            raise UsageError("--schema and --table are for PostgreSQL only")

    @property
    def _directory(self) -> str:
        return os.path.expanduser(self.storage.partition(":")[2])  # noqa: PTH111  a shell does not after a colon

    def _files(self, options: KeyedOptions) -> KeyedStorage:
        """Open a directory of sessions; any other one, or a missing one, must not become one."""
        if not self._directory:
            raise UsageError("Name the directory: files:DIRECTORY")
        try:
            used = is_used(self._directory)
        except OSError as error:
            raise UnreachableError(f"{self._directory}: {error.strerror}") from None
        if not used:
            raise UnreachableError(
                f"{self._directory} is not a directory of sessions: no app has used it. Nothing was changed there"
            )
        try:
            return FileSystemStorage(self._directory, sweep_interval=None, cache_size=0, **options)
        except ConfigurationError as error:
            raise UnreachableError(str(error)) from None

    def _redis(self, options: KeyedOptions, closing: AsyncExitStack) -> KeyedStorage:
        from ..storages.redis import RedisStorage  # noqa: PLC0415  only who uses Redis has its driver
        from ..storages.redis.client import cluster_client_for  # noqa: PLC0415
        from ..storages.redis.storage import DEFAULT_PREFIX, DEFAULT_TIMEOUT  # noqa: PLC0415

        prefix = DEFAULT_PREFIX if self.prefix is None else self.prefix
        if self.scheme not in _CLUSTERS:
            return RedisStorage.from_url(self.storage, prefix=prefix, **options)
        url = f"{_CLUSTERS[self.scheme]}:{self.storage.partition(':')[2]}"
        client = cluster_client_for(url, DEFAULT_TIMEOUT)
        closing.push_async_callback(client.aclose)
        return RedisStorage(client, prefix=prefix, **options)

    def _postgres(self, options: KeyedOptions) -> KeyedStorage:
        from ..storages.postgres import PostgresStorage  # noqa: PLC0415  only who uses PostgreSQL has its driver
        from ..storages.postgres.storage import DEFAULT_TABLE  # noqa: PLC0415

        return PostgresStorage.from_dsn(
            self.storage,
            schema=self.schema,
            table=DEFAULT_TABLE if self.table is None else self.table,
            pool_size=8,
            prepared_statements=False,  # so it also works behind a pooler
            sweep_interval=None,
            **options,
        )


def ring_of_environment() -> KeyRing | None:
    """Return the keys of ``$SESSION_KEYS``, or None if it is not set.

    Raises:
        UsageError: They are not keys.
    """
    if not os.environ.get(KEYS):
        return None
    try:
        return KeyRing.from_env(KEYS)
    except ConfigurationError as error:
        raise UsageError(f"${KEYS}: {error}") from None


def without_secrets(text: str, argument: str) -> str:
    """Return *text* without *argument*, if that may hold a password, and without its parts that may be one."""
    if "://" not in argument and "@" not in argument:
        return text
    for secret in _secrets_in(argument):
        text = text.replace(secret, "***")
    return text


def _secrets_in(url: str) -> list[str]:
    """Return what must not be shown of *url*, the longest first: all of it, and the password as it is and decoded."""
    rest = url.partition("://")[2]
    userinfo, at, _ = (rest or url).rpartition("@")
    passwords = {userinfo.partition(":")[2] if at else ""}
    passwords |= {
        value for name, _, value in (pair.partition("=") for pair in re.split("[?&]", rest)[1:]) if "pass" in name
    }
    if not any(passwords):  # the host in an error is what an operator looks for
        return []
    found = {url, rest, *passwords, *map(unquote, passwords)}
    return sorted((one for one in found if len(one) >= _SECRET_LENGTH), key=len, reverse=True)
