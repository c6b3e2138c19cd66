"""A request that outlives its session, as a WebSocket can."""

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from aiohttp_session_store import MemoryStorage, get_session, save_session, setup
from aiohttp_session_store.testing import ManualClock


@pytest.mark.parametrize(("lifetime", "alive"), [(3600, False), (3601, True), (None, True)])
async def test_save_session_returns_false_once_the_lifetime_has_passed(lifetime: int | None, alive: bool) -> None:
    clock = ManualClock()

    async def loop(request: web.Request) -> web.Response:
        (await get_session(request))["started"] = True
        assert await save_session(request)
        clock.advance(3600)
        return web.json_response(await save_session(request))

    app = web.Application()
    app.router.add_get("/", loop)
    setup(app, MemoryStorage(lifetime=lifetime, clock=clock))

    async with TestClient(TestServer(app)) as client:
        assert await (await client.get("/")).json() is alive
