"""Several gunicorn workers: docs/examples/gunicorn_app.py and gunicorn_conf.py."""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.examples.running import EXAMPLES, command_of, copy_of_examples, running, stop
from tests.servers.ports import free_port

WORKERS = 3


class Visitor:
    """One visitor, who opens a new connection for every request, so that any worker may answer.

    Attributes:
        stored: The keys whose writes were answered, each with the worker that answered.
    """

    def __init__(self, client: aiohttp.ClientSession) -> None:
        self.client = client
        self.stored: dict[str, int] = {}

    async def get(self, path: str) -> dict[str, int]:
        async with self.client.get(path) as response:
            assert response.status == 200
            data: dict[str, int] = await response.json()
            return data

    async def put(self, key: str) -> None:
        async with self.client.put(f"/keys/{key}") as response:
            assert response.status == 200
            self.stored[key] = (await response.json())["worker"]

    async def put_or_lose_the_connection(self, key: str) -> None:
        """Store a key; if the connection is lost before the answer, do not record it as stored."""
        try:
            await self.put(key)
        except aiohttp.ClientError:
            return

    async def until_all_have_answered(self, besides: int = 0) -> set[int]:
        """Store keys until three workers other than *besides* have answered, and return those workers."""
        async with asyncio.timeout(60):
            met: set[int] = set()
            while len(met) < WORKERS:
                names = [f"{len(self.stored)}-{number}" for number in range(10)]
                await asyncio.gather(*map(self.put, names))
                met |= {self.stored[name] for name in names} - {besides}
        return met

    async def missing(self) -> list[str]:
        """Return the keys whose writes were answered but that are not in the session."""
        found = await self.get("/keys")
        return [key for key, worker in self.stored.items() if found.get(key) != worker]


@pytest.fixture
def port(tmp_path: Path) -> int:
    port = free_port()
    copy_of_examples(tmp_path, port)
    return port


@pytest.fixture
def command(request: pytest.FixtureRequest) -> list[str]:
    """The command of the example, with the worker class that the test asks for."""
    *options, app = command_of("gunicorn_app.py")
    if hasattr(request, "param"):
        options.append(f"--worker-class={request.param}")
    return [*options, app]


@pytest.fixture
def gunicorn(command: list[str], tmp_path: Path, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    with running(command, tmp_path, port) as process:
        yield process


@asynccontextmanager
async def a_visitor(port: int, jar: aiohttp.CookieJar) -> AsyncIterator[Visitor]:
    connector = aiohttp.TCPConnector(force_close=True, limit=0)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=connector, cookie_jar=jar) as client:
        yield Visitor(client)


@pytest.fixture
async def visitor(gunicorn: "subprocess.Popen[bytes]", port: int) -> AsyncIterator[Visitor]:
    async with a_visitor(port, aiohttp.CookieJar(unsafe=True)) as visitor:
        assert (await visitor.get("/"))["visits"] == 1
        yield visitor


@pytest.mark.parametrize("command", ["aiohttp.GunicornWebWorker", "aiohttp.GunicornUVLoopWebWorker"], indirect=True)
async def test_workers_share_sessions_and_lose_no_parallel_write(
    command: list[str], visitor: Visitor, tmp_path: Path
) -> None:
    workers = await visitor.until_all_have_answered()

    visits = [(await visitor.get("/"))["visits"] for _ in range(9)]

    assert len(workers) == WORKERS
    assert visits == list(range(2, 11))
    assert f"Using worker: {command[-2].partition('=')[2]}" in (tmp_path / "log").read_text()
    assert await visitor.missing() == []


async def test_a_worker_killed_during_writes_loses_no_answered_write(visitor: Visitor) -> None:
    victim = min(await visitor.until_all_have_answered())
    under_way = [asyncio.create_task(visitor.put_or_lose_the_connection(f"busy-{number}")) for number in range(60)]
    async with asyncio.timeout(30):
        while not any(key.startswith("busy") for key in visitor.stored):
            await asyncio.sleep(0)

    os.kill(victim, signal.SIGKILL)
    await asyncio.gather(*under_way)

    assert await visitor.missing() == []
    await visitor.until_all_have_answered(besides=victim)
    assert await visitor.missing() == []


async def test_stopping_during_writes_is_clean_and_the_session_continues_after_a_restart(
    gunicorn: "subprocess.Popen[bytes]", command: list[str], visitor: Visitor, tmp_path: Path, port: int
) -> None:
    under_way = [asyncio.create_task(visitor.put_or_lose_the_connection(f"busy-{number}")) for number in range(60)]
    async with asyncio.timeout(30):
        while not visitor.stored:
            await asyncio.sleep(0)

    await asyncio.to_thread(stop, gunicorn, tmp_path / "log")
    await asyncio.gather(*under_way)

    assert "ERROR" not in (tmp_path / "log").read_text()
    jar = visitor.client.cookie_jar
    assert isinstance(jar, aiohttp.CookieJar)
    with running(command, tmp_path, port):
        async with a_visitor(port, jar) as again:
            again.stored = visitor.stored
            assert (await again.get("/"))["visits"] == 2
            assert await again.missing() == []


PRELOADED = """
import os

from aiohttp import web
from aiohttp_session_store import MemoryStorage, get_session, setup

async def put(request):
    (await get_session(request))[request.match_info["key"]] = True
    return web.json_response({"worker": os.getpid()})

app = web.Application()
app.router.add_put("/keys/{key}", put)
setup(app, MemoryStorage())
"""


async def test_memory_storage_in_a_preloaded_app_logs_a_warning(tmp_path: Path, port: int) -> None:
    (tmp_path / EXAMPLES / "preloaded.py").write_text(PRELOADED)
    command = [*command_of("gunicorn_app.py")[:-1], "--preload", "preloaded:app"]

    with running(command, tmp_path, port):
        async with a_visitor(port, aiohttp.CookieJar(unsafe=True)) as visitor:
            await visitor.until_all_have_answered()

    assert (tmp_path / "log").read_text().count("each worker has its own sessions") == WORKERS
