"""When the secret changes, a cookie is signed again only if the browser should keep its id."""

import asyncio
import json

import pytest
from aiohttp import web

from aiohttp_session_store import KeyedStorage, SessionCookie, get_session, setup
from tests.web.changes import Slow, changing, regenerate
from tests.web.storages import SECRET, Handler, app_with
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
