"""The documentation as a site: it builds without a warning, searches find the right page, and it fits a phone."""

import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import AsyncIterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

import aiohttp_session_store
from tests.browser.conftest import browser, chromium
from tests.docs.blocks import ROOT

__all__ = ["browser", "chromium"]  # fixtures

in_one_loop = pytest.mark.asyncio(loop_scope="module")

FOUND_FIRST = {
    "remember me": "/accounts/",
    "CSRF": "/cookbook/csrf/",
    "logout": "/accounts/",
    "expire": "/timeouts/",
    "multiple workers": "/cookbook/multiple-workers/",
    "docker": "/cookbook/docker/",
    "redis": "/redis/",
    "login": "/accounts/",
    "2fa": "/accounts/",
    "force_login": "/coming-from/",
    "concurrency": "/concurrency/",
    "sse": "/streaming/",
    "impersonate": "/cookbook/impersonation/",
    "web.View": "/cookbook/class-based-views/",
}
FIRST = "place => document.querySelector('.md-search-result__item > a')?.pathname === place"
PHONE, DESKTOP = 390, 1280
PAGES = ["choosing-a-storage/", "security/", "cookbook/docker/", "reference/own-storage/"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {"NO_MKDOCS_2_WARNING": "1", "PATH": str(Path(sys.executable).parent)}
    finished = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    assert (finished.returncode, finished.stdout + finished.stderr) == (0, "")
    return folder


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page(site: Path, browser: Browser) -> AsyncIterator[Page]:
    """A tab of a browser that has opened the site."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever).start()
    context = await browser.new_context(base_url=f"http://127.0.0.1:{server.server_port}")
    page = await context.new_page()
    await page.goto("/")
    yield page
    await context.close()
    server.shutdown()
    server.server_close()


def test_the_site_shows_every_public_name_with_its_wrapped_signature(site: Path) -> None:
    reference = "".join(page.read_text() for page in (site / "reference").rglob("index.html"))

    for name in aiohttp_session_store.__all__:
        assert re.search(rf'id="aiohttp_session_store\.(errors\.)?{name}"', reference), name
    assert not re.search(r":(class|func|meth):", reference)
    signatures = re.findall(r'<div class="doc-signature[^>]*>(.*?)</div>', reference, re.DOTALL)
    lines = [line for one in signatures for line in re.sub(r"<[^>]+>|&[^;]+;", "", one).splitlines()]
    assert len(signatures) > 60
    assert max(map(len, lines)) <= 100


def test_the_site_names_the_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert f"site_name: {project['name']} {project['version']}\n" in (ROOT / "mkdocs.yml").read_text()
    assert f"## [{project['version']}]" in (ROOT / "CHANGELOG.md").read_text()


@in_one_loop
async def test_a_search_finds_the_right_page_first(page: Page) -> None:
    await page.goto("/timeouts/")
    for words, place in FOUND_FIRST.items():
        box = page.locator(".md-search__input")
        await box.fill(words)
        await box.press("End")  # the page listens for keys
        await page.wait_for_function(FIRST, arg=place)


@in_one_loop
@pytest.mark.parametrize("width", [PHONE, DESKTOP])
async def test_no_page_and_no_table_of_text_is_wider_than_the_window(page: Page, width: int) -> None:
    await page.set_viewport_size({"width": width, "height": 900})
    for place in PAGES:
        await page.goto(f"/{place}", wait_until="domcontentloaded")
        assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, place
        wide = "tables => tables.filter(one => one.scrollWidth > one.parentElement.clientWidth).length"
        assert await page.eval_on_selector_all(".md-typeset__table", wide) == 0, place
