"""What a storage finds out about its pool and its server when it starts."""

import asyncio
import logging
import traceback

import asyncpg

from ...errors import ConfigurationError, StorageError, one_line
from .connections import Connections
from .own_pool import WrongSettingsError

__all__ = ["connect_once"]

_logger = logging.getLogger("aiohttp_session_store")

_INSTEAD = "in a cleanup_ctx that is appended before setup(), or use PostgresStorage.from_dsn"


async def connect_once(connections: Connections) -> None:
    """Connect once, and log why if that fails now.

    Raises:
        ConfigurationError: It can never succeed.
    """
    loop = getattr(await connections.pool(), "_loop", None)  # the driver has no other name for it
    if loop is not None and loop is not asyncio.get_running_loop():
        raise ConfigurationError(
            "PostgresStorage: the pool was made in another event loop than the one that runs the app. Make it"
            f" {_INSTEAD}"
        )
    fault = await _fault(connections)
    if fault is not None:  # raised outside of any except block, because the context could hold a part of a DSN
        raise ConfigurationError(f"PostgresStorage: {fault}")


async def _fault(connections: Connections) -> str | None:
    """Return why connecting can never succeed."""
    try:
        async with connections.one():
            return None
    except WrongSettingsError as error:
        return str(error)
    except StorageError as error:
        cause = error.__cause__
        if not isinstance(cause, asyncpg.InterfaceError):
            _logger.warning("sessions are unavailable: %s", one_line(error))
            return None
        if isinstance(cause, ValueError):
            return f"the driver refuses the DSN, the arguments of the pool or the PG* variables: {cause}"
        return f"the pool of asyncpg is not open when the app starts ({cause}). Open it {_INSTEAD}"
    except (ValueError, LookupError, TypeError) as error:  # its text may repeat a part of the DSN
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{type(error).__name__} in {last.filename}, line {last.lineno}"
        return f"the driver cannot use the DSN or the arguments of the pool ({where})"
