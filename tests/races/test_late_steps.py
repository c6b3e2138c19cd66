"""If one step of a rotation, a login, a logout or a new session goes wrong, no session is lost and none is revived."""

from collections.abc import Awaitable, Callable

import pytest

from aiohttp_session_store import KeyedStorage, Session, StorageError
from aiohttp_session_store.session.session import state_of
from tests.races.steps import FATES, Steps

MOST_STEPS = 12


async def renewal(storage: KeyedStorage, session: Session) -> Session:
    session["written"] = True
    session.regenerate_id()
    return session


async def login(storage: KeyedStorage, session: Session) -> Session:
    session["written"] = True
    session.regenerate_id(True)
    return session


async def replacement(storage: KeyedStorage, session: Session) -> Session:
    fresh = await storage.read(None)
    state_of(fresh).replaces = state_of(session)
    fresh["written"] = True
    return fresh


async def logout(storage: KeyedStorage, session: Session) -> Session:
    session.destroy()
    return session


async def write(storage: KeyedStorage, session: Session) -> Session:
    session["written"] = True
    return session


Operation = Callable[[KeyedStorage, Session], Awaitable[Session]]


@pytest.mark.parametrize("fate", FATES)
@pytest.mark.parametrize("operation", [renewal, login, replacement, logout, write])
async def test_one_step_goes_wrong(storage: KeyedStorage, operation: Operation, fate: str) -> None:
    for at in range(1, MOST_STEPS):
        new = await storage.read(None)
        new["user"] = 5
        old_id = await storage.save(new)
        assert old_id
        session = await operation(storage, await storage.read(old_id))
        steps = Steps(storage, at, fate)
        sent, failed = None, None
        try:
            sent = await storage.save(session)
        except StorageError as error:
            failed = error
        happened = steps.count >= at
        await steps.over()

        old = await storage.read(old_id)
        newest = await storage.read(sent) if sent else None
        case = f"step {at}: sent {bool(sent)}, failed {failed!r}"
        if failed is None:
            if operation is logout:
                assert old.new, case
            elif operation is write:
                assert dict(old) == {"user": 5, "written": True}, case
            else:
                assert newest is not None, case
                assert newest.get("written"), case
                if operation is not renewal:
                    assert old.new, case
        elif not failed.maybe_stored:
            assert dict(old) == {"user": 5}, case
        elif operation in (renewal, login, replacement):
            # Nobody was sent the new id. Either the old session works on, or it ended; but its late end is no surprise.
            assert old.new or dict(old).get("user") == 5, case

        if failed is not None and not old.new:  # trying again works, and has its whole effect
            again = await operation(storage, await storage.read(old_id))
            value = await storage.save(again)
            assert value is not None or operation is write, case
            if operation is logout:
                assert (await storage.read(old_id)).new, case
            elif operation is not write:
                assert value
                assert (await storage.read(value)).get("written"), case
        if not happened:
            return
    pytest.fail("the operation takes more steps than were tried")
