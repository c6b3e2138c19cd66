"""What an observer hears of sessions that are taken over from aiohttp-session."""

import time
from typing import Any

import pytest

from aiohttp_session_store import CookieStorage, MemoryStorage
from aiohttp_session_store.migrate import ForgeableCookieReader
from tests.migrate.test_adopting import COOKIE, Reader, serving
from tests.migrate.test_aiohttp_session import OLD, Visitor
from tests.web.observed import Recorder

# aiohttp warns about the keys that aiohttp-session uses to keep its state on requests.
pytestmark = pytest.mark.filterwarnings("ignore:It is recommended to use web.RequestKey")


async def test_a_session_that_is_taken_over_is_created_once_and_gets_its_own_id() -> None:
    storage, recorder = MemoryStorage(), Recorder()
    async with serving(storage, Reader()) as client:
        with storage.observing.telling(recorder):
            visitor = Visitor(client, COOKIE)
            assert await visitor.get("/show") == {"user": "ada"}
            recorder.expect(("created", None, "adopted"), ("rotated", None, "renewed"))
            assert await visitor.get("/show") == {"user": "ada"}
            recorder.expect()
            await Visitor(client, COOKIE).get("/show")  # the old cookie, once more
            recorder.expect()


async def test_a_request_that_fails_has_created_the_session_and_the_next_one_renews_its_id() -> None:
    storage, recorder = MemoryStorage(), Recorder()
    async with serving(storage, Reader()) as client:
        with storage.observing.telling(recorder):
            visitor = Visitor(client, COOKIE)
            assert await visitor.get("/fail") == 500
            recorder.expect(("created", None, "adopted"))
            await visitor.get("/show")
            recorder.expect(("rotated", None, "renewed"))


@pytest.mark.parametrize("on_server", [True, False])
async def test_a_session_from_a_cookie_that_anybody_can_write_is_created_when_it_is_saved(on_server: bool) -> None:
    """For a cookie of ours it is first tried whether it fits, of which nobody is told."""
    storage: Any = MemoryStorage() if on_server else CookieStorage()
    recorder = Recorder()
    with pytest.warns(UserWarning, match="anybody"):
        reader = ForgeableCookieReader()
    value = f'"{{\\"created\\":{int(time.time())}\\054\\"session\\":{{\\"user\\":\\"ada\\"}}}}"'
    async with serving(storage, reader) as client:
        with storage.observing.telling(recorder):
            assert await Visitor(client, f"{OLD}={value}").get("/show") == {"user": "ada"}
            recorder.expect(("created", None, "adopted"))
