"""Storages broken on purpose in what watched sessions need."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence

from aiohttp_session_store import Announcement, Stored
from tests.storages.plain import PlainStorage


class FetchManyThatLeavesSomeOut(PlainStorage):
    async def fetch_many(self, keys: Sequence[str]) -> Mapping[str, Stored]:
        return await super().fetch_many(keys[:10])


class FetchManyThatMakesUpRecords(PlainStorage):
    async def fetch_many(self, keys: Sequence[str]) -> Mapping[str, Stored]:
        return {key: Stored(b"", b"", 0) for key in keys} | dict(await super().fetch_many(keys))


class VersionsThatAreRemembered(PlainStorage):
    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self._known: dict[str, bytes] = {}

    async def versions(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        self._known = dict(await super().versions(keys)) | self._known
        return {key: self._known[key] for key in keys if key in self._known}


class VersionsOfTheFirstWrite(PlainStorage):
    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self._first: dict[str, bytes] = {}

    async def insert(self, key: str, data: bytes, expires_at: int) -> bytes | None:
        version = await super().insert(key, data, expires_at)
        if version is not None:
            self._first[key] = version
        return version

    async def versions(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        return {key: self._first[key] for key in keys if key in self._first}


class VersionsOfTheirOwn(PlainStorage):
    async def versions(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        return dict.fromkeys(await super().versions(keys), b"version")


class AnnounceThatDoesNothing(PlainStorage):
    async def announce(self, key: str, reason: str) -> None:
        pass


class AnnounceToOne(PlainStorage):
    async def announce(self, key: str, reason: str) -> None:
        for queue in list(self._listening)[:1]:
            queue.put_nowait(Announcement(key, reason))


class AnnounceWithoutTheReason(PlainStorage):
    async def announce(self, key: str, reason: str) -> None:
        await super().announce(key, "something")


class AnnouncementsThatBeginInSilence(PlainStorage):
    async def announcements(self) -> AsyncGenerator[Announcement, None]:
        async for one in super().announcements():
            if one.key:
                yield one


class AnnouncementsThatWaitForEverybody(PlainStorage):
    """Whoever has stopped listening is waited for."""

    async def announcements(self) -> AsyncGenerator[Announcement, None]:
        queue: asyncio.Queue[Announcement] = asyncio.Queue(1)
        self._listening.add(queue)
        yield Announcement("")
        while True:
            yield await queue.get()

    async def announce(self, key: str, reason: str) -> None:
        for queue in self._listening:
            await queue.put(Announcement(key, reason))
            await queue.put(Announcement(key, reason))
