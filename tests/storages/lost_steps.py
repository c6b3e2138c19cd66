"""What tests of lost answers do meanwhile: other requests write the same record."""

from collections.abc import Awaitable, Callable

from aiohttp_session_store import KeyedStorage

KEY = "ab" * 32
EXPIRES_AT = 4_000_000_000

Other = Callable[[], Awaitable[object]]


def writes(storage: KeyedStorage, count: int) -> list[Other]:
    """Return writes of other requests.  Each one replaces what it finds by its number, from 1 on."""

    def write(number: int) -> Other:
        async def replace() -> None:
            stored = await storage.fetch(KEY)
            assert stored is not None
            assert await storage.replace(KEY, b"%d" % number, EXPIRES_AT, stored.version)

        return replace

    return [write(number) for number in range(1, count + 1)]


async def data_of(storage: KeyedStorage) -> bytes | None:
    stored = await storage.fetch(KEY)
    return None if stored is None else stored.data
