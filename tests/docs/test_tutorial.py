"""A reader who follows the tutorial, and does nothing else, gets the results that it describes."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from tests.docs.blocks import write_files
from tests.docs.serving import serving

ADA = {"name": "ada"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the five scripts of the tutorial, as a reader has it."""
    assert write_files("docs/tutorial.md", tmp_path) == [f"step{number}.py" for number in range(1, 6)]
    return tmp_path


@pytest_asyncio.fixture
async def visitor() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as visitor:
        yield visitor


async def seen(visitor: aiohttp.ClientSession, url: str) -> str:
    async with visitor.get(url) as response:
        return (await response.text()).strip()


async def answered(visitor: aiohttp.ClientSession, url: str, data: dict[str, str]) -> str:
    """Submit a form, and return the page that it leads to."""
    async with visitor.post(url, data=data) as response:
        return (await response.text()).strip()


async def test_step_1_counts_visits_and_continues_after_a_restart(folder: Path, visitor: aiohttp.ClientSession) -> None:
    with serving(folder / "step1.py") as site:
        assert await seen(visitor, site) == "visit 1"
    with serving(folder / "step1.py") as site:
        assert await seen(visitor, site) == "visit 2"


async def test_step_2_logs_in_under_a_new_id(folder: Path, visitor: aiohttp.ClientSession) -> None:
    with serving(folder / "step2.py") as site:
        assert 'action="/login"' in await seen(visitor, site)
        async with visitor.post(f"{site}/login", data={"name": "eve"}) as response:
            assert response.status == 403

        assert await answered(visitor, f"{site}/login", ADA) == "Hello, ada"

        before = {cookie.value for cookie in visitor.cookie_jar}
        await answered(visitor, f"{site}/login", ADA)
        assert before.isdisjoint({cookie.value for cookie in visitor.cookie_jar})


async def test_step_3_shows_a_message_once(folder: Path, visitor: aiohttp.ClientSession) -> None:
    with serving(folder / "step3.py") as site:
        await answered(visitor, f"{site}/login", ADA)
        assert (await answered(visitor, f"{site}/save", {})).startswith("Saved. Hello, ada<form")
        assert (await seen(visitor, site)).startswith("Hello, ada<form")


async def test_step_4_logs_out_and_ends_the_session_on_the_server(folder: Path, visitor: aiohttp.ClientSession) -> None:
    with serving(folder / "step4.py") as site:
        page = await answered(visitor, f"{site}/login", ADA)
        assert 'action="/logout"' in page
        copy = {cookie.key: cookie.value for cookie in visitor.cookie_jar}

        page = await answered(visitor, f"{site}/logout", {})

        assert page.startswith("Goodbye. Hello, stranger<form")
        assert 'action="/login"' in page
        async with aiohttp.ClientSession(cookies=copy) as thief:
            assert (await seen(thief, site)).startswith("Hello, stranger")


async def test_step_5_sends_the_cookie_settings_for_production(folder: Path, visitor: aiohttp.ClientSession) -> None:
    with serving(folder / "step5.py") as site:
        assert (await seen(visitor, site)).startswith("Hello, stranger")
        async with visitor.post(f"{site}/login", data=ADA, allow_redirects=False) as response:
            name, _, attributes = response.headers["Set-Cookie"].partition("=")

    assert name == "__Host-session"
    assert attributes.endswith("; Path=/; Secure; HttpOnly; SameSite=Lax")
