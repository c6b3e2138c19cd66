"""The contract of the index of owners, and of the logins, lists and endings that stand on it."""

import asyncio
import secrets
from typing import Any, ClassVar

import pytest

from ...engine.verbs import RECLAIM_AFTER
from ...record.head import owner_key
from ...session.session import Session
from ...storages.base import KeyedStorage
from ..clock import ManualClock
from .sessions import load, readable, stored_id

ROUNDS = 10


def new_owner() -> str:
    """Return an owner that no other test has: tests may share a server."""
    return f"owner {secrets.token_hex(8)}"


async def logged_in(storage: KeyedStorage, owner: str, **data: Any) -> str:
    """Log *owner* in on a new device, and return the session id."""
    session = await storage.read(None)
    session.update(data)
    session.login(owner)
    session_id = await storage.save(session)
    assert session_id, "a login must send an id"
    return session_id


async def alive(storage: KeyedStorage, *ids: str) -> list[bool]:
    """Return which of the sessions are alive."""
    return [not (await storage.read(session_id)).new for session_id in ids]


class OwnerContract:
    """An index shows every session of its owner, and an ending ends them all."""

    owners: ClassVar[bool] = True

    @pytest.fixture(autouse=True)
    def _need_index(self, request: pytest.FixtureRequest) -> None:
        if not self.owners and hasattr(OwnerContract, request.function.__name__):
            pytest.skip("owners = False: this storage has no index of owners")

    # --- the verbs

    async def test_a_linked_key_is_shown_until_it_is_unlinked(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """Both calls may be repeated, and other owners are not touched."""
        one, other, until = owner_key(new_owner()), owner_key(new_owner()), int(clock()) + 3600
        keys = [secrets.token_hex(32) for _ in range(3)]
        for key in (*keys, keys[0]):
            await storage.link(one, key, until)
        await storage.link(other, keys[1], until)
        assert sorted(await storage.linked(one)) == sorted(keys), "linked() must show each linked key once"
        for _ in range(2):
            await storage.unlink(one, keys[1])
        assert sorted(await storage.linked(one)) == sorted([keys[0], keys[2]]), "an unlinked key must not be shown"
        assert list(await storage.linked(other)) == [keys[1]], "other owners must not be touched"
        await storage.unlink(new_owner(), keys[0])
        assert not list(await storage.linked(owner_key(new_owner()))), "an unknown owner has no keys"

    async def test_parallel_links_and_unlinks_lose_nothing(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """An index that is read, changed and written back would."""
        owner, until = owner_key(new_owner()), int(clock()) + 3600
        gone, kept, new = ([secrets.token_hex(32) for _ in range(10)] for _ in range(3))
        for key in (*gone, *kept):
            await storage.link(owner, key, until)
        await asyncio.gather(
            *(storage.unlink(owner, key) for key in gone), *(storage.link(owner, key, until) for key in new)
        )
        assert sorted(await storage.linked(owner)) == sorted([*kept, *new]), "parallel calls must not undo each other"

    # --- login

    async def test_a_login_is_entered_and_moves_the_session(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """One entry, none for the id before; the cart stays; the old id is worthless."""
        owner, old_id = new_owner(), await stored_id(storage, cart=[1])
        session = await load(storage, old_id)
        clock.advance(100)
        session.login(owner, label="Firefox on Linux")
        new_id = await storage.save(session)
        assert new_id, "a login must send an id"
        assert new_id != old_id, "a login must change the id"
        assert (await storage.read(old_id)).new, "the old id must be worthless after a login"
        session = await load(storage, new_id)
        assert (session.owner, dict(session)) == (owner, {"cart": [1]}), "a login must note the owner and keep the cart"
        assert session.authenticated_at == session.created_at == int(clock()), "a login must start the lifetime anew"
        assert list(await storage.linked(owner_key(owner))) == [session.key], "there must be one entry, of the new id"
        (info,) = await storage.sessions_of(owner)
        assert (info.key, info.label, info.owner) == (session.key, "Firefox on Linux", owner), "the list must say so"

    async def test_nothing_of_another_owner_is_left(self, storage: KeyedStorage) -> None:
        """Neither what was stored, nor what this request has set; and the other one's session is over."""
        first, second = new_owner(), new_owner()
        session = await load(storage, await logged_in(storage, first, secret=1))
        session["mine"] = 2
        session.flash("notice", "for the first")
        session.login(second)
        session["own"] = 3
        new_id = await storage.save(session)
        assert new_id, "a login must send an id"
        assert await readable(storage, new_id) == {"own": 3}, "nothing of another owner may be left"
        assert await storage.sessions_of(first) == [], "the other owner's session must be over"
        assert len(await storage.sessions_of(second)) == 1, "the new owner has one session"

    async def test_a_renewal_carries_the_owner_on(self, storage: KeyedStorage) -> None:
        """The index shows the new id alone."""
        owner = new_owner()
        session = await load(storage, await logged_in(storage, owner))
        for delete_old in (False, True):
            session.regenerate_id(delete_old)
            new_id = await storage.save(session)
            assert new_id, "a regenerated session must send its new id"
            assert (await load(storage, new_id)).owner == owner, "a new id must not lose the owner"
            assert list(await storage.linked(owner_key(owner))) == [session.key], "the index must show the new id alone"

    async def test_a_logout_leaves_no_entry_and_goes_on_anonymously(self, storage: KeyedStorage) -> None:
        """So that a flash message can say goodbye."""
        owner = new_owner()
        old_id = await logged_in(storage, owner, secret=1)
        session = await load(storage, old_id)
        session.logout()
        session.flash("notice", "Goodbye.")
        new_id = await storage.save(session)
        assert new_id, "the goodbye must have a session"
        assert (await storage.read(old_id)).new, "a logout must end the session"
        following = await load(storage, new_id)
        assert (following.owner, dict(following)) == (None, {"notice": "Goodbye."}), "a new session must be anonymous"
        assert not list(await storage.linked(owner_key(owner))), "a logout must leave no entry"

    async def test_clear_leaves_the_owner(self, storage: KeyedStorage) -> None:
        """It is about data only."""
        owner = new_owner()
        session_id = await logged_in(storage, owner, cart=[1])
        session = await load(storage, session_id)
        session.clear()
        await storage.save(session)
        session = await load(storage, session_id)
        assert (session.owner, dict(session)) == (owner, {}), "clear() must leave the owner"

    # --- listing

    async def test_the_list_shows_what_is_alive_and_forgets_the_rest(
        self, storage: KeyedStorage, clock: ManualClock
    ) -> None:
        """Three live sessions, the newest login first; two that expired, and one logged out."""
        owner = new_owner()
        assert storage.timeouts.idle is not None, "build the storage with its default timeouts"
        for _ in range(2):
            await logged_in(storage, owner)
        clock.advance(storage.timeouts.idle)
        ids = []
        for _ in range(4):
            ids.append(await logged_in(storage, owner))
            clock.advance(10)
        leaving = await load(storage, ids.pop())
        leaving.logout()
        await storage.save(leaving)
        found = await storage.sessions_of(owner)
        keys = [(await load(storage, session_id)).key for session_id in ids]
        assert [info.key for info in found] == keys[::-1], "the newest login must come first, and the dead not at all"
        assert sorted(await storage.linked(owner_key(owner))) == sorted(keys), "dead entries must be gone"

    async def test_the_list_says_when_a_session_was_last_used(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """Right to a tenth of the idle timeout, and without a write at each request."""
        owner = new_owner()
        session_id = await logged_in(storage, owner)
        assert storage.timeouts.idle is not None, "build the storage with its default timeouts"
        clock.advance(storage.timeouts.idle // 2)
        await load(storage, session_id)
        (info,) = await storage.sessions_of(owner)
        assert abs(info.last_used_at - int(clock())) <= storage.timeouts.idle // 10, "the last use must be known"

    # --- ending

    async def test_ending_all_keeps_the_one_that_is_to_stay(self, storage: KeyedStorage) -> None:
        """Sessions of other owners go on, too; a slow request of an ended one brings nothing back."""
        owner, other = new_owner(), new_owner()
        ids = [await logged_in(storage, owner) for _ in range(4)]
        foreign = await logged_in(storage, other)
        slow, own = await load(storage, ids[0]), await load(storage, ids[3])
        assert await storage.end_sessions(owner, keep=own) == 3, "the number must be that of the ended sessions"
        slow["late"] = True
        await storage.save(slow)
        assert slow.destroyed, "a slow request must learn that its session ended"
        assert await alive(storage, *ids, foreign) == [False, False, False, True, True], "exactly the others must end"
        assert len(list(await storage.linked(owner_key(owner)))) == 1, "only the kept one may be entered"
        assert await storage.end_sessions(owner) == 1, "without keep, all must end"
        assert await alive(storage, ids[3]) == [False], "without keep, all must end"

    async def test_an_ending_counts_no_session_that_had_expired(
        self, storage: KeyedStorage, clock: ManualClock
    ) -> None:
        """Its entry may still be there."""
        owner = new_owner()
        assert storage.timeouts.idle is not None, "build the storage with its default timeouts"
        await logged_in(storage, owner)
        clock.advance(storage.timeouts.idle)
        await logged_in(storage, owner)
        assert await storage.end_sessions(owner) == 1, "a session that had expired was not ended"

    @pytest.mark.parametrize("change", ["login", "regenerate", "renew", "renewed elsewhere"])
    @pytest.mark.parametrize("first", ["change", "end"])
    async def test_the_kept_session_may_change_its_id(self, storage: KeyedStorage, change: str, first: str) -> None:
        """In the request that ends the others, or in another tab."""
        owner = new_owner()
        own_id, other_id = await logged_in(storage, owner), await logged_in(storage, owner)
        session = await load(storage, own_id)

        async def change_id() -> None:
            if change == "login":
                session.login(owner)
            elif change == "regenerate":
                session.regenerate_id(True)
            elif change == "renew":
                session.regenerate_id()
            else:
                tab = await load(storage, own_id)
                tab.regenerate_id()
                await storage.save(tab)

        if first == "change":
            await change_id()
        assert await storage.end_sessions(owner, keep=session) == 1, "one other session must end"
        if first == "end":
            await change_id()
        await storage.save(session)
        assert not session.destroyed, "the session that asks must stay"
        assert len(await storage.sessions_of(owner)) == 1, "one session must be left"
        assert await alive(storage, other_id) == [False], "the other one must end"

    async def test_one_session_is_ended_by_the_key_that_was_listed(self, storage: KeyedStorage) -> None:
        """Also if its id was renewed since; not by another owner."""
        owner, other = new_owner(), new_owner()
        session_id, foreign = await logged_in(storage, owner), await logged_in(storage, other)
        (info,) = await storage.sessions_of(owner)
        (other_info,) = await storage.sessions_of(other)
        assert not await storage.end_session(owner, other_info.key), "another owner's session is not there"
        session = await load(storage, session_id)
        session.regenerate_id()
        new_id = await storage.save(session)
        assert new_id, "a regenerated session must send its new id"
        assert await storage.end_session(owner, info.key), "a key shown before a renewal must still work"
        assert not await storage.end_session(owner, info.key), "an ended session is not there"
        assert await alive(storage, session_id, new_id, foreign) == [False, False, True], "exactly that one must end"
        with pytest.raises(TypeError):
            await storage.end_session(owner, None)  # type: ignore[arg-type]

    @pytest.mark.parametrize("form", ["", "{}\n", "{}\0", "\ud800", "../../{}", "{}/{}", "owner:{}", "x" * 100_000])
    async def test_a_key_that_was_made_up_is_not_there(self, storage: KeyedStorage, form: str) -> None:
        """A key comes from a form, and can be any text: a path, or the name of something else on a server."""
        owner = new_owner()
        session_id = await logged_in(storage, owner)
        made_up = form.replace("{}", owner_key(owner))
        assert not await storage.end_session(owner, made_up), "a key that was made up is not there"
        assert await alive(storage, session_id) == [True], "a key that was made up must end nothing"

    async def test_ending_in_a_race_with_logins_and_renewals(self, storage: KeyedStorage) -> None:
        """What was answered before the ending began is over; what came meanwhile is in the index."""
        for _ in range(ROUNDS):
            owner = new_owner()
            before = [await logged_in(storage, owner) for _ in range(3)]
            renewing = [await load(storage, session_id) for session_id in before]
            for session in renewing:
                session.regenerate_id()

            async def save(session: Session) -> str | None:
                return await storage.save(session)

            ended, *sent = await asyncio.gather(
                storage.end_sessions(owner),
                *map(save, renewing),
                *(logged_in(storage, owner) for _ in range(3)),
                return_exceptions=True,
            )
            assert isinstance(ended, int), f"an ending must not fail in a race: {ended!r}"
            assert await alive(storage, *before) == [False] * 3, "an ended session must stay ended"
            shown = {info.key for info in await storage.sessions_of(owner)}
            for session_id in sent:
                if isinstance(session_id, str) and session_id:
                    session = await storage.read(session_id)
                    assert session.new or session.key in shown, "a live session must be in the index"
            assert not (await alive(storage, *[str(one) for one in sent[:3]])).count(True), "a renewal must not escape"

    async def test_another_owner_who_logs_in_over_a_session_is_not_ended(self, storage: KeyedStorage) -> None:
        """42's sessions are ended while 7 logs in over one of them."""
        for _ in range(ROUNDS):
            owner, other = new_owner(), new_owner()
            session = await load(storage, await logged_in(storage, owner))
            session.login(other)
            _, new_id = await asyncio.gather(storage.end_sessions(owner), storage.save(session))
            assert new_id, "a login must not depend on the session of another owner"
            assert await alive(storage, new_id) == [True], "another owner's session must not end"
            assert await storage.sessions_of(owner) == [], "the owner's own session must be over"

    async def test_another_owner_logs_in_over_a_session_that_has_just_ended(self, storage: KeyedStorage) -> None:
        """The request has loaded 42's session, which ends before 7's login is saved."""
        owner, other = new_owner(), new_owner()
        session = await load(storage, await logged_in(storage, owner))
        session["of"] = "the owner before"
        session.login(other)
        session["of"] = "the one who logs in"
        await storage.end_sessions(owner)

        new_id = await storage.save(session)

        assert new_id, "a login must not depend on the session of another owner"
        found = await load(storage, new_id)
        assert found.owner == session.owner == other, "the session must belong to whoever logs in"
        assert dict(found) == {"of": "the one who logs in"}, "nothing of another owner may be read"
        assert [info.key for info in await storage.sessions_of(other)] == [session.key], "the index must show it"
        session["later"] = 1
        await storage.save(session)
        assert dict(await load(storage, new_id)) == {"of": "the one who logs in", "later": 1}, "it must go on"

    # --- the limit

    async def test_of_many_logins_at_once_exactly_as_many_live_as_may(self, storage: KeyedStorage) -> None:
        """And two logins never end each other."""
        storage.max_sessions_per_owner = 3
        for _ in range(ROUNDS):
            owner = new_owner()
            ids = await asyncio.gather(*(logged_in(storage, owner) for _ in range(20)))
            assert (await alive(storage, *ids)).count(True) == 3, "exactly as many sessions must live as may"
            assert len(await storage.sessions_of(owner)) == 3, "the index must show them all"

    async def test_the_newest_logins_live(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """A session whose id changes is still one session."""
        storage.max_sessions_per_owner = 2
        owner, ids = new_owner(), list[str]()
        for _ in range(4):
            session = await load(storage, await logged_in(storage, owner))
            session.regenerate_id()
            new_id = await storage.save(session)
            assert new_id, "a regenerated session must send its new id"
            ids.append(new_id)
            clock.advance(10)
        assert await alive(storage, *ids) == [False, False, True, True], "the newest logins must live"

    # --- the index does not grow

    async def test_entries_of_old_logins_do_not_stay_for_ever(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """A login each week, never a logout, and nobody ever looks at the list."""
        owner = new_owner()
        assert storage.timeouts.idle is not None, "build the storage with its default timeouts"
        for _ in range(60):
            await logged_in(storage, owner)
            clock.advance(7 * 24 * 3600)
        clock.advance(RECLAIM_AFTER)
        await storage.sweep()
        bound = 4 * storage.timeouts.idle // (7 * 24 * 3600) + 2
        assert len(await storage.sessions_of(owner)) <= bound, "the list must show live sessions only"
