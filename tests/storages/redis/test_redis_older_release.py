"""Processes of the release before, which does not remember versions, and of this one share the same sessions."""

import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from aiohttp_session_store import StorageError, Stored
from aiohttp_session_store.storages.redis import RedisStorage
from tests.servers.proxy import Proxy, answer_lost, followed_by, lost_on_the_way, proxy
from tests.servers.redis import RedisServer

KEY = "ab" * 32
EXPIRES_AT = 4_000_000_000

# As they were in that release.
INSERT = """
local version = redis.call('GETRANGE', KEYS[1], 0, 7)
if version ~= '' then return version == string.sub(ARGV[1], 1, 8) and 1 or 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PXAT', ARGV[2])
return 1
"""
REPLACE = """
local version = redis.call('GETRANGE', KEYS[1], 0, 7)
if version ~= ARGV[3] then return version == string.sub(ARGV[1], 1, 8) and 1 or 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PXAT', ARGV[2])
return 1
"""
TOUCH = """
local head = redis.call('GETRANGE', KEYS[1], 0, 23)
if string.sub(head, 1, 8) ~= ARGV[1] then return 0 end
if tonumber(string.sub(head, 9)) < tonumber(ARGV[2]) then
    redis.call('SETRANGE', KEYS[1], 8, ARGV[2])
    redis.call('PEXPIREAT', KEYS[1], ARGV[3])
end
return 1
"""


class OlderStorage:
    """The verbs of that release."""

    def __init__(self, client: Redis, prefix: str) -> None:
        self.client, self.name = client, f"{prefix}{KEY}"

    async def fetch(self) -> Stored | None:
        value: Any = await self.client.get(self.name)
        return None if value is None else Stored(value[24:], value[:8], int(value[8:24]))

    async def insert(self, data: bytes) -> bytes | None:
        version = secrets.token_bytes(8)
        value = version + b"%016d" % EXPIRES_AT + data
        return version if await self.client.eval(INSERT, 1, self.name, value, EXPIRES_AT * 1000) else None

    async def replace(self, data: bytes, version: bytes) -> bytes | None:
        newer = secrets.token_bytes(8)
        value = newer + b"%016d" % EXPIRES_AT + data
        done = await self.client.eval(REPLACE, 1, self.name, value, EXPIRES_AT * 1000, version)
        return newer if done else None

    async def touch(self, expires_at: int, version: bytes) -> bool:
        return bool(
            await self.client.eval(TOUCH, 1, self.name, version, b"%016d" % expires_at, (expires_at + 300) * 1000)
        )

    async def write(self) -> None:
        """Replace whatever stands there."""
        stored = await self.fetch()
        assert stored is not None
        assert await self.replace(b"theirs", stored.version)


@pytest.fixture
def older(client: Redis, prefix: str) -> OlderStorage:
    return OlderStorage(client, prefix)


@pytest.fixture
async def way(shared_server: RedisServer) -> AsyncIterator[Proxy]:
    async with proxy(shared_server.port) as one:
        yield one


@pytest.fixture
async def newer(way: Proxy, prefix: str) -> AsyncIterator[RedisStorage]:
    one = RedisStorage.from_url(way.url, prefix=prefix)
    yield one
    await one.aclose()


async def test_the_older_release_reads_extends_and_replaces_what_this_one_has_written(
    older: OlderStorage, newer: RedisStorage
) -> None:
    version = await newer.insert(KEY, b"ours", EXPIRES_AT)
    assert await older.fetch() == Stored(b"ours", version or b"", EXPIRES_AT)
    assert await older.insert(b"theirs") is None
    assert await older.touch(EXPIRES_AT + 1, version or b"")
    theirs = await older.replace(b"theirs", version or b"")
    assert theirs
    assert await older.replace(b"once more", version or b"") is None
    ours = await newer.replace(KEY, b"ours again", EXPIRES_AT, theirs)

    assert await older.fetch() == Stored(b"ours again", ours or b"", EXPIRES_AT)


async def test_this_release_reads_extends_replaces_and_deletes_what_the_older_one_has_written(
    older: OlderStorage, newer: RedisStorage
) -> None:
    version = await older.insert(b"theirs") or b""
    assert await newer.fetch(KEY) == Stored(b"theirs", version, EXPIRES_AT)
    assert await newer.insert(KEY, b"ours", EXPIRES_AT) is None
    assert await newer.touch(KEY, EXPIRES_AT + 1, version)
    ours = await newer.replace(KEY, b"ours", EXPIRES_AT, version) or b""
    assert await newer.replace(KEY, b"once more", EXPIRES_AT, version) is None
    assert await older.replace(b"theirs", version) is None
    theirs = await older.replace(b"theirs again", ours)

    assert theirs
    assert not await newer.delete(KEY, ours)
    assert await newer.delete(KEY, theirs)


async def test_a_write_that_the_older_release_built_on_was_stored(
    older: OlderStorage, newer: RedisStorage, way: Proxy
) -> None:
    version = await older.insert(b"theirs") or b""
    way.next(followed_by(answer_lost, older.write, older.write))

    assert await newer.replace(KEY, b"ours", EXPIRES_AT, version)


async def test_a_write_that_the_older_release_came_before_was_not_stored(
    older: OlderStorage, newer: RedisStorage, way: Proxy
) -> None:
    version = await newer.insert(KEY, b"ours", EXPIRES_AT) or b""
    way.next(followed_by(lost_on_the_way, older.write))

    assert await newer.replace(KEY, b"ours", EXPIRES_AT, version) is None


async def test_of_a_write_between_two_of_the_older_release_nobody_can_know(
    older: OlderStorage, newer: RedisStorage, way: Proxy
) -> None:
    """It is an error and not a conflict, which would have the changes merged twice."""
    version = await older.insert(b"theirs") or b""
    way.next(followed_by(lost_on_the_way, older.write))
    with pytest.raises(StorageError) as caught:
        await newer.replace(KEY, b"ours", EXPIRES_AT, version)

    assert caught.value.maybe_stored


async def test_a_write_of_the_older_release_ends_what_was_remembered(
    older: OlderStorage, newer: RedisStorage, way: Proxy
) -> None:
    """A list with a gap could prove what is not true."""
    version = await newer.insert(KEY, b"ours", EXPIRES_AT) or b""
    way.next(followed_by(lost_on_the_way, older.write, lambda: rewrite(newer), lambda: rewrite(newer)), word=version)
    with pytest.raises(StorageError) as caught:
        await newer.replace(KEY, b"ours", EXPIRES_AT, version)

    assert caught.value.maybe_stored


async def rewrite(storage: RedisStorage) -> None:
    stored = await storage.fetch(KEY)
    assert stored is not None
    assert await storage.replace(KEY, b"ours", EXPIRES_AT, stored.version)
