"""A visitor's first request may be of any kind, and the old storage is only ever read."""

from typing import Any

import aiohttp
import pytest
import sentry_sdk
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from aiohttp_session.cookie_storage import EncryptedCookieStorage
from aiohttp_session.redis_storage import RedisStorage as OldRedisStorage
from redis.asyncio import Redis

from aiohttp_session_store import (
    MemoryStorage,
    SessionCookie,
    exclusive_session,
    get_session,
    new_session,
    save_session,
    setup,
)
from aiohttp_session_store.migrate import EncryptedCookieReader, RedisReader, accept_old_sessions
from tests.migrate.test_aiohttp_session import DATA, KEY, OLD, Visitor, cookie_of_old_app, our_app, show
from tests.servers.redis import redis_server
from tests.web.storages import SECRET, FailingStorage
from tests.web.tracker import sentry

pytestmark = pytest.mark.filterwarnings("ignore:It is recommended to use web.RequestKey")


async def test_taking_over_only_reads_from_redis() -> None:
    """Redis gets one ``GET`` for each visit with the old cookie, whatever happens to the session."""
    with redis_server() as server:
        async with Redis.from_url(server.url) as redis:
            cookie = await cookie_of_old_app(OldRedisStorage(redis, max_age=1000), DATA)
            key = f"{OLD}_{cookie.partition('=')[2]}"
            before = await redis.get(key)
            await redis.expire(key, 500)  # extending the session would set 1000 s again
            await redis.config_resetstat()
            app = our_app(MemoryStorage(), RedisReader(redis, max_age=1000))
            async with TestClient(TestServer(app), cookie_jar=aiohttp.DummyCookieJar()) as client:
                visitor = Visitor(client, cookie)
                for path, expected in (("/show", DATA), ("/write?key=new", {**DATA, "new": True}), ("/logout", {})):
                    assert await visitor.get(path) == expected
                assert await Visitor(client, cookie).get("/show") == {}
            commands = {name.removeprefix("cmdstat_") for name in await redis.info("commandstats")}
            assert commands - {"config", "config|resetstat", "info"} == {"get"}
            assert (await redis.info("commandstats"))["cmdstat_get"]["calls"] == 2
            assert await redis.get(key) == before
            assert 400 < await redis.ttl(key) <= 500


async def test_an_error_tracker_learns_no_old_session_id_from_the_commands_to_redis() -> None:
    """Sentry notes each command of the client's own methods, with the key, in the reports of later errors."""
    with redis_server() as server, sentry() as tracker:
        async with Redis.from_url(server.url) as redis:
            cookie = await cookie_of_old_app(OldRedisStorage(redis), DATA)
            old_id = cookie.partition("=")[2]
            tracker.events.clear()
            app = our_app(FailingStorage(["insert"]), RedisReader(redis))
            async with TestClient(TestServer(app), cookie_jar=aiohttp.DummyCookieJar()) as client:
                with sentry_sdk.isolation_scope():
                    assert await Visitor(client, cookie).get("/show") == 503

    assert tracker.events
    assert old_id not in tracker.text


async def stream(request: web.Request) -> web.StreamResponse:
    session = await get_session(request)
    response = web.StreamResponse()
    await response.prepare(request)
    session["streamed"] = True
    await response.write(str(session.get("user")).encode())
    return response


async def late(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(str(dict(await get_session(request))).encode())
    return response


async def socket(request: web.Request) -> web.WebSocketResponse:
    session = await get_session(request)
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    session["talked"] = True
    assert await save_session(request)
    await ws.send_str(session["user"])
    await ws.close()
    return ws


async def fresh(request: web.Request) -> web.Response:
    (await new_session(request))["fresh"] = True
    return await show(request)


async def count(request: web.Request) -> web.Response:
    async with exclusive_session(request) as session:
        session["count"] = session.get("count", 0) + 1
    return await show(request)


def client_of(app: web.Application) -> TestClient[Any, Any]:
    return TestClient(TestServer(app), cookie_jar=aiohttp.DummyCookieJar())


def whole_app(storage: MemoryStorage, *, inside: bool) -> web.Application:
    """Return an app with the handlers in the app itself, or *inside* a sub-app that shares its session."""
    app, inner = web.Application(), web.Application()
    for handler in (stream, late, socket, fresh, count, show):
        (inner if inside else app).router.add_get(f"/{handler.__name__}", handler)
    setup(app, storage, cookie=SessionCookie(secrets=SECRET))
    accept_old_sessions(app, EncryptedCookieReader(KEY))
    if inside:
        app.add_subapp("/in", inner)
    return app


@pytest.mark.parametrize("inside", [False, True], ids=["", "in a sub-app"])
async def test_the_first_visit_may_be_a_stream_or_a_websocket(inside: bool) -> None:
    base, storage = "/in" if inside else "", MemoryStorage()
    async with client_of(whole_app(storage, inside=inside)) as client:
        for path, key in (("/stream", "streamed"), ("/socket", "talked")):
            visitor = Visitor(client, await cookie_of_old_app(EncryptedCookieStorage(KEY), DATA))
            old = visitor.cookies[OLD]
            if path == "/socket":
                async with client.ws_connect(base + path, headers={"Cookie": f"{OLD}={old}"}) as ws:
                    assert await ws.receive_str() == DATA["user"]
                    sent = ws._response.headers
            else:
                async with client.get(base + path, headers={"Cookie": f"{OLD}={old}"}) as response:
                    assert await response.text() == DATA["user"]
                    sent = response.headers
            ours, cleared = sent.getall("Set-Cookie")
            assert cleared == f"{OLD}=; Max-Age=0; Path=/"
            visitor.cookies = {"session": ours.partition(";")[0].partition("=")[2]}
            assert await visitor.get(f"{base}/show") == {**DATA, key: True}


async def test_a_session_first_loaded_after_the_headers_is_left_for_the_next_visit() -> None:
    async with client_of(whole_app(MemoryStorage(), inside=False)) as client:
        visitor = Visitor(client, await cookie_of_old_app(EncryptedCookieStorage(KEY), DATA))
        async with client.get("/late", headers={"Cookie": f"{OLD}={visitor.cookies[OLD]}"}) as response:
            assert await response.text() == "{}"

        assert await visitor.get("/show") == DATA


async def test_a_new_session_on_the_first_visit_ends_the_old_one() -> None:
    cookie = await cookie_of_old_app(EncryptedCookieStorage(KEY), DATA)
    async with client_of(whole_app(MemoryStorage(), inside=False)) as client:
        visitor = Visitor(client, cookie)
        assert await visitor.get("/fresh") == {"fresh": True}

        assert await Visitor(client, cookie).get("/show") == {}
        assert set(visitor.cookies) == {"session"}
        assert await visitor.get("/show") == {"fresh": True}


async def test_the_first_visit_may_use_the_session_exclusively() -> None:
    async with client_of(whole_app(MemoryStorage(), inside=False)) as client:
        visitor = Visitor(client, await cookie_of_old_app(EncryptedCookieStorage(KEY), DATA))
        assert await visitor.get("/count") == {**DATA, "count": 1}

        assert await visitor.get("/count") == {**DATA, "count": 2}
