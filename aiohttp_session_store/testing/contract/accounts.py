"""The contract of sessions that are remembered, shortened, or whose login is confirmed."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from ...errors import SessionUsageError
from ...session.session import Session
from ...storages.base import KeyedStorage
from ..clock import ManualClock
from .owners import alive, logged_in, new_owner
from .sessions import load

DAY = 24 * 60 * 60


async def changed(storage: KeyedStorage, session_id: str, change: Callable[[Session], Any]) -> str:
    """Do *change* to a session, as a request does, and return the id that its browser has then."""
    session = await load(storage, session_id)
    change(session)
    return await storage.save(session) or session_id


class AccountContract:
    """A session can have limits of its own, and knows when its owner last proved who they are."""

    # --- remember me

    async def test_a_remembered_session_has_an_idle_limit_of_its_own(
        self, storage: KeyedStorage, clock: ManualClock
    ) -> None:
        """Other sessions end by the idle timeout of the storage."""
        owner, session = new_owner(), await storage.read(None)
        session.login(owner, remember=timedelta(days=30))
        remembered, other = await storage.save(session), await logged_in(storage, owner)
        assert remembered, "a login must send an id"
        clock.advance(20 * DAY)
        assert await alive(storage, remembered, other) == [True, False], (
            "20 idle days must not end a remembered session"
        )
        clock.advance(31 * DAY)
        assert await alive(storage, remembered) == [False], "31 idle days must end it"

    async def test_a_remembered_session_that_is_used_ends_with_its_lifetime(
        self, storage: KeyedStorage, clock: ManualClock
    ) -> None:
        """Used every 20 days, by requests that change it and requests that do not."""
        session = await storage.read(None)
        session.login(new_owner(), remember=timedelta(days=30))
        session_id = await storage.save(session)
        assert session_id, "a login must send an id"
        assert storage.timeouts.lifetime == 90 * DAY, "build the storage with its default timeouts"
        for number in range(4):
            clock.advance(20 * DAY)
            session = await load(storage, session_id)
            if number % 2:
                session["used"] = number
            await storage.save(session)
        clock.advance(10 * DAY)
        assert await alive(storage, session_id) == [False], "a remembered session must end with its lifetime"

    async def test_the_next_login_is_not_remembered(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """It says for itself."""
        owner, session = new_owner(), await storage.read(None)
        session.login(owner, remember=30 * DAY)
        session_id = await storage.save(session)
        assert session_id, "a login must send an id"
        session_id = await changed(storage, session_id, lambda session: session.login(owner, remember=False))
        clock.advance(20 * DAY)
        assert await alive(storage, session_id) == [False], "a login without remember must end by the idle timeout"

    # --- shorter

    async def test_a_shortened_session_ends_sooner(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """Also for requests that had loaded it before; nothing lengthens it again."""
        session_id = await logged_in(storage, new_owner())
        slow = await load(storage, session_id)
        await changed(storage, session_id, lambda session: session.shorten(idle_timeout=900))
        await changed(storage, session_id, lambda session: session.shorten(idle_timeout=3600))
        clock.advance(600)
        assert await alive(storage, session_id) == [True], "a use in time must keep it alive"
        clock.advance(899)
        assert await alive(storage, session_id) == [True], "a use must extend it"
        clock.advance(900)
        slow["late"] = True
        await storage.save(slow)
        assert slow.destroyed, "a slow request must learn that its session ended"
        assert await alive(storage, session_id) == [False], "900 idle seconds must end it"

    async def test_a_shortened_lifetime_is_not_extended_by_use(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """Nor by a change of the id."""
        session_id = await logged_in(storage, new_owner())
        session_id = await changed(storage, session_id, lambda session: session.shorten(lifetime=3600))
        clock.advance(1800)
        session_id = await changed(storage, session_id, lambda session: session.regenerate_id())
        clock.advance(1799)
        assert await alive(storage, session_id) == [True], "it must live until then"
        clock.advance(1)
        assert await alive(storage, session_id) == [False], "it must end an hour after the login"

    async def test_the_next_login_is_not_shortened(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """Also by what was asked for in the same request before."""
        owner = new_owner()
        session_id = await logged_in(storage, owner)
        await changed(storage, session_id, lambda session: session.shorten(idle_timeout=900))

        def log_in_again(session: Session) -> None:
            session.shorten(lifetime=60)
            session.login(owner)

        session_id = await changed(storage, session_id, log_in_again)
        clock.advance(DAY)
        assert await alive(storage, session_id) == [True], "a new login must start without limits of its own"

    async def test_a_login_can_be_shortened_at_once(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """Beside a change of a parallel request."""
        session = await storage.read(None)
        session.login(new_owner(), remember=30 * DAY)
        session.shorten(idle_timeout=timedelta(minutes=15))
        session_id = await storage.save(session)
        assert session_id, "a login must send an id"
        session, other = await load(storage, session_id), await load(storage, session_id)
        session.shorten(idle_timeout=60)
        other["a"] = 1
        await storage.save(other)
        await storage.save(session)
        assert session.expires_at == int(clock()) + 60, "the session must say when it ends"
        clock.advance(60)
        assert await alive(storage, session_id) == [False], "the shorter limit must win"

    # --- step-up

    async def test_a_confirmed_login_is_fresh_under_the_new_id_alone(
        self, storage: KeyedStorage, clock: ManualClock
    ) -> None:
        """A request with the old id goes on, and keeps its write."""
        session_id = await logged_in(storage, new_owner())
        clock.advance(3600)
        slow, session = await load(storage, session_id), await load(storage, session_id)
        assert not session.authenticated_within(600), "the login was an hour ago"
        session.confirm_login()
        new_id = await storage.save(session)
        assert new_id, "a confirmed login must have another id"
        assert new_id != session_id, "a confirmed login must have another id"
        slow["kept"] = True
        await storage.save(slow)
        assert not slow.authenticated_within(600), "the old id must not count as fresh"
        late = await load(storage, session_id)
        assert not late.authenticated_within(600), "the old id must not count as fresh in its grace"
        fresh = await load(storage, new_id)
        assert fresh["kept"] is True, "a parallel request must keep its write"
        assert fresh.created_at + 3600 == fresh.authenticated_at == int(clock()), "the lifetime must not change"
        clock.advance(600)
        assert (await load(storage, new_id)).authenticated_within(600), "ten minutes are ten minutes"
        clock.advance(1)
        assert not (await load(storage, new_id)).authenticated_within(600), "and no second longer"

    async def test_who_renewed_the_id_gets_nothing_of_a_confirmation(
        self, storage: KeyedStorage, clock: ManualClock
    ) -> None:
        """A thief of the id renews it; then the owner, who still has the old one, types the password."""
        session_id = await logged_in(storage, new_owner())
        clock.advance(3600)
        owner = await load(storage, session_id)
        stolen = await changed(storage, session_id, lambda session: session.regenerate_id())
        late = await load(storage, session_id)
        for session in (owner, late):
            session.confirm_login()
            session["kept"] = True
            await storage.save(session)
            assert not session.authenticated_within(600), "a confirmation by an old id must not count"
        thief = await load(storage, stolen)
        assert not thief.authenticated_within(600), "whoever renewed the id must not count as fresh"
        assert thief["kept"] is True, "the write must be kept"

    async def test_a_confirmation_does_not_change_which_login_is_the_oldest(
        self, storage: KeyedStorage, clock: ManualClock
    ) -> None:
        """Or two logins at once could end each other."""
        if not storage.has_index:
            pytest.skip("this storage has no index of owners")
        storage.max_sessions_per_owner, owner = 2, new_owner()
        first = await logged_in(storage, owner)
        clock.advance(10)
        second = await logged_in(storage, owner)
        clock.advance(10)
        first = await changed(storage, first, lambda session: session.confirm_login())
        assert (await storage.sessions_of(owner))[1].authenticated_at == int(clock()), "the list must say when"
        third = await logged_in(storage, owner)
        assert await alive(storage, first, second, third) == [False, True, True], "the newest logins must live"

    async def test_nobody_is_no_owner(self, storage: KeyedStorage) -> None:
        """So nothing can be confirmed or shortened, and nothing is fresh."""
        session = await storage.read(None)
        assert not session.authenticated_within(10**9), "nobody is logged in"
        for call in (session.confirm_login, lambda: session.shorten(idle_timeout=5)):
            with pytest.raises(SessionUsageError):
                call()
        assert not session.dirty, "a refused call must change nothing"
