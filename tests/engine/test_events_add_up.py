"""What observers are told adds up to what the storage holds, whatever requests do to the same sessions at once."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from aiohttp_session_store import Observer, Session, SessionEvent, SessionUsageError, StorageError
from aiohttp_session_store.record.format import decode_record
from aiohttp_session_store.session.session import start_over, state_of
from tests.engine.suspending import RacyStorage
from tests.records import live_keys

OWNERS = ("ada", "bob")
ACTS = ("set", "login", "login", "logout", "destroy", "renew", "replace", "confirm", "new", "revoke", "one", "adopt")


class Ledger(Observer):
    """Keeps accounts of the events.

    Attributes:
        alive: How many sessions live, by what was told.
        unheard: How many of those that were revoked had not been told of before: a login was under way, and its new
            record was ended before anybody was sent its id.
    """

    def __init__(self) -> None:
        self.alive = self.unheard = 0
        self.owner_of: dict[str, str | None] = {}
        self.told: list[SessionEvent] = []

    def on_event(self, event: SessionEvent) -> None:
        self.told.append(event)
        if event.kind in ("created", "rotated", "logged_in"):
            self.owner_of[str(event.key)] = event.owner
        if event.kind == "ended" and event.reason in ("revoked", "too_many"):
            self.unheard += event.key not in self.owner_of
        self.alive += {"created": 1, "ended": -1}.get(event.kind, 0)


async def act(storage: RacyStorage, session: Session, cookies: list[str]) -> None:
    """Do something at random to a session, and save it."""
    chance = storage.random
    what = chance.choice(ACTS)
    await storage.pause()
    try:
        if what == "set":
            session[chance.choice("xyz")] = chance.random()
        elif what == "login":
            session.login(chance.choice(OWNERS))
        elif what in ("logout", "destroy"):
            getattr(session, what)()
            if what == "logout" and chance.random() < 0.5:
                session["bye"] = True
        elif what in ("renew", "replace"):
            session.regenerate_id(what == "replace")
        elif what == "confirm" and session.owner is not None:
            session.confirm_login()
        elif what == "new":  # as new_session does
            fresh = state_of(await storage.read(None))
            fresh.replaces = state_of(session)
            start_over(session, fresh)
            session["fresh"] = True
        elif what == "revoke":
            await storage.end_sessions(chance.choice(OWNERS))
        elif what == "one":
            await storage.end_session(chance.choice(OWNERS), session.key)
        elif what == "adopt" and session.owner is None:
            await storage.adopt(session, chance.choice(OWNERS))
    except SessionUsageError:
        pass  # it was destroyed meanwhile
    value = await storage.save(session)
    if value:
        cookies.append(value)


async def lives(storage: RacyStorage, rounds: int) -> None:
    """Let some visitors send requests, several at once with the same and with old cookies."""
    cookies: list[str] = []
    for _ in range(rounds):
        known: list[Any] = [None, *cookies[-6:]]
        sessions = []
        for _ in range(storage.random.randint(1, 6)):
            with suppress(StorageError):
                sessions.append(await storage.read(storage.random.choice(known)))
        done = await asyncio.gather(*(act(storage, one, cookies) for one in sessions), return_exceptions=True)
        for error in done:
            if isinstance(error, BaseException) and not isinstance(error, StorageError):
                raise error


@pytest.mark.parametrize("most", [None, 2])
async def test_created_minus_ended_is_what_is_alive_and_every_owner_is_right(most: int | None) -> None:
    kinds: set[tuple[str, str | None]] = set()
    for seed in range(30):
        storage, ledger = RacyStorage(seed, max_sessions_per_owner=most), Ledger()
        with storage.observing.telling(ledger):
            await lives(storage, 12)

        alive = live_keys(storage)
        assert ledger.alive <= len(alive) <= ledger.alive + ledger.unheard, seed
        for key in alive:
            record: Any = decode_record(storage._records[key].data)
            owner = None if record.head is None else record.head.owner
            assert ledger.owner_of.get(key, "not told") in (owner, None), seed
        kinds |= {(event.kind, event.reason) for event in ledger.told}
    expected = {
        *(("rotated", reason) for reason in ("login", "renewed", "replaced", "confirmed")),
        *(("ended", reason) for reason in ("logout", "revoked", "replaced")),
        *(("created", None), ("logged_in", None), ("merged", None)),
    }
    assert kinds == (expected if most is None else expected | {("ended", "too_many")})


async def test_of_a_storage_that_fails_at_random_nothing_is_told_that_is_not_true() -> None:
    """Writes that fail were not carried out.  What was taken back is not told either."""
    for seed in range(30):
        storage, ledger = RacyStorage(seed), Ledger()
        with storage.observing.telling(ledger):
            await lives(storage, 4)
            storage.fail = lambda verb, key: storage.random.random() < 0.1  # noqa: B023
            await lives(storage, 8)

        told_ends = [event.key for event in ledger.told if event.kind == "ended"]
        assert len(told_ends) == len(set(told_ends)), (seed, "an end was told twice")
        alive = set(live_keys(storage))
        unsent = alive - ledger.owner_of.keys()  # new records that could not be taken back: nobody has their ids
        assert ledger.alive <= len(alive) - len(unsent) <= ledger.alive + ledger.unheard, seed
