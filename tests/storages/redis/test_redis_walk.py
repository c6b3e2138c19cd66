"""What is peculiar to a walk over Redis: foreign keys, strange prefixes, and rewrites whose answer is lost."""

import pytest
from redis.asyncio import Redis

from aiohttp_session_store import StorageError, Stored
from aiohttp_session_store.storages.redis import RedisStorage
from aiohttp_session_store.storages.redis.walking import _part
from tests.servers.proxy import answer_lost, lost_on_the_way, proxy
from tests.servers.redis import RedisServer

KEY, OTHER = "ab" * 32, "cd" * 32
EXPIRES_AT = 4_000_000_000


async def found(storage: RedisStorage) -> dict[str, Stored | str]:
    return {one.key: one.stored or one.fault async for part in storage.walk() for one in part.found}


@pytest.mark.parametrize("name", ["[a]*?", "back\\slash^-", "ünïcode "])
async def test_a_walk_keeps_to_its_prefix_whatever_characters_that_has(client: Redis, prefix: str, name: str) -> None:
    mine, other = (RedisStorage(client, prefix=f"{prefix}{begin}:") for begin in (name, "a"))
    await mine.insert(KEY, b"mine", EXPIRES_AT)
    await other.insert(OTHER, b"other", EXPIRES_AT)

    assert set(await found(mine)) == {KEY}


async def test_what_is_not_ours_is_found_with_its_fault_or_not_at_all(
    client: Redis, storage: RedisStorage, prefix: str
) -> None:
    """And neither changed nor a reason to stop."""
    await storage.insert(KEY, b"data", EXPIRES_AT)
    await client.set(f"{prefix}{OTHER}", b"not ours")
    await client.hset(f"{prefix}{'ef' * 32}", "a", "b")
    await client.set(f"{prefix}{'x' * 64}", b"no key of a session")
    async with storage.lock(KEY):
        seen = await found(storage)

    assert set(seen) == {KEY, OTHER, "ef" * 32}
    assert seen[OTHER] == "it holds a value that is not ours"
    assert seen["ef" * 32] == "it holds a value of another type than ours"
    assert await client.get(f"{prefix}{OTHER}") == b"not ours"


async def test_a_walk_over_one_node_of_a_cluster_is_refused(cluster: list[RedisServer]) -> None:
    """It would find a part of the sessions, and whoever ends all of them would believe that all have ended."""
    storage = RedisStorage.from_url(cluster[0].url)
    with pytest.raises(StorageError, match="a node of a cluster"):
        await found(storage)
    await storage.aclose()


async def test_a_walk_needs_no_permission_for_info(shared_server: RedisServer, prefix: str) -> None:
    name = prefix.strip(":")
    with shared_server.client() as admin:
        admin.execute_command(
            "ACL", "SETUSER", name, "on", ">pw", f"~{prefix}*", "-@all", "+get", "+scan", "+evalsha", "+eval", "+set",
            "+getrange",
        )  # fmt: skip
    storage = RedisStorage.from_url(f"redis://{name}:pw@127.0.0.1:{shared_server.port}", prefix=prefix)
    await storage.insert(KEY, b"data", EXPIRES_AT)

    assert set(await found(storage)) == {KEY}
    await storage.aclose()


async def test_a_walk_over_a_server_that_is_away_is_a_storage_error(server: RedisServer) -> None:
    storage = RedisStorage.from_url(server.url, timeout=1)
    server.kill()
    with pytest.raises(StorageError):
        await found(storage)
    await storage.aclose()


def test_the_part_that_is_done_is_read_from_the_cursor() -> None:
    """The server counts with the bits of its cursor reversed: in a table of eight, 0 4 2 6 1 5 3 7."""
    assert [_part(cursor) for cursor in (0, 1, 2, 3)] == [0, 1 / 2, 1 / 4, 3 / 4]
    assert [round(8 * _part(cursor)) for cursor in (0, 4, 2, 6, 1, 5, 3, 7)] == list(range(8))


@pytest.mark.parametrize("fate", [answer_lost, lost_on_the_way])
async def test_a_rewrite_whose_answer_is_lost_is_done_once(
    shared_server: RedisServer, prefix: str, fate: object
) -> None:
    async with proxy(shared_server.port) as broken:
        storage = RedisStorage.from_url(broken.url, prefix=prefix)
        version = await storage.insert(KEY, b"old", EXPIRES_AT)
        version = await storage.rewrite(KEY, b"first", version or b"")  # the server knows the script now
        broken.next(fate)  # type: ignore[arg-type]
        newer = await storage.rewrite(KEY, b"second", version or b"")

        assert newer
        assert await storage.fetch(KEY) == Stored(b"second", newer, EXPIRES_AT)
        await storage.aclose()


async def test_a_rewrite_keeps_when_the_server_itself_removes_the_record(
    client: Redis, storage: RedisStorage, prefix: str
) -> None:
    version = await storage.insert(KEY, b"old", EXPIRES_AT)
    before = await client.pttl(f"{prefix}{KEY}")
    assert await storage.rewrite(KEY, b"new", version or b"")

    assert 0 < before - 60_000 < await client.pttl(f"{prefix}{KEY}") <= before
