"""Sessions in Redis or Valkey, or in a cluster of either."""

import asyncio
import inspect
import logging
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Unpack

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from ...engine.verbs import Announcement, Found, Lease, Walked
from ...errors import ConfigurationError, StorageError
from ...record.format import Stored
from ...record.settings import number_of_seconds
from ...tracebacks import hides_settings
from ..base import (
    RECLAIM_AFTER,
    KeyedOptions,
    KeyedStorage,
)
from ..keyed_lock import KeyedLock
from .announcing import listen, packed
from .client import client_for
from .commands import Answer
from .lock import RedisLock
from .scripts import DELETE, LINK, LINKED, REWRITE, TOUCH, UNLINK, VERSIONS, WRITE
from .server_checks import check_eviction, is_available, warn_of_patience
from .shared_calls import Calls
from .walking import walk_keys

__all__ = ["RedisStorage"]

_logger = logging.getLogger("aiohttp_session_store")

DEFAULT_PREFIX = "session:"
# A server in the same data centre answers within a millisecond, and a visitor waits a few seconds at most.
DEFAULT_TIMEOUT = 5.0
# Longer than any pause of a healthy process, but short enough to wait for if the holder died.
DEFAULT_LOCK_LEASE = 10.0
# Seconds for which the last versions of a record are remembered: longer than a write can be under way. A write that is
# sent again comes within the time limit of its call, and TCP delivers nothing later than twice that time.
_REMEMBERED_CALLS, _REMEMBERED = 3, 10

# The lengths of the parts at the start of a value: the version, and the expiry in digits.
_VERSION, _DIGITS = 8, 16
_HEAD = _VERSION + _DIGITS


class RedisOptions(KeyedOptions, total=False):
    """The keyword options of :class:`RedisStorage`, which documents them."""

    prefix: str
    timeout: float
    lock_lease: float


class RedisStorage(KeyedStorage):
    """Keeps each session in a string of its own, ``<prefix><key>``, which the server expires.

    Reading is one command, and each change is one script.  Each works on one key and takes one round trip, on a
    cluster, too.  The server expires a record by its own clock, :data:`RECLAIM_AFTER` seconds after the session has
    ended by ours.  So the two clocks should agree to within a few minutes.

    ``exclusive_session`` holds a lock key for a limited time and renews it.  A request that has lost the lock (after a
    long pause or a failover) saves nothing and gets :class:`SessionLockError`.  See ``docs/redis.md`` for what can be
    lost through replication and eviction.
    """

    @hides_settings
    def __init__(
        self,
        client: "Redis | RedisCluster",
        *,
        prefix: str = DEFAULT_PREFIX,
        timeout: float = DEFAULT_TIMEOUT,
        lock_lease: float = DEFAULT_LOCK_LEASE,
        **options: Unpack[KeyedOptions],
    ) -> None:
        """Keep sessions on the server of *client*; no I/O.

        Args:
            client: A client of ``redis.asyncio``: ``Redis``, ``RedisCluster``, or the result of
                ``Sentinel.master_for``.  The storage does not close it: you do.
            prefix: The prefix of all our keys.
            timeout: Seconds that one call may take, including connecting and all repetitions.
            lock_lease: Seconds after which the lock of a process that died is free again, at least 1.
            options: See :class:`KeyedOptions`.

        Raises:
            ConfigurationError: A setting makes no sense, or the client is not asynchronous.
        """
        super().__init__(sweep_interval=None, **options)
        _check_client(client)
        if not isinstance(prefix, str) or not prefix:
            raise ConfigurationError(f"prefix must be a string that sets our keys apart from others, not {prefix!r}")
        self._client: Any = client
        self._prefix = prefix
        self._recent = f"{prefix}recent:"
        self._channel = f"{prefix}ended"
        self._calls = Calls(client, number_of_seconds("timeout", timeout, 0.001))
        self._remembered = int(max(_REMEMBERED, _REMEMBERED_CALLS * self._calls.timeout) * 1000)
        self._lock_lease = number_of_seconds("lock_lease", lock_lease, 1)
        self._exclusive = KeyedLock()
        self._releases: set[asyncio.Task[None]] = set()
        self._owns_client = False

    @classmethod
    @hides_settings
    def from_url(cls, url: str, **options: Unpack[RedisOptions]) -> "RedisStorage":
        """Keep sessions on the server at *url*, with a client that is closed with the app.

        Args:
            url: In the form that ``redis.asyncio.Redis.from_url`` takes: ``redis://``, ``rediss://`` or ``unix://``.
            options: The other arguments of the class.

        Raises:
            ConfigurationError: A setting makes no sense, or the URL is not valid.  The message does not repeat the
                URL, which may hold a password.
        """
        client = client_for(url, number_of_seconds("timeout", options.get("timeout", DEFAULT_TIMEOUT), 0.001))
        storage = cls(client, **options)
        storage._owns_client = True
        return storage

    # --- the verbs

    async def fetch(self, key: str) -> Stored | None:
        """See :meth:`KeyedStorage.fetch`."""
        value: bytes | None = await self._calls.ask("GET", self._prefix + key)
        if value is None:
            return None
        try:
            return _stored(value)
        except ValueError:
            _logger.warning("%s%s holds a value that is not ours, and reads as no session", self._prefix, key)
            return None

    async def insert(self, key: str, data: bytes, expires_at: int) -> bytes | None:
        """See :meth:`KeyedStorage.insert`."""
        return await self._write(key, data, expires_at, b"")

    async def replace(self, key: str, data: bytes, expires_at: int, version: bytes) -> bytes | None:
        """See :meth:`KeyedStorage.replace`."""
        return await self._write(key, data, expires_at, version)

    async def _write(self, key: str, data: bytes, expires_at: int, base: bytes) -> bytes | None:
        version = secrets.token_bytes(_VERSION)
        value = version + _digits(expires_at) + data
        answer = await self._calls.run(
            WRITE, self._prefix + key, value, _reclaim_at(expires_at), base, self._recent, self._remembered
        )
        return self._written(answer, version)

    def _written(self, answer: Answer, version: bytes) -> bytes | None:
        if answer.value == 1:
            return version
        if answer.value == 0 or not answer.lost:
            return None
        raise StorageError(
            "Redis: the answer to a write was lost, and other requests have written since", maybe_stored=True
        )

    async def touch(self, key: str, expires_at: int, version: bytes) -> bool:
        """See :meth:`KeyedStorage.touch`."""
        reclaim_at = _reclaim_at(expires_at)
        return bool((await self._calls.run(TOUCH, self._prefix + key, version, _digits(expires_at), reclaim_at)).value)

    async def delete(self, key: str, version: bytes | None = None) -> bool:
        """See :meth:`KeyedStorage.delete`."""
        if version is not None:
            return bool((await self._calls.run(DELETE, self._prefix + key, version)).value)
        await self._calls.ask("DEL", self._prefix + key, stores=True)
        return True

    # --- the index of owners

    async def link(self, owner_key: str, key: str, until: int) -> None:
        """See :meth:`Verbs.link`."""
        await self._calls.run(LINK, self._owner(owner_key), key, until, RECLAIM_AFTER)

    async def unlink(self, owner_key: str, key: str) -> None:
        """See :meth:`Verbs.unlink`."""
        await self._calls.run(UNLINK, self._owner(owner_key), key)

    async def linked(self, owner_key: str) -> Sequence[str]:
        """See :meth:`Verbs.linked`."""
        found = (await self._calls.run(LINKED, self._owner(owner_key))).value
        return [key.decode() if isinstance(key, bytes) else str(key) for key in found]

    def _owner(self, owner_key: str) -> str:
        return f"{self._prefix}owner:{owner_key}"

    # --- for watched sessions

    async def versions(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        """See :meth:`Verbs.versions`.  One round trip; on a cluster, one for each key."""
        if not keys:
            return {}
        names = [self._prefix + key for key in keys]
        if isinstance(self._client, RedisCluster):
            found = await self._calls.ask_each("GETRANGE", names, 0, _VERSION - 1)
            return {key: version or b"" for key, version in zip(keys, found, strict=True) if version != b""}
        text: bytes = (await self._calls.run_on_all(VERSIONS, names)).value
        entries = zip(keys, range(0, len(text), 1 + _VERSION), strict=True)
        return {key: text[at + 1 : at + 1 + _VERSION] for key, at in entries if text[at : at + 1] == b"1"}

    async def announce(self, key: str, reason: str) -> None:
        """See :meth:`Verbs.announce`."""
        await self._calls.ask("PUBLISH", self._channel, packed(key, reason))

    def announcements(self) -> AsyncGenerator[Announcement, None]:
        """See :meth:`Verbs.announcements`.  Takes a connection of its own."""
        return listen(self._client, self._channel, self._calls.timeout)

    # --- for the command line

    async def walk(self) -> AsyncGenerator[Walked, None]:
        """See :meth:`Verbs.walk`.  By SCAN, on each node of a cluster in turn."""
        async for keys, done in walk_keys(self._calls, self._prefix):
            answers = await asyncio.gather(*(self._look(key) for key in keys))
            yield Walked([found for found in answers if found is not None], done)

    async def _look(self, key: str) -> Found | None:
        try:
            value: bytes | None = await self._calls.ask("GET", self._prefix + key)
            return None if value is None else Found(key, _stored(value))
        except ValueError:
            return Found(key, None, "it holds a value that is not ours")
        except StorageError as error:
            if "WRONGTYPE" not in str(error):
                raise
            return Found(key, None, "it holds a value of another type than ours")

    async def rewrite(self, key: str, data: bytes, version: bytes) -> bytes | None:
        """See :meth:`Verbs.rewrite`."""
        newer = secrets.token_bytes(_VERSION)
        answer = await self._calls.run(
            REWRITE, self._prefix + key, newer + data, version, self._recent, self._remembered
        )
        return self._written(answer, newer)

    async def sweep(self) -> int:
        """Return 0: the server removes expired records itself."""
        return 0

    @asynccontextmanager
    async def lock(self, key: str) -> AsyncIterator[Lease]:
        """See :meth:`KeyedStorage.lock`.

        Requests of one process get the lock in the order in which they asked for it.  Between processes there is no
        order.
        """
        async with self._exclusive.holding(key):
            lease = RedisLock(self._calls.run, f"{self._prefix}lock:{key}", self._lock_lease)
            try:
                await lease.take()
                yield lease.check
            finally:
                await self._released(lease)

    async def _released(self, lease: RedisLock) -> None:
        """Release *lease*, even if the request is cancelled meanwhile or was cancelled while taking it."""
        task = asyncio.create_task(lease.release())
        self._releases.add(task)
        task.add_done_callback(self._releases.discard)
        await asyncio.shield(task)

    # --- lifetime

    async def start(self) -> None:
        """Extends :meth:`KeyedStorage.start` with a check of the settings.

        A warning is logged if the server may evict sessions, or if a cluster node could hang unnoticed.  An unavailable
        server does not keep the app from starting: requests get 503 until it is available.

        Raises:
            ConfigurationError: The client cannot work at all: it belongs to another event loop, or an option of the URL
                is wrong.
        """
        if isinstance(self._client, RedisCluster):
            warn_of_patience(self._client.connection_kwargs.get("socket_timeout"), self._calls.timeout)
        if await is_available(self._calls, self._prefix, self._client, from_url=self._owns_client):
            await check_eviction(self._calls)
        await super().start()

    async def aclose(self) -> None:
        """Extends :meth:`KeyedStorage.aclose`: also closes the client that ``from_url`` created."""
        await super().aclose()
        if self._releases:
            await asyncio.wait(self._releases)
        await self._calls.finish()
        if self._owns_client and self._users == 0:
            with suppress(RuntimeError):  # connections of an event loop that has been closed went with it
                await self._client.aclose()


def _check_client(client: object) -> None:
    """Refuse what is not a client.  The message names the type and not the value, which may hold a password."""
    if isinstance(client, str | bytes):
        raise ConfigurationError("RedisStorage takes a client of redis.asyncio; for a URL, use RedisStorage.from_url")
    is_async = inspect.iscoroutinefunction(getattr(client, "execute_command", None))
    if not is_async or not (isinstance(client, RedisCluster) or hasattr(client, "connection_pool")):
        kind = type(client)
        raise ConfigurationError(
            f"RedisStorage takes a client of redis.asyncio, not a {kind.__module__}.{kind.__qualname__}"
        )


def _stored(value: bytes) -> Stored:
    return Stored(value[_HEAD:], value[:_VERSION], int(value[_VERSION:_HEAD]))


def _digits(expires_at: int) -> bytes:
    return b"%0*d" % (_DIGITS, expires_at)


def _reclaim_at(expires_at: int) -> int:
    return (expires_at + RECLAIM_AFTER) * 1000
