"""When the secret changes, a cookie is signed again only if the browser should keep its id."""

import asyncio
import json
from collections.abc import Callable

import pytest
from aiohttp import web

from aiohttp_session_store import KeyedStorage, Session, SessionCookie, get_session, setup
from aiohttp_session_store.testing import FailingStorage
from tests.web.changes import Slow, changing, regenerate, regenerate_and_delete
from tests.web.storages import SECRET, CountingStorage, Handler, app_with, read
from tests.web.visits import Client, ClientOf, visit

OTHER = "other-secret-0123456789-abcdefghijklmnopqrstuvwxyz"


async def deployments(client_of: ClientOf, storage: KeyedStorage, path: str, handler: Handler) -> tuple[Client, Client]:
    """Serve an app with the old secret, which regenerates the id at "/", and an app with a new secret and *handler*."""
    app = web.Application()
    setup(app, storage, cookie=SessionCookie(secrets=[OTHER, SECRET]))
    app.router.add_get(path, handler)
    return await client_of(app_with(storage, changing(regenerate))), await client_of(app)


@pytest.mark.parametrize("status", [200, 500])
async def test_a_regenerated_id_is_not_signed_again(client_of: ClientOf, storage: KeyedStorage, status: int) -> None:
    """It would replace the new id in the browser, and log the visitor out after the grace period."""

    async def show(request: web.Request) -> web.Response:
        return web.json_response(dict(await get_session(request)), status=status)

    before, after = await deployments(client_of, storage, "/read", show)
    old = (await visit(before, "/write?user=ada")).cookie
    await visit(before, "/", old)

    response = await visit(after, "/read", old)

    assert json.loads(response.text) == {"user": "ada"}
    assert response.set_cookie is None


async def test_an_id_whose_regeneration_lost_a_race_is_not_signed_again(
    client_of: ClientOf, storage: KeyedStorage
) -> None:
    slow = Slow(regenerate)
    before, after = await deployments(client_of, storage, "/slow", slow.__call__)
    old = (await visit(before, "/write?user=ada")).cookie
    running = asyncio.create_task(visit(after, "/slow", old))
    await slow.loaded.wait()
    await visit(before, "/", old)

    slow.go_on.set()

    assert (await running).set_cookie is None


async def test_an_id_that_another_request_regenerates_meanwhile_is_not_signed_again(
    client_of: ClientOf, storage: KeyedStorage
) -> None:
    slow = Slow()
    before, after = await deployments(client_of, storage, "/slow", slow.__call__)
    old = (await visit(before, "/write?user=ada")).cookie
    running = asyncio.create_task(visit(after, "/slow", old))
    await slow.loaded.wait()
    await visit(before, "/", old)

    slow.go_on.set()

    assert (await running).set_cookie is None


async def test_an_id_that_another_request_logs_out_meanwhile_is_not_signed_again(
    client_of: ClientOf, storage: KeyedStorage
) -> None:
    slow = Slow()
    before, after = await deployments(client_of, storage, "/slow", slow.__call__)
    old = (await visit(before, "/write?user=ada")).cookie
    running = asyncio.create_task(visit(after, "/slow", old))
    await slow.loaded.wait()
    await visit(before, "/logout", old)

    slow.go_on.set()

    assert (await running).set_cookie is None


def only_read(session: Session) -> None:
    assert session["user"] == "ada"


@pytest.mark.parametrize("login", [regenerate, regenerate_and_delete, lambda session: session.login("ada")])
async def test_a_slow_request_that_only_reads_does_not_send_the_old_id_after_a_login(
    client_of: ClientOf, storage: KeyedStorage, login: Callable[[Session], None]
) -> None:
    """It would take the place of the id that the login has sent, and log the visitor out."""
    slow = Slow(only_read)
    before, after = await deployments(client_of, storage, "/slow", slow.__call__)
    logging_in = await client_of(app_with(storage, changing(login)))
    old = (await visit(before, "/write?user=ada")).cookie
    running = asyncio.create_task(visit(after, "/slow", old))
    await slow.loaded.wait()
    assert (await visit(logging_in, "/", old)).cookie

    slow.go_on.set()

    response = await running
    assert (response.status, response.set_cookie) == (200, None)


async def test_a_slow_request_that_only_reads_does_not_send_the_id_of_a_session_that_was_logged_out(
    client_of: ClientOf, storage: KeyedStorage
) -> None:
    slow = Slow(only_read)
    before, after = await deployments(client_of, storage, "/slow", slow.__call__)
    old = (await visit(before, "/write?user=ada")).cookie
    running = asyncio.create_task(visit(after, "/slow", old))
    await slow.loaded.wait()
    await visit(before, "/logout", old)

    slow.go_on.set()

    assert (await running).set_cookie is None


async def test_a_stream_that_prepares_late_does_not_send_the_old_id_after_a_login(
    client_of: ClientOf, storage: KeyedStorage
) -> None:
    loaded, go_on = asyncio.Event(), asyncio.Event()

    async def stream(request: web.Request) -> web.StreamResponse:
        await get_session(request)
        loaded.set()
        await go_on.wait()
        response = web.StreamResponse()
        await response.prepare(request)
        return response

    before, after = await deployments(client_of, storage, "/stream", stream)
    logging_in = await client_of(app_with(storage, changing(regenerate_and_delete)))
    old = (await visit(before, "/write?user=ada")).cookie
    running = asyncio.create_task(visit(after, "/stream", old))
    await loaded.wait()
    await visit(logging_in, "/", old)

    go_on.set()

    assert (await running).set_cookie is None


@pytest.mark.parametrize("status", [200, 302, 404, 500, 503])
async def test_a_session_that_was_only_read_gets_its_cookie_signed_again_unless_the_server_failed(
    client_of: ClientOf, storage: KeyedStorage, status: int
) -> None:
    async def show(request: web.Request) -> web.Response:
        return web.json_response(dict(await get_session(request)), status=status)

    before, after = await deployments(client_of, storage, "/read", show)
    old = (await visit(before, "/write?user=ada")).cookie

    response = await visit(after, "/read", old)

    assert (response.set_cookie is not None) == (status < 500)


async def test_an_id_is_asked_for_only_if_its_cookie_is_to_be_signed_again(client_of: ClientOf) -> None:
    storage = CountingStorage()
    before, after = await deployments(client_of, storage, "/read", read)
    old = (await visit(before, "/write?user=ada")).cookie
    storage.take_calls()

    new = (await visit(after, "/read", old)).cookie
    assert storage.take_calls() == ["fetch", "touch"]
    await visit(after, "/read", new)
    assert storage.take_calls() == ["fetch"]


async def test_a_write_that_signs_the_cookie_again_costs_no_further_call(client_of: ClientOf) -> None:
    storage = CountingStorage()
    before, after = await deployments(client_of, storage, "/slow", changing(lambda session: session.set("late", 1)))
    old = (await visit(before, "/write?user=ada")).cookie
    storage.take_calls()

    assert (await visit(after, "/slow", old)).cookie
    assert storage.take_calls() == ["fetch", "replace"]


async def test_a_storage_that_cannot_be_asked_fails_no_request_that_only_reads(client_of: ClientOf) -> None:
    """Its cookie is signed again by a later request."""
    storage = FailingStorage()
    before, after = await deployments(client_of, storage, "/read", read)
    old = (await visit(before, "/write?user=ada")).cookie

    with storage.failing("touch", "replace"):
        response = await visit(after, "/read", old)

    assert (response.status, response.text, response.set_cookie) == (200, '{"user": "ada"}', None)
    assert (await visit(after, "/read", old)).set_cookie is not None
