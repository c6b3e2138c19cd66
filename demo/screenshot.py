"""Take screenshots of the demo: ``python -m demo.screenshot http://localhost:8080 docs/images/demo.png``."""

import argparse
import asyncio
import shutil

from playwright.async_api import Page, async_playwright


async def show(page: Page, name: str) -> None:
    """Go to the page called *name*, and fill the session first so that the page has something to show."""
    await page.goto("/stream")
    await page.get_by_text("3", exact=True).wait_for()
    if name == "stream":
        return
    await page.goto("/login")
    if name == "login":
        return
    await page.get_by_label("Name").fill("ada")
    await page.get_by_label("Password").fill("analytical-engine")
    await page.get_by_role("main").get_by_role("button", name="Log in").click()
    if name in ("devices", "password"):
        await page.goto(f"/{name}")
        return
    for note in ("Milk, bread, and a moth trap", "Return the loom"):
        await page.get_by_label("New note").fill(note)
        await page.get_by_role("button", name="Add").click()
        await page.get_by_text(note, exact=True).wait_for()


async def main() -> None:
    """Read the command line and take one screenshot."""
    parser = argparse.ArgumentParser(prog="python -m demo.screenshot")
    parser.add_argument("url")
    parser.add_argument("path")
    parser.add_argument("--page", choices=["home", "login", "stream", "devices", "password"], default="home")
    parser.add_argument("--width", type=int, default=960)
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--full", action="store_true", help="the whole page, not one screen of it")
    options = parser.parse_args()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = await browser.new_page(
            base_url=options.url,
            viewport={"width": options.width, "height": 860},
            color_scheme="dark" if options.dark else "light",
        )
        await show(page, options.page)
        await page.screenshot(path=options.path, full_page=options.full)
        await browser.close()


if __name__ == "__main__":
    asyncio.run(main())
