"""Sessions written by the real aiohttp-session: each visitor's session is taken over once, and then is one of ours."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Iterator
from http.cookies import SimpleCookie
from typing import Any

import aiohttp
import aiohttp_session
import pytest
import redis
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from aiohttp_session.cookie_storage import EncryptedCookieStorage
from aiohttp_session.redis_storage import RedisStorage as OldRedisStorage
from cryptography.fernet import Fernet, MultiFernet
from redis.asyncio import Redis

from aiohttp_session_store import (
    ConfigurationError,
    CookieStorage,
    MemoryStorage,
    SessionCookie,
    SessionStorage,
    SessionUsageError,
    StorageError,
    get_session,
    setup,
)
from aiohttp_session_store.migrate import EncryptedCookieReader, ForgeableCookieReader, RedisReader, accept_old_sessions
from aiohttp_session_store.testing import FailingStorage, ManualClock
from tests.engine.suspending import RacyStorage
from tests.servers.redis import RedisServer, redis_server
from tests.web.storages import SECRET

# aiohttp warns about the keys that aiohttp-session uses to keep its state on requests.
pytestmark = pytest.mark.filterwarnings("ignore:It is recommended to use web.RequestKey")

KEY = b"0123456789abcdef0123456789abcdef"
DATA = {"user": 'ada; ü, "quoted" \\', "cart": [1, {"$set": [2]}], "n": None}
OLD = "AIOHTTP_SESSION"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


async def cookie_of_old_app(storage: aiohttp_session.AbstractStorage, data: Any) -> str:
    """Let a real app that uses aiohttp-session write *data*; return the Cookie header that its visitor then sends."""

    async def write(request: web.Request) -> web.Response:
        (await aiohttp_session.get_session(request)).update(data)
        return web.Response()

    app = web.Application()
    aiohttp_session.setup(app, storage)
    app.router.add_get("/", write)
    async with TestClient(TestServer(app)) as client:
        response = await client.get("/")
        return response.headers["Set-Cookie"].partition(";")[0]


class Visitor:
    """A browser with an old cookie that visits our app."""

    def __init__(self, client: TestClient[Any, Any], cookie: str) -> None:
        self.client = client
        self.cookies = {OLD: cookie.partition("=")[2]} if cookie else {}
        self.cleared: list[str] = []

    async def get(self, path: str) -> Any:
        header = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        async with self.client.get(path, headers={"Cookie": header}) as response:
            for line in response.headers.getall("Set-Cookie", ()):
                name, _, value = line.partition(";")[0].partition("=")
                if "Max-Age=0" in line:
                    self.cookies.pop(name, None)
                    self.cleared.append(line)
                else:
                    self.cookies[name] = value
            return await response.json() if response.status == 200 else response.status


async def show(request: web.Request) -> web.Response:
    return web.json_response(dict(await get_session(request)))


async def write(request: web.Request) -> web.Response:
    session = await get_session(request)
    await asyncio.sleep(0)
    session[request.query["key"]] = True
    return await show(request)


async def login(request: web.Request) -> web.Response:
    session = await get_session(request)
    session.regenerate_id(True)
    return await show(request)


async def logout(request: web.Request) -> web.Response:
    (await get_session(request)).destroy()
    return await show(request)


async def fail(request: web.Request) -> web.Response:
    await get_session(request)
    raise web.HTTPInternalServerError


def our_app(storage: SessionStorage, *readers: Any) -> web.Application:
    app = web.Application()
    for handler in (show, write, login, logout, fail):
        app.router.add_get(f"/{handler.__name__}", handler)
    setup(app, storage, cookie=SessionCookie(secrets=SECRET))
    accept_old_sessions(app, *readers)
    return app


Scene = Any


@pytest.fixture(params=["encrypted", "redis", "simple"])
async def scene(request: pytest.FixtureRequest, server: RedisServer) -> AsyncIterator[Scene]:
    """Return an old storage and a reader for its sessions."""
    if request.param == "encrypted":
        yield EncryptedCookieStorage(KEY), EncryptedCookieReader(KEY)
    elif request.param == "simple":
        with pytest.warns(UserWarning, match="anybody can log in as anybody"):
            reader = ForgeableCookieReader()
        yield aiohttp_session.SimpleCookieStorage(), reader
    else:
        async with Redis.from_url(server.url) as client:
            yield OldRedisStorage(client), RedisReader(client)


# The takeover happens only once if the old cookie cannot be forged: copies of it are then recognised.
once = pytest.mark.parametrize("scene", ["encrypted", "redis"], indirect=True)


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage()


@pytest.fixture
async def client(storage: MemoryStorage, scene: Scene) -> AsyncIterator[TestClient[Any, Any]]:
    async with TestClient(TestServer(our_app(storage, scene[1])), cookie_jar=aiohttp.DummyCookieJar()) as client:
        yield client


async def test_a_visitor_with_an_old_cookie_keeps_the_session_and_gets_our_cookie(
    client: TestClient[Any, Any], scene: Scene
) -> None:
    visitor = Visitor(client, await cookie_of_old_app(scene[0], DATA))

    assert await visitor.get("/show") == DATA
    assert set(visitor.cookies) == {"session"}
    assert visitor.cleared == [f"{OLD}=; Max-Age=0; Path=/"]
    assert await visitor.get("/write?key=new") == {**DATA, "new": True}
    assert await visitor.get("/show") == {**DATA, "new": True}


@once
async def test_the_old_cookie_opens_nothing_after_a_logout(
    client: TestClient[Any, Any], scene: Scene, storage: MemoryStorage
) -> None:
    cookie = await cookie_of_old_app(scene[0], DATA)
    visitor, copy = Visitor(client, cookie), Visitor(client, cookie)
    await visitor.get("/show")
    await visitor.get("/logout")

    assert await copy.get("/show") == {}
    assert await visitor.get("/show") == {}


@once
async def test_a_copy_of_the_old_cookie_opens_nothing_after_the_grace_period(scene: Scene) -> None:
    clock = ManualClock(int(time.time()))
    storage = MemoryStorage(clock=clock)
    cookie = await cookie_of_old_app(scene[0], DATA)
    async with TestClient(TestServer(our_app(storage, scene[1])), cookie_jar=aiohttp.DummyCookieJar()) as client:
        visitor = Visitor(client, cookie)
        await visitor.get("/show")
        for days in (0.1, 1, 12):
            clock.advance(days * 86400)
            await storage.sweep()
            assert await Visitor(client, cookie).get("/show") == {}
        assert await visitor.get("/show") == DATA


@once
async def test_a_copy_of_the_old_cookie_opens_the_same_session_only_during_the_grace_period(scene: Scene) -> None:
    clock = ManualClock(int(time.time()))
    storage = MemoryStorage(clock=clock, rotation_grace=60)
    cookie = await cookie_of_old_app(scene[0], DATA)
    async with TestClient(TestServer(our_app(storage, scene[1])), cookie_jar=aiohttp.DummyCookieJar()) as client:
        visitor = Visitor(client, cookie)
        await visitor.get("/show")
        clock.advance(59)
        await Visitor(client, cookie).get("/write?key=late")
        assert await visitor.get("/show") == DATA | {"late": True}
        clock.advance(2)
        assert await Visitor(client, cookie).get("/show") == {}


@once
async def test_parallel_requests_with_an_old_cookie_lose_nothing(scene: Scene) -> None:
    cookie = await cookie_of_old_app(scene[0], DATA)
    storage = FailingStorage()  # a storage whose calls suspend
    async with TestClient(TestServer(our_app(storage, scene[1])), cookie_jar=aiohttp.DummyCookieJar()) as client:
        visitors = [Visitor(client, cookie) for _ in range(10)]
        answers = await asyncio.gather(*(one.get(f"/write?key={n}") for n, one in enumerate(visitors)))
        assert all(answer["user"] == DATA["user"] for answer in answers)
        [winner] = [one for one in visitors if "session" in one.cookies]

        assert await winner.get("/show") == {**DATA, **{str(n): True for n in range(10)}}


async def test_a_server_error_on_the_first_visit_costs_nothing(client: TestClient[Any, Any], scene: Scene) -> None:
    visitor = Visitor(client, await cookie_of_old_app(scene[0], DATA))

    assert await visitor.get("/fail") == 500
    assert set(visitor.cookies) == {OLD}
    assert await visitor.get("/show") == DATA


@once
async def test_a_storage_failure_on_the_first_visit_costs_nothing(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    storage = FailingStorage()
    cookie = await cookie_of_old_app(scene[0], DATA)
    async with TestClient(TestServer(our_app(storage, scene[1])), cookie_jar=aiohttp.DummyCookieJar()) as client:
        visitor = Visitor(client, cookie)
        for verb in ("fetch", "insert", "replace"):
            with storage.failing(verb):
                assert await visitor.get("/show") == 503
        # the mark was stored, but not the session that it announces
        with storage.failing("insert", times=1):
            await Visitor(client, await cookie_of_old_app(scene[0], DATA)).get("/show")

        assert await visitor.get("/show") == DATA


@once
async def test_logging_in_on_the_first_visit_makes_the_old_cookie_worthless(
    client: TestClient[Any, Any], scene: Scene
) -> None:
    cookie = await cookie_of_old_app(scene[0], DATA)
    visitor = Visitor(client, cookie)
    assert await visitor.get("/login") == DATA

    assert await Visitor(client, cookie).get("/show") == {}
    assert await visitor.get("/show") == DATA


@once
async def test_logging_out_on_the_first_visit_is_final(client: TestClient[Any, Any], scene: Scene) -> None:
    cookie = await cookie_of_old_app(scene[0], DATA)
    visitor = Visitor(client, cookie)
    assert await visitor.get("/logout") == {}

    assert visitor.cookies == {}
    assert await Visitor(client, cookie).get("/show") == {}


async def test_a_visitor_who_already_has_our_session_keeps_it(client: TestClient[Any, Any], scene: Scene) -> None:
    visitor = Visitor(client, "")
    await visitor.get("/write?key=mine")
    visitor.cookies[OLD] = (await cookie_of_old_app(scene[0], DATA)).partition("=")[2]

    assert await visitor.get("/show") == {"mine": True}


async def test_the_lifetime_counts_from_the_start_of_the_old_session(scene: Scene) -> None:
    clock = ManualClock(int(time.time()) + 80 * 86400)
    async with TestClient(
        TestServer(our_app(MemoryStorage(clock=clock), scene[1])), cookie_jar=aiohttp.DummyCookieJar()
    ) as client:
        visitor = Visitor(client, await cookie_of_old_app(scene[0], DATA))
        assert await visitor.get("/show") == DATA
        clock.advance(11 * 86400)

        assert await visitor.get("/show") == {}


@pytest.mark.parametrize(
    "value",
    ["", "x", "%00", '"', '"\\', "gAAAAA==", "{}", "null", "[1]", '{"session":5,"created":1}', "ü", "a" * 5000],
)
async def test_rubbish_is_a_new_session(client: TestClient[Any, Any], value: str) -> None:
    visitor = Visitor(client, f"{OLD}={value}")

    assert await visitor.get("/show") == {}


async def test_cookie_storage_takes_over_old_sessions_too() -> None:
    async with TestClient(
        TestServer(our_app(CookieStorage(), EncryptedCookieReader(KEY))), cookie_jar=aiohttp.DummyCookieJar()
    ) as client:
        visitor = Visitor(client, await cookie_of_old_app(EncryptedCookieStorage(KEY), DATA))
        assert await visitor.get("/show") == DATA
        assert set(visitor.cookies) == {"session"}

        assert await visitor.get("/show") == DATA


async def test_a_session_that_has_expired_in_the_old_storage_is_not_taken_over(server: RedisServer) -> None:
    for age, expected in ((50, DATA), (101, {})):
        clock = ManualClock(time.time() + age)
        async with Redis.from_url(server.url) as redis:
            scenes: list[tuple[Any, Any]] = [
                (OldRedisStorage(redis, max_age=100), RedisReader(redis, max_age=100, clock=clock)),
                (EncryptedCookieStorage(KEY, max_age=100), EncryptedCookieReader(KEY, max_age=100, clock=clock)),
            ]
            for old, reader in scenes:
                async with TestClient(
                    TestServer(our_app(MemoryStorage(), reader)), cookie_jar=aiohttp.DummyCookieJar()
                ) as client:
                    assert await Visitor(client, await cookie_of_old_app(old, DATA)).get("/show") == expected


async def test_the_cookie_name_path_domain_and_decoder_can_be_set() -> None:
    old = EncryptedCookieStorage(KEY, cookie_name="S2", encoder=lambda value: "X" + json.dumps(value))
    reader = EncryptedCookieReader(
        KEY, cookie_name="S2", path="/shop", domain="example.org", decoder=lambda text: json.loads(text[1:])
    )
    async with TestClient(TestServer(our_app(MemoryStorage(), reader)), cookie_jar=aiohttp.DummyCookieJar()) as client:
        visitor = Visitor(client, "")
        visitor.cookies["S2"] = (await cookie_of_old_app(old, DATA)).partition("=")[2]
        assert await visitor.get("/show") == DATA
        assert visitor.cleared == ["S2=; Max-Age=0; Path=/shop; Domain=example.org"]


async def test_a_session_that_we_cannot_store_completely_is_not_taken_over(caplog: pytest.LogCaptureFixture) -> None:
    """The missing part may be the one that matters, such as "the second factor is still to come"."""
    app = our_app(MemoryStorage(), EncryptedCookieReader(KEY))
    async with TestClient(TestServer(app), cookie_jar=aiohttp.DummyCookieJar()) as client:
        data = {"user": "ada", "bad": float("nan")}
        visitor = Visitor(client, await cookie_of_old_app(EncryptedCookieStorage(KEY), data))
        assert await visitor.get("/show") == {}
    assert "an old session was not taken over, because not all of it can be stored: it has a key or a" in caplog.text


async def test_a_differently_spelled_old_cookie_counts_as_the_same_cookie() -> None:
    """Base64 decoding skips foreign characters, and so Fernet accepts them."""
    app = our_app(MemoryStorage(), EncryptedCookieReader(KEY))
    async with TestClient(TestServer(app), cookie_jar=aiohttp.DummyCookieJar()) as client:
        cookie = await cookie_of_old_app(EncryptedCookieStorage(KEY), DATA)
        visitor = Visitor(client, cookie)
        assert await visitor.get("/show") == DATA
        await visitor.get("/logout")

        name, _, value = cookie.partition("=")
        for spelt in (value[:-3] + "!" + value[-3:], value.replace("g", "!g", 1)):
            assert await Visitor(client, f"{name}={spelt}").get("/show") == {}


async def test_visitors_with_equal_forgeable_cookies_get_separate_sessions() -> None:
    with pytest.warns(UserWarning, match="anybody"):
        app = our_app(MemoryStorage(), ForgeableCookieReader())
    cookie = await cookie_of_old_app(aiohttp_session.SimpleCookieStorage(), {"theme": "dark"})
    async with TestClient(TestServer(app), cookie_jar=aiohttp.DummyCookieJar()) as client:
        ada, grace = Visitor(client, cookie), Visitor(client, cookie)
        await ada.get("/write?key=ada")
        await grace.get("/write?key=grace")

        assert await ada.get("/show") == {"theme": "dark", "ada": True}
        assert await grace.get("/show") == {"theme": "dark", "grace": True}


@once
async def test_an_old_cookie_next_to_our_session_is_cleared_and_opens_nothing_later(
    client: TestClient[Any, Any], scene: Scene
) -> None:
    cookie = await cookie_of_old_app(scene[0], DATA)
    visitor = Visitor(client, "")
    await visitor.get("/write?key=mine")
    visitor.cookies[OLD] = cookie.partition("=")[2]
    assert await visitor.get("/show") == {"mine": True}
    assert set(visitor.cookies) == {"session"}
    await visitor.get("/logout")

    assert await Visitor(client, cookie).get("/show") == {}


async def test_an_unavailable_redis_is_a_storage_error() -> None:
    async with Redis(port=1) as client:
        with pytest.raises(StorageError, match="the old sessions in Redis"):
            await RedisReader(client).read("x")


@pytest.mark.parametrize(
    "key", [KEY, bytearray(KEY), Fernet.generate_key().decode()], ids=lambda key: type(key).__name__
)
async def test_keys_are_accepted_in_every_form_that_aiohttp_session_accepts(key: Any) -> None:
    cookie = SimpleCookie(await cookie_of_old_app(EncryptedCookieStorage(key), {"user": "ada"}))

    session = await EncryptedCookieReader(key).read(cookie[OLD].value)
    assert session is not None
    assert session.data == {"user": "ada"}


async def test_rotated_keys_are_accepted_as_a_multifernet() -> None:
    old, new = Fernet(Fernet.generate_key()), Fernet(Fernet.generate_key())
    cookie = SimpleCookie(await cookie_of_old_app(EncryptedCookieStorage(old), {"user": "ada"}))

    assert await EncryptedCookieReader(MultiFernet([new, old])).read(cookie[OLD].value)


def test_invalid_settings_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="32 bytes"):
        EncryptedCookieReader(b"short")
    with pytest.raises(ConfigurationError, match="max_age"):
        EncryptedCookieReader(KEY, max_age=0)
    app = web.Application()
    with pytest.raises(SessionUsageError, match="has no sessions"):
        accept_old_sessions(app, EncryptedCookieReader(KEY))
    setup(app, MemoryStorage())
    with pytest.raises(ConfigurationError, match="at least one reader"):
        accept_old_sessions(app)
    with pytest.raises(ConfigurationError, match="both called 'session'"):
        accept_old_sessions(app, EncryptedCookieReader(KEY, cookie_name="session"))
    accept_old_sessions(app, EncryptedCookieReader(KEY))
    with pytest.raises(ConfigurationError, match="already"):
        accept_old_sessions(app, EncryptedCookieReader(KEY))


async def test_after_an_insert_whose_answer_is_lost_the_old_cookie_still_works_only_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL)
    clock = ManualClock(int(time.time()))
    storage = RacyStorage(clock=clock)
    inserts = 0

    def second_insert(verb: str, _: str) -> bool:
        nonlocal inserts
        inserts += verb == "insert"
        return verb == "insert" and inserts == 2

    storage.lose_answer = second_insert
    cookie = await cookie_of_old_app(EncryptedCookieStorage(KEY), DATA)
    app = our_app(storage, EncryptedCookieReader(KEY))
    async with TestClient(TestServer(app), cookie_jar=aiohttp.DummyCookieJar()) as client:
        visitor = Visitor(client, cookie)
        assert await visitor.get("/show") == 503
        assert await visitor.get("/show") == DATA
        await visitor.get("/logout")
        clock.advance(86400)
        await storage.sweep()

        assert await Visitor(client, cookie).get("/show") == {}


@pytest.mark.parametrize(
    "client",
    [
        "redis://:S3cr3t@host",
        b"redis://:S3cr3t@host",
        {"url": "redis://:S3cr3t@host"},
        None,
        redis.Redis.from_url("redis://:S3cr3t@host"),
    ],
    ids=lambda client: type(client).__name__,
)
def test_what_is_no_asynchronous_client_is_refused_and_not_repeated(client: object) -> None:
    kind = rf"{type(client).__module__}.{type(client).__name__}"
    with pytest.raises(ConfigurationError, match=rf"not {kind}: for a URL, pass .*from_url") as caught:
        RedisReader(client)

    assert "S3cr3t" not in str(caught.value)
