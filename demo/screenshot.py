"""Take the pictures of the demo: ``python -m demo.screenshot http://localhost:8080 docs/images/demo.png``."""

import argparse
import asyncio
import shutil

from playwright.async_api import async_playwright


async def take(url: str, path: str, *, width: int, dark: bool) -> None:
    """Log in as a visitor would, add two notes and take a picture of the page that shows the session."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = await browser.new_page(
            base_url=url, viewport={"width": width, "height": 760}, color_scheme="dark" if dark else "light"
        )
        await page.goto("/stream")
        await page.get_by_text("3", exact=True).wait_for()
        if path.endswith("stream.png"):
            await page.screenshot(path=path)
            return
        await page.goto("/login")
        if path.endswith("login.png"):
            await page.screenshot(path=path)
            return
        await page.get_by_label("Name").fill("ada")
        await page.get_by_label("Password").fill("analytical-engine")
        await page.get_by_role("main").get_by_role("button", name="Log in").click()
        for note in ("Milk, bread, and a moth trap", "Return the loom"):
            await page.get_by_label("New note").fill(note)
            await page.get_by_role("button", name="Add").click()
        await page.screenshot(path=path)
        await browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("path")
    parser.add_argument("--width", type=int, default=960)
    parser.add_argument("--dark", action="store_true")
    options = parser.parse_args()
    asyncio.run(take(options.url, options.path, width=options.width, dark=options.dark))
