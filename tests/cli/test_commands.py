"""Every command, on each storage, while an app serves requests."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from aiohttp_session_store import (
    KeyedStorage,
    KeyRing,
    SessionCookie,
    close_when_session_ends,
    get_session,
    setup,
)
from tests.cli.conftest import PATIENCE, Place, prepared, stored

# What they find and change is the business of the storages, whose own tests look at it on each of them.
here = pytest.mark.parametrize(
    "server", ["files", *(pytest.param(one, marks=pytest.mark.long) for one in ("redis", "postgres"))], indirect=True
)

SECRET = "known-secret-0123456789-abcdefghijklmnopqrstuvwxyz"


async def enter(request: web.Request) -> web.Response:
    session = await get_session(request)
    session.login(request.query["owner"], label="Firefox")
    return web.Response()


async def count(request: web.Request) -> web.Response:
    """Add one, and say whose session it is."""
    session = await get_session(request)
    if session.owner is None:
        raise web.HTTPUnauthorized
    await asyncio.sleep(0)
    session.increment("n")
    return web.Response(text=session.key)


async def renew(request: web.Request) -> web.Response:
    (await get_session(request)).regenerate_id()
    return web.Response()


async def chat(request: web.Request) -> web.WebSocketResponse:
    await get_session(request)
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    close_when_session_ends(request, socket)
    async for _ in socket:
        pass
    return socket


@dataclass
class Visitor:
    """A browser that is logged in, and adds one again and again until it is logged out.

    Attributes:
        counted: How many additions were answered.
    """

    client: TestClient[web.Request, web.Application]
    cookie: str = ""
    key: str = ""
    counted: int = 0
    writing: asyncio.Task[None] | None = field(default=None, repr=False)

    async def get(self, path: str) -> int:
        async with self.client.get(path, headers={"Cookie": f"session={self.cookie}"}) as response:
            if "session" in response.cookies:
                self.cookie = response.cookies["session"].value
            if path == "/count" and response.status == 200:
                self.counted += 1
                self.key = await response.text()
            return response.status

    async def write(self) -> None:
        while await self.get("/count") == 200:
            await asyncio.sleep(0.05)

    async def logged_out(self) -> None:
        """Wait until this visitor was told that they are logged out, and see that they stay so."""
        assert self.writing is not None
        async with asyncio.timeout(PATIENCE):
            await self.writing
        assert await self.get("/count") == 401


class App:
    """A running app, whose visitors write all the time."""

    def __init__(self, client: TestClient[web.Request, web.Application]) -> None:
        self.client = client
        self.visitors: list[Visitor] = []

    async def visitor(self, owner: str) -> Visitor:
        visitor = Visitor(self.client)
        await visitor.get(f"/enter?owner={owner}")
        await visitor.get("/count")
        visitor.writing = asyncio.ensure_future(visitor.write())
        self.visitors.append(visitor)
        return visitor


@pytest.fixture
async def app(storage: KeyedStorage) -> AsyncIterator[App]:
    served = web.Application()
    setup(served, storage, cookie=SessionCookie(secrets=SECRET), watch_interval=1)
    for handler in (enter, count, renew, chat):
        served.router.add_get(f"/{handler.__name__}", handler)
    async with TestClient(TestServer(served), cookie_jar=aiohttp.DummyCookieJar()) as client:
        app = App(client)
        yield app
        for visitor in app.visitors:
            if visitor.writing is not None:
                visitor.writing.cancel()
                with suppress(asyncio.CancelledError):
                    await visitor.writing


async def test_an_operator_sees_and_ends_the_sessions_of_a_running_app(
    app: App, place: Place, storage: KeyedStorage
) -> None:
    ada, tablet, grace = [await app.visitor(owner) for owner in ("ada", "ada", "grace")]
    anonymous = await stored(storage, cart=["\x1b[31m"])
    assert await app.visitor("ada")
    await app.visitors[-1].get("/renew")  # what its old id may still read is no session of its own
    socket = await app.client.ws_connect("/chat", headers={"Cookie": f"session={tablet.cookie}"})

    stats, listed = await asyncio.gather(place.run("stats", "--json"), place.run("list", "--owner", "ada", "--json"))
    everybody = await place.quickly("list")
    shown = await place.quickly("show", anonymous.key, "--data")
    dry = await place.quickly("end", "--owner", "ada", "--dry-run", "--json")

    assert {one.code for one in (stats, listed, everybody, shown, dry)} == {0}
    counted = stats.document
    assert (counted["live"], counted["live_with_owner"], counted["unreadable"]) == (5, 4, 0)
    assert counted["complete"] is True
    assert counted["oldest"]["key"]
    assert counted["largest"]["bytes"] > 100
    expected = {info.key for info in await storage.sessions_of("ada")}
    assert {one["key"] for one in listed.document} == expected
    assert {ada.key, tablet.key} < expected
    assert {(one["owner"], one["label"]) for one in listed.document} == {("ada", "Firefox")}
    rows = [line.split("\t") for line in everybody.out.splitlines()]
    assert rows[0][:2] == ["key", "owner"]
    assert {row[0] for row in rows[1:]} == expected | {grace.key, anonymous.key}
    assert '"\\u001b[31m"' in shown.out
    assert dry.document == {"would_end": 3, "left": 0, "complete": True}

    ended = await place.run("end", tablet.key.upper())
    assert (ended.code, ended.out) == (0, "1 session ended.\n")
    async with asyncio.timeout(PATIENCE):
        message = await socket.receive()
    assert (message.type, message.data, message.extra) == (aiohttp.WSMsgType.CLOSE, 1008, "revoked")
    await tablet.logged_out()
    again, gone = await place.quickly("end", tablet.key), await place.quickly("show", tablet.key)
    assert (again.code, again.err) == (1, "Error: There is no live session with this key.\n")
    assert (gone.code, gone.err) == (1, "Error: This session has ended (revoked).\n")

    ended = await place.run("end", "--owner", "ada", "--json")
    assert (ended.code, ended.document["ended"]) == (0, 2)
    await ada.logged_out()
    assert await storage.sessions_of("ada") == []
    before = grace.counted
    async with asyncio.timeout(PATIENCE):
        while grace.counted < before + 3:  # nobody else was logged out
            await asyncio.sleep(0.01)

    late = await app.visitor("grace")
    everything = await place.run("end", "--all", "--yes", "--json")
    assert everything.code == 0
    assert everything.document["ended"] == 3
    await grace.logged_out()
    await late.logged_out()
    assert await storage.sessions_of("grace") == []
    assert (await place.quickly("stats", "--json")).document["live"] == 0


@here
async def test_reencrypt_brings_all_under_the_newest_key_and_loses_no_write(place: Place) -> None:
    """The app extends and writes the same sessions all the time."""
    old_key, new_key = KeyRing.new_key(), KeyRing.new_key()
    plain = await prepared(place.make())
    before = place.make(encryption=KeyRing(old_key))
    sessions = [await stored(before, "ada", n=0) for _ in range(60)] + [await stored(plain, n=0) for _ in range(20)]
    expiries = [stands.expires_at for one in sessions if (stands := await plain.fetch(one.key)) is not None]
    place.environment["SESSION_KEYS"] = f"{new_key}, {old_key}"
    app, stop, answered = place.make(encryption=KeyRing(old_key, new_key)), False, [0] * len(sessions)

    async def write(number: int) -> None:
        """A process that has not got the new order of the keys yet."""
        while not stop:
            session = await app.read(sessions[number].id)
            session.increment("n")
            await app.save(session)
            answered[number] += 1
            await asyncio.sleep(0.005)

    dry = await place.quickly("reencrypt", "--dry-run", "--json")
    assert (dry.code, dry.document["left"]) == (1, 80)
    writers = [asyncio.ensure_future(write(number)) for number in range(5)]
    first = await place.run("reencrypt", "--json")
    stop = True
    await asyncio.gather(*writers)
    second = await place.quickly("reencrypt")

    assert first.code == 0
    assert first.document["reencrypted"] >= 80
    assert second.code == 0, second.err
    ring = KeyRing(new_key)
    newest = place.make(encryption=ring)
    for number, session in enumerate(sessions):
        assert (await newest.read(session.id))["n"] == answered[number]
        stands = await plain.fetch(session.key)
        assert stands is not None
        assert stands.data.startswith(f"5 E {ring.names[0]}\n".encode())
        if number >= 5:
            assert stands.expires_at == expiries[number]
    assert sum(answered) > 0
    stats = (await place.quickly("stats", "--json")).document
    assert stats["encryption_keys"] == {ring.names[0]: 80}
    for storage in (plain, before, app, newest):
        await storage.aclose()


@here
async def test_check_names_what_cannot_be_read_and_sweep_removes_what_has_expired(
    place: Place, storage: KeyedStorage
) -> None:
    damaged, newer, expired = (digit * 64 for digit in "abc")
    sound = await stored(storage, n=1)
    until = storage.now() + 3600
    await storage.insert(damaged, b"\x1b[31mrubbish", until)
    await storage.insert(newer, b"9 L 1 1 -\n{}", until)
    await storage.insert(expired, b"1 L 1 1 10\n{}", storage.now() - 1000)

    found = await place.run("check")
    document = await place.quickly("check", "--json")
    dry = await place.quickly("sweep", "--dry-run", "--json")
    assert found.code == document.code == 1
    assert sorted(found.out.splitlines()) == [
        f"{damaged}  not a session record",
        f"{newer}  record format 9 is newer than this package",
    ]
    assert {one["key"] for one in document.document["unreadable"]} == {damaged, newer}
    assert document.document["complete"] is True
    swept = await place.run("sweep", "--json")
    removes = await storage.fetch(expired) is None
    assert swept.code == 0
    assert removes
    if "redis" not in place.environment.get("SESSION_STORAGE", ""):
        assert dry.document == {"would_remove": 1, "complete": True}
        assert swept.document == {"removed": 1, "complete": True}
    assert await storage.fetch(damaged) is not None
    ended = await place.quickly("end", damaged)  # it may be a session that another process can read
    assert ended.code == 0
    assert (await place.quickly("show", sound.key)).code == 0


@here
async def test_sessions_of_an_owner_that_cannot_be_read_are_named_and_not_passed_over(place: Place) -> None:
    """Without the keys of the app, nobody knows whose they are."""
    encrypted = await prepared(place.make(encryption=KeyRing(KeyRing.new_key())))
    session = await stored(encrypted, "ada")
    ended = await place.quickly("end", "--owner", "ada", "--json")

    assert ended.code == 1
    assert ended.document == {"ended": 0, "left": 1, "complete": True}
    assert session.key in ended.err
    assert "SESSION_KEYS" in ended.err
    assert not (await encrypted.read(session.id)).new
    assert (await place.quickly("end", session.key)).code == 0
    assert (await encrypted.read(session.id)).new
    await encrypted.aclose()
