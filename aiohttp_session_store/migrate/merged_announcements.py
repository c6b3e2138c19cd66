"""The announcements of two storages, as those of one."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from ..engine.verbs import Announcement

__all__ = ["merged"]


async def merged(sources: Sequence[AsyncGenerator[Announcement, None]]) -> AsyncGenerator[Announcement, None]:
    """Yield what all *sources* yield; the first one, with an empty key, when all of them have begun.

    It ends when all have ended by themselves.

    Raises:
        StorageError: One of them was interrupted.
    """
    queue: asyncio.Queue[tuple[int, Announcement | Exception | None]] = asyncio.Queue()

    async def pump(index: int, source: AsyncGenerator[Announcement, None]) -> None:
        try:
            async with aclosing(source):
                async for one in source:
                    queue.put_nowait((index, one))
            queue.put_nowait((index, None))
        except Exception as error:  # noqa: BLE001  raised below
            queue.put_nowait((index, error))

    pumps = [asyncio.create_task(pump(index, source)) for index, source in enumerate(sources)]
    silent, running = set(range(len(pumps))), len(pumps)
    try:
        while running:
            index, one = await queue.get()
            if isinstance(one, Exception):
                raise one
            if one is None:
                running -= 1
            if index in silent:  # this is its first one, or its end
                silent.discard(index)
                one = Announcement("") if running else None
            if one is not None and not silent:
                yield one
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.wait(pumps)
