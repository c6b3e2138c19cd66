"""With a Redis that is away, an error tracker learns no id and no data, not even from the frames of the driver."""

from typing import Any

import pytest
from aiohttp import DummyCookieJar, web
from pytest_aiohttp import AiohttpClient

from aiohttp_session_store import get_session
from aiohttp_session_store.storages.redis import RedisStorage
from tests.servers.redis import RedisServer
from tests.web.storages import app_with
from tests.web.tracker import sentry

DATA = "diagnosis-of-ada"


async def index(request: web.Request) -> web.Response:
    visitor = await get_session(request)
    if "kill" in request.query:
        request.app[SERVER].kill()
    if "write" in request.query:
        visitor["note"] = visitor["cart"] = [DATA]
    return web.Response()


SERVER = web.AppKey("SERVER", RedisServer)


@pytest.mark.parametrize("away", ["before it is loaded", "before it is saved"])
async def test_an_unavailable_redis_shows_no_id_and_no_data(
    server: RedisServer, aiohttp_client: AiohttpClient, away: str
) -> None:
    storage = RedisStorage.from_url(server.url, timeout=0.5)
    app = app_with(storage, index)
    app[SERVER] = server
    client: Any = await aiohttp_client(app, cookie_jar=DummyCookieJar())
    async with client.get("/?write") as response:
        cookie = response.cookies["session"].value

    with sentry() as tracker:
        if away == "before it is loaded":
            server.kill()
        async with client.get("/?kill&write", headers={"Cookie": f"session={cookie}"}) as response:
            assert response.status == 503

    assert {"get_session" if away == "before it is loaded" else "commit"} <= tracker.functions()
    for secret in (DATA, cookie, cookie.partition(".")[0]):
        assert secret not in tracker.text
