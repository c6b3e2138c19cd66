"""Sessions that have no owner: what they cost, when they end, and how those from before login() get theirs."""

import asyncio
import json
import re

import pytest

from aiohttp_session_store import CookieStorage, KeyedStorage, MemoryStorage, Session, SessionCookie
from aiohttp_session_store.testing import ManualClock
from tests.web.storages import SECRET, CountingStorage, GatedStorage
from tests.web.test_owners import cookie_after, owners_app, seen
from tests.web.visits import ClientOf, visit


async def test_anonymous_sessions_may_end_sooner(clock: ManualClock, client_of: ClientOf) -> None:
    storage = MemoryStorage(idle_timeout=1000, anonymous_idle_timeout=100, clock=clock, sweep_interval=None)
    client = await client_of(owners_app(storage))
    anonymous = await cookie_after(client, "set=cart")
    owned = await cookie_after(client, "login=42")
    clock.advance(100)

    assert (await seen(client, anonymous))["new"]
    assert (await seen(client, owned))["owner"] == "42"
    clock.advance(1000)
    assert (await seen(client, owned))["new"]


class WatchedIndex(CountingStorage):
    """Counts the calls to the index, too."""

    async def link(self, owner_key: str, key: str, until: int) -> None:
        self.calls.append("link")
        await super().link(owner_key, key, until)

    async def unlink(self, owner_key: str, key: str) -> None:
        self.calls.append("unlink")
        await super().unlink(owner_key, key)


async def test_an_app_that_never_calls_login_makes_the_same_calls_and_stores_the_same_bytes(
    client_of: ClientOf,
) -> None:
    """Those of the version before there were owners: see the fixed vectors in ``tests/record/test_format.py``."""
    storage = WatchedIndex()
    client = await client_of(owners_app(storage))
    cookie = await cookie_after(client, "set=cart")
    await visit(client, "/read", cookie)
    await visit(client, "/act?set=more", cookie)
    assert storage.calls == ["insert", "fetch", "fetch", "replace"]
    (entry,) = storage._records.values()
    assert re.fullmatch(rb'1 L \d{10} \d{10} 1209600\n{"cart":true,"more":true}', entry[0])
    assert not storage._owners


async def test_an_owner_costs_one_call_at_login_and_none_afterwards(client_of: ClientOf) -> None:
    storage = WatchedIndex()
    client = await client_of(owners_app(storage))
    cookie = await cookie_after(client, "login=42")
    assert storage.calls == ["link", "insert"]
    storage.calls.clear()
    await visit(client, "/read", cookie)
    await visit(client, "/act?set=more", cookie)
    assert storage.calls == ["fetch", "fetch", "replace"]
    storage.calls.clear()
    await visit(client, "/act?logout=", cookie)
    assert sorted(storage.calls) == ["fetch", "replace", "unlink"]


# --- sessions from before login() was used


@pytest.mark.parametrize("kind", ["memory", "cookie"])
async def test_sessions_from_before_login_get_their_owner_at_their_next_load(
    clock: ManualClock, client_of: ClientOf, kind: str
) -> None:
    """With the id that they had; and those that nobody had logged in to get none."""
    storage = CookieStorage(clock=clock) if kind == "cookie" else MemoryStorage(clock=clock, sweep_interval=None)
    cookie_settings = {} if kind == "memory" else {"cookie": SessionCookie(secrets=SECRET)}
    before = await client_of(owners_app(storage, **cookie_settings))
    cookie = await cookie_after(before, "set=user-5")
    stranger = await cookie_after(before, "set=cart")

    def owner_of(session: Session) -> str | None:
        return "5" if "user-5" in session else None

    client = await client_of(owners_app(storage, owner_of=owner_of, **cookie_settings))

    first = await visit(client, "/read", cookie)
    assert json.loads(first.text)["owner"] == "5"
    assert (await seen(client, stranger))["owner"] is None
    if isinstance(storage, MemoryStorage):
        assert first.set_cookie is None, "the id stays"
        assert [info.key for info in await storage.sessions_of("5")] == [json.loads(first.text)["key"]]
        assert await storage.end_sessions("5") == 1
        assert (await seen(client, cookie))["new"]


async def test_a_login_over_a_session_that_just_got_another_owner_hands_nothing_over(storage: KeyedStorage) -> None:
    """A parallel request was the first to load the session, and ``owner_of`` said whose it is."""
    session = await storage.read(None)
    session["private"] = True
    session_id = await storage.save(session)
    session, parallel = await storage.read(session_id), await storage.read(session_id)
    await storage.adopt(parallel, "5")
    session.login("7")
    session["own"] = True
    found = await storage.read(await storage.save(session))
    assert (found.owner, dict(found)) == ("7", {"own": True})
    assert await storage.sessions_of("5") == []


class GatedIndex(GatedStorage):
    """Has a gate at the index, too."""

    async def link(self, owner_key: str, key: str, until: int) -> None:
        await self.enter("link")
        await super().link(owner_key, key, until)


async def test_a_logout_beside_the_first_load_is_not_undone(client_of: ClientOf) -> None:
    """The process that logs out is one that knows no owners yet, so that it only changes what the session holds."""
    storage = GatedIndex()
    asked = []

    def owner_of(session: Session) -> str | None:
        asked.append(dict(session))
        return "5" if "user-5" in session else None

    client = await client_of(owners_app(storage, owner_of=owner_of))
    cookie = await cookie_after(client, "set=user-5")
    leaving = await storage.read(SessionCookie().bind(storage).open(cookie))
    gate = storage.shut("link")
    load = asyncio.create_task(seen(client, cookie))
    await storage.reached["link"].wait()
    leaving.clear()
    leaving["cart"] = True
    await storage.save(leaving)
    gate.set()

    found = await load
    assert (found["owner"], found["data"]) == (None, {"cart": True})
    assert asked == [{"user-5": True}, {"cart": True}]
    assert (await seen(client, cookie))["owner"] is None
    assert await storage.sessions_of("5") == []
