"""The page for those who come from another library names what they look for, and what there is here."""

import re

import pytest

import aiohttp_session_store
from aiohttp_session_store import KeyedStorage, MemoryStorage, Session
from tests.docs.blocks import ROOT

PAGE = (ROOT / "docs/coming-from.md").read_text()
ROWS = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| ")]
WANTED = ["login_user", "login_required", "force_login", "cycle_key", "flush", "set_expiry", "max_age", "invalidate"]


@pytest.mark.parametrize("name", [*WANTED, "revoke", "fresh_login_required", "csrf"])
def test_the_names_that_people_look_for_are_in_the_first_column(name: str) -> None:
    assert any(name in row[0] for row in ROWS)


def test_the_names_in_the_last_column_exist() -> None:
    ours = " ".join(code for row in ROWS for code in re.findall(r"`[^`]+`", row[-1]))

    for name in re.findall(r"session\.(\w+)", ours):
        assert hasattr(Session, name), name
    for name in re.findall(r"storage\.(\w+)", ours):
        assert hasattr(KeyedStorage, name), name
    of_python = {"append", "len", "str", "timedelta"}
    for name in re.findall(r"\b(\w+)\(", ours):
        known = {*aiohttp_session_store.__all__, "edit_session"} | of_python
        assert name in known or hasattr(Session, name) or hasattr(KeyedStorage, name), name


async def test_the_differences_from_remix_are_as_the_page_says() -> None:
    storage = MemoryStorage(sweep_interval=None)
    session = await storage.read(None)
    assert await storage.save(session) is None
    session["cart"] = [1]
    del session["cart"]
    assert await storage.save(session) is None
    session["cart"] = ["loom"]
    session.flash("notice", "Saved.")
    cookie = await storage.save(session)

    session = await storage.read(cookie)
    assert (session.size > 2, len(session)) == (True, 2)
    session.unset("notice")
    assert not session.has("notice")
    session["cart"].append("shuttle")
    session.regenerate_id()
    new = await storage.save(session)

    assert (await storage.read(cookie))["cart"] == ["loom"]
    assert (await storage.read(new))["cart"] == ["loom", "shuttle"]
    assert (await storage.read("unknown" * 6)).new
