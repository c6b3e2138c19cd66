"""Requests of one visitor that change values inside at the same time, over HTTP."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from aiohttp_session_store import KeyedStorage, Session, get_session, setup
from tests.web.storages import CountingStorage
from tests.web.visits import ClientOf

AT_ONCE = 20


class Barrier:
    """Lets requests go on when all of them have loaded the session."""

    def __init__(self) -> None:
        self.waiting = 0
        self.all_here = asyncio.Event()

    async def wait(self) -> None:
        self.waiting += 1
        if self.waiting % AT_ONCE == 0:
            self.all_here.set()
        await self.all_here.wait()


def app_on(storage: KeyedStorage) -> web.Application:
    barrier = Barrier()

    async def begin(request: web.Request) -> web.Response:
        (await get_session(request)).update(cart=[], tags=set(), n=0)
        return web.Response()

    async def change(request: web.Request) -> web.Response:
        session, own = await get_session(request), request.query["own"]
        await barrier.wait()
        session["cart"].append(own)
        session["tags"] |= {own}
        session.setdefault("seen", []).append(own)
        session.increment("n")
        if own == "0" and "renew" in request.query:
            session.regenerate_id()
        return web.Response()

    async def fail(request: web.Request) -> web.Response:
        session = await get_session(request)
        session.increment("n")
        session["cart"].append("failed")
        return web.Response(status=500)

    async def show(request: web.Request) -> web.Response:
        session = await get_session(request)
        return web.json_response({key: sorted(v) if isinstance(v, set) else v for key, v in session.items()})

    app = web.Application()
    for handler in (begin, change, fail, show):
        app.router.add_get(f"/{handler.__name__}", handler)
    setup(app, storage)
    return app


@pytest.mark.parametrize("renew", ["", "&renew"])
async def test_twenty_requests_at_once_keep_all_changes(storage: KeyedStorage, client_of: ClientOf, renew: str) -> None:
    client = await client_of(app_on(storage))
    cookie = (await client.get("/begin")).cookies["session"].value
    sent = {"Cookie": f"session={cookie}"}
    answers = await asyncio.gather(
        *(client.get(f"/change?own={number}{renew}", headers=sent) for number in range(AT_ONCE))
    )
    renewed = [answer.cookies["session"].value for answer in answers if "session" in answer.cookies]
    shown: dict[str, Any] = await (
        await client.get("/show", headers={"Cookie": f"session={renewed[0] if renewed else cookie}"})
    ).json()

    everybody = sorted(map(str, range(AT_ONCE)))
    assert (sorted(shown["cart"]), sorted(shown["seen"]), shown["tags"], shown["n"]) == (
        everybody,
        everybody,
        everybody,
        AT_ONCE,
    )
    assert len(renewed) == bool(renew)


async def test_a_failed_request_adds_nothing(storage: KeyedStorage, client_of: ClientOf) -> None:
    client = await client_of(app_on(storage))
    cookie = (await client.get("/begin")).cookies["session"].value
    sent = {"Cookie": f"session={cookie}"}
    assert (await client.get("/fail", headers=sent)).status == 500

    assert await (await client.get("/show", headers=sent)).json() == {"cart": [], "tags": [], "n": 0}


async def test_a_change_inside_costs_the_calls_of_any_other_change(client_of: ClientOf) -> None:
    storage = CountingStorage()
    handlers: dict[str, Callable[[Session], object]] = {
        "/key": lambda session: session.update(a=1),
        "/append": lambda session: session["cart"].append(1),
        "/increment": lambda session: session.increment("n"),
        "/default": lambda session: session.setdefault("new", []).append(1),
        "/read": lambda session: list(session["cart"]),
    }

    async def handle(request: web.Request) -> web.Response:
        handlers[request.path](await get_session(request))
        return web.Response()

    async def begin(request: web.Request) -> web.Response:
        (await get_session(request)).update(cart=[], n=0)
        return web.Response()

    app = web.Application()
    setup(app, storage)
    app.router.add_get("/begin", begin)
    for path in handlers:
        app.router.add_get(path, handle)
    client = await client_of(app)
    cookie = (await client.get("/begin")).cookies["session"].value
    calls = {}
    for path in handlers:
        storage.take_calls()
        assert (await client.get(path, headers={"Cookie": f"session={cookie}"})).status == 200
        calls[path] = storage.take_calls()

    assert calls.pop("/read") == ["fetch"]
    assert calls == {key: ["fetch", "replace"] for key in calls}
