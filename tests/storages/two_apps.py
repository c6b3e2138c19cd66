"""Two apps on one storage: one closes it while the other one goes on using it."""

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp_session_store import KeyedStorage

PATIENCE = 30.0


async def close_while_it_is_used(
    storage: KeyedStorage, use: Callable[[int], Awaitable[object]], under_way: Callable[[], object], users: int = 64
) -> None:
    """Close *storage* for one of two apps while the other one uses it without a pause.

    Args:
        storage: It is not started yet.
        use: Uses it once, for the user of that number.
        under_way: Returns what the storage is doing; the closing begins when there is something.
        users: How many use it at the same time.
    """
    await storage.start()
    await storage.start()
    closed = asyncio.Event()

    async def go_on(number: int) -> None:
        for _ in range(number):  # so that there is no turn of the loop without a user
            await asyncio.sleep(0)
        while not closed.is_set():
            await use(number)

    using = asyncio.gather(*map(go_on, range(users)))
    while not under_way():
        await asyncio.sleep(0)
    try:
        async with asyncio.timeout(PATIENCE):
            await storage.aclose()
    finally:
        closed.set()
        await using
        await storage.aclose()
