"""Memory storages whose calls suspend, as those of disks and servers do, so that requests interleave."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

from aiohttp_session_store import KeyedStorage, StorageError
from tests.storages.plain import PlainStorage


class SuspendingStorage(PlainStorage):
    """Suspends before and after each verb; the verb itself stays atomic."""

    suspends: ClassVar[bool] = True

    async def pause(self) -> None:
        await asyncio.sleep(0)

    async def fetch(self, key: str) -> Any:
        await self.pause()
        found = await super().fetch(key)
        await self.pause()
        return found

    async def insert(self, key: str, data: bytes, expires_at: int) -> bytes | None:
        await self.pause()
        version = await super().insert(key, data, expires_at)
        await self.pause()
        return version

    async def replace(self, key: str, data: bytes, expires_at: int, version: bytes) -> bytes | None:
        await self.pause()
        newer = await super().replace(key, data, expires_at, version)
        await self.pause()
        return newer

    async def touch(self, key: str, expires_at: int, version: bytes) -> bool:
        await self.pause()
        done = await super().touch(key, expires_at, version)
        await self.pause()
        return done

    async def delete(self, key: str, version: bytes | None = None) -> bool:
        await self.pause()
        done = await super().delete(key, version)
        await self.pause()
        return done

    async def link(self, owner_key: str, key: str, until: int) -> None:
        await self.pause()
        await super().link(owner_key, key, until)
        await self.pause()

    async def unlink(self, owner_key: str, key: str) -> None:
        await self.pause()
        await super().unlink(owner_key, key)
        await self.pause()

    async def linked(self, owner_key: str) -> list[str]:
        await self.pause()
        keys = await super().linked(owner_key)
        await self.pause()
        return keys


class SelfSweepingStorage(SuspendingStorage):
    """Has no locks and nothing to sweep, like a server that removes expired records itself."""

    lock = KeyedStorage.lock  # the base class refuses

    async def sweep(self) -> int:
        return 0


class RacyStorage(SuspendingStorage):
    """Suspends for a seeded random number of steps, counts its calls, and fails on demand.

    Attributes:
        calls: How often each verb was called.
        fail: Called with verb and key before a verb does anything; if it returns true, ``StorageError`` is raised.
        lose_answer: The same, but called after the verb has done its work.
    """

    def __init__(self, seed: int = 0, *, longest_pause: int = 4, **options: Any) -> None:
        super().__init__(**options)
        self.random = random.Random(seed)
        self.longest_pause = longest_pause
        self.calls: Counter[str] = Counter()
        self.fail: Callable[[str, str], bool] = lambda verb, key: False
        self.lose_answer: Callable[[str, str], bool] = lambda verb, key: False

    async def pause(self) -> None:
        for _ in range(self.random.randint(0, self.longest_pause)):
            await asyncio.sleep(0)

    def record_keys(self) -> list[str]:
        return list(self._records)

    async def _call(self, verb: str, key: str, *args: Any) -> Any:
        self.calls[verb] += 1
        if self.fail(verb, key):
            await self.pause()
            raise StorageError(f"{verb} was told to fail")
        result = await getattr(super(), verb)(key, *args)
        if self.lose_answer(verb, key):
            raise StorageError(f"the answer to {verb} was lost", maybe_stored=True)
        return result

    async def fetch(self, key: str) -> Any:
        return await self._call("fetch", key)

    async def insert(self, key: str, data: bytes, expires_at: int) -> Any:
        return await self._call("insert", key, data, expires_at)

    async def replace(self, key: str, data: bytes, expires_at: int, version: bytes) -> Any:
        return await self._call("replace", key, data, expires_at, version)

    async def touch(self, key: str, expires_at: int, version: bytes) -> Any:
        return await self._call("touch", key, expires_at, version)

    async def delete(self, key: str, version: bytes | None = None) -> bool:
        return bool(await self._call("delete", key, version))


async def stored_id(storage: RacyStorage, **data: Any) -> str:
    session = await storage.read(None)
    session.update(data or {"user": 5})
    session_id = await storage.save(session)
    assert session_id
    return session_id


def failing(verb: str, *, times: int = 1) -> Callable[[str, str], bool]:
    """Return a value for ``RacyStorage.fail`` that makes the first *times* calls of *verb* fail."""
    left = times

    def fail(called: str, _: str) -> bool:
        nonlocal left
        left -= called == verb
        return called == verb and left >= 0

    return fail


def nothing_fails(storage: RacyStorage) -> None:
    storage.fail = storage.lose_answer = lambda verb, key: False
