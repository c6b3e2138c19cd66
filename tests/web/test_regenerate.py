"""A new id: all data goes with it, the old one dies as it was told to, and no request under way is lost."""

import asyncio
import json
import logging

import pytest

from aiohttp_session_store import KeyedStorage, MemoryStorage, Session
from aiohttp_session_store.testing import ManualClock
from tests.records import live_keys
from tests.web.changes import Slow, changing, regenerate, regenerate_and_delete
from tests.web.storages import CountingStorage, FailingStorage, app_with
from tests.web.visits import Client, ClientOf, visit

GRACE = 60
BOTH = pytest.mark.parametrize("delete_old", [False, True])


async def data_of(client: Client, cookie: str) -> object:
    return json.loads((await visit(client, "/read", cookie)).text)


# --- the new id


@BOTH
async def test_the_new_id_has_all_data_and_what_the_request_changed(
    client_of: ClientOf, storage: KeyedStorage, delete_old: bool
) -> None:
    client = await client_of(app_with(storage, changing(regenerate_and_delete if delete_old else regenerate)))
    old = (await visit(client, "/write?user=ada&cart=7")).cookie

    new = (await visit(client, "/", old)).cookie

    assert new.partition(".")[0] != old.partition(".")[0]
    assert await data_of(client, new) == {"user": "ada", "cart": "7", "since": "the change of id"}


async def test_a_flash_goes_along_to_the_new_id(client_of: ClientOf, storage: KeyedStorage) -> None:
    def change(session: Session) -> None:
        session.flash("notice", "Welcome.")
        session.regenerate_id(True)

    client = await client_of(app_with(storage, changing(change)))
    old = (await visit(client, "/write?user=ada")).cookie

    new = (await visit(client, "/", old)).cookie

    assert await data_of(client, new) == {"user": "ada", "notice": "Welcome."}
    assert await data_of(client, new) == {"user": "ada"}


async def test_a_session_that_was_never_stored_can_get_another_id(client_of: ClientOf) -> None:
    storage = CountingStorage()
    client = await client_of(app_with(storage, changing(regenerate)))

    new = (await visit(client, "/")).cookie

    assert storage.take_calls() == ["insert"]
    assert await data_of(client, new) == {"since": "the change of id"}


# --- the old id


async def test_the_old_id_reads_what_it_always_read_for_the_grace(
    client_of: ClientOf, storage: KeyedStorage, clock: ManualClock
) -> None:
    client = await client_of(app_with(storage, changing(regenerate)))
    old = (await visit(client, "/write?user=ada")).cookie
    new = (await visit(client, "/", old)).cookie
    await visit(client, "/write?user=bob", new)
    clock.advance(GRACE - 1)

    response = await visit(client, "/read", old)

    assert json.loads(response.text) == {"user": "ada"}
    assert response.set_cookie is None


async def test_the_old_id_is_gone_after_the_grace(
    client_of: ClientOf, storage: KeyedStorage, clock: ManualClock
) -> None:
    client = await client_of(app_with(storage, changing(regenerate)))
    old = (await visit(client, "/write?user=ada")).cookie
    await visit(client, "/", old)
    clock.advance(GRACE)

    assert await data_of(client, old) == {}


async def test_reading_by_the_old_id_does_not_extend_its_grace(client_of: ClientOf, clock: ManualClock) -> None:
    client = await client_of(app_with(MemoryStorage(idle_timeout=100, clock=clock), changing(regenerate)))
    old = (await visit(client, "/write?user=ada")).cookie
    await visit(client, "/", old)
    for _ in range(2):  # by a tenth of the idle timeout and more, after which a live session would be extended
        clock.advance(GRACE / 2 - 1)
        assert await data_of(client, old) == {"user": "ada"}
    clock.advance(2)

    assert await data_of(client, old) == {}


async def test_the_old_id_is_gone_at_once_if_it_was_to_be_deleted(client_of: ClientOf, storage: KeyedStorage) -> None:
    client = await client_of(app_with(storage, changing(regenerate_and_delete)))
    old = (await visit(client, "/write?user=ada")).cookie

    await visit(client, "/", old)

    assert await data_of(client, old) == {}


async def test_a_logout_by_the_old_id_ends_the_new_session(client_of: ClientOf, storage: KeyedStorage) -> None:
    client = await client_of(app_with(storage, changing(regenerate)))
    old = (await visit(client, "/write?user=ada")).cookie
    new = (await visit(client, "/", old)).cookie

    await visit(client, "/logout", old)

    assert await data_of(client, new) == {}


async def test_a_logout_by_the_new_id_ends_the_grace_of_the_old(client_of: ClientOf, storage: KeyedStorage) -> None:
    client = await client_of(app_with(storage, changing(regenerate)))
    old = (await visit(client, "/write?user=ada")).cookie
    new = (await visit(client, "/", old)).cookie

    await visit(client, "/logout", new)

    assert await data_of(client, old) == {}


# --- requests under way


@BOTH
async def test_what_a_slow_request_writes_goes_to_the_new_id_unless_the_old_was_deleted(
    client_of: ClientOf, storage: KeyedStorage, delete_old: bool
) -> None:
    slow = Slow()
    app = app_with(storage, changing(regenerate_and_delete if delete_old else regenerate))
    app.router.add_get("/slow", slow.__call__)
    client = await client_of(app)
    old = (await visit(client, "/write?user=ada")).cookie
    running = asyncio.create_task(visit(client, "/slow", old))
    await slow.loaded.wait()
    new = (await visit(client, "/", old)).cookie

    slow.go_on.set()
    late = await running

    kept = {} if delete_old else {"late": "written after the change of id"}
    assert (late.status, late.set_cookie) == (200, None)
    assert await data_of(client, new) == {"user": "ada", "since": "the change of id"} | kept
    assert await data_of(client, old) == ({} if delete_old else {"user": "ada"})


async def test_a_request_that_comes_with_the_old_id_writes_to_the_new_session(
    client_of: ClientOf, storage: KeyedStorage
) -> None:
    client = await client_of(app_with(storage, changing(regenerate)))
    old = (await visit(client, "/write?user=ada")).cookie
    new = (await visit(client, "/", old)).cookie

    response = await visit(client, "/write?late=yes", old)

    assert response.set_cookie is None
    assert await data_of(client, new) == {"user": "ada", "since": "the change of id", "late": "yes"}
    assert await data_of(client, old) == {"user": "ada"}


# --- what must not happen


@pytest.mark.parametrize("verb", ["insert", "replace"])
async def test_a_change_of_id_that_fails_leaves_the_old_session_as_it_was(client_of: ClientOf, verb: str) -> None:
    storage = FailingStorage()
    client = await client_of(app_with(storage, changing(regenerate_and_delete)))
    old = (await visit(client, "/write?user=ada")).cookie
    storage.failing = frozenset({verb})

    response = await visit(client, "/", old)

    storage.failing = frozenset()
    assert (response.status, response.set_cookie) == (503, None)
    assert await data_of(client, old) == {"user": "ada"}
    assert len(live_keys(storage)) == 1


async def test_no_log_tells_an_id_old_or_new(
    client_of: ClientOf, storage: KeyedStorage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    slow = Slow()
    app = app_with(storage, changing(regenerate))
    app.router.add_get("/slow", slow.__call__)
    client = await client_of(app)
    old = (await visit(client, "/write?user=ada")).cookie
    running = asyncio.create_task(visit(client, "/slow", old))
    await slow.loaded.wait()
    new = (await visit(client, "/", old)).cookie
    await visit(client, "/logout", new)
    slow.go_on.set()
    await running
    await visit(client, "/write?user=ada", old)

    assert "destroyed while a request was changing it" in caplog.text
    assert not [cookie for cookie in (old, new) if cookie.partition(".")[0] in caplog.text]
