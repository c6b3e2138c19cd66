"""Changes inside one value, while a session is taken over from aiohttp-session or moves to another storage."""

import asyncio
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from aiohttp_session.cookie_storage import EncryptedCookieStorage

from aiohttp_session_store import KeyedStorage, MemoryStorage, get_session
from aiohttp_session_store.migrate import EncryptedCookieReader, MigratingStorage
from tests.engine.suspending import RacyStorage
from tests.migrate.test_aiohttp_session import KEY, OLD, Visitor, cookie_of_old_app, our_app

pytestmark = pytest.mark.filterwarnings("ignore:It is recommended to use web.RequestKey")


async def add(request: web.Request) -> web.Response:
    """Append to a list that the old session has, count, and add a key two levels down."""
    session = await get_session(request)
    await asyncio.sleep(0.001)
    number = int(request.query["number"])
    session["cart"].append(number)
    session.increment("n")
    session["prefs"]["ui"][f"key {number}"] = number
    return web.json_response(None)


def storages() -> list[KeyedStorage]:
    moving = MigratingStorage(RacyStorage(1), RacyStorage(2))
    return [MemoryStorage(), RacyStorage(3), moving]


@pytest.mark.parametrize("storage", storages(), ids=["memory", "suspending", "moving"])
async def test_twenty_requests_amid_a_takeover_keep_all_of_their_changes(storage: KeyedStorage) -> None:
    data: dict[str, Any] = {"cart": [0], "n": 1, "prefs": {"ui": {}}}
    cookie = await cookie_of_old_app(EncryptedCookieStorage(KEY), data)
    app = our_app(storage, EncryptedCookieReader(KEY))
    app.router.add_get("/add", add)
    async with TestClient(TestServer(app), cookie_jar=aiohttp.DummyCookieJar()) as client:
        visitor = Visitor(client, cookie)
        await visitor.get("/add?number=1")  # the session is taken over
        visits = [Visitor(client, "") for _ in range(20)]
        for visit in visits:
            visit.cookies = {name: value for name, value in visitor.cookies.items() if name != OLD}
        await asyncio.gather(*(visit.get(f"/add?number={number}") for number, visit in enumerate(visits, 2)))
        seen = await visitor.get("/show")

    assert sorted(seen["cart"]) == list(range(22))
    assert seen["n"] == 22
    assert set(seen["prefs"]["ui"]) == {f"key {number}" for number in range(1, 22)}


@pytest.mark.parametrize("storage", storages(), ids=["memory", "suspending", "moving"])
async def test_parallel_first_requests_with_the_old_cookie_keep_all_of_their_changes(storage: KeyedStorage) -> None:
    data: dict[str, Any] = {"cart": [0], "n": 1, "prefs": {"ui": {}}}
    cookie = await cookie_of_old_app(EncryptedCookieStorage(KEY), data)
    app = our_app(storage, EncryptedCookieReader(KEY))
    app.router.add_get("/add", add)
    async with TestClient(TestServer(app), cookie_jar=aiohttp.DummyCookieJar()) as client:
        visits = [Visitor(client, cookie) for _ in range(8)]
        await asyncio.gather(*(visit.get(f"/add?number={number}") for number, visit in enumerate(visits, 1)))
        known = next(visit for visit in visits if "session" in visit.cookies)
        seen = await known.get("/show")

    assert sorted(seen["cart"]) == list(range(9))
    assert seen["n"] == 9
