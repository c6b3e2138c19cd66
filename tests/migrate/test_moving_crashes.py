"""A process dies between two calls to the storages while a session moves, and another process continues."""

from collections.abc import Callable

import pytest

from tests.migrate.moving import Move, act

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
        answer = await act(session, action, process)
        move.step = move.after = lambda: False
        answers.append(answer)

        await check_after(move, session_id, session.id, action, answer, call)
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
    seen = await move.seen(living)
    expected = before if before is not None else after
    retired = before is not None and after is not None and new_id != session_id
    if not retired:
        assert seen == (expected or {}) | {"next": True}, call
    assert await act(await move.process().read(living), "logout", move.process()) == "", call
    assert await move.seen(living) is None, call
    move.clock.advance(100)
    assert await move.seen(session_id) is None, call


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
