"""The sessions of an owner are ended side by side, and the storage fails for some of them."""

import asyncio
from typing import ClassVar

import pytest

from aiohttp_session_store import MemoryStorage, StorageError, Stored


class Broken(MemoryStorage):
    """Each verb takes a while, except for the keys that cannot be read."""

    suspends: ClassVar[bool] = True
    broken: frozenset[str] = frozenset()

    async def fetch(self, key: str) -> Stored | None:
        if key in self.broken:
            raise StorageError(f"told to fail for {key}")
        for _ in range(5):
            await asyncio.sleep(0)
        return await super().fetch(key)


async def logins(storage: MemoryStorage, count: int) -> list[str]:
    """Return the keys of the sessions of an owner, in the order of the index."""
    for _ in range(count):
        session = await storage.read(None)
        session.login("ada")
        await storage.save(session)
    return [one.key for one in await storage.sessions_of("ada")]


async def live(storage: Broken) -> set[str]:
    storage.broken = frozenset()
    return {one.key for one in await storage.sessions_of("ada")}


async def test_the_others_have_ended_when_the_error_is_raised() -> None:
    storage = Broken()
    keys = await logins(storage, 4)
    storage.broken = frozenset(keys[1:3])

    with pytest.raises(StorageError, match="told to fail") as raised:
        await storage.end_sessions("ada")

    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert raised.value.maybe_stored
    assert await live(storage) == set(keys[1:3])


async def test_if_all_endings_fail_nothing_was_stored_and_the_error_says_so() -> None:
    storage = Broken()
    keys = await logins(storage, 3)
    storage.broken = frozenset(keys)

    with pytest.raises(StorageError) as raised:
        await storage.end_sessions("ada")

    assert not raised.value.maybe_stored
    assert await live(storage) == set(keys)


async def test_a_list_that_fails_leaves_no_look_under_way() -> None:
    storage = Broken()
    keys = await logins(storage, 4)
    storage.broken = frozenset(keys[:1])

    with pytest.raises(StorageError):
        await storage.sessions_of("ada")

    assert asyncio.all_tasks() == {asyncio.current_task()}
