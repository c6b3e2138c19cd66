"""Exclusive locks that can be lost, as those on servers can: nothing is saved that was computed without the lock."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest
from aiohttp import web
from aiohttp.pytest_plugin import AiohttpClient
from aiohttp.test_utils import TestClient, TestServer

from aiohttp_session_store import SessionLockError, Stored, exclusive_session, get_session, save_session
from aiohttp_session_store.engine.verbs import Lease
from aiohttp_session_store.session.session import state_of
from tests.records import live_keys
from tests.web.storages import GatedStorage, app_with


class LeasedStorage(GatedStorage):
    """Gives its lock away while somebody holds it, once ``lost`` is set; counts how often it was asked.

    Attributes:
        lose_at_fetch: Whether the next fetch is slow enough to lose the lock.
    """

    suspends: ClassVar[bool] = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.lost = False
        self.lose_at_fetch = False
        self.asked = 0
        self.held = 0

    async def enter(self, verb: str) -> None:
        await super().enter(verb)
        if verb == "fetch" and self.lose_at_fetch:
            self.lost = True

    @asynccontextmanager
    async def lock(self, key: str) -> AsyncIterator[Lease]:  # type: ignore[override]  # a storage may give a lease or None
        async def check() -> None:
            self.asked += 1
            if self.lost:
                raise SessionLockError("somebody else has it")

        async with super().lock(key):
            self.held += 1
            try:
                yield check
            finally:
                self.held -= 1


@pytest.fixture
def storage() -> LeasedStorage:
    return LeasedStorage()


async def lose_and_write(request: web.Request, storage: LeasedStorage) -> None:
    async with exclusive_session(request) as session:
        session["count"] = session.get("count", 0) + 1
        storage.lost = True


async def test_a_save_without_the_lock_fails_loudly_and_stores_nothing(
    storage: LeasedStorage, aiohttp_client: AiohttpClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def handler(request: web.Request) -> web.Response:
        await lose_and_write(request, storage)
        return web.Response()

    client = await aiohttp_client(app_with(storage, handler))
    await client.get("/write", params={"a": "1"})
    assert (await client.get("/")).status == 503
    assert "somebody else has it" in caplog.text
    assert await (await client.get("/read")).json() == {"a": "1"}


async def test_a_handler_that_catches_the_lost_lock_saves_nothing_later(
    storage: LeasedStorage, aiohttp_client: AiohttpClient
) -> None:
    """What was computed under the lock could undo another holder's write."""

    async def handler(request: web.Request) -> web.Response:
        with pytest.raises(SessionLockError):
            await lose_and_write(request, storage)
        storage.lost = False
        (await get_session(request))["b"] = "2"
        return web.Response()

    client = await aiohttp_client(app_with(storage, handler))
    await client.get("/write", params={"a": "1"})
    assert (await client.get("/")).status == 200
    assert await (await client.get("/read")).json() == {"a": "1", "b": "2"}


async def test_a_lock_that_is_lost_while_others_write_is_noticed_before_the_next_attempt(
    storage: LeasedStorage, aiohttp_client: AiohttpClient
) -> None:
    async def handler(request: web.Request) -> web.Response:
        async with exclusive_session(request) as session:
            session["a"] = "mine"
            await outdate(storage, session.key)
            storage.lose_at_fetch = True
        return web.Response()

    client = await aiohttp_client(app_with(storage, handler))
    await client.get("/write", params={"a": "1"})
    assert (await client.get("/")).status == 503
    assert await (await client.get("/read")).json() == {"a": "1"}


async def outdate(storage: LeasedStorage, key: str) -> None:
    """Write the record of *key* again, so that its version changes."""
    stored: Stored | None = await storage.fetch(key)
    assert stored is not None
    assert await storage.replace(key, stored.data, stored.expires_at, stored.version)


async def test_a_new_id_is_not_given_without_the_lock(storage: LeasedStorage, aiohttp_client: AiohttpClient) -> None:
    async def handler(request: web.Request) -> web.Response:
        async with exclusive_session(request) as session:
            session.regenerate_id(True)
            storage.lost = True
        return web.Response()

    client = await aiohttp_client(app_with(storage, handler))
    await client.get("/write", params={"a": "1"})
    answer = await client.get("/")
    assert answer.status == 503
    assert "Set-Cookie" not in answer.headers
    assert await (await client.get("/read")).json() == {"a": "1"}
    assert len(live_keys(storage)) == 1


async def test_every_save_inside_asks_and_none_outside(storage: LeasedStorage, aiohttp_client: AiohttpClient) -> None:
    async def handler(request: web.Request) -> web.Response:
        async with exclusive_session(request) as session:
            session["a"] = "2"
            await save_session(request)
            session["a"] = "3"
        assert storage.asked == 2
        session["a"] = "4"
        return web.Response()

    client = await aiohttp_client(app_with(storage, handler))
    await client.get("/write", params={"a": "1"})
    assert (await client.get("/")).status == 200
    assert storage.asked == 2
    assert await (await client.get("/read")).json() == {"a": "4"}


async def test_a_write_of_who_lost_the_lock_just_after_it_was_asked_is_not_undone(storage: LeasedStorage) -> None:
    """It fails instead: the next holder, who counts on from what it read, has given that a version of its own."""
    session = await storage.read(None)
    session["count"] = 0
    session_id = await storage.save(session)
    first, second = [await storage.read(session_id) for _ in range(2)]

    async def is_held() -> None:
        pass

    async def is_held_then_lost() -> None:
        if state_of(second).lease is not None:
            raise SessionLockError("somebody else has it")
        state_of(second).lease = is_held
        await storage.refresh(second)

    state_of(first).lease = is_held_then_lost
    first["count"] += 1
    with pytest.raises(SessionLockError):
        await storage.save(first)
    second["count"] += 1
    await storage.save(second)

    assert (await storage.read(session_id))["count"] == 1


async def test_a_new_holder_starts_from_the_newest_record_also_if_it_changes_meanwhile(storage: LeasedStorage) -> None:
    session = await storage.read(None)
    session["a"] = "1"
    session_id = await storage.save(session)
    holder, other = [await storage.read(session_id) for _ in range(2)]

    async def is_held() -> None:
        pass

    state_of(holder).lease = is_held
    gate = storage.shut("replace")
    refreshing = asyncio.ensure_future(storage.refresh(holder))
    async with asyncio.timeout(5):
        await storage.reached["replace"].wait()
    storage.gates.clear()
    other["a"] = "2"
    await storage.save(other)
    gate.set()
    await refreshing

    assert holder["a"] == "2"


@pytest.mark.parametrize("times", [1, 2])
async def test_a_holder_that_is_cancelled_while_it_saves_keeps_the_lock_until_that_is_done(times: int) -> None:
    """The write that is under way lands later: on the record of the next holder, if the lock were free by then."""
    storage = LeasedStorage()
    holding: list[asyncio.Task[object] | None] = []

    async def handler(request: web.Request) -> web.Response:
        holding.append(asyncio.current_task())
        async with exclusive_session(request) as session:
            session["a"] = "2"
            gates.append(storage.shut("replace"))
            entered.set()
        return web.Response()

    gates: list[asyncio.Event] = []
    entered = asyncio.Event()
    async with TestClient(TestServer(app_with(storage, handler))) as client:
        await client.get("/write", params={"a": "1"})
        visit = asyncio.create_task(client.get("/"))
        await entered.wait()
        await storage.reached["replace"].wait()
        assert holding[0] is not None
        for _ in range(times):
            holding[0].cancel()
            await asyncio.sleep(0)
        assert storage.held == 1
        gates[0].set()
        with pytest.raises(Exception, match="disconnected"):
            await visit
        assert storage.held == 0
        assert await (await client.get("/read")).json() == {"a": "2"}
