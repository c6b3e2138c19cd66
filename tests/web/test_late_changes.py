"""Changes inside a list that come when the session is saved: they are lost, and debug mode says so."""

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from aiohttp_session_store import MemoryStorage, Session, get_session, setup
from tests.web.visits import ClientOf

Late = Callable[[Session, Any, asyncio.Event], Awaitable[None]]


async def by_session(session: Session, _: Any, answered: asyncio.Event) -> None:
    await answered.wait()
    session["cart"].append(2)


async def by_list(_: Session, cart: list[Any], answered: asyncio.Event) -> None:
    await answered.wait()
    cart.append(object())


async def nothing(session: Session, _: Any, answered: asyncio.Event) -> None:
    await answered.wait()
    session["cart"].copy()


@pytest.mark.parametrize("debug", [True, False])
@pytest.mark.parametrize(("late", "warned"), [(by_session, True), (by_list, True), (nothing, False)])
async def test_a_late_change_inside_a_list_is_warned_of_in_debug_mode(
    client_of: ClientOf, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, late: Late, warned: bool,
    debug: bool,
) -> None:  # fmt: skip
    monkeypatch.setattr("aiohttp_session_store.web.late_changes._LATER", 0.2 if late is by_list else 3600)
    asyncio.get_running_loop().set_debug(debug)
    answered = asyncio.Event()
    tasks = []

    async def handler(request: web.Request) -> web.Response:
        session = await get_session(request)
        session["cart"] = [1]
        session["cart"].append(1)
        tasks.append(asyncio.ensure_future(late(session, session["cart"], answered)))
        return web.Response()

    app = web.Application()
    app.router.add_get("/", handler)
    setup(app, MemoryStorage())
    client = await client_of(app)
    caplog.set_level(logging.WARNING, "aiohttp_session_store")
    assert (await client.get("/")).status == 200
    answered.set()
    await tasks.pop()

    def said() -> list[str]:
        gc.collect()
        return [record.getMessage() for record in caplog.records if "changed after" in record.getMessage()]

    if late is by_list and debug:
        async with asyncio.timeout(20):
            while not said():
                await asyncio.sleep(0.05)
    else:
        await client.close()  # and with it whatever aiohttp keeps of the request
    if late is by_session and debug:
        for handle in list(asyncio.get_running_loop()._scheduled):  # type: ignore[attr-defined]
            if getattr(handle._callback, "__name__", "") == "look":
                handle._run()
    assert len(said()) == (warned and debug)
    if warned and debug:
        assert "session['cart']" in said()[0]
