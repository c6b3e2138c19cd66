"""What a started storage looks after: its directory is where it was, and the secret is in it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from ...errors import ConfigurationError, StorageError
from .directory import SessionDirectory
from .secret import SharedSecret

_logger = logging.getLogger("aiohttp_session_store")

# In seconds. A worker that starts while the secret is missing makes another one, so it must not be missing for long.
# One look is a call in a thread and three system calls.
LOOK_EVERY = 5.0


class Upkeep:
    """Looks at the directory and its secret from time to time."""

    def __init__(self, directory: SessionDirectory, secret: SharedSecret) -> None:
        """Wait for :meth:`start`."""
        self._directory = directory
        self._secret = secret
        self._was_in_place = True
        self._task: asyncio.Task[None] | None = None

    def look(self) -> None:
        """Look once.  The code blocks.

        Raises:
            ConfigurationError: The directory or the secret cannot be used any more.
            OSError: The same.
        """
        self._directory.restored()
        in_place = self._directory.in_place()
        if self._was_in_place and not in_place:
            _logger.error(
                "%s was moved or replaced while it was in use. This process goes on with the directory that it has"
                " opened, and other processes may not. Restart all processes",
                self._directory.path,
            )
        self._was_in_place = in_place
        self._secret.keep()

    def start(self, look: Callable[[], Awaitable[None]]) -> None:
        """Start to call *look*, which runs :meth:`look` in a thread."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(look), name="upkeep of session files")

    async def stop(self) -> None:
        """Stop looking."""
        task, self._task = self._task, None
        if task is not None and task.get_loop() is asyncio.get_running_loop():  # and not a forked child's parent's
            task.cancel()
            await asyncio.wait([task])

    async def _run(self, look: Callable[[], Awaitable[None]]) -> None:
        failed = ""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                await look()
                failed = ""
            except (StorageError, ConfigurationError) as error:
                if failed != str(error):  # once, not every few seconds
                    failed = str(error)
                    _logger.error("the upkeep of session files failed: %s", error)
