"""Parallel requests of one visitor and parallel tasks of one request share a session and lose no write."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from aiohttp_session_store import KeyedStorage, Session, StorageError, get_session, setup
from tests.web.storages import FailingStorage, GatedStorage, SceneStorage

Client = TestClient[web.Request, web.Application]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[KeyedStorage, Handler], Awaitable[Client]]


@pytest.fixture
def serve(aiohttp_client: AiohttpClient) -> Serve:
    """Return a function that serves a handler to a visitor who already has a session."""

    async def write(request: web.Request) -> web.Response:
        (await get_session(request))["user"] = "ada"
        return web.Response()

    async def read(request: web.Request) -> web.Response:
        return web.json_response(dict(await get_session(request)))

    async def serve(storage: KeyedStorage, handler: Handler) -> Client:
        app = web.Application()
        setup(app, storage)
        app.add_routes([web.get("/write", write), web.get("/read", read), web.get("/", handler)])
        client: Client = await aiohttp_client(app)
        await client.get("/write")
        if isinstance(storage, SceneStorage):
            storage.calls.clear()
        return client

    return serve


# --- the tasks of one request


async def store(request: web.Request, key: str) -> object:
    session = await get_session(request)
    session[key] = True
    return session


async def test_three_tasks_get_the_same_session_from_one_fetch_and_lose_no_write(serve: Serve) -> None:
    async def three_tasks(request: web.Request) -> web.Response:
        sessions = await asyncio.gather(*(store(request, key) for key in "abc"))
        return web.json_response(len({id(session) for session in sessions}))

    storage = GatedStorage()
    client = await serve(storage, three_tasks)

    different = await (await client.get("/")).json()

    assert different == 1
    assert storage.take_calls() == ["fetch", "replace"]
    data = await (await client.get("/read")).json()
    assert data == {"user": "ada", "a": True, "b": True, "c": True}


@pytest.mark.parametrize("victim", [0, 1, 2])
async def test_a_task_cancelled_while_it_loads_does_not_harm_the_others(serve: Serve, victim: int) -> None:
    storage = GatedStorage()

    async def cancel_one(request: web.Request) -> web.Response:
        gate = storage.shut("fetch")
        tasks = [asyncio.create_task(store(request, key)) for key in "abc"]
        await storage.reached["fetch"].wait()
        tasks[victim].cancel()
        await asyncio.wait([tasks[victim]])
        gate.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        return web.json_response([isinstance(result, BaseException) for result in results])

    client = await serve(storage, cancel_one)

    failed = await (await client.get("/")).json()

    assert failed == [number == victim for number in range(3)]
    data = await (await client.get("/read")).json()
    assert data == {"user": "ada"} | {key: True for number, key in enumerate("abc") if number != victim}


async def test_a_failed_load_is_retried_by_the_next_call(serve: Serve) -> None:
    storage = FailingStorage()

    async def try_twice(request: web.Request) -> web.Response:
        storage.failing = frozenset({"fetch"})
        with pytest.raises(StorageError):
            await get_session(request)
        storage.failing = frozenset()
        return web.json_response(dict(await get_session(request)))

    client = await serve(storage, try_twice)

    assert await (await client.get("/")).json() == {"user": "ada"}
    assert storage.calls == ["fetch", "fetch"]


async def test_a_failed_load_does_not_fail_the_tasks_that_wait_for_it(serve: Serve) -> None:
    class FailsOnce(GatedStorage):
        async def enter(self, verb: str) -> None:
            await super().enter(verb)
            if verb == "fetch" and self.calls.count("fetch") == 1 and self.gates:
                raise StorageError("once")

    storage = FailsOnce()

    async def two_tasks(request: web.Request) -> web.Response:
        gate = storage.shut("fetch")
        tasks = [asyncio.create_task(store(request, key)) for key in "ab"]
        await storage.reached["fetch"].wait()
        await asyncio.sleep(0)  # in this turn of the loop, the second task starts to wait
        gate.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        return web.json_response([type(result).__name__ for result in results])

    client = await serve(storage, two_tasks)

    assert await (await client.get("/")).json() == ["StorageError", "Session"]


# --- the requests of one visitor

REQUESTS = 20


def all_at_once(work: Callable[[Session, str], None]) -> Handler:
    """Return a handler that loads its session, waits until all other requests have loaded theirs, and calls *work*."""
    loaded = asyncio.Barrier(REQUESTS)

    async def handler(request: web.Request) -> web.Response:
        session = await get_session(request)
        await loaded.wait()
        work(session, request.query["key"])
        return web.Response()

    return handler


async def get_all(client: Client) -> list[ClientResponse]:
    return await asyncio.gather(*(client.get(f"/?key=key{number}") for number in range(REQUESTS)))


async def test_parallel_requests_that_write_different_keys_lose_none(serve: Serve, storage: KeyedStorage) -> None:
    def write(session: Session, key: str) -> None:
        session[key] = True

    client = await serve(storage, all_at_once(write))

    responses = await get_all(client)

    assert {response.status for response in responses} == {200}
    data = await (await client.get("/read")).json()
    assert data == {"user": "ada"} | {f"key{number}": True for number in range(REQUESTS)}


async def test_a_parallel_request_does_not_restore_a_key_that_another_one_removed(
    serve: Serve, storage: KeyedStorage
) -> None:
    def work(session: Session, key: str) -> None:
        if key == "key7":
            del session["user"]
        else:
            session[key] = True

    client = await serve(storage, all_at_once(work))

    await get_all(client)

    data = await (await client.get("/read")).json()
    assert data == {f"key{number}": True for number in range(REQUESTS) if number != 7}


async def test_parallel_requests_lose_no_write_while_one_changes_the_id(serve: Serve, storage: KeyedStorage) -> None:
    def work(session: Session, key: str) -> None:
        if key == "key7":
            session.regenerate_id()
        session[key] = True

    client = await serve(storage, all_at_once(work))

    responses = await get_all(client)

    assert sum("Set-Cookie" in response.headers for response in responses) == 1
    data = await (await client.get("/read")).json()
    assert data == {"user": "ada"} | {f"key{number}": True for number in range(REQUESTS)}


async def test_parallel_first_visits_each_get_a_session_and_the_last_cookie_works(
    serve: Serve, storage: KeyedStorage
) -> None:
    def write(session: Session, key: str) -> None:
        session[key] = True

    client = await serve(storage, all_at_once(write))
    client.session.cookie_jar.clear()

    responses = await get_all(client)

    assert len({response.cookies["session"].value for response in responses}) == REQUESTS
    data = await (await client.get("/read")).json()
    assert len(data) == 1


async def test_parallel_requests_that_only_read_write_nothing(serve: Serve) -> None:
    storage = GatedStorage()
    client = await serve(storage, all_at_once(lambda session, _: None))

    await get_all(client)

    assert storage.counted() == {"fetch": REQUESTS}
