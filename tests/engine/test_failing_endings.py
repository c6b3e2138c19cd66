"""The sessions of an owner are ended side by side, and the storage fails for some of them."""

import asyncio
from typing import ClassVar

import pytest

from aiohttp_session_store import MemoryStorage, StorageError, Stored
from aiohttp_session_store.record.session_id import key_of
from aiohttp_session_store.session.session import state_of
from tests.engine.suspending import RacyStorage, SuspendingStorage, nothing_fails, stored_id


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


class Unanswering(MemoryStorage):
    """Gets no answer to any replacement while it is told so, and does not carry it out."""

    answers = True

    async def replace(self, key: str, data: bytes, expires_at: int, version: bytes) -> bytes | None:
        if not self.answers:
            raise StorageError("no answer", maybe_stored=True)
        return await super().replace(key, data, expires_at, version)


async def test_an_ending_of_which_nobody_knows_deletes_nothing() -> None:
    """A login is under way, and its driver sends the insert once more: without the record, it would be carried out."""
    storage = Unanswering()
    (key,) = await logins(storage, 1)
    login = await storage.fetch(key)
    assert login
    storage.answers = False
    with pytest.raises(StorageError) as raised:
        await storage.end_sessions("ada")
    assert raised.value.maybe_stored
    storage.answers = True
    await storage.insert(key, login.data, login.expires_at)

    assert await storage.end_sessions("ada") == 1
    assert (await storage.fetch(key) or login).data != login.data


async def test_a_list_that_fails_leaves_no_look_under_way() -> None:
    storage = Broken()
    keys = await logins(storage, 4)
    storage.broken = frozenset(keys[:1])

    with pytest.raises(StorageError):
        await storage.sessions_of("ada")

    assert asyncio.all_tasks() == {asyncio.current_task()}


# --- the index of owners fails behind an ending


class IndexAway(SuspendingStorage):
    """Its index takes entries, and then fails."""

    async def unlink(self, owner_key: str, key: str) -> None:
        raise StorageError("the index is away")


@pytest.mark.parametrize("ending", ["destroy", "logout", "replace"])
async def test_an_ending_that_was_carried_out_is_no_error_because_an_entry_stays(ending: str) -> None:
    """To say that nothing was stored would be untrue: the session has ended.  Lists skip the entry, and it expires."""
    storage = IndexAway()
    session = await storage.read(None)
    session.login("ada")
    session_id = await storage.save(session)
    session = await storage.read(session_id)
    if ending == "destroy":
        session.destroy()
    elif ending == "logout":
        session.logout()
    else:
        fresh = await storage.read(None)
        fresh["a"] = 1
        state_of(fresh).replaces = state_of(session)
        session = fresh
    await storage.save(session)

    assert (await storage.read(session_id)).new


async def test_an_ending_of_which_a_part_was_carried_out_says_so() -> None:
    """A request that came with two live cookies ends both sessions; the second ending is refused."""
    storage = RacyStorage()
    ids = [await stored_id(storage, user="ada"), await stored_id(storage, user="ada")]
    sessions = [await storage.read(one) for one in ids]
    fresh = await storage.read(None)
    fresh["a"] = 1
    first, second = map(state_of, sessions)
    state_of(fresh).replaces, first.replaces = first, second
    storage.fail = lambda verb, key: verb in ("replace", "delete") and key == key_of(ids[1])
    with pytest.raises(StorageError) as caught:
        await storage.save(fresh)
    nothing_fails(storage)

    assert caught.value.maybe_stored
    assert (await storage.read(ids[0])).new
    assert not (await storage.read(ids[1])).new
