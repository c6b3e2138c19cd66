"""Storages that keep their records on the server, and clients that keep no cookies."""

from pathlib import Path

import pytest
from aiohttp import web
from pytest_aiohttp.plugin import AiohttpClient

from aiohttp_session_store import FileSystemStorage, KeyedStorage, MemoryStorage
from aiohttp_session_store.testing import ManualClock
from tests.web.storages import GatedStorage
from tests.web.visits import Client, ClientOf, without_jar


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["memory", "suspending", "files"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> KeyedStorage:
    if request.param == "memory":
        return MemoryStorage(sweep_interval=None, clock=clock)
    if request.param == "suspending":
        return GatedStorage(clock=clock)
    return FileSystemStorage(tmp_path / "sessions", sweep_interval=None, clock=clock)


@pytest.fixture
def client_of(aiohttp_client: AiohttpClient) -> ClientOf:
    """Return a function that serves an app to a client that sends only the cookies that a test passes to it."""

    async def client_of(app: web.Application) -> Client:
        return await without_jar(aiohttp_client, app)

    return client_of
