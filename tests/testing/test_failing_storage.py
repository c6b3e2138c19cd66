"""FailingStorage, which fails on demand, and the fixtures for sessions."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpClient

from aiohttp_session_store import KeyedStorage, MemoryStorage, StorageError, get_session, setup
from aiohttp_session_store.testing import FailingStorage, ManualClock, StorageContract
from aiohttp_session_store.testing.failing import VERBS
from aiohttp_session_store.testing.fixtures import (  # noqa: F401  fixtures
    failing_session_storage,
    session_clock,
    session_storage,
)


class TestFailingStorageThatDoesNotFail(StorageContract):
    @pytest.fixture
    async def storage(self, clock: ManualClock) -> AsyncIterator[KeyedStorage]:
        storage = FailingStorage(clock=clock)
        yield storage
        await storage.aclose()


async def calls(storage: FailingStorage) -> dict[str, Any]:
    """Return the result of each verb, or the error that it raises."""
    said: dict[str, Any] = {}
    version = await MemoryStorage.insert(storage, "k", b"", 0) or b""
    work: dict[str, Callable[[], Awaitable[Any]]] = {
        "fetch": lambda: storage.fetch("k"),
        "insert": lambda: storage.insert("new", b"", 0),
        "touch": lambda: storage.touch("k", 1, version),
        "replace": lambda: storage.replace("k", b"", 0, version),
        "delete": lambda: storage.delete("k"),
    }
    for verb, call in work.items():
        try:
            said[verb] = await call()
        except StorageError as error:
            said[verb] = error
    return said


def failures(said: dict[str, Any]) -> set[str]:
    return {verb for verb, result in said.items() if isinstance(result, StorageError)}


async def test_by_default_all_verbs_fail_until_the_end_of_the_block() -> None:
    storage = FailingStorage()
    with storage.failing():
        assert failures(await calls(storage)) == set(VERBS)

    assert failures(await calls(FailingStorage())) == set()


@pytest.mark.parametrize("verb", VERBS)
async def test_only_the_named_verb_fails(verb: Any) -> None:
    storage = FailingStorage()
    with storage.failing(verb):
        assert failures(await calls(storage)) == {verb}


async def test_it_fails_as_many_times_as_asked() -> None:
    storage = FailingStorage()
    with storage.failing("fetch", times=2):
        for _ in range(2):
            with pytest.raises(StorageError):
                await storage.fetch("k")
        assert await storage.fetch("k") is None


async def test_after_an_inner_block_the_outer_one_applies_again() -> None:
    storage = FailingStorage()
    with storage.failing("fetch"):
        with storage.failing("delete"):
            assert await storage.fetch("k") is None
        with pytest.raises(StorageError):
            await storage.fetch("k")


def test_an_unknown_verb_is_an_error() -> None:
    with pytest.raises(ValueError, match="'write'"), FailingStorage().failing("write"):  # type: ignore[arg-type]
        pass


async def test_an_app_answers_503_while_its_storage_is_unavailable(
    aiohttp_client: AiohttpClient,
    failing_session_storage: FailingStorage,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def count(request: web.Request) -> web.Response:
        session = await get_session(request)
        session["visits"] = session.get("visits", 0) + 1
        return web.Response(text=str(session["visits"]))

    app = web.Application()
    app.router.add_get("/", count)
    setup(app, failing_session_storage)
    client = await aiohttp_client(app)

    assert await (await client.get("/")).text() == "1"
    with failing_session_storage.failing():
        assert (await client.get("/")).status == 503
    assert await (await client.get("/")).text() == "2"
    assert "told to fail" in caplog.text


async def test_the_fixtures_share_a_clock(
    session_clock: ManualClock,  # noqa: F811
    session_storage: MemoryStorage,  # noqa: F811
    failing_session_storage: FailingStorage,  # noqa: F811
) -> None:
    session_clock.advance(60)

    assert session_storage.now() == failing_session_storage.now() == int(session_clock())
