"""The demo in a process of its own, and a real browser that visits it."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, BrowserType, Page, async_playwright

from tests.servers.ports import free_port

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium")
# What a browser does for itself and no test looks at.  The first one starts a process for the next page, after each
# page.  The others are those that Playwright switches off: of two lists on the command line, only the last one counts.
SWITCHED_OFF = [
    "SpareRendererForSitePerProcess",
    "AimEnabled",
    "AvoidCorsURLLoaderRestartOnRedirect",
    "AvoidUnnecessaryBeforeUnloadCheckSync",
    "DestroyProfileOnBrowserClose",
    "HttpsFirstBalancedModeAutoEnable",
    "HttpsUpgrades",
    "LensOverlay",
    "MediaRouter",
    "NetworkTimeServiceQuerying",
    "OptimizationHints",
    "PaintHolding",
    "PreconnectToSearch",
    "ThirdPartyStoragePartitioning",
]
ARGUMENTS = [
    f"--disable-features={','.join(SWITCHED_OFF)}",
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
    """Run the demo from the command line, yield its URL once it serves, and end it as Ctrl-C does.

    With ``--https``, the arguments for Chromium that the demo prints follow the URL.
    """
    port, scheme = free_port(), "https" if "--https" in options else "http"
    command = [sys.executable, "-m", "demo", "--port", str(port), *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            url = f"{scheme}://localhost:{port}"
            assert line.startswith(f"{url}  sessions: "), f"the demo did not start: {line!r}"
            if scheme == "https":
                url = f"{url} {process.stdout.readline().partition('chromium ')[2].rpartition(' ')[0]}"
            yield url
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=20) == 0
        finally:
            process.kill()  # does nothing if the process has ended


# Playwright passes this by default; without it, the back button works as it does for visitors.
NOT_THESE = ["--disable-back-forward-cache"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium() -> AsyncIterator[BrowserType]:
    if CHROMIUM is None:
        reason = "there is no chromium on the PATH: apt-get install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    async with async_playwright() as playwright:
        yield playwright.chromium


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(chromium: BrowserType) -> AsyncIterator[Browser]:
    browser = await chromium.launch(
        executable_path=CHROMIUM, headless=True, args=ARGUMENTS, ignore_default_args=NOT_THESE
    )
    yield browser
    await browser.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["filesystem"])
async def demo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The URL of a demo on the storage that the test asks for."""
    directory = tmp_path_factory.mktemp("demo") / "sessions"
    with running_demo("--storage", request.param, "--directory", str(directory)) as url:
        yield url


@pytest_asyncio.fixture(loop_scope="module")
async def visitor(browser: Browser, demo: str) -> AsyncIterator[BrowserContext]:
    """A browser without cookies."""
    context = await browser.new_context(base_url=demo)
    context.set_default_timeout(15_000)
    yield context
    await context.close()


@pytest_asyncio.fixture(loop_scope="module")
async def page(visitor: BrowserContext) -> Page:
    """A tab of that browser."""
    return await visitor.new_page()


async def log_in(page: Page, password: str = "analytical-engine", *, name: str = "ada", remember: bool = False) -> None:
    """Fill in the login form as a person would."""
    await page.goto("/login")
    await page.get_by_label("Name").fill(name)
    await page.get_by_label("Password").fill(password)
    if remember:
        await page.get_by_label("Remember me for 30 days").check()
    await page.get_by_role("main").get_by_role("button", name="Log in").click()
    await page.wait_for_url(re.compile(r"/(login)?$"))


async def ticks_reach(page: Page, least: int) -> None:
    """Wait until the page shows *least* or more; a slow machine may never see exactly that number."""
    await page.wait_for_function("least => Number(document.querySelector('#ticks').textContent) >= least", arg=least)


async def session_cookie(visitor: BrowserContext) -> str:
    """Return the value of the session cookie."""
    cookies = await visitor.cookies()
    return next(cookie["value"] for cookie in cookies if cookie["name"] == "session")


async def expect_worthless(cookie: str, url: str) -> None:
    """Check that *cookie* opens nothing: the visitor is not logged in, and the visit counts as the first one."""
    async with aiohttp.ClientSession(headers={"Cookie": f"session={cookie}"}) as thief, thief.get(url) as response:
        page = await response.text()
    assert "Hello, stranger" in page
    assert '<dd id="visits">1</dd>' in page
