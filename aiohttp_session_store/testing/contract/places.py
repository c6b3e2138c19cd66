"""The contract of sessions whose id is changed while long requests and exclusive holders use them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import ClassVar

import pytest

from ...engine.verbs import RECLAIM_AFTER, unlosable
from ...errors import SessionLockError
from ...session.session import Session, state_of
from ...storages.base import KeyedStorage
from ..clock import ManualClock
from .sessions import load, readable, stored_id


@asynccontextmanager
async def exclusively(storage: KeyedStorage, session: Session) -> AsyncIterator[None]:
    """Hold *session* for the length of a block, and save it at the end, as ``exclusive_session`` does."""
    state = state_of(session)
    async with storage.lock(session.key) as lease:
        state.lease = lease or unlosable
        try:
            await storage.refresh(session)
            yield
            await storage.save(session)
        finally:
            state.lease = None


async def renewed(storage: KeyedStorage, session_id: str, *, delete_old: bool = False) -> str:
    """Give a session another id in a request of its own, and return that id."""
    session = await load(storage, session_id)
    session.regenerate_id(delete_old)
    new_id = await storage.save(session)
    assert new_id, "a regenerated session must send its new id"
    return new_id


async def still_stands(storage: KeyedStorage, session: Session) -> bool:
    """Save *session* and ask whether it still stands, as ``save_session`` does."""
    state = state_of(session)
    state.confirm = True
    try:
        await storage.save(session)
    finally:
        state.confirm = False
    return not session.destroyed


class PlaceContract:
    """Whoever uses a session follows it to its new id, and nobody who holds it exclusively does."""

    locks: ClassVar[bool]

    # --- exclusive holders

    @pytest.mark.parametrize("delete_old", [False, True])
    async def test_a_holder_whose_session_gets_another_id_stores_nothing_and_is_told(
        self, storage: KeyedStorage, delete_old: bool
    ) -> None:
        """Another holder can enter by the new id, and both would pay from the same balance."""
        self._need_locks()
        old_id = await stored_id(storage, balance=100)
        first = await load(storage, old_id)
        with pytest.raises(SessionLockError):
            async with exclusively(storage, first):
                new_id = await renewed(storage, old_id, delete_old=delete_old)
                second = await load(storage, new_id)
                async with exclusively(storage, second):
                    second["balance"] -= 10
                first["balance"] -= 10
        assert await readable(storage, new_id) == {"balance": 90}, "of two holders only one may succeed"

    async def test_a_holder_whose_session_ends_stores_nothing_and_is_told(self, storage: KeyedStorage) -> None:
        """A logout does not wait for the lock."""
        self._need_locks()
        session_id = await stored_id(storage, balance=100)
        session, leaving = await load(storage, session_id), await load(storage, session_id)
        with pytest.raises(SessionLockError):
            async with exclusively(storage, session):
                leaving.destroy()
                await storage.save(leaving)
                session["balance"] -= 10
        assert (await storage.read(session_id)).new, "a holder must not bring a destroyed session back"

    async def test_an_old_id_cannot_be_held(self, storage: KeyedStorage) -> None:
        """The newest data is not for the old id to read, and its lock is not the session's lock."""
        self._need_locks()
        old_id = await stored_id(storage, balance=100)
        new_id = await renewed(storage, old_id)
        session = await load(storage, old_id)
        with pytest.raises(SessionLockError):
            async with exclusively(storage, session):
                session["balance"] = 0
        assert await readable(storage, new_id) == {"balance": 100}, "a refused holder must store nothing"

    async def test_a_holder_can_change_the_id_itself(self, storage: KeyedStorage) -> None:
        """Its change is stored with the new id."""
        self._need_locks()
        session = await load(storage, await stored_id(storage, balance=100))
        async with exclusively(storage, session):
            session["balance"] -= 10
            session.regenerate_id(True)
        assert await readable(storage, session.id) == {"balance": 90}, "a holder may give the session another id"

    def _need_locks(self) -> None:
        if not self.locks:
            pytest.skip("locks = False: this storage does not offer exclusive_session")

    # --- long requests

    async def test_a_long_request_learns_of_a_logout_under_the_new_id(self, storage: KeyedStorage) -> None:
        """A stream must end with its session, whatever id the logout came with."""
        old_id = await stored_id(storage, user=5)
        stream = await load(storage, old_id)
        new_id = await renewed(storage, await renewed(storage, old_id))
        assert await still_stands(storage, stream), "a renewal is no end"
        leaving = await load(storage, new_id)
        leaving.destroy()
        await storage.save(leaving)
        assert not await still_stands(storage, stream), "a long request must learn that its session ended"

    async def test_a_long_request_keeps_its_session_alive_under_the_new_id(
        self, storage: KeyedStorage, clock: ManualClock
    ) -> None:
        """It uses the session each time that it asks."""
        old_id = await stored_id(storage, user=5)
        stream = await load(storage, old_id)
        new_id = await renewed(storage, old_id)
        assert storage.timeouts.idle is not None, "build the storage with its default timeouts"
        for _ in range(3):
            clock.advance(storage.timeouts.idle - 1)
            assert await still_stands(storage, stream), "a session that is used must not end"
        assert await readable(storage, new_id) == {"user": 5}, "the use must extend the session under its new id"

    @pytest.mark.parametrize("wrote_before", [False, True])
    async def test_a_long_request_finds_its_session_long_after_the_grace(
        self, storage: KeyedStorage, clock: ManualClock, wrote_before: bool
    ) -> None:
        """The snapshot of the old id has expired by then, and been removed."""
        old_id = await stored_id(storage, user=5)
        stream = await load(storage, old_id)
        new_id = await renewed(storage, old_id)
        if wrote_before:
            stream["early"] = True
            await storage.save(stream)
        clock.advance(storage.rotation_grace + RECLAIM_AFTER + 3600)
        with suppress(NotImplementedError):
            await storage.sweep()
        stream["late"] = True
        await storage.save(stream)
        assert not stream.destroyed, "the session lives on under its new id"
        assert (await storage.read(new_id)).get("late"), "a long request's change must reach the session"
        assert (await storage.read(old_id)).new, "after the grace the old id is no session"
        stream.destroy()
        await storage.save(stream)
        assert (await storage.read(new_id)).new, "a logout in a long request must end the session"

    async def test_a_long_request_never_reads_what_the_new_id_holds(self, storage: KeyedStorage) -> None:
        """Its id may have been planted; what it reads is what it could read before."""
        old_id = await stored_id(storage, user=5)
        stream = await load(storage, old_id)
        newer = await load(storage, await renewed(storage, old_id))
        newer["secret"] = 1
        await storage.save(newer)
        stream["mine"] = True
        await storage.save(stream)
        assert dict(stream) == {"user": 5, "mine": True}, "a save that was led on must not show the new data"
        stream.discard()
        assert dict(stream) == {"user": 5, "mine": True}, "discard() goes back to what was last saved"
        assert await readable(storage, newer.id) == {"user": 5, "secret": 1, "mine": True}, "the change must arrive"

    async def test_a_long_request_that_was_silent_for_too_long_is_told_that_its_session_ended(
        self, storage: KeyedStorage, clock: ManualClock
    ) -> None:
        """And nothing that it does brings the session back."""
        session_id = await stored_id(storage, user=5)
        stream = await load(storage, session_id)
        assert storage.timeouts.idle is not None, "build the storage with its default timeouts"
        clock.advance(storage.timeouts.idle)
        stream["late"] = True
        await storage.save(stream)
        assert stream.destroyed, "a session that has ended must stay ended"
        assert (await storage.read(session_id)).new, "a slow request must not revive a session that has ended"

    async def test_a_session_that_another_request_keeps_alive_is_not_taken_for_ended(
        self, storage: KeyedStorage, clock: ManualClock
    ) -> None:
        """A long request knows an old expiry, and has to ask for the newest."""
        session_id = await stored_id(storage, user=5)
        stream = await load(storage, session_id)
        assert storage.timeouts.idle is not None, "build the storage with its default timeouts"
        for _ in range(3):
            clock.advance(storage.timeouts.idle // 2)
            await load(storage, session_id)
        stream["late"] = True
        await storage.save(stream)
        assert await readable(storage, session_id) == {"user": 5, "late": True}, "the session was alive all the time"

    # --- a login by an id that was renewed

    async def test_a_login_by_a_renewed_id_takes_nothing_from_the_new_session(self, storage: KeyedStorage) -> None:
        """Whoever renewed the id may be the one who planted it: neither gets the other's data."""
        planted = await stored_id(storage, cart=1)
        login = await load(storage, planted)
        renewed_id = await renewed(storage, planted)
        other = await load(storage, renewed_id)
        other["secret"] = 1
        await storage.save(other)
        login["user"] = 5
        login.regenerate_id(True)
        new_id = await storage.save(login)
        assert new_id, "the login must get an id"
        assert await readable(storage, new_id) == {"cart": 1, "user": 5}, "nothing of the renewed one may come along"
        for worthless in (planted, renewed_id):
            assert (await storage.read(worthless)).new, "every earlier id must be worthless after a login"

    async def test_use_counts_from_the_load(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """A parallel request finds the session alive, and the handler sees the true expiry."""
        session_id = await stored_id(storage, user=5)
        idle = storage.timeouts.idle
        assert idle is not None, "build the storage with its default timeouts"
        clock.advance(idle - 5)
        first = await load(storage, session_id)
        assert first.expires_at == int(clock()) + idle, "expires_at must be true in the handler"
        clock.advance(10)
        await load(storage, session_id)
