"""If one step of a login, a change of the id or an ending goes wrong, the index shows all that browsers have."""

import secrets

import pytest

from aiohttp_session_store import KeyedStorage, StorageError
from aiohttp_session_store.record.head import owner_key
from aiohttp_session_store.session.session import state_of
from tests.races.owner_operations import OPERATIONS, Operation, ending, ending_of_one, logout
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
        if not happened:
            return
    pytest.fail("the operation takes more steps than were tried")
