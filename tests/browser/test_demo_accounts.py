"""The account of the demo in real browsers: remember me, devices, and another password; two browsers side by side."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp.test_utils import TestServer
from playwright.async_api import Browser, BrowserContext, BrowserType, Page, expect

from aiohttp_session_store import CookieStorage, MemoryStorage, SessionCookie, SessionStorage
from aiohttp_session_store.testing import ManualClock
from demo import users
from demo.app import make_app, moment
from tests.browser.conftest import ARGUMENTS, CHROMIUM, log_in
from tests.web.storages import SECRET

pytestmark = pytest.mark.asyncio(loop_scope="module")

DAY = 86400
ENGINE, LOOM = "analytical-engine", "difference-engine"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest_asyncio.fixture(loop_scope="module")
async def site(
    request: pytest.FixtureRequest, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[str]:
    """The URL of a demo in this process, so that its clock can be moved; its passwords are forgotten afterwards."""
    for name in ("_hashes", "_numbers", "PASSWORDS"):
        monkeypatch.setattr(users, name, dict(getattr(users, name)))
    in_cookies = getattr(request, "param", "memory") == "cookie"
    storage: SessionStorage = CookieStorage(clock=clock) if in_cookies else MemoryStorage(clock=clock)
    async with TestServer(make_app(storage, SessionCookie(secrets=SECRET)), host="localhost") as server:
        yield str(server.make_url("/")).rstrip("/")


@pytest_asyncio.fixture(loop_scope="module")
async def laptop(browser: Browser, site: str) -> AsyncIterator[Page]:
    context = await browser.new_context(base_url=site, user_agent="Mozilla/5.0 (X11; Linux) Firefox/140.0")
    context.set_default_timeout(15_000)
    yield await context.new_page()
    await context.close()


@pytest_asyncio.fixture(loop_scope="module")
async def phone(browser: Browser, site: str) -> AsyncIterator[Page]:
    context = await browser.new_context(
        base_url=site, user_agent="Mozilla/5.0 (iPhone) Safari/604", viewport={"width": 360, "height": 740}
    )
    context.set_default_timeout(15_000)
    yield await context.new_page()
    await context.close()


async def greets(page: Page, name: str) -> None:
    await page.goto("/")
    await expect(page.get_by_role("heading", level=1)).to_have_text(f"Hello, {name}")


async def change_password(page: Page, new: str, old: str | None = None) -> None:
    await page.goto("/password")
    await expect(page.get_by_label("Current password")).to_have_count(0 if old is None else 1)
    if old is not None:
        await page.get_by_label("Current password").fill(old)
    await page.get_by_label("New password").fill(new)
    await page.get_by_role("button", name="Change password").click()
    await page.wait_for_url(re.compile(r"/(devices|password)?$"))


# --- remember me


@pytest.mark.parametrize("remember", [True, pytest.param(False, marks=pytest.mark.long)])
async def test_only_a_remembered_visitor_is_logged_in_after_the_browser_was_closed(
    chromium: BrowserType, demo: str, tmp_path: Path, remember: bool
) -> None:
    async def opened() -> BrowserContext:
        context = await chromium.launch_persistent_context(
            tmp_path / "profile", executable_path=CHROMIUM, headless=True, args=ARGUMENTS, base_url=demo
        )
        context.set_default_timeout(15_000)
        return context

    context = await opened()
    page = await context.new_page()
    await log_in(page, "spanning-tree", name="radia", remember=remember)
    await greets(page, "Radia")
    (cookie,) = [one for one in await context.cookies() if one["name"] == "session"]
    assert (cookie["expires"] > 0) is remember
    await context.close()

    context = await opened()
    await greets(await context.new_page(), "Radia" if remember else "stranger")
    await context.close()


# --- devices


async def test_each_device_is_shown_with_its_times_and_one_of_them_is_this_one(
    laptop: Page, phone: Page, clock: ManualClock
) -> None:
    await log_in(laptop)
    clock.advance(2 * DAY)
    await log_in(phone)
    await phone.goto("/devices")

    items = phone.locator("#list li")
    await expect(items.locator("strong")).to_have_text(["Safari on iPhone", "Firefox on Linux"])
    await expect(items.first).to_contain_text("This device")
    await expect(items.last).not_to_contain_text("This device")
    for text, ago in (("Since", 2 * DAY), ("Last used", 2 * DAY)):
        times = items.last.locator("p", has_text=text).locator("time")
        assert await times.get_attribute("datetime") == moment(int(clock()) - ago)

    await phone.get_by_role("button", name="Log out Firefox on Linux").click()

    await expect(phone.get_by_role("status")).to_have_text("That device is logged out.")
    await greets(laptop, "stranger")
    await greets(phone, "Ada")


# --- another password


@pytest.mark.parametrize("site", ["memory", pytest.param("cookie", marks=pytest.mark.long)], indirect=True)
async def test_another_password_logs_out_every_other_device(laptop: Page, phone: Page) -> None:
    """With CookieStorage, it does so by the number of the password in each session."""
    await log_in(laptop)
    await log_in(phone)

    await change_password(phone, LOOM)

    await expect(phone.get_by_role("status")).to_have_text(
        "Your password is changed. All other devices are logged out."
    )
    await greets(phone, "Ada")
    await greets(laptop, "stranger")
    await log_in(laptop, ENGINE)
    await expect(laptop.get_by_role("alert")).to_have_text("Wrong name or password.")
    await log_in(laptop, LOOM)
    await greets(laptop, "Ada")


async def test_an_old_login_needs_the_current_password_once_more(laptop: Page, phone: Page, clock: ManualClock) -> None:
    await log_in(laptop)
    await log_in(phone)
    clock.advance(601)

    await change_password(phone, LOOM, old="wrong")
    await expect(phone.get_by_role("alert")).to_have_text("That is not your current password.")
    await greets(laptop, "Ada")
    await change_password(phone, "short", old=ENGINE)  # the browser asks for more characters itself
    await expect(phone.get_by_label("New password")).to_be_focused()
    await change_password(phone, LOOM, old=ENGINE)

    await expect(phone.get_by_role("status")).to_contain_text("Your password is changed.")
    await greets(laptop, "stranger")
    await change_password(phone, ENGINE)  # it was asked for just now


async def test_a_form_that_leaves_out_the_current_password_changes_nothing(laptop: Page, clock: ManualClock) -> None:
    await log_in(laptop)
    clock.advance(601)
    await laptop.request.post("/password", form={"new": LOOM})
    await laptop.request.post("/password", form={"new": LOOM, "old": ""})
    clock.advance(-601)
    await laptop.request.post("/password", form={"new": "short"})

    assert await users.check_password("ada", ENGINE) == 1


# --- how it looks


async def test_every_page_fits_a_phone_and_labels_its_fields(laptop: Page, phone: Page, clock: ManualClock) -> None:
    complaints: list[str] = []
    phone.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    await phone.goto("/login")
    await fits(phone)
    await log_in(laptop)
    await log_in(phone)
    clock.advance(601)
    for path in ("/", "/devices", "/password", "/stream", "/login"):
        await phone.goto(path)
        await fits(phone)
        for field in await phone.locator("main input:not([type=hidden])").all():
            await expect(phone.locator(f"label[for={await field.get_attribute('id')}]")).to_be_visible()
        for target in await phone.locator("button, .button, input:not([type=hidden])").all():
            box: Any = await target.bounding_box()
            assert box["height"] >= 20, path

    assert complaints == []


async def fits(page: Page) -> None:
    """Check that nothing is wider than the screen."""
    assert await page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
