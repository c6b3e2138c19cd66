"""Storages broken on purpose in walking over their records, and in rewriting one."""

import asyncio
from collections.abc import AsyncGenerator

from aiohttp_session_store.engine.verbs import Found, Walked
from tests.storages.plain import PlainStorage


class WalkOfOnePart(PlainStorage):
    async def walk(self) -> AsyncGenerator[Walked, None]:
        async for part in super().walk():
            yield part
            break


class WalkInOneGo(PlainStorage):
    async def walk(self) -> AsyncGenerator[Walked, None]:
        yield Walked([Found(key, stored) for key, stored in self._records.items()], 1.0)


class WalkOverTheIndex(PlainStorage):
    async def walk(self) -> AsyncGenerator[Walked, None]:
        async for part in super().walk():
            yield part
        for entries in self._owners.values():
            yield Walked([Found("owner", self._records[key]) for key in entries], 1.0)


class WalkByPosition(PlainStorage):
    """Removing a record moves those behind it."""

    async def walk(self) -> AsyncGenerator[Walked, None]:
        start = 0
        while start < len(self._records):
            keys = list(self._records)[start : start + 100]
            yield Walked([Found(key, self._records[key]) for key in keys], 0.5)
            start += 100


class WalkThatHoldsTheStorage(PlainStorage):
    _walking = False

    async def walk(self) -> AsyncGenerator[Walked, None]:
        if not self._walking:
            self._walking = True
            async for part in super().walk():
                yield part
            self._walking = False


class RewriteThatShortens(PlainStorage):
    async def rewrite(self, key: str, data: bytes, version: bytes) -> bytes | None:
        return await self.replace(key, data, self.now(), version)


class RewriteAtAnyVersion(PlainStorage):
    async def rewrite(self, key: str, data: bytes, version: bytes) -> bytes | None:
        stored = self._records.get(key)
        return None if stored is None else self._put(key, data, stored.expires_at)


class RewriteInTwoSteps(PlainStorage):
    suspends = True

    async def rewrite(self, key: str, data: bytes, version: bytes) -> bytes | None:
        stored = await self.fetch(key)
        if stored is None or stored.version != version:
            return None
        await asyncio.sleep(0)
        return await self.replace(key, data, stored.expires_at, version)
