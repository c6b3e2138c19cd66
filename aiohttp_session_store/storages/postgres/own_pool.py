"""A pool of our own, for a storage that was made with a DSN."""

import asyncio
import socket
from contextlib import suppress
from typing import Any

import asyncpg

from ...errors import StorageError
from ...tracebacks import hides_locals
from .dsn import checked

__all__ = ["OwnPool", "WrongSettingsError"]

# Seconds until a silent connection is tested, and between two tests. Firewalls and load balancers forget a connection
# that was silent for some minutes, the strictest ones after one.
_SILENT, _BETWEEN, _TESTS = 30, 10, 3


class _Connection(asyncpg.Connection):
    """A connection whose socket we can reach."""

    __slots__ = ()

    def keep_alive(self, timeout: float) -> None:
        """Let the kernel test the connection while it is silent, and give it up if nothing arrives any more.

        Args:
            timeout: Seconds to wait for an answer.  After half of them, the kernel closes a connection on which what we
                sent was not received.  Then there is time to ask again on another one.
        """
        transport: Any = getattr(self, "_transport", None)
        found = None if transport is None else transport.get_extra_info("socket")
        if found is None or found.family not in (socket.AF_INET, socket.AF_INET6):
            return
        settings = {
            (socket.SOL_SOCKET, "SO_KEEPALIVE"): 1,
            (socket.IPPROTO_TCP, "TCP_KEEPIDLE"): _SILENT,
            (socket.IPPROTO_TCP, "TCP_KEEPALIVE"): _SILENT,  # the name on macOS
            (socket.IPPROTO_TCP, "TCP_KEEPINTVL"): _BETWEEN,
            (socket.IPPROTO_TCP, "TCP_KEEPCNT"): _TESTS,
            (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT"): max(1, int(timeout * 1000 / 2)),
        }
        for (level, name), value in settings.items():
            option: int | None = getattr(socket, name, None)
            if option is not None:
                with suppress(OSError):  # without it, the connection works as well
                    found.setsockopt(level, option, value)


class WrongSettingsError(StorageError):
    """Raised if the driver cannot use the DSN or the environment, whatever the server does."""


class OwnPool:
    """A pool that is created on first use, and again after it was closed or in another event loop."""

    def __init__(self, dsn: str, size: int, timeout: float, *, prepared_statements: bool = True) -> None:
        """Prepare a pool; no I/O.

        Args:
            dsn: Where to connect to.
            size: The largest number of connections.
            timeout: Seconds in which a connection must be established.
            prepared_statements: Whether connections keep prepared statements on the server.

        Raises:
            ConfigurationError: The DSN cannot be understood.  The message does not repeat it.
        """
        self._dsn = checked(dsn)
        self._size = size
        self._timeout = timeout
        self._options: dict[str, Any] = {} if prepared_statements else {"statement_cache_size": 0}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._making = asyncio.Lock()
        self._pool: Any = None

    def get_max_size(self) -> int:
        """Return the largest number of connections."""
        return self._size

    async def opened(self) -> Any:
        """Return the open pool."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # a pool from another loop, such as the last test's, cannot be used here
            self._loop, self._making, self._pool = loop, asyncio.Lock(), None
        if self._pool is not None:
            return self._pool
        async with self._making:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    self._dsn,
                    min_size=0,  # the app can start while the server is unavailable
                    max_size=self._size,
                    timeout=self._timeout,
                    reset=_leave,
                    connect=self._connect,
                    connection_class=_Connection,
                    **self._options,
                )
        return self._pool

    async def connect(self) -> Any:
        """Return a connection of its own, which the pool does not count."""
        connection: Any = await self._connect(
            self._dsn, timeout=self._timeout, connection_class=_Connection, **self._options
        )
        return connection

    @hides_locals
    async def _connect(self, *arguments: Any, **options: Any) -> Any:
        try:
            connection: Any = await asyncpg.connect(*arguments, **options)
        except (asyncpg.InterfaceError, OSError):  # a certificate that is not trusted is a ValueError, too
            raise
        except (ValueError, LookupError, TypeError) as error:
            kind = type(error).__name__
        else:
            connection.keep_alive(self._timeout)
            return connection
        # The driver could not use the settings. Its message might repeat a part of the DSN, so it is not the context.
        raise WrongSettingsError(f"cannot connect with the DSN of from_dsn or the PG* variables ({kind})")

    async def aclose(self) -> None:
        """Close the pool and its connections."""
        pool, self._pool = self._pool, None
        if pool is None or self._loop is not asyncio.get_running_loop():
            return
        try:
            async with asyncio.timeout(self._timeout):
                await pool.close()
        except TimeoutError:
            pool.terminate()


async def _leave(_: Any) -> None:
    """Skip the round trip that resets a connection: none of our changes to it outlives a transaction."""
