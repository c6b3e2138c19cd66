"""The background sweep: one task per started storage that calls its ``sweep`` from time to time."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from ..errors import StorageError, one_line
from ..tracebacks import hide_locals

_logger = logging.getLogger("aiohttp_session_store")

# Workers that start together must not sweep together.
JITTER = 0.2


class SweepLoop:
    """Calls *sweep* every *interval* seconds, give or take a fifth, until stopped."""

    def __init__(self, sweep: Callable[[], Awaitable[int]], interval: int | None) -> None:
        """Wait for :meth:`start`; None for *interval* means never."""
        self._sweep = sweep
        self._interval = interval
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the task; the first sweep comes after one interval."""
        if self._interval is not None and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(self._interval), name="session sweep")

    async def stop(self) -> None:
        """Cancel the task and wait for its end; what is left is swept next time."""
        task, self._task = self._task, None
        if task is not None and task.get_loop() is asyncio.get_running_loop():  # and not a forked child's parent's
            task.cancel()
            await asyncio.wait([task])

    async def _run(self, interval: int) -> None:
        while True:
            await asyncio.sleep(interval * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311  spreads load only
            try:
                removed = await self._sweep()
            except StorageError as error:
                _logger.error("the sweep of expired sessions failed; the next one tries again: %s", one_line(error))
            except Exception as error:
                hide_locals(error)
                _logger.exception("the sweep of expired sessions failed; the next one tries again")
            else:
                if removed:
                    _logger.debug("swept %d expired sessions", removed)
