"""If one step of a login, a change of the id or an ending goes wrong, the index shows all that browsers have."""

import secrets
import time

import pytest

from aiohttp_session_store import KeyedStorage, StorageError
from aiohttp_session_store.record.head import owner_key
from aiohttp_session_store.session.session import state_of
from tests.races.owner_operations import OPERATIONS, Operation, ending, ending_of_one, first_login, logout
from tests.races.steps import FATES, Steps

MOST_STEPS = 20


@pytest.mark.parametrize("fate", FATES)
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())
async def test_one_step_goes_wrong(storage: KeyedStorage, operation: Operation, fate: str) -> None:
    for at in range(1, MOST_STEPS):
        owner = secrets.token_hex(8)
        new = await storage.read(None)
        new.login(owner)
        old_id = await storage.save(new)
        assert old_id
        session = await storage.read(old_id)
        steps = Steps(storage, at, fate)
        sent, failed = None, None
        try:
            sent = await operation(storage, session, owner)
        except StorageError as error:
            failed = error
        happened = steps.count >= at
        await steps.over()

        case = f"step {at}: sent {bool(sent)}, failed {failed!r}"
        for session_id in (old_id, sent):
            found = await storage.read(session_id or None)
            place = state_of(found).place  # an id that was renewed leads to the session's new one
            if place is not None and found.owner is not None:
                assert place.key in await storage.linked(owner_key(found.owner)), case
                assert place.key in {info.key for info in await storage.sessions_of(found.owner)}, case
        succeeded = failed is None
        if succeeded and operation in (logout, ending, ending_of_one):
            assert (await storage.read(old_id)).new, case
        if succeeded and operation is ending:
            assert not await storage.linked(owner_key(owner)), case

        assert await storage.end_sessions(owner) <= 2, case
        assert (await storage.read(old_id)).owner != owner, case
        assert await storage.sessions_of(owner) == [], case
        assert not await storage.linked(owner_key(owner)), case
        if not happened:
            return
    pytest.fail("the operation takes more steps than were tried")


@pytest.mark.parametrize("fate", FATES)
@pytest.mark.parametrize("new", [True, False], ids=["a new session", "a session that is there"])
async def test_a_login_whose_save_failed_is_saved_again(storage: KeyedStorage, new: bool, fate: str) -> None:
    """The handler catches the error and tries once more: it gets a session of the owner, and the limit holds."""
    for at in range(1, MOST_STEPS):
        storage.max_sessions_per_owner, owner = 2, secrets.token_hex(8)
        storage.clock = lambda: time.time() - 10
        for _ in range(2):
            await first_login(storage, await storage.read(None), owner)
        storage.clock = time.time
        anonymous = await storage.read(None)
        anonymous["cart"] = 1
        session = await storage.read(None if new else await storage.save(anonymous))
        session.login(owner)
        session["seen"] = True
        steps = Steps(storage, at, fate)
        failed = False
        try:
            sent = await storage.save(session)
        except StorageError:
            failed = True
        happened = steps.count >= at
        await steps.over()
        if failed:
            sent = await storage.save(session)
        case = f"step {at}: failed {failed}"
        assert sent, case
        shown = await storage.sessions_of(owner)
        assert len(shown) == 2, case
        found = await storage.read(sent)
        assert (found.owner, found.get("seen")) == (owner, True), case
        assert found.key == shown[0].key, case
        if not happened:
            return
    pytest.fail("the operation takes more steps than were tried")
