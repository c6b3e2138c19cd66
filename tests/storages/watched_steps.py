"""What tests of announcements do with a storage: store a session, log out, watch it, and wait for its end."""

import asyncio

import pytest

from aiohttp_session_store import KeyedStorage
from aiohttp_session_store.engine.session_watch import SessionWatch
from aiohttp_session_store.engine.watching import Watching
from aiohttp_session_store.session.session import state_of

SOON = 20

#: Seconds without the server, in which several looks fail.
AWAY = pytest.mark.parametrize("seconds_away", [1, pytest.param(60, marks=pytest.mark.long)])


async def stored(storage: KeyedStorage) -> str:
    """Store a session, and return its id."""
    session = await storage.read(None)
    session["a"] = 1
    return str(await storage.save(session))


async def log_out(storage: KeyedStorage, session_id: str) -> None:
    session = await storage.read(session_id)
    session.destroy()
    await storage.save(session)


async def watch(storage: KeyedStorage, watching: Watching, session_id: str) -> SessionWatch:
    place = state_of(await storage.read(session_id)).place
    assert place is not None
    return watching.add(place)


async def ended(watch: SessionWatch) -> str:
    return await asyncio.wait_for(watch.ended(), SOON)
