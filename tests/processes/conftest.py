"""Four worker processes that share a port and a storage, and a client that opens a connection for every request."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.processes.worker import make_storage, prepare
from tests.servers.guard import guarded
from tests.servers.ports import free_port
from tests.servers.postgres import postgres_server
from tests.servers.redis import redis_server

WORKERS = 4


@dataclass(frozen=True)
class Service:
    """The running workers."""

    url: str
    place: str
    pids: frozenset[str]


@dataclass
class Workers:
    """A client of all workers, which records the workers that have answered."""

    client: aiohttp.ClientSession
    url: str
    place: str
    met: set[str] = field(default_factory=set)

    async def get(self, path: str, cookie: str | None = None) -> aiohttp.ClientResponse:
        """Send a request over a new connection, which any of the workers may accept."""
        headers = {"Cookie": f"session={cookie}"} if cookie else {}
        async with self.client.get(self.url + path, headers=headers) as response:
            body = await response.text()
            assert response.status == 200, (path, response.status, body)
            if body.isdigit():
                self.met.add(body)
            return response

    async def ask_for(self, path: str, cookie: str = "") -> None:
        """Send a request, whatever its answer says."""
        async with self.client.get(self.url + path, headers={"Cookie": f"session={cookie}"}) as response:
            assert response.status == 200, (path, response.status)

    async def login(self) -> str:
        """Return the cookie value of a new session."""
        return (await self.get("/login")).cookies["session"].value

    async def show(self, cookie: str) -> dict[str, object]:
        """Return the data of a session."""
        return await self.ask("/show", cookie)

    async def ask(self, path: str, cookie: str = "") -> dict[str, Any]:
        """Return what a request is answered in JSON."""
        async with self.client.get(self.url + path, headers={"Cookie": f"session={cookie}"}) as response:
            assert response.status == 200, (path, response.status)
            data: dict[str, Any] = await response.json()
            return data


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with redis_server() as server:
        yield server.url


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    with postgres_server() as server:
        asyncio.run(prepare(make_storage(server.dsn)))
        yield server.dsn


@pytest.fixture(scope="module", params=["files", "redis", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the storage that all workers share."""
    if request.param == "files":
        return str(tmp_path_factory.mktemp("workers") / "sessions")
    place: str = request.getfixturevalue({"redis": "redis_url", "postgres": "postgres_dsn"}[request.param])
    return place


@pytest.fixture(scope="module")
def service(place: str) -> Iterator[Service]:
    """Start the workers of a storage once for all tests; each test uses its own sessions."""
    port = free_port()
    command = [sys.executable, str(Path(__file__).with_name("worker.py")), place, str(port)]
    processes = [subprocess.Popen(command) for _ in range(WORKERS)]
    service = Service(f"http://127.0.0.1:{port}", place, frozenset(str(process.pid) for process in processes))
    with guarded(*processes):
        try:
            asyncio.run(all_answer(service))
            yield service
        finally:
            for process in processes:
                process.terminate()
            assert [process.wait(20) for process in processes] == [0] * WORKERS


@asynccontextmanager
async def client_of(service: Service) -> AsyncIterator[Workers]:
    connector = aiohttp.TCPConnector(force_close=True, limit=0)
    patient = aiohttp.ClientTimeout(sock_connect=None)  # a stalling machine must not fail the test
    async with aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), timeout=patient
    ) as client:
        yield Workers(client, service.url, service.place)


@pytest.fixture
async def workers(service: Service) -> AsyncIterator[Workers]:
    async with client_of(service) as workers:
        yield workers


async def all_answer(service: Service) -> None:
    """Wait until every worker has answered once."""
    async with asyncio.timeout(60), client_of(service) as workers:
        while workers.met != service.pids:
            try:
                await asyncio.gather(*(workers.get("/who") for _ in range(WORKERS)))
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)
