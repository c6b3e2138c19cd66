"""Requests that race while their session moves, in several processes: thousands of seeded interleavings."""

import asyncio
import itertools
from datetime import timedelta

import pytest

from aiohttp_session_store.migrate import MigratingStorage
from aiohttp_session_store.state import key_of
from tests.migrate.moving import Move, act

ACTIONS = ["logout", "rotate", "login", "touch", "a", "b"]
PAIRS = list(itertools.combinations_with_replacement(ACTIONS, 2))
SEEDS = range(40)


async def race(move: Move, processes: list[MigratingStorage], session_id: str, actions: list[str]) -> list[str | None]:
    """Load the session in each process, then save all at once; return the cookie values."""
    sessions = [await process.read(session_id) for process in processes]
    move.clock.advance(timedelta(days=2))  # so that a touch is due

    async def later(number: int) -> str | None:
        await move.new.pause()
        return await act(sessions[number], actions[number], processes[number])

    return await asyncio.gather(*map(later, range(len(actions))))


@pytest.mark.parametrize("overlap", [False, True], ids=["all move", "some processes do not move yet"])
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
async def test_two_processes_lose_no_write_and_bring_back_no_session(pair: tuple[str, str], overlap: bool) -> None:
    for seed in SEEDS:
        move = Move(seed)
        session_id = await move.begin()
        processes = [move.process(), move.process(move=not overlap)]
        cookies = await race(move, processes, session_id, list(pair))
        ids = {session_id, *(cookie for cookie in cookies if cookie)}

        await check(move, ids, pair, cookies, seed)


@pytest.mark.parametrize("logout", [False, True])
async def test_many_requests_in_three_processes(logout: bool) -> None:
    actions = ["a", "b", "touch", "rotate", "c", "touch", *(["logout"] if logout else [])]
    for seed in range(300):
        move = Move(seed)
        session_id = await move.begin()
        pool = [move.process(), move.process(), move.process(move=False)]
        move.new.random.shuffle(actions)
        processes = [pool[number % 3] for number in range(len(actions))]
        cookies = await race(move, processes, session_id, actions)

        await check(move, {session_id, *(cookie for cookie in cookies if cookie)}, actions, cookies, seed)


async def check(
    move: Move, ids: set[str], actions: list[str] | tuple[str, ...], cookies: list[str | None], seed: int
) -> None:
    """Hold the outcome against the promises; a login beside a write may drop it, and beside a logout lives or not."""
    assert "failed" not in cookies, (seed, actions)
    seen = {session_id: data for session_id in ids if (data := await move.seen(session_id)) is not None}
    if "logout" in actions:
        assert seen == {}, (seed, actions)
        assert move.live_keys() == set(), (seed, actions)
        return
    written = {action for action in actions if len(action) == 1}
    newest = [data for session_id, data in seen.items() if session_id in cookies] or list(seen.values())
    assert len(newest) == 1, (seed, actions, seen)
    if "login" not in actions:
        assert newest[0] == {"user": 5} | dict.fromkeys(written, True), (seed, actions)
    assert newest[0]["user"] == 5
    assert len(move.live_keys()) == 1, (seed, actions)


@pytest.mark.parametrize("stop", range(1, 7))
async def test_a_slow_mover_does_not_bring_back_what_was_logged_out_while_it_stood_still(stop: int) -> None:
    """It stands before or after each of its verbs in turn, while others move the session and end it."""
    move = Move(0, longest_pause=0)
    session_id = await move.begin()
    process = move.process()
    key, stored = key_of(session_id), await process.fetch(key_of(session_id))
    assert stored is not None
    gate, calls = asyncio.Event(), 0

    async def wait() -> None:
        nonlocal calls
        if asyncio.current_task() is slow:
            calls += 1
            if calls == stop:
                await gate.wait()

    for storage in (move.new, move.old):
        storage.pause = wait  # type: ignore[method-assign]
    slow = asyncio.ensure_future(process.replace(key, stored.data, stored.expires_at, stored.version))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not slow.done()
    for action in ("b", "logout"):
        other = move.process()
        await act(await other.read(session_id), action, other)
    gate.set()
    await slow

    assert await move.seen(session_id) is None
    assert move.live_keys() == set()


# --- the verbs alone


async def append(storage: MigratingStorage, key: str, letter: bytes) -> bool:
    """Add *letter* to the record, however often others come first; False if it is gone."""
    while (stored := await storage.fetch(key)) is not None:
        await storage.touch(key, stored.expires_at + 1, stored.version)
        if await storage.replace(key, stored.data + letter, stored.expires_at, stored.version):
            return True
    return False


async def test_writers_that_move_and_writers_that_do_not_lose_nothing_of_each_other() -> None:
    for seed in range(2000):
        move = Move(seed, longest_pause=8)
        await move.old.insert("key", b"", int(move.clock()) + 3600)
        processes = [move.process(move=number % 2 == 0) for number in range(6)]
        await asyncio.gather(*(append(process, "key", b"%d" % number) for number, process in enumerate(processes)))
        stored = await move.process().fetch("key")

        assert stored is not None, seed
        # A write that somebody else finished is asked for again: merged twice, which for keys and values is once.
        assert set(stored.data) == set(b"012345"), seed


async def test_of_writers_at_one_version_at_most_one_succeeds_and_its_data_stands() -> None:
    for seed in range(1000):
        move = Move(seed)
        await move.old.insert("key", b"", int(move.clock()) + 3600)
        processes = [move.process(move=number != 2) for number in range(4)]
        stored = await processes[0].fetch("key")
        assert stored is not None
        written = await asyncio.gather(
            *(
                process.replace("key", b"%d" % number, stored.expires_at, stored.version)
                for number, process in enumerate(processes)
            )
        )
        stored = await move.process().fetch("key")

        assert stored is not None, seed
        assert [(b"%d" % n, version) for n, version in enumerate(written) if version] == [stored[:2]], seed


async def test_what_was_deleted_beside_writers_is_gone() -> None:
    for seed in range(1000):
        move = Move(seed, longest_pause=8)
        await move.old.insert("key", b"", int(move.clock()) + 3600)
        processes = [move.process(move=number != 2) for number in range(4)]
        writing = [append(process, "key", b"x") for process in processes]
        await asyncio.gather(move.process().delete("key"), *writing)

        assert await move.process().fetch("key") is None, seed
        assert await move.process().insert("key", b"again", int(move.clock()) + 3600), seed


async def test_readers_beside_a_move_always_find_the_session() -> None:
    for seed in range(1000):
        move = Move(seed)
        await move.old.insert("key", b"", int(move.clock()) + 3600)
        readers = [move.process().fetch("key") for _ in range(5)]
        found = await asyncio.gather(append(move.process(), "key", b"x"), *readers)

        assert None not in found, seed
