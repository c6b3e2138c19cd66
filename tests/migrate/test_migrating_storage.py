"""Sessions move from one storage to another: nothing is lost and nothing comes back, wherever a process dies."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from aiohttp_session_store import (
    ConfigurationError,
    CookieStorage,
    FileSystemStorage,
    KeyedStorage,
    MemoryStorage,
    StorageError,
)
from aiohttp_session_store.engine.ending import fence
from aiohttp_session_store.engine.verbs import Verbs
from aiohttp_session_store.migrate import MigratingStorage
from aiohttp_session_store.record.session_id import key_of
from aiohttp_session_store.testing import ManualClock
from tests.engine.suspending import RacyStorage


async def stored_id(storage: KeyedStorage, **data: Any) -> str:
    session = await storage.read(None)
    session.update(data)
    value = await storage.save(session)
    assert value
    return value


async def test_reading_does_not_move_a_session_and_writing_does() -> None:
    old, new = MemoryStorage(), MemoryStorage()
    session_id = await stored_id(old, user="ada")
    storage = MigratingStorage(new, old)

    session = await storage.read(session_id)
    assert session["user"] == "ada"
    await storage.save(session)
    assert (len(old), len(new)) == (1, 0)

    session["user"] = "grace"
    await storage.save(session)
    assert (len(old), len(new)) == (0, 1)
    assert (await new.read(session_id))["user"] == "grace"


async def test_in_the_first_step_nothing_moves_and_moved_sessions_are_found() -> None:
    old, new = MemoryStorage(), MemoryStorage()
    first, later = MigratingStorage(new, old, moving=False), MigratingStorage(new, old)
    session_id = await stored_id(first, user="ada")
    assert (len(old), len(new)) == (1, 0)

    session = await later.read(session_id)
    session["step"] = 2
    await later.save(session)
    session = await first.read(session_id)
    assert dict(session) == {"user": "ada", "step": 2}
    session["step"] = 1
    await first.save(session)
    assert dict(await new.read(session_id)) == {"user": "ada", "step": 1}


async def test_a_session_destroyed_before_its_move_is_gone_from_both_storages() -> None:
    old, new = MemoryStorage(), MemoryStorage()
    session_id = await stored_id(old, user="ada")
    storage = MigratingStorage(new, old)
    session = await storage.read(session_id)
    session.destroy()
    await storage.save(session)

    for one in (storage, old, new):
        assert (await one.read(session_id)).new


SEEDS = range(300)


@pytest.mark.parametrize("seed", SEEDS)
async def test_racing_writers_lose_nothing_while_the_session_moves(seed: int) -> None:
    old, new = RacyStorage(seed), RacyStorage(seed + 10_000)
    storages = [MigratingStorage(new, old), MigratingStorage(new, old, moving=seed % 2 == 0)]
    session_id = await stored_id(old, user="ada")

    async def write(number: int) -> None:
        storage = storages[number % 2]
        session = await storage.read(session_id)
        assert session["user"] == "ada"
        session[f"key{number}"] = number
        if number == 3 and seed % 3 == 0:
            session.regenerate_id()
        await storage.save(session)

    async def read() -> None:
        for _ in range(5):
            assert (await storages[0].read(session_id))["user"] == "ada"

    await asyncio.gather(*(write(number) for number in range(5)), read())

    found = [dict(await storages[0].read(session_id))]
    keys = {key for one in (*old.record_keys(), *new.record_keys()) for key in [one]}
    for key in keys:
        stored = await storages[0].fetch(key)
        if stored is not None and b" L " in stored.data[:4]:
            found.append(storages[0].records.decode(stored.data, key).data)  # type: ignore[union-attr]
    assert {"user": "ada", **{f"key{number}": number for number in range(5)}} in found


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_logout_that_races_moves_is_final(seed: int) -> None:
    old, new = RacyStorage(seed), RacyStorage(seed + 10_000)
    storages = [MigratingStorage(new, old), MigratingStorage(new, old, moving=seed % 2 == 0)]
    session_id = await stored_id(old, user="ada")
    sessions = [await storages[number % 2].read(session_id) for number in range(4)]

    async def write(number: int) -> None:
        for _ in range(seed % 7):
            await asyncio.sleep(0)
        sessions[number][f"key{number}"] = number
        await storages[number % 2].save(sessions[number])

    async def logout() -> None:
        for _ in range(seed % 11):
            await asyncio.sleep(0)
        session = await storages[0].read(session_id)
        session.destroy()
        await storages[0].save(session)

    await asyncio.gather(*(write(number) for number in range(4)), logout())

    assert (await storages[0].read(session_id)).new
    assert (await storages[1].read(session_id)).new


class DyingError(BaseException):
    """Stands for a process that dies between two calls."""


class Dying(MemoryStorage):
    """Dies before or after the call whose number is in *left*."""

    def __init__(self, left: list[int], *, after: bool) -> None:
        super().__init__()
        self.left, self.after = left, after

    async def _mortal(self, call: Any) -> Any:
        self.left[0] -= 1
        if self.left[0] == 0 and not self.after:
            call.close()
            raise DyingError
        result = await call
        if self.left[0] == 0:
            raise DyingError
        return result

    async def fetch(self, key: str) -> Any:
        return await self._mortal(super().fetch(key))

    async def insert(self, key: str, data: bytes, expires_at: int) -> Any:
        return await self._mortal(super().insert(key, data, expires_at))

    async def replace(self, key: str, data: bytes, expires_at: int, version: bytes) -> Any:
        return await self._mortal(super().replace(key, data, expires_at, version))

    async def delete(self, key: str, version: bytes | None = None) -> bool:
        return bool(await self._mortal(super().delete(key, version)))


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("call", range(1, 16))
@pytest.mark.parametrize("deed", ["write", "logout"])
async def test_a_process_that_dies_at_any_call_leaves_the_old_session_or_the_new_one(
    deed: str, call: int, after: bool
) -> None:
    left = [-1]
    old, new = Dying(left, after=after), Dying(left, after=after)
    session_id = await stored_id(old, user="ada")
    storage = MigratingStorage(new, old)
    session = await storage.read(session_id)
    if deed == "write":
        session["user"] = "grace"
    else:
        session.destroy()
    left[0] = call
    try:
        await storage.save(session)
        answered = True
    except (DyingError, asyncio.CancelledError):  # CancelledError comes from the task that wrote
        answered = False
    left[0] = -1

    next_process = MigratingStorage(new, old)
    found = dict(await next_process.read(session_id))
    done = {"user": "grace"} if deed == "write" else {}
    assert found == done if answered else found in ({"user": "ada"}, done)
    again = await next_process.read(session_id)
    if not again.new:
        again["after"] = 1
        await next_process.save(again)
        assert dict(await next_process.read(session_id)) == {**found, "after": 1}
        assert len(new) == 1


async def test_the_lock_is_held_in_both_storages() -> None:
    old, new = MemoryStorage(), MemoryStorage()
    storage = MigratingStorage(new, old)
    for one in (old, new):
        async with storage.lock("k"):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01), one.lock("k"):
                    pass
        async with one.lock("k"):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01), storage.lock("k"):
                    pass


async def test_both_storages_are_started_and_closed(tmp_path: Path) -> None:
    old, new = FileSystemStorage(tmp_path / "old"), MemoryStorage()
    storage = MigratingStorage(new, old)
    await storage.start()
    assert (old._users, new._users) == (1, 1)
    await storage.aclose()
    assert (old._users, new._users) == (0, 0)


def test_new_cookies_use_the_new_secret_and_old_cookies_are_still_verified(tmp_path: Path) -> None:
    old, new = FileSystemStorage(tmp_path / "old"), MemoryStorage()

    assert MigratingStorage(new, old).default_secrets() == [*new.default_secrets(), *old.default_secrets()]


@pytest.mark.parametrize("pair", [(1, 1), (0, 2), (2, 0)])
def test_a_pair_of_storages_that_cannot_migrate_is_refused(pair: tuple[int, int]) -> None:
    storages: list[Any] = [MemoryStorage(), MemoryStorage(), CookieStorage()]
    with pytest.raises(ConfigurationError, match="two different storages on the server"):
        MigratingStorage(storages[pair[0]], storages[pair[1]])


async def test_a_failure_of_one_storage_is_a_storage_error() -> None:
    old, new = RacyStorage(), RacyStorage()
    session_id = await stored_id(old, user="ada")
    storage = MigratingStorage(new, old)
    session = await storage.read(session_id)
    session["user"] = "grace"
    new.fail = lambda verb, key: verb == "insert"
    with pytest.raises(StorageError):
        await storage.save(session)
    new.fail = lambda verb, key: False

    assert (await storage.read(session_id))["user"] in ("ada", "grace")


def test_cookies_are_signed_with_secrets_that_all_workers_of_a_step_know() -> None:
    new, old = MemoryStorage(), MemoryStorage()
    ours, theirs = [*new.default_secrets()], [*old.default_secrets()]

    assert MigratingStorage(new, old).default_secrets() == ours + theirs
    assert MigratingStorage(new, old, moving=False).default_secrets() == theirs + ours


# --- storages that offer less


class WithoutIndex(MemoryStorage):
    link = Verbs.link
    unlink = Verbs.unlink
    linked = Verbs.linked


class WithoutVersions(MemoryStorage):
    """It is full, too, as only then does an ending delete at a version."""

    async def delete(self, key: str) -> bool:  # type: ignore[override]
        return await super().delete(key)

    async def retire(self, *_: Any) -> bytes | None:
        raise StorageError("no space left")


def test_a_limit_of_sessions_that_nobody_can_keep_is_refused() -> None:
    """Otherwise every login would fail."""
    with pytest.raises(ConfigurationError, match=r"WithoutIndex has no index of owners.*used alone$"):
        MigratingStorage(MemoryStorage(max_sessions_per_owner=5), WithoutIndex())


async def test_a_logout_on_a_full_storage_whose_delete_takes_no_version_fails_with_the_reason() -> None:
    storage = MigratingStorage(WithoutVersions(), MemoryStorage())
    session = await storage.read(await stored_id(storage, user="ada"))
    session.destroy()

    with pytest.raises(StorageError, match="no space left"):
        await storage.save(session)


@pytest.mark.parametrize("moving", [True, False], ids=["the login moves", "the list moves"])
async def test_a_list_beside_a_login_in_the_other_step_loses_no_session(moving: bool) -> None:
    """Each inserts at the same key in a storage of its own: the login its record, the list a tombstone."""
    for seed in range(60):
        old, new = RacyStorage(seed=seed), RacyStorage(seed=seed + 1000)
        logging_in, listing = MigratingStorage(new, old, moving=moving), MigratingStorage(new, old, moving=not moving)

        async def log_in(storage: KeyedStorage) -> str | None:
            session = await storage.read(None)
            session.login("ada")
            return await storage.save(session)

        sent, *_ = await asyncio.gather(log_in(logging_in), *(listing.sessions_of("ada") for _ in range(4)))

        for storage in (logging_in, listing):
            found = await storage.read(sent)
            assert found.owner == "ada", f"seed {seed}: a list ends nobody's session"
            assert [info.key for info in await storage.sessions_of("ada")] == [found.key], f"seed {seed}"


class Hex:
    """A codec."""

    name = "hex"

    def dumps(self, value: Any) -> bytes:
        return json.dumps(value).encode().hex().encode()

    def loads(self, data: bytes) -> Any:
        return json.loads(bytes.fromhex(data.decode()))


@pytest.mark.parametrize("codecs", [(Hex(), None), (None, Hex())], ids=["from a codec", "to a codec"])
@pytest.mark.parametrize("action", ["extended", "held exclusively", "written by a process of the step before"])
async def test_what_is_moved_without_a_change_can_be_read_by_the_new_storage_alone(codecs: Any, action: str) -> None:
    clock = ManualClock()
    old, new = (RacyStorage(codec=codec, clock=clock) for codec in codecs)
    session_id = await stored_id(old, user="ada")
    before, moving = MigratingStorage(new, old, moving=False), MigratingStorage(new, old)
    if action == "held exclusively":
        session = await moving.read(session_id)
        await fence(moving, session.key)  # as exclusive_session does
    else:
        clock.advance(2 * 86400)
        await moving.read(session_id)
    if action.startswith("written"):
        session = await before.read(session_id)
        session["user"] = "grace"
        await before.save(session)
        assert dict(await before.read(session_id)) == dict(await moving.read(session_id)) == {"user": "grace"}

    assert (await new.read(session_id))["user"] in ("ada", "grace")
    assert await old.fetch(key_of(session_id)) is None
