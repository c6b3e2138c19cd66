"""Parallel saves of one session share a write (known as group commit)."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from ..errors import StorageError
from ..record.changes import Changes
from ..record.format import Stored
from .writing import Written


@dataclass(slots=True)
class _Waiter:
    changes: Changes
    future: "asyncio.Future[Written | None]"


class SharedSaves:
    """Lets the saves of one session that arrive while one is being written share the next write.

    Measured on one busy session in a file: 93 us of CPU per save, against 633 with a lock around each write.

    What waits in another event loop, as in the parent of a forked child, is that loop's to write.
    """

    def __init__(self, write: Callable[[str, Stored, Sequence[Changes]], Awaitable[Written | None]]) -> None:
        """Write batches by *write*."""
        self._write = write
        self._waiting: dict[str, list[_Waiter]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self.tasks: set[asyncio.Task[None]] = set()

    def submit(self, key: str, stored: Stored, changes: Changes) -> "asyncio.Future[Written | None]":
        """Have *changes* merged onto the record of *key*; the future says where they were stored, or why not.

        The task that writes belongs to the session, not the request: to be cancelled while waiting, shield the future.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._waiting, self.tasks = loop, {}, set()
        waiter = _Waiter(changes, loop.create_future())
        queue = self._waiting.get(key)
        if queue is None:
            self._waiting[key] = [waiter]
            task = loop.create_task(self._drain(key, stored, self._waiting))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        else:
            queue.append(waiter)
        return waiter.future

    async def _drain(self, key: str, stored: Stored, waiting: dict[str, list[_Waiter]]) -> None:
        queue = waiting[key]
        batch: list[_Waiter] = []
        try:
            while queue:
                batch = queue[:]
                del queue[:]
                written = await self._commit(key, stored, batch)
                if written is not None and written.key == key:
                    stored = written.stored
        finally:
            del waiting[key]
            for waiter in (*batch, *queue):  # only if this task was cancelled, with its loop, is one not answered yet
                waiter.future.cancel()

    async def _commit(self, key: str, stored: Stored, batch: list[_Waiter]) -> Written | None:
        try:
            written = await self._write(key, stored, [waiter.changes for waiter in batch])
        except Exception as error:  # noqa: BLE001  every waiter raises it
            for waiter in batch:
                if not waiter.future.done():
                    waiter.future.set_exception(_copy_of(error))
            return None
        for waiter in batch:
            if not waiter.future.done():
                waiter.future.set_result(written)
        return written


def _copy_of(error: Exception) -> Exception:
    """Return an error for one more request: a shared one would collect every request's traceback."""
    if type(error) is not StorageError:
        return error
    copy = StorageError(*error.args)
    copy.__cause__ = error.__cause__
    return copy
