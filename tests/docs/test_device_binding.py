"""The example of the page about device-bound sessions binds sessions."""

import runpy
from pathlib import Path

from tests.device.browser import Browser, client_of
from tests.docs.blocks import write_files


async def test_the_example_binds_a_login_which_goes_on_past_the_end_of_the_bound_cookie(tmp_path: Path) -> None:
    write_files("docs/device-binding.md", tmp_path)
    app = runpy.run_path(str(tmp_path / "bound.py"))["make_app"]()
    client = await client_of(app)
    try:
        browser = Browser(client)
        await browser.get("/login")
        assert (await browser.post("/login")).status == 303
        assert (await browser.get("/")).text == "42: bound"
        browser.closed()
        assert (await browser.get("/")).text == "42: bound"
        assert browser.log[-2:] == [("POST /device-session/refresh", 200), ("GET /", 200)]
    finally:
        await client.close()
