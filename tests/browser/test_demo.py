"""The demo in a real browser, on files."""

from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import Browser, BrowserContext, Page, expect

from tests.browser.conftest import expect_worthless, log_in, running_demo, session_cookie, ticks_reach

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_logging_in_greets_once_and_stays_logged_in_after_a_reload(page: Page) -> None:
    await log_in(page)

    await expect(page.get_by_role("status")).to_have_text("Welcome, Ada!")
    await page.reload()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Hello, Ada")
    await expect(page.get_by_text("Welcome, Ada!")).to_have_count(0)


async def test_visits_are_counted_from_the_first_one(page: Page) -> None:
    await page.goto("/")
    await expect(page.locator("#visits")).to_have_text("1")
    await page.reload()
    await expect(page.locator("#visits")).to_have_text("2")
    await page.goto("/stream")
    await page.goto("/")
    await expect(page.locator("#visits")).to_have_text("3")


async def test_a_wrong_password_shows_an_error_once(page: Page) -> None:
    await log_in(page, "wrong")

    await expect(page.get_by_role("alert")).to_have_text("Wrong name or password.")
    await page.reload()
    await expect(page.get_by_role("alert")).to_have_count(0)


async def test_notes_in_a_list_are_kept(page: Page) -> None:
    await page.goto("/")
    for note in ("<b>milk</b>", "bread"):
        await page.get_by_label("New note").fill(note)
        await page.get_by_role("button", name="Add").click()
        await expect(page.locator("#list span").last).to_have_text(note)

    await page.reload()

    await expect(page.locator("#list span")).to_have_text(["<b>milk</b>", "bread"])
    await page.get_by_role("button", name="Remove <b>milk</b>").click()
    await expect(page.locator("#list span")).to_have_text(["bread"])
    await page.reload()
    await expect(page.locator("#list span")).to_have_text(["bread"])
    await page.get_by_role("button", name="Remove all notes").click()
    await expect(page.locator("#list")).to_have_count(0)


async def test_too_many_and_too_long_notes_are_refused(demo: str) -> None:
    async with aiohttp.ClientSession() as client:
        for text in ["", " ", "x" * 101, *(f"note {number}" for number in range(11))]:
            async with client.post(f"{demo}/notes", data={"text": text}) as response:
                page = await response.text()

        assert "Up to 10 notes of up to 100 characters" in page
        assert page.count('action="/notes/remove"') == 10


async def test_logging_in_changes_the_id_and_makes_the_old_one_worthless(
    page: Page, visitor: BrowserContext, demo: str
) -> None:
    await page.goto("/")
    before = await session_cookie(visitor)

    await log_in(page)

    assert await session_cookie(visitor) != before
    await expect_worthless(before, demo)


async def test_the_stream_changes_the_session_and_continues_after_a_reload(page: Page) -> None:
    await page.goto("/stream")
    await ticks_reach(page, 2)

    await page.reload()

    assert int(await page.locator("#ticks").inner_text()) >= 2
    await page.goto("/")
    assert int(await page.locator("#ticks").inner_text()) >= 2


async def test_logging_out_says_goodbye_and_ends_the_session(page: Page, visitor: BrowserContext, demo: str) -> None:
    await log_in(page)
    cookie = await session_cookie(visitor)

    await page.get_by_role("button", name="Log out").click()

    await expect(page.get_by_role("status")).to_have_text("You are logged out. Goodbye!")
    await expect_worthless(cookie, demo)


async def test_the_back_button_after_a_logout_shows_a_logged_out_page(page: Page) -> None:
    await log_in(page)
    await expect(page.get_by_role("heading", level=1)).to_have_text("Hello, Ada")
    await page.get_by_role("button", name="Log out").click()
    await expect(page.get_by_text("Goodbye!")).to_be_visible()

    await page.go_back()

    await expect(page.get_by_role("heading", level=1)).to_have_text("Hello, stranger")
    await page.reload()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Hello, stranger")
    await expect(page.get_by_role("button", name="Log out")).to_have_count(0)


async def test_logging_out_in_one_tab_logs_out_the_other_tab_which_says_so_by_itself(
    page: Page, visitor: BrowserContext
) -> None:
    await log_in(page)
    other = await visitor.new_page()
    await other.goto("/stream")
    await expect(other.locator("#state")).to_have_text("Connected")

    await page.get_by_role("button", name="Log out").click()

    await expect(other.locator("#state")).to_have_text("Ended: you have logged out in another tab")
    await other.goto("/")
    await expect(other.get_by_role("heading", level=1)).to_have_text("Hello, stranger")


async def test_a_device_that_is_logged_out_from_another_one_says_so_by_itself(
    browser: Browser, page: Page, demo: str
) -> None:
    context = await browser.new_context(base_url=demo, user_agent="Mozilla/5.0 (Windows) Firefox/140.0")
    device = await context.new_page()
    await log_in(device, "found-a-moth", name="grace")
    await device.goto("/stream")
    await expect(device.locator("#state")).to_have_text("Connected")
    await log_in(page, "found-a-moth", name="grace")
    await page.get_by_role("link", name="Devices").click()

    await page.get_by_role("button", name="Log out everywhere else").click()

    await expect(device.locator("#state")).to_have_text("Ended: this device was logged out from another one")
    await context.close()
    await page.get_by_role("button", name="Log out", exact=True).click()


async def test_logging_in_in_one_tab_ends_the_stream_of_the_other(page: Page, visitor: BrowserContext) -> None:
    await page.goto("/stream")
    await expect(page.locator("#state")).to_have_text("Connected")

    await log_in(await visitor.new_page())

    await expect(page.locator("#state")).to_have_text("Ended: you have logged in in another tab")


async def test_two_tabs_change_one_session_without_losing_anything(page: Page, visitor: BrowserContext) -> None:
    await page.goto("/stream")
    await expect(page.locator("#state")).to_have_text("Connected")
    other = await visitor.new_page()
    await other.goto("/")
    await other.get_by_label("New note").fill("from the other tab")
    await other.get_by_role("button", name="Add").click()
    ticks = int(await page.locator("#ticks").inner_text())
    await ticks_reach(page, ticks + 2)

    await other.reload()

    await expect(other.locator("#list span")).to_have_text(["from the other tab"])
    assert int(await other.locator("#ticks").inner_text()) > ticks


async def test_a_visitor_sees_all_devices_and_logs_the_others_out(browser: Browser, page: Page, demo: str) -> None:
    """One of them by its button, then all that are left.  No other test logs grace in."""
    others = []
    for name in ("Firefox/140.0", "Safari/604"):
        context = await browser.new_context(base_url=demo, user_agent=f"Mozilla/5.0 (Windows) {name}")
        others.append(await context.new_page())
        await log_in(others[-1], "found-a-moth", name="grace")
    await log_in(page, "found-a-moth", name="grace")
    await page.get_by_role("link", name="Devices").click()
    await expect(page.locator("#list strong")).to_have_count(3)

    await page.get_by_role("button", name="Log out Firefox on Windows").click()

    await expect(page.get_by_role("status")).to_have_text("That device is logged out.")
    await expect(page.locator("#list strong")).to_have_count(2)
    await others[0].goto("/")
    await expect(others[0].get_by_role("heading", level=1)).to_have_text("Hello, stranger")
    await others[1].goto("/")
    await expect(others[1].get_by_role("heading", level=1)).to_have_text("Hello, Grace")

    await page.get_by_role("button", name="Log out everywhere else").click()

    await expect(page.get_by_role("status")).to_have_text("1 other device logged out.")
    await expect(page.locator("#list strong")).to_have_count(1)
    await others[1].goto("/")
    await expect(others[1].get_by_role("heading", level=1)).to_have_text("Hello, stranger")
    await page.goto("/")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Hello, Grace")
    for other in others:
        await other.context.close()


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://localhost:1"},
        {"Origin": "null"},
    ],
    ids=["cross-site", "same-site", "origin", "port", "null"],
)
async def test_a_post_from_another_site_is_refused(demo: str, headers: dict[str, str]) -> None:
    async with (
        aiohttp.ClientSession(headers=headers) as client,
        client.post(f"{demo}/logout", allow_redirects=False) as response,
    ):
        assert response.status == 403


async def test_a_post_from_our_own_pages_is_allowed(demo: str) -> None:
    for headers in ({"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {"Origin": demo}):
        async with (
            aiohttp.ClientSession(headers=headers) as client,
            client.post(f"{demo}/logout", allow_redirects=False) as response,
        ):
            assert response.status == 303


@pytest.mark.parametrize("path", ["/", "/login"])
async def test_every_field_has_a_label_and_shows_its_focus(page: Page, path: str) -> None:
    await page.goto(path)

    for field in await page.locator("input:not([type=hidden])").all():
        name = await field.get_attribute("id")
        await expect(page.locator(f"label[for={name}]")).to_be_visible()
        await field.focus()
        assert await field.evaluate("field => getComputedStyle(field).outlineStyle") == "solid"


async def test_no_page_breaks_its_own_content_security_policy(page: Page) -> None:
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)

    for path in ("/", "/login", "/stream"):
        await page.goto(path)
        await expect(page.get_by_role("heading", level=1)).to_be_visible()

    assert complaints == []


@pytest.mark.parametrize("demo", [pytest.param("memory", marks=pytest.mark.long), "cookie"], indirect=True)
async def test_login_and_logout_work_on_the_other_storages(page: Page) -> None:
    await log_in(page)
    await expect(page.get_by_role("heading", level=1)).to_have_text("Hello, Ada")
    await page.goto("/stream")
    await page.get_by_role("button", name="Log out").click()

    await expect(page.get_by_role("status").first).to_have_text("You are logged out. Goodbye!")
    await page.goto("/")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Hello, stranger")


async def test_ctrl_c_ends_the_demo_at_once_even_with_an_open_stream(tmp_path: Path) -> None:
    async with aiohttp.ClientSession() as client:
        with running_demo("--directory", str(tmp_path / "sessions")) as url:
            async with client.get(url):
                pass
            stream = await client.get(f"{url}/events")
            assert await stream.content.readline() == b'data: {"ticks": 1}\n'
        await stream.read()
