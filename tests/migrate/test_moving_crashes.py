"""A process dies between two calls to the storages while a session moves, and another process continues."""

from collections.abc import Callable

import pytest

from aiohttp_session_store.storages.base import RECLAIM_AFTER
from tests.migrate.moving import Move, act, ask, save

LIMIT = 40


def dies_at(call: int) -> Callable[[], bool]:
    """Return a function that returns true from its call number *call* on: the process is dead."""
    calls = 0

    def dead() -> bool:
        nonlocal calls
        calls += 1
        return calls >= call

    return dead


@pytest.mark.parametrize("when", ["before the call", "its answer is lost"])
@pytest.mark.parametrize("action", ["a", "touch", "rotate", "login", "logout"])
async def test_after_a_crash_at_any_call_the_session_is_in_its_old_or_new_state_and_usable(
    action: str, when: str
) -> None:
    answers = []
    for call in range(1, LIMIT):
        move = Move(call, longest_pause=0)
        session_id = await move.begin()
        process = move.process()
        session = await process.read(session_id)
        move.clock.advance(2 * 24 * 60 * 60)
        dead = dies_at(call)
        if when == "before the call":
            move.step = dead
        else:
            move.after = dead
        ask(session, action)
        asked_id = session.id  # after a failure, it is another one
        answer = await save(session, process)
        move.step = move.after = lambda: False
        answers.append(answer)

        await check_after(move, session_id, asked_id, action, answer, call)
    assert answers[0] in ("failed", None)
    assert answers[-1] != "failed", "the last run must succeed: LIMIT is too low"


async def check_after(move: Move, session_id: str, new_id: str, action: str, answer: str | None, call: int) -> None:
    before = await move.seen(session_id)
    after = await move.seen(new_id) if new_id != session_id else before
    if action == "logout":
        assert before in (None, {"user": 5}), call
        if answer != "failed":
            assert before is None, call
            assert move.live_keys() == set(), call
        if before is None:
            return
    elif action == "a":
        assert before in ({"user": 5}, {"user": 5, "a": True}), call
        if answer != "failed":
            assert before == {"user": 5, "a": True}, call
    else:
        assert {"user": 5} in (before, after), call
    # the next process can write, and its logout is final
    living = session_id if before is not None else new_id
    session = await move.process().read(living)
    assert await act(session, "next", move.process()) is None, call
    expected = (before or after or {}) | {"next": True}
    moved = new_id != session_id and await move.seen(new_id) == expected
    assert moved or await move.seen(living) == expected, call
    assert await act(await move.process().read(living), "logout", move.process()) == "", call
    assert await move.seen(living) is None, call
    assert not moved or await move.seen(new_id) is None, call
    move.clock.advance(100)
    assert await move.seen(session_id) is None, call


def once_at(call: int) -> Callable[[], bool]:
    """Return a function that returns true at its call number *call* only."""
    calls = 0

    def failing() -> bool:
        nonlocal calls
        calls += 1
        return calls == call

    return failing


@pytest.mark.parametrize("when", ["a call fails", "its answer is lost"])
@pytest.mark.parametrize("action", ["a", "touch", "rotate", "login", "logout"])
async def test_after_one_failure_at_any_call_the_same_request_can_save_again_and_leaves_no_orphan(
    action: str, when: str
) -> None:
    failed = 0
    for call in range(1, LIMIT):
        move = Move(call, longest_pause=0)
        session_id = await move.begin()
        process = move.process()
        session = await process.read(session_id)
        move.clock.advance(2 * 24 * 60 * 60)
        ask(session, action)
        if when == "a call fails":
            move.step = once_at(call)
        else:
            move.after = once_at(call)
        answer = await save(session, process)
        if answer == "failed":
            failed += 1
            answer = await save(session, process)
        move.step = move.after = lambda: False

        seen = [await move.seen(session_id), await move.seen(session.id)]
        same = {"user": 5}
        changed = {"user": 5, "a": True}
        data = {"a": [changed] * 2, "touch": [same] * 2, "rotate": [same] * 2, "login": [None, same]}
        assert seen == data.get(action, [None, None]), call
        assert answer == {"logout": "", "rotate": session.id, "login": session.id}.get(action), call
        move.clock.advance(process.rotation_grace + RECLAIM_AFTER)
        await process.sweep()
        assert move.live_keys() == (set() if action == "logout" else {session.key}), call
    assert failed or action == "logout", "if the mark of a logout cannot be written, the record is deleted"


async def after_a_death(call: int, action: str) -> tuple[Move, str]:
    """Let a process die at *call* of *action*; return the storages that it leaves behind and the session's id."""
    move = Move(call, longest_pause=0)
    session_id = await move.begin()
    process = move.process()
    session = await process.read(session_id)
    move.step = dies_at(call)
    await act(session, action, process)
    move.step = lambda: False
    return move, session_id


async def test_leftovers_of_a_crash_expire_with_the_session() -> None:
    for call in range(1, LIMIT):
        move, _ = await after_a_death(call, "a")
        move.clock.advance(15 * 24 * 60 * 60)
        await move.process().sweep()

        assert len(move.new.record_keys()) == len(move.old.record_keys()) == 0, call


@pytest.mark.parametrize("action", ["a", "touch"])
async def test_a_crash_during_the_move_does_not_shorten_the_session(action: str) -> None:
    """The mark and the copy are not swept before the session expires."""
    for call in range(1, LIMIT):
        move, session_id = await after_a_death(call, action)
        move.clock.advance(13 * 24 * 60 * 60)
        await move.process().sweep()

        assert await move.seen(session_id) in ({"user": 5}, {"user": 5, "a": True}), call


async def test_a_write_succeeds_even_if_its_mark_cannot_be_removed(caplog: pytest.LogCaptureFixture) -> None:
    move = Move(0)
    session_id = await move.begin()
    process = move.process()
    session = await process.read(session_id)
    move.old.fail = lambda verb, key: verb == "delete"

    assert await act(session, "a", process) is None
    assert "a mark of it stays in the old storage" in caplog.text
    move.old.fail = lambda verb, key: False
    assert await move.seen(session_id) == {"user": 5, "a": True}


@pytest.mark.parametrize("actions", [["login"], ["rotate", "logout"], ["logout"]], ids="-".join)
async def test_a_leftover_mark_brings_nothing_back(actions: list[str]) -> None:
    """Not even later, when the new storage has no record of the session any more."""
    move = Move(0, longest_pause=0)
    session_id = newest = await move.begin()
    process = move.process()
    move.old.fail = lambda verb, key: verb == "delete"
    await act(await process.read(session_id), "a", process)
    move.old.fail = lambda verb, key: False
    for action in actions:
        newest = await act(await process.read(newest), action, process) or newest
    move.clock.advance(1000)
    await process.sweep()

    assert await move.seen(session_id) is None
    assert (await move.seen(newest) is None) == ("logout" in actions)


async def test_a_process_that_does_not_move_sessions_finishes_an_interrupted_move() -> None:
    for call in range(1, LIMIT):
        move, session_id = await after_a_death(call, "a")
        staying = move.process(move=False)

        assert await act(await staying.read(session_id), "next", staying) is None, call
        assert (await move.seen(session_id) or {})["next"] is True, call
