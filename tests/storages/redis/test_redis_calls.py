"""Commands of parallel requests share a round trip, and nothing else: each has its own answer, error and end."""

import asyncio
import time

import pytest
from redis.asyncio import Redis

from aiohttp_session_store import StorageError
from aiohttp_session_store.storages.redis import RedisStorage
from aiohttp_session_store.storages.redis.commands import Answer
from aiohttp_session_store.storages.redis.scripts import RELEASE, TAKE
from tests.servers.away import silent_server
from tests.servers.redis import RedisServer
from tests.storages.two_apps import close_while_it_is_used

EXPIRES_AT = 4_000_000_000
PATIENCE = 10  # seconds, after which something hangs
KEYS = [f"{number:064x}" for number in range(100)]


async def test_what_is_asked_at_once_shares_a_connection_of_few(server: RedisServer) -> None:
    """Of a hundred at once, 32 go out together: four connections, and not a hundred."""
    storage = RedisStorage.from_url(server.url)
    versions = await asyncio.gather(*(storage.insert(key, key.encode(), EXPIRES_AT) for key in KEYS))
    found = await asyncio.gather(*(storage.fetch(key) for key in KEYS))
    made = len(storage._client.connection_pool._available_connections)
    await storage.aclose()

    assert [(one.data, one.version) for one in found if one is not None] == [
        (key.encode(), version) for key, version in zip(KEYS, versions, strict=True)
    ]
    assert made == 4


async def test_a_command_that_fails_fails_alone(storage: RedisStorage, client: Redis, prefix: str) -> None:
    await storage.insert(KEYS[0], b"good", EXPIRES_AT)
    await client.lpush(f"{prefix}{KEYS[1]}", "a list, where a string should be")
    good, bad, missing = await asyncio.gather(*(storage.fetch(key) for key in KEYS[:3]), return_exceptions=True)

    assert getattr(good, "data", None) == b"good"
    assert isinstance(bad, StorageError)
    assert "WRONGTYPE" in str(bad)
    assert missing is None


async def test_all_who_share_a_trip_to_a_silent_server_give_up_in_time_with_errors_of_their_own() -> None:
    async with silent_server() as port:
        storage = RedisStorage.from_url(f"redis://127.0.0.1:{port}", timeout=0.2)
        before = time.monotonic()
        failed = await asyncio.gather(*(storage.fetch(key) for key in KEYS), return_exceptions=True)
        await storage.aclose()

    assert time.monotonic() - before < 3
    assert all(isinstance(one, StorageError) and "did not answer GET" in str(one) for one in failed)
    assert len({id(one) for one in failed}) == len(KEYS)  # or each would collect the tracebacks of all


async def test_scripts_that_a_server_has_forgotten_are_sent_again_by_each(storage: RedisStorage, client: Redis) -> None:
    await client.script_flush()

    assert all(await asyncio.gather(*(storage.insert(key, b"", EXPIRES_AT) for key in KEYS)))


async def test_a_request_that_is_cancelled_leaves_those_beside_it_unharmed(storage: RedisStorage) -> None:
    tasks = [asyncio.ensure_future(storage.insert(key, b"", EXPIRES_AT)) for key in KEYS[:3]]
    await asyncio.sleep(0)
    tasks[1].cancel()
    first, second, third = await asyncio.gather(*tasks, return_exceptions=True)

    assert first
    assert isinstance(second, asyncio.CancelledError)
    assert third


async def test_closing_waits_for_what_was_sent_by_a_request_that_was_cancelled(server: RedisServer) -> None:
    storage = RedisStorage.from_url(server.url)
    await storage.insert(KEYS[1], b"", EXPIRES_AT)  # the server has met the script now
    await storage._calls.finish()
    task = asyncio.ensure_future(storage.insert(KEYS[0], b"", EXPIRES_AT))
    while not storage._calls._sending:  # it is under way
        await asyncio.sleep(0)
    task.cancel()
    await storage.aclose()

    with server.client() as client:
        assert client.exists(f"session:{KEYS[0]}")


async def test_an_app_closes_a_storage_while_another_app_goes_on_using_it(
    shared_server: RedisServer, prefix: str
) -> None:
    storage = RedisStorage.from_url(shared_server.url, prefix=prefix)

    await close_while_it_is_used(
        storage, lambda number: storage.fetch(f"{number:064x}"), lambda: storage._calls._sending
    )


async def test_a_lock_whose_taker_was_cancelled_is_not_taken_after_its_release(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two go by different connections, and the first may be slower."""
    storage = RedisStorage.from_url(server.url, lock_lease=60)
    run, order = storage._calls.run, []

    async def slow_to_take(script: object, key: str, *arguments: bytes | int) -> Answer:
        if script is TAKE:
            await asyncio.sleep(0.05)
        done = await run(script, key, *arguments)  # type: ignore[arg-type]
        order.append(script)
        return done

    monkeypatch.setattr(storage._calls, "run", slow_to_take)
    holder = asyncio.ensure_future(storage.lock(KEYS[0]).__aenter__())
    await asyncio.sleep(0.01)
    holder.cancel()
    await asyncio.wait([holder])
    await storage.aclose()

    assert order == [TAKE, RELEASE]
    with server.client() as client:
        assert not client.exists(f"session:lock:{KEYS[0]}")


def test_a_storage_goes_on_in_another_loop(shared_server: RedisServer, prefix: str) -> None:
    """As in tests of an app, also where the first loop ended before anything was sent."""

    storage = RedisStorage.from_url(shared_server.url, prefix=prefix)

    async def ask_and_leave() -> None:
        asyncio.ensure_future(storage.fetch(KEYS[0]))  # noqa: RUF006  it ends with the loop
        await asyncio.sleep(0)

    async def use() -> None:
        assert await storage.fetch(KEYS[0]) is None
        await storage.aclose()

    asyncio.run(ask_and_leave())
    asyncio.run(use())


def test_closing_in_another_loop_waits_for_nothing_that_the_first_had_sent(shared_server: RedisServer) -> None:
    """Where that was closed with its tasks pending; a child that is forked in the middle of a request is alike."""
    storage = RedisStorage.from_url(shared_server.url)

    async def send() -> None:
        asyncio.ensure_future(storage.fetch(KEYS[0]))  # noqa: RUF006  it ends with the loop
        while not storage._calls._sending:
            await asyncio.sleep(0)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(send())
    left = asyncio.all_tasks(loop)

    async def close() -> None:
        async with asyncio.timeout(PATIENCE):
            await storage._calls.finish()

    asyncio.run(close())
    for task in left:
        task.cancel()
    loop.run_until_complete(asyncio.wait(left))
    loop.run_until_complete(storage.aclose())
    loop.close()
