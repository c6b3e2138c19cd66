"""The demo with ``--https``: logins are bound to the browser, which is started as the demo says."""

import re
from pathlib import Path

import pytest
from playwright.async_api import BrowserType, expect

from tests.browser.conftest import ARGUMENTS, CHROMIUM, log_in, running_demo

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_the_demo_binds_a_login_and_the_browser_forgets_at_the_logout(
    chromium: BrowserType, tmp_path: Path
) -> None:
    with running_demo("--https", "--directory", str(tmp_path / "sessions")) as printed:
        url, *arguments = printed.split()
        browser = await chromium.launch(executable_path=CHROMIUM, headless=True, args=[*ARGUMENTS, *arguments])
        context = await browser.new_context(base_url=url)
        page = await context.new_page()
        await log_in(page)
        device = page.locator("#device")
        for _ in range(100):  # the key is registered beside the page, which says at the next load that it is
            if "reload" not in await device.inner_text():
                break
            await page.reload()
        if (await device.inner_text()).startswith("not bound"):
            pytest.skip(f"this Chromium ({browser.version}) registers no key: it may be built without it")
        await expect(device).to_have_text(re.compile("^bound"))

        await context.clear_cookies(name="__Host-bound")
        await page.goto("/devices")
        await expect(page.locator("#list strong")).to_have_count(1)
        assert any(cookie["name"] == "__Host-bound" for cookie in await context.cookies())
        await page.get_by_role("button", name="Log out", exact=True).click()
        await expect(page.get_by_text("Goodbye!")).to_be_visible()
        await context.clear_cookies(name="__Host-bound")
        await page.goto("/")

        await expect(page.get_by_role("heading", level=1)).to_have_text("Hello, stranger")
        await browser.close()
