"""The commands of an exclusive lock whose answers are lost: two requests never hold it, and none waits for ever."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from redis.asyncio import Redis

from aiohttp_session_store import SessionLockError, StorageError
from aiohttp_session_store.storages.redis import RedisStorage, connections
from tests.servers.away import KEY, started
from tests.servers.proxy import Fate, Proxy, Request, answer_lost, followed_by, lost_on_the_way, proxy, silence_after
from tests.servers.redis import RedisServer

# A whole command has time on any machine; a server that is silent is given up after half a second.
TIMEOUT, PATIENCE = 20.0, 0.5


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_PATIENCE", PATIENCE / TIMEOUT)


@pytest.fixture
async def way(shared_server: RedisServer) -> AsyncIterator[Proxy]:
    async with proxy(shared_server.port) as one:
        yield one


@pytest.fixture
async def ours(way: Proxy, prefix: str) -> AsyncIterator[RedisStorage]:
    async with started(RedisStorage.from_url(way.url, prefix=prefix, timeout=TIMEOUT)) as one:
        async with one.lock("cd" * 32) as lease:  # the server knows the scripts now
            await lease()
        yield one


@pytest.fixture
async def theirs(shared_server: RedisServer, prefix: str) -> AsyncIterator[RedisStorage]:
    async with started(RedisStorage.from_url(shared_server.url, prefix=prefix)) as one:
        yield one


@pytest.fixture
def name(prefix: str) -> str:
    return f"{prefix}lock:{KEY}"


@pytest.mark.parametrize("fate", [answer_lost, silence_after, lost_on_the_way])
async def test_a_lock_is_taken_kept_and_released_once(
    ours: RedisStorage, way: Proxy, client: Redis, name: str, fate: Fate
) -> None:
    way.next(fate)
    async with ours.lock(KEY) as lease:
        assert await client.exists(name)
        way.next(fate)
        await lease()
        way.next(fate)

    assert not await client.exists(name)


@pytest.mark.parametrize("forgotten", [False, True])
async def test_a_lock_that_another_request_took_meanwhile_is_waited_for(
    ours: RedisStorage, theirs: RedisStorage, way: Proxy, client: Redis, name: str, forgotten: bool
) -> None:
    """Either our command never arrived, or the server forgot in a failover what it had answered."""
    async with AsyncExitStack() as stack:

        async def hold() -> None:
            async with ours.lock(KEY) as lease:
                await lease()

        fate = answer_lost if forgotten else lost_on_the_way
        way.next(followed_by(fate, lambda: taken_over(stack, theirs, client, name)))
        sent = len(way.requests)
        holding = asyncio.ensure_future(hold())
        while len(way.requests) < sent + 3:  # lost, sent again, and tried once more
            await asyncio.sleep(0)
        assert not holding.done()
        await stack.aclose()
        await holding


@pytest.mark.parametrize("fate", [answer_lost, lost_on_the_way])
async def test_a_lock_that_was_forgotten_is_not_kept_by_a_renewal_that_is_sent_again(
    ours: RedisStorage, theirs: RedisStorage, way: Proxy, client: Redis, name: str, fate: Fate
) -> None:
    async with AsyncExitStack() as stack, ours.lock(KEY) as lease:
        way.next(followed_by(fate, lambda: taken_over(stack, theirs, client, name)))
        with pytest.raises(SessionLockError, match="nothing was stored") as caught:
            await lease()
        assert not caught.value.maybe_stored
        assert await client.exists(name)


@pytest.mark.parametrize("fate", [answer_lost, lost_on_the_way])
async def test_a_release_that_is_sent_again_leaves_the_next_holder_alone(
    ours: RedisStorage, theirs: RedisStorage, way: Proxy, client: Redis, name: str, fate: Fate
) -> None:
    async with AsyncExitStack() as stack:
        async with ours.lock(KEY):
            way.next(followed_by(fate, lambda: taken_over(stack, theirs, client, name)))

        assert await client.exists(name)


async def taken_over(stack: AsyncExitStack, storage: RedisStorage, client: Redis, name: str) -> None:
    """Have the server forget the lock, as in a failover, and another request take it."""
    await client.delete(name)
    await stack.enter_async_context(storage.lock(KEY))


async def test_a_release_that_never_arrives_is_logged_and_the_lease_ends(
    way: Proxy, prefix: str, client: Redis, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with started(RedisStorage.from_url(way.url, prefix=prefix, timeout=TIMEOUT, lock_lease=1)) as ours:
        async with ours.lock(KEY):
            way.next(*[lost_on_the_way] * 4)

        assert "could not be released: it ends in 1 s" in caplog.text
        async with asyncio.timeout(10), ours.lock(KEY):
            pass


async def test_taking_that_fails_leaves_no_lock(
    ours: RedisStorage, way: Proxy, client: Redis, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    way.next(*[answer_lost] * 4)
    with pytest.raises(StorageError):
        await ours.lock(KEY).__aenter__()

    assert not await client.exists(name)


async def test_a_lock_that_is_taken_late_ends_with_its_lease(way: Proxy, prefix: str, client: Redis, name: str) -> None:
    """Its holder has long released it.  It keeps nobody waiting for longer than a holder that died."""
    late: list[Request] = []

    async def hold(request: Request) -> None:
        late.append(request)
        request.leave()

    async with started(RedisStorage.from_url(way.url, prefix=prefix, timeout=TIMEOUT, lock_lease=1)) as ours:
        way.next(hold)
        async with ours.lock(KEY):
            pass
        await late[0].deliver()
        async with asyncio.timeout(10), ours.lock(KEY) as lease:
            await lease()
