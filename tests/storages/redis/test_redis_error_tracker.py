"""With a Redis that is away, an error tracker learns no id and no data, not even from the frames of the driver."""

from typing import Any

import pytest
from aiohttp import DummyCookieJar, web
from pytest_aiohttp import AiohttpClient

from aiohttp_session_store import exclusive_session, get_session
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
    if "lock" in request.query:
        async with exclusive_session(request):
            pass
    return web.Response()


SERVER = web.AppKey("SERVER", RedisServer)


@pytest.mark.parametrize("away", ["before it is loaded", "before it is saved"])
async def test_an_unavailable_redis_shows_no_id_and_no_data(
    server: RedisServer, aiohttp_client: AiohttpClient, away: str
) -> None:
    storage = RedisStorage.from_url(server.url, timeout=5)
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


async def test_a_lock_of_an_unavailable_redis_shows_no_command_of_other_requests(
    server: RedisServer, aiohttp_client: AiohttpClient
) -> None:
    """Commands of several requests are sent together, so each of them may fail in one frame that holds them all."""
    app = app_with(RedisStorage.from_url(server.url, timeout=5), index)
    app[SERVER] = server
    client: Any = await aiohttp_client(app, cookie_jar=DummyCookieJar())
    async with client.get("/?write") as response:
        cookie = response.cookies["session"].value

    with sentry() as tracker:
        async with client.get("/?kill&lock", headers={"Cookie": f"session={cookie}"}) as response:
            assert response.status == 503

    below = [
        frame for frame in tracker.frames() if "/redis/" in frame["abs_path"] and "/tests/" not in frame["abs_path"]
    ]
    assert {"take", "run"} <= {frame["function"] for frame in below}
    assert not [frame["vars"] for frame in below if frame.get("vars")]
