"""The examples beside aiohttp-security, aiohttp-jinja2, aiohttp-remotes, uvloop and gunicorn do what they say."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestClient
from pytest_aiohttp import AiohttpClient

from aiohttp_session_store import MemoryStorage
from aiohttp_session_store.testing import edit_session
from tests.examples.conftest import EXAMPLES
from tests.servers.redis import free_port

Example = Callable[[str], ModuleType]
SEES_OTHER = 303

# Both keep their state under strings, as aiohttp advises against.
pytestmark = pytest.mark.filterwarnings("ignore:It is recommended to use web")


# --- aiohttp-security


@pytest.fixture
async def secured(example: Example, aiohttp_client: AiohttpClient) -> TestClient[Any, Any]:
    client: TestClient[Any, Any] = await aiohttp_client(example("security.py").make_app(MemoryStorage()))
    return client


async def login(client: TestClient[Any, Any], name: str, password: str) -> int:
    async with client.post("/login", data={"name": name, "password": password}, allow_redirects=False) as response:
        return response.status


async def status(client: TestClient[Any, Any], path: str, cookie: str | None = None) -> int:
    headers = {"Cookie": cookie} if cookie else {}
    async with client.get(path, headers=headers) as response:
        return response.status


def cookie_of(client: TestClient[Any, Any]) -> str:
    return "; ".join(f"{morsel.key}={morsel.value}" for morsel in client.session.cookie_jar)


async def test_a_stranger_gets_401_and_who_may_not_403(secured: TestClient[Any, Any]) -> None:
    assert await status(secured, "/books") == 401
    assert await login(secured, "ada", "wrong") == 403
    assert await login(secured, "nobody", "analytical-engine") == 403
    assert await login(secured, "grace", "found-a-moth") == SEES_OTHER
    assert await status(secured, "/books") == 403


async def test_a_login_gives_a_new_id_and_the_old_one_is_worthless(secured: TestClient[Any, Any]) -> None:
    async with edit_session(secured) as session:
        session["planted"] = True
    before = cookie_of(secured)
    assert await login(secured, "ada", "analytical-engine") == SEES_OTHER

    assert await status(secured, "/books") == 200
    secured.session.cookie_jar.clear()
    assert await status(secured, "/books", before) == 401


async def test_a_logout_is_final_for_a_copy_of_the_cookie_too(secured: TestClient[Any, Any]) -> None:
    await login(secured, "ada", "analytical-engine")
    copy = cookie_of(secured)
    await secured.post("/logout")

    assert await status(secured, "/books") == 401
    assert await status(secured, "/books", copy) == 401


async def test_nobody_inherits_what_another_user_left(secured: TestClient[Any, Any]) -> None:
    await login(secured, "ada", "analytical-engine")
    async with edit_session(secured) as session:
        session["cart"] = ["loom"]
    await login(secured, "grace", "found-a-moth")

    async with edit_session(secured) as session:
        assert dict(session) == {"identity": "grace"}


# --- aiohttp-jinja2


@pytest.fixture
async def shop(example: Example, aiohttp_client: AiohttpClient) -> TestClient[Any, Any]:
    client: TestClient[Any, Any] = await aiohttp_client(example("flash_templates.py").make_app(MemoryStorage()))
    return client


async def page(client: TestClient[Any, Any], path: str) -> str:
    async with client.get(path, headers={"Accept": "text/html"}) as response:
        return await response.text()


async def test_every_template_shows_a_message_once(shop: TestClient[Any, Any]) -> None:
    await shop.post("/buy", data={"what": "<a loom>"}, allow_redirects=False)

    assert "You have bought: &lt;a loom&gt;" in await page(shop, "/")
    assert "You have bought" not in await page(shop, "/")


async def test_a_page_without_messages_and_a_missing_picture_use_up_none(shop: TestClient[Any, Any]) -> None:
    await shop.post("/buy", data={"what": ""}, allow_redirects=False)
    async with shop.get("/about") as response:
        assert "Cache-Control" not in response.headers
    async with shop.get("/picture.png", headers={"Accept": "image/*"}) as response:
        assert response.status == 404

    assert "What was it that you wanted?" in await page(shop, "/no-such-page")
    assert "What was it" not in await page(shop, "/")


# --- aiohttp-remotes


async def test_the_cookie_is_secure_and_the_visitor_known_behind_a_proxy(
    example: Example, aiohttp_client: AiohttpClient
) -> None:
    client = await aiohttp_client(await example("remotes.py").make_app(MemoryStorage()))
    said = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.5", "X-Forwarded-Host": "example.org"}
    async with client.get("/", headers=said) as response:
        assert await response.json() == {"visits": 1, "remote": "203.0.113.5", "url": "https://example.org/"}
        assert "; Secure" in response.headers["Set-Cookie"]
    cookie = response.headers["Set-Cookie"].partition(";")[0]
    async with client.get("/", headers={**said, "Cookie": cookie}) as response:
        assert (await response.json())["visits"] == 2


# --- uvloop


UVLOOP = """
import asyncio, sys, uvloop
from pathlib import Path
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from aiohttp_session_store import FileSystemStorage, exclusive_session, get_session, setup

async def write(request):
    session = await get_session(request)
    await asyncio.sleep(0.001)
    session[request.query["key"]] = True
    return web.Response()

async def count(request):
    async with exclusive_session(request) as session:
        session["count"] = session.get("count", 0) + 1
    return web.Response()

async def show(request):
    return web.json_response(dict(await get_session(request)))

async def main(directory):
    assert "uvloop" in type(asyncio.get_running_loop()).__module__
    app = web.Application()
    app.add_routes([web.get("/write", write), web.get("/count", count), web.get("/show", show)])
    setup(app, FileSystemStorage(directory))
    async with TestClient(TestServer(app)) as client:
        await client.get("/write?key=first")
        writes = [client.get(f"/write?key={n}") for n in range(20)]
        await asyncio.gather(*writes, *(client.get("/count") for _ in range(20)))
        found = await (await client.get("/show")).json()
        assert found == {"first": True, "count": 20, **{str(n): True for n in range(20)}}, found
    print("kept")

uvloop.run(main(sys.argv[1]))
"""


def test_on_uvloop_no_write_is_lost(tmp_path: Path) -> None:
    command = [sys.executable, "-c", UVLOOP, str(tmp_path / "sessions")]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert finished.stdout == "kept\n", finished.stderr


@pytest.mark.parametrize("way", [[], ["--main"]], ids=["run_app", "uvloop.run"])
async def test_the_uvloop_example_serves_on_uvloop_and_stops_cleanly(way: list[str], tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "app.py").write_text((EXAMPLES / "uvloop_app.py").read_text().replace("8080", str(port)))
    async with serving([sys.executable, "app.py", *way], tmp_path, port) as (client, process):
        async with client.get("/") as response:
            assert await response.text() == "visit 1, on uvloop\n"
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 20) == 0


# --- gunicorn


@asynccontextmanager
async def serving(
    command: list[str], folder: Path, port: int
) -> AsyncIterator[tuple[aiohttp.ClientSession, "subprocess.Popen[bytes]"]]:
    """Run a server until it answers, and have a client of it that opens a connection for each request."""
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE)
    connector = aiohttp.TCPConnector(force_close=True)
    jar = aiohttp.CookieJar(unsafe=True)
    try:
        async with aiohttp.ClientSession(f"http://localhost:{port}", connector=connector, cookie_jar=jar) as client:
            deadline = time.monotonic() + 30
            while True:
                try:
                    async with client.get("/", headers={"Cookie": ""}):
                        break
                except aiohttp.ClientConnectionError:
                    assert process.poll() is None, process.stderr and process.stderr.read().decode()
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.05)
            jar.clear()
            yield client, process
    finally:
        process.kill()
        process.wait()
        assert process.stderr
        process.stderr.close()


async def test_workers_of_gunicorn_share_sessions_and_survive_a_kill(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--config", str(EXAMPLES / "gunicorn_conf.py")]
    command += ["--pythonpath", str(EXAMPLES), "--bind", f"127.0.0.1:{port}", "gunicorn_app:make_app"]
    async with serving(command, tmp_path, port) as (client, process):

        async def put(key: int) -> int:
            async with client.put(f"/keys/{key}") as response:
                return int((await response.json())["worker"])

        met = {await put(0)}
        met |= set(await asyncio.gather(*(put(key) for key in range(1, 60))))
        for key in range(60, 1000):
            if len(met) == 3:
                break
            met.add(await put(key))
        assert len(met) == 3
        os.kill(min(met), signal.SIGKILL)
        async with client.get("/keys") as response:
            assert set(await response.json()) >= {str(key) for key in range(60)}
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 30) == 0
