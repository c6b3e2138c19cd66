"""A write whose answer was lost is sent again, and its caller learns the truth whatever others did meanwhile."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

import asyncpg
import pytest

from aiohttp_session_store import KeyedStorage, MemoryStorage, StorageError
from aiohttp_session_store.migrate import MigratingStorage
from aiohttp_session_store.storages.postgres import PostgresStorage
from tests.servers.postgres import PostgresServer
from tests.servers.proxy import Fate, Proxy, Request, answer_lost, followed_by, lost_on_the_way, proxy
from tests.storages.lost_steps import EXPIRES_AT, KEY, data_of, writes

ALL = [answer_lost, lost_on_the_way]


@dataclass
class Scene:
    """Two processes and a server.  One of the processes reaches it by way of a proxy.

    Attributes:
        storage: The storage under test.
        direct: The storage of the other process.
        broken: The way of the first one to the server.
    """

    storage: KeyedStorage
    direct: KeyedStorage
    broken: Proxy

    def next(self, *fates: Fate) -> None:
        """Give the next statements that write ``ours`` these fates, one each."""
        self.broken.next(*fates, word=b"ours")


@pytest.fixture(params=["direct", "PgBouncer", "migrating"])
async def scene(request: pytest.FixtureRequest, shared_server: PostgresServer, schema: str) -> AsyncIterator[Scene]:
    """Return storages that have met, with the server or a PgBouncer behind the proxy."""
    pooled = request.param == "PgBouncer"
    dsn: str = request.getfixturevalue("pooled_dsn") if pooled else shared_server.dsn
    port = urlsplit(dsn).port
    assert port
    async with AsyncExitStack() as stack:
        broken = await stack.enter_async_context(proxy(port))
        both: list[KeyedStorage] = []
        for way in (broken.port, port):
            storage = PostgresStorage.from_dsn(
                dsn.replace(f":{port}", f":{way}"), schema=schema, timeout=20, prepared_statements=not pooled
            )
            await storage.create_schema()
            both.append(MigratingStorage(storage, MemoryStorage()) if request.param == "migrating" else storage)
            stack.push_async_callback(both[-1].aclose)
        yield Scene(both[0], both[1], broken)


# --- replacing


@pytest.mark.parametrize("others", [0, 1, 8])
async def test_a_replacement_that_others_built_on_was_stored(scene: Scene, others: int) -> None:
    """To say that it was not would have the engine merge the same changes once more, over what came after them."""
    version = await scene.storage.insert(KEY, b"old", EXPIRES_AT)
    scene.next(followed_by(answer_lost, *writes(scene.direct, others)))
    newer = await scene.storage.replace(KEY, b"ours", EXPIRES_AT, version or b"")
    stored = await scene.direct.fetch(KEY)

    assert newer
    assert stored is not None
    assert stored.data == (b"%d" % others if others else b"ours")
    assert (stored.version == newer) == (others == 0)


@pytest.mark.parametrize("others", [0, 1, 8])
async def test_a_replacement_that_others_came_before_was_not_stored(scene: Scene, others: int) -> None:
    version = await scene.storage.insert(KEY, b"old", EXPIRES_AT)
    scene.next(followed_by(lost_on_the_way, *writes(scene.direct, others)))
    newer = await scene.storage.replace(KEY, b"ours", EXPIRES_AT, version or b"")

    assert bool(newer) == (others == 0)
    assert await data_of(scene.direct) == (b"%d" % others if others else b"ours")


@pytest.mark.parametrize("fate", ALL)
async def test_of_a_replacement_amid_more_writes_than_a_version_names_nobody_can_know(scene: Scene, fate: Fate) -> None:
    version = await scene.storage.insert(KEY, b"old", EXPIRES_AT)
    scene.next(followed_by(fate, *writes(scene.direct, 9)))
    with pytest.raises(StorageError, match="other requests have written since") as caught:
        await scene.storage.replace(KEY, b"ours", EXPIRES_AT, version or b"")

    assert caught.value.maybe_stored
    assert await data_of(scene.direct) == b"9"


@pytest.mark.parametrize("fate", ALL)
async def test_two_losses_in_a_row_change_nothing_about_it(scene: Scene, fate: Fate) -> None:
    """The repetition may be what was carried out, and its answer may be the one that is lost."""
    version = await scene.storage.insert(KEY, b"old", EXPIRES_AT)
    scene.next(lost_on_the_way, followed_by(fate, *writes(scene.direct, 1)))
    newer = await scene.storage.replace(KEY, b"ours", EXPIRES_AT, version or b"")

    assert bool(newer) == (fate is answer_lost)
    assert await data_of(scene.direct) == b"1"


async def test_an_outdated_replacement_that_arrives_is_a_conflict_however_outdated_it_is(scene: Scene) -> None:
    version = await scene.storage.insert(KEY, b"old", EXPIRES_AT)
    for write in writes(scene.direct, 20):
        await write()

    assert await scene.storage.replace(KEY, b"ours", EXPIRES_AT, version or b"") is None


@pytest.mark.parametrize("fate", ALL)
async def test_a_replacement_does_not_bring_back_what_was_deleted(scene: Scene, fate: Fate) -> None:
    version = await scene.storage.insert(KEY, b"old", EXPIRES_AT)
    scene.next(followed_by(fate, lambda: scene.direct.delete(KEY)))

    assert await scene.storage.replace(KEY, b"ours", EXPIRES_AT, version or b"") is None
    assert await scene.direct.fetch(KEY) is None


async def test_a_first_attempt_that_arrives_late_changes_nothing(scene: Scene) -> None:
    """Others came first, the repetition has found that, and only then the server gets what was sent first."""
    late: list[Request] = []

    async def hold(request: Request) -> None:
        late.append(request)
        await writes(scene.direct, 1)[0]()
        request.leave()

    version = await scene.storage.insert(KEY, b"old", EXPIRES_AT)
    scene.next(hold)
    assert await scene.storage.replace(KEY, b"ours", EXPIRES_AT, version or b"") is None
    await late[0].deliver()

    assert await data_of(scene.direct) == b"1"


# --- inserting


@pytest.mark.parametrize("others", [0, 1, 8])
async def test_an_insertion_that_others_built_on_was_stored(scene: Scene, others: int) -> None:
    """An ending puts its mark there, for example.  The caller must not create the session under another id."""
    scene.next(followed_by(answer_lost, *writes(scene.direct, others)))

    assert await scene.storage.insert(KEY, b"ours", EXPIRES_AT)
    assert await data_of(scene.direct) == (b"%d" % others if others else b"ours")


async def test_an_insertion_that_another_one_came_before_was_not_stored(scene: Scene) -> None:
    theirs = [lambda: scene.direct.insert(KEY, b"theirs", EXPIRES_AT), *writes(scene.direct, 2)]
    scene.next(followed_by(lost_on_the_way, *theirs))

    assert await scene.storage.insert(KEY, b"ours", EXPIRES_AT) is None
    assert await data_of(scene.direct) == b"2"


@pytest.mark.parametrize("fate", ALL)
async def test_of_an_insertion_amid_more_writes_than_a_version_names_nobody_can_know(scene: Scene, fate: Fate) -> None:
    others = writes(scene.direct, 9)
    if fate is lost_on_the_way:
        others.insert(0, lambda: scene.direct.insert(KEY, b"theirs", EXPIRES_AT))
    scene.next(followed_by(fate, *others))
    with pytest.raises(StorageError, match="other requests have written since") as caught:
        await scene.storage.insert(KEY, b"ours", EXPIRES_AT)

    assert caught.value.maybe_stored
    assert await data_of(scene.direct) == b"9"


# --- a process of the release before, whose versions are eight random bytes


@pytest.mark.parametrize("fate", ALL)
async def test_of_a_write_that_the_release_before_has_written_over_nobody_can_know(
    storage: PostgresStorage, shared_server: PostgresServer, schema: str, pool: asyncpg.Pool, fate: Fate
) -> None:
    update = f"UPDATE {storage._statements.table} SET version = $1, data = '2'"
    async with proxy(shared_server.port) as broken:
        far = PostgresStorage.from_dsn(
            shared_server.dsn.replace(f":{shared_server.port}", f":{broken.port}"), schema=schema, timeout=20
        )
        await storage.insert(KEY, b"old", EXPIRES_AT)
        await pool.execute(update, b"version1")
        newer = await far.replace(KEY, b"new", EXPIRES_AT, b"version1")
        assert newer
        broken.next(followed_by(fate, lambda: pool.execute(update, b"version2")), word=b"ours")
        with pytest.raises(StorageError, match="other requests have written since") as caught:
            await far.replace(KEY, b"ours", EXPIRES_AT, newer)

        assert caught.value.maybe_stored
        await far.aclose()


# --- what handlers see


@pytest.mark.parametrize("fate", ALL)
async def test_an_addition_is_made_once_whatever_others_add_meanwhile(scene: Scene, fate: Fate) -> None:
    session = await scene.storage.read(None)
    session["list"] = ["first"]
    cookie_value = await scene.storage.save(session)

    async def add(storage: KeyedStorage, name: str) -> None:
        session = await storage.read(cookie_value)
        session["list"].append(name)
        session.increment("count")
        assert await storage.save(session) is None

    scene.next(followed_by(fate, *(partial(add, scene.direct, f"other {number}") for number in range(3))))
    await add(scene.storage, "ours")
    found = await scene.direct.read(cookie_value)

    assert sorted(found["list"]) == ["first", "other 0", "other 1", "other 2", "ours"]
    assert found["count"] == 4


@pytest.mark.parametrize("fate", ALL)
@pytest.mark.parametrize("change", ["set", "clear"])
async def test_an_assignment_does_not_undo_what_came_after_it(scene: Scene, fate: Fate, change: str) -> None:
    session = await scene.storage.read(None)
    session["who"] = "nobody"
    cookie_value = await scene.storage.save(session)

    async def overwrite() -> None:
        session = await scene.direct.read(cookie_value)
        session["who"] = "theirs"
        await scene.direct.save(session)

    session = await scene.storage.read(cookie_value)
    if change == "clear":
        session.clear()
    session["who"] = "ours"
    scene.next(followed_by(fate, overwrite))
    await scene.storage.save(session)
    found = await scene.direct.read(cookie_value)

    assert found["who"] == ("theirs" if fate is answer_lost else "ours")


@pytest.mark.parametrize("fate", ALL)
async def test_a_logout_amid_a_save_whose_answer_is_lost_is_final(scene: Scene, fate: Fate) -> None:
    session = await scene.storage.read(None)
    session["who"] = "nobody"
    cookie_value = await scene.storage.save(session)

    async def log_out() -> None:
        session = await scene.direct.read(cookie_value)
        session.destroy()
        await scene.direct.save(session)

    session = await scene.storage.read(cookie_value)
    session["who"] = "ours"
    scene.next(followed_by(fate, log_out))
    await scene.storage.save(session)

    assert (await scene.direct.read(cookie_value)).new
