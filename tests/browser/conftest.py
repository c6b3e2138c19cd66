"""The demo as a process of its own, and a real browser to visit it."""

import asyncio
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def running_demo(*options: str) -> Iterator[str]:
    """Run the demo as its README says and yield its address; Ctrl-C must end it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "demo", "--port", str(port), *options]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        yield f"http://localhost:{port}"
    finally:
        process.send_signal(2)
        output, _ = process.communicate(timeout=20)
        assert process.returncode == 0
        assert f"http://localhost:{port} keeps its sessions in" in output


async def answering(url: str) -> None:
    """Wait until the demo answers."""
    async with asyncio.timeout(30), aiohttp.ClientSession() as client:
        while True:
            try:
                async with client.get(url):
                    return
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    if CHROMIUM is None:
        reason = "no chromium on the PATH: install Debian's package of that name"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["filesystem"])
async def demo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The address of a demo on the storage that the test asks for."""
    directory = tmp_path_factory.mktemp("demo") / "sessions"
    with running_demo("--storage", request.param, "--directory", str(directory)) as url:
        await answering(url)
        yield url


@pytest_asyncio.fixture(loop_scope="module")
async def visitor(browser: Browser, demo: str) -> AsyncIterator[BrowserContext]:
    """A browser without any cookie."""
    context = await browser.new_context(base_url=demo)
    context.set_default_timeout(15_000)
    yield context
    await context.close()


@pytest_asyncio.fixture(loop_scope="module")
async def page(visitor: BrowserContext) -> Page:
    """A tab of that browser."""
    return await visitor.new_page()


async def log_in(page: Page, password: str = "analytical-engine") -> None:
    """Fill in the form as a person would."""
    await page.goto("/login")
    await page.get_by_label("Name").fill("ada")
    await page.get_by_label("Password").fill(password)
    await page.get_by_role("main").get_by_role("button", name="Log in").click()
    await page.wait_for_url(re.compile(r"/(login)?$"))


async def session_cookie(visitor: BrowserContext) -> str:
    """Return the value of the session cookie."""
    cookies = await visitor.cookies()
    return next(cookie["value"] for cookie in cookies if cookie["name"] == "session")
