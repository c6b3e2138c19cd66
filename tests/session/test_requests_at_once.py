"""Requests that save at once have the result that they would have one after another, in some order.

What the orders come to is predicted by the plain model.  The requests interleave at random, in one process and in two.
"""

import asyncio
import itertools
from typing import Any, NamedTuple

import pytest

from aiohttp_session_store import Session
from aiohttp_session_store.session.session import state_of
from aiohttp_session_store.testing import ManualClock
from tests.engine.suspending import RacyStorage
from tests.records import live_keys
from tests.session.model import Model
from tests.session.modelled import GRACE, IDLE, LIFETIME, Live, Request, expiry

ACTIONS = ["write", "write and renew", "log in", "log out", "begin anew", "ask"]
TRIPLES = list(itertools.combinations_with_replacement(ACTIONS, 3))
SEEDS = range(12)

# Measuring coverage would triple the time of these tests, and they reach no line that other tests do not reach.
pytestmark = pytest.mark.no_cover


class Seen(NamedTuple):
    """What can be seen when all have saved: of each request, and by each id."""

    answers: tuple[str | None, ...]
    destroyed: tuple[bool, ...]
    by_id: tuple[tuple[str, Any], ...]
    live: int


def predicted(actions: tuple[str, ...], order: tuple[int, ...], now: int, *, renewed: bool) -> list[Seen]:
    """Return what is seen if the requests save in *order*, and what is seen when each has saved once more."""
    model = Model()
    expires_at = expiry(now, now, IDLE)
    model.records["old"] = Live({"user": 5}, [], now, now, IDLE, expires_at, model.next_version())
    requests = [model.load("old", now) for _ in actions]
    if renewed:
        first = model.load("old", now)
        assert first is not None
        first.set("renewed", 1)
        first.regenerate("renewed", delete_old=False, renew=False)
        model.save(first, now)
    for number, action in enumerate(actions):
        request = requests[number]
        assert request is not None
        if action == "begin anew":
            anew = Request(f"id {number}", {}, {}, {}, set(), created_at=now, expires_at=expires_at)
            anew.replaces, requests[number] = request, anew
            anew.set("fresh", number)
        elif action == "log out":
            request.destroy()
        else:
            if action != "ask":
                request.set(f"key {number}", number)
            if action in ("write and renew", "log in"):
                request.regenerate(f"id {number}", delete_old=action == "log in", renew=False)

    seen = []
    for turn, turns in enumerate((order, range(len(actions)))):
        answers: dict[int, str | None] = {}
        for number in turns:
            request = requests[number]
            assert request is not None
            if turn and not request.destroyed:
                request.set("again", number)
            answers[number] = model.save(request, now, confirm=not turn and actions[number] == "ask")
        seen.append(
            Seen(
                tuple(answers[number] for number in range(len(actions))),
                tuple(bool(request and request.destroyed) for request in requests),
                tuple(
                    (known, found and found.data)
                    for known in ids(actions)
                    if (found := model.readable(known, now)) or True
                ),
                sum(isinstance(record, Live) for record in model.records.values()),
            )
        )
    return seen


def ids(actions: tuple[str, ...]) -> list[str]:
    return ["old", "renewed", *(f"id {number}" for number in range(len(actions)))]


async def observed(actions: tuple[str, ...], seed: int, *, processes: int, renewed: bool) -> list[Seen]:
    clock = ManualClock()
    storages = [
        RacyStorage(seed * 10 + number, clock=clock, idle_timeout=IDLE, lifetime=LIFETIME, rotation_grace=GRACE)
        for number in range(processes)
    ]
    for storage in storages:
        storage._records = storages[0]._records
    names: dict[str, str] = {}

    def storage_of(number: int) -> RacyStorage:
        return storages[number % processes]

    first = await storages[0].read(None)
    first["user"] = 5
    old_id = await storages[0].save(first) or ""
    names[old_id] = "old"
    sessions = [await storage_of(number).read(old_id) for number in range(len(actions))]
    if renewed:
        first["renewed"] = 1
        first.regenerate_id()
        names[await storages[0].save(first) or ""] = "renewed"
    for number, action in enumerate(actions):
        sessions[number] = await begin(sessions[number], action, number, storage_of(number))
        names.setdefault(sessions[number].id, f"id {number}")

    async def save(number: int) -> str | None:
        await storages[0].pause()
        return await storage_of(number).save(sessions[number])

    seen = []
    for turn in range(2):
        if not turn:
            answers = await asyncio.gather(*map(save, range(len(actions))))
        else:
            answers = [await again(sessions[number], number, storage_of(number)) for number in range(len(actions))]
        by_id = []
        for known in ids(actions):
            value = next((value for value, name in names.items() if name == known), None)
            session = await storages[0].read(value)
            by_id.append((known, None if session.new else dict(session)))
        destroyed = tuple(session.destroyed for session in sessions)
        told = tuple(answer and names[answer] for answer in answers)
        seen.append(Seen(told, destroyed, tuple(by_id), len(live_keys(storages[0]))))
    return seen


async def begin(session: Session, action: str, number: int, storage: RacyStorage) -> Session:
    state = state_of(session)
    if action == "begin anew":
        fresh = await storage.read(None)
        state_of(fresh).replaces = state
        fresh["fresh"] = number
        return fresh
    if action == "log out":
        session.destroy()
    elif action == "ask":
        state.confirm = True
    else:
        session[f"key {number}"] = number
        if action != "write":
            session.regenerate_id(action == "log in")
    return session


async def again(session: Session, number: int, storage: RacyStorage) -> str | None:
    state_of(session).confirm = False
    if not session.destroyed:
        session["again"] = number
    return await storage.save(session)


@pytest.mark.parametrize("renewed", [False, True], ids=["", "after a renewal"])
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("actions", TRIPLES, ids="-".join)
async def test_requests_at_once_are_as_good_as_one_after_another(
    actions: tuple[str, ...], processes: int, renewed: bool
) -> None:
    now = int(ManualClock()())
    possible = [predicted(actions, order, now, renewed=renewed) for order in itertools.permutations(range(3))]
    for seed in SEEDS:
        seen = await observed(actions, seed, processes=processes, renewed=renewed)
        assert seen in possible, (seed, seen, possible)
