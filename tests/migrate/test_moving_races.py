"""Races between requests in several processes while their session moves: thousands of seeded interleavings."""

import asyncio
import itertools
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

import pytest

from aiohttp_session_store import Session
from aiohttp_session_store.migrate import MigratingStorage
from aiohttp_session_store.migrate.migrating_storage import _Copy
from aiohttp_session_store.record.session_id import key_of
from tests.migrate.moving import Move, act

ACTIONS = ["logout", "rotate", "login", "touch", "a", "b"]
PAIRS = list(itertools.combinations_with_replacement(ACTIONS, 2))
SEEDS = range(40)
DAY = 24 * 60 * 60

# Measuring coverage would triple the time of the many rounds, and they reach no line that the few do not reach.
ROUNDS = [100, pytest.param(1000, marks=[pytest.mark.no_cover, pytest.mark.long])]
many_rounds = pytest.mark.parametrize("rounds", ROUNDS)


async def race(
    move: Move, processes: list[MigratingStorage], session_id: str, actions: list[str]
) -> tuple[list[Session], list[str | None]]:
    """Load the session in each process, then save in all at once; return the sessions and the cookie values."""
    sessions = [await process.read(session_id) for process in processes]
    move.clock.advance(timedelta(days=2))  # so that a touch is due

    async def later(number: int) -> str | None:
        await move.new.pause()
        return await act(sessions[number], actions[number], processes[number])

    return sessions, await asyncio.gather(*map(later, range(len(actions))))


@pytest.mark.parametrize("overlap", [False, True], ids=["all move", "some processes do not move yet"])
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
async def test_two_processes_lose_no_write_and_revive_no_session(pair: tuple[str, str], overlap: bool) -> None:
    for seed in SEEDS:
        move = Move(seed)
        session_id = await move.begin()
        processes = [move.process(), move.process(move=not overlap)]
        sessions, cookies = await race(move, processes, session_id, list(pair))
        ids = {session_id, *(cookie for cookie in cookies if cookie)}

        data = await check(move, ids, pair, cookies, seed)
        for action, session in zip(pair, sessions, strict=True):
            if len(action) == 1 and "logout" not in pair:  # nothing is lost silently
                assert (action in data) == (not session.destroyed), (seed, pair)
            if action == "touch":
                assert session.destroyed or session.expires_at > int(move.clock()) + 13 * DAY, (seed, pair)


@pytest.mark.parametrize("logout", [False, True])
async def test_many_requests_in_three_processes_lose_no_write_and_revive_no_session(logout: bool) -> None:
    actions = ["a", "b", "touch", "rotate", "c", "touch", *(["logout"] if logout else [])]
    for seed in range(100):
        move = Move(seed)
        session_id = await move.begin()
        pool = [move.process(), move.process(), move.process(move=False)]
        move.new.random.shuffle(actions)
        processes = [pool[number % 3] for number in range(len(actions))]
        _, cookies = await race(move, processes, session_id, actions)

        await check(move, {session_id, *(cookie for cookie in cookies if cookie)}, actions, cookies, seed)


async def check(
    move: Move, ids: set[str], actions: list[str] | tuple[str, ...], cookies: list[str | None], seed: int
) -> dict[str, Any]:
    """Check the outcome: a logout is final; otherwise one session is left, with every write unless a login raced.

    Returns:
        What the session holds.
    """
    assert "failed" not in cookies, (seed, actions)
    seen = {session_id: data for session_id in ids if (data := await move.seen(session_id)) is not None}
    if "logout" in actions:
        assert seen == {}, (seed, actions)
        assert move.live_keys() == set(), (seed, actions)
        return {}
    written = {action for action in actions if len(action) == 1}
    newest = [data for session_id, data in seen.items() if session_id in cookies] or list(seen.values())
    assert len(newest) == 1, (seed, actions, seen)
    if "login" not in actions:
        assert newest[0] == {"user": 5} | dict.fromkeys(written, True), (seed, actions)
    assert newest[0]["user"] == 5
    assert len(move.live_keys()) == 1, (seed, actions)
    return newest[0]


class Stops:
    """Makes tasks wait before or after one of their verbs until they are told to finish."""

    def __init__(self, move: Move) -> None:
        self.left: dict[asyncio.Task[object], int] = {}
        self.gates: dict[asyncio.Task[object], asyncio.Event] = {}
        for storage in (move.new, move.old):
            storage.pause = self.pause  # type: ignore[method-assign]

    async def pause(self) -> None:
        task = asyncio.current_task()
        if task in self.left:
            self.left[task] -= 1
            if self.left[task] == 0:
                await self.gates[task].wait()

    async def run(self, work: Coroutine[Any, Any, object], stop: int) -> "asyncio.Task[object]":
        """Run *work* up to stop number *stop* or to its end; each verb has a stop before and one after it."""
        task = asyncio.ensure_future(work)
        self.left[task], self.gates[task] = stop, asyncio.Event()
        await asyncio.sleep(0.0)
        return task

    async def finish(self, task: "asyncio.Task[object]") -> None:
        self.gates[task].set()
        await task


@pytest.mark.parametrize("stop", range(1, 13))
async def test_a_slow_move_does_not_bring_back_a_session_that_was_destroyed_meanwhile(stop: int) -> None:
    move = Move(0)
    session_id = await move.begin()
    process, key = move.process(), key_of(session_id)
    stored = await process.fetch(key)
    assert stored is not None
    stops = Stops(move)
    slow = await stops.run(process.replace(key, stored.data, stored.expires_at, stored.version), stop)
    assert not slow.done()
    for action in ("b", "logout"):
        other = move.process()
        await act(await other.read(session_id), action, other)
    await stops.finish(slow)

    assert await move.seen(session_id) is None
    assert move.live_keys() == set()


@pytest.mark.parametrize("second", range(1, 20))
async def test_two_slow_moves_and_a_write_to_the_old_storage_between_them_lose_nothing(second: int) -> None:
    for first, order in itertools.product(range(1, 20), (True, False)):
        move = Move(0)
        await move.old.insert("key", b"", int(move.clock()) + 3600)
        stops = Stops(move)
        one = await stops.run(append(move.process(), "key", b"a"), first)
        await append(move.process(move=False), "key", b"b")
        other = await stops.run(append(move.process(), "key", b"c"), second)
        for task in (one, other) if order else (other, one):
            await stops.finish(task)
        stored = await move.process().fetch("key")

        assert stored is not None, (first, order)
        assert sorted(stored.data) == sorted(b"abc"), (first, order)


@pytest.mark.parametrize("stop", range(1, 14))
async def test_a_touch_survives_two_interrupted_moves(stop: int) -> None:
    """A touch keeps the version, so a copy that was made before the touch still has the current version."""
    for second in range(1, 16):
        move = Move(0)
        now = int(move.clock())
        await move.old.insert("key", b"", now + 1000)
        stops = Stops(move)
        await die(stops, move.process(), stop, b"x", now + 2000)
        staying = move.process(move=False)
        stored = await staying.fetch("key")
        assert stored is not None
        assert await staying.touch("key", now + 5000, stored.version)
        await die(stops, move.process(), second, b"y", now + 2000)
        stored = await move.process().fetch("key")

        assert stored is not None, second
        assert stored.expires_at >= now + 5000 or stored.data == b"y", second


async def die(stops: Stops, process: MigratingStorage, stop: int, data: bytes, expires_at: int) -> None:
    """Start to write *data*, and get killed at *stop*."""
    stored = await process.fetch("key")
    assert stored is not None
    task = await stops.run(process.replace("key", data, expires_at, stored.version), stop)
    task.cancel()
    await asyncio.wait([task])


# --- the verbs on their own


async def append(storage: MigratingStorage, key: str, letter: bytes) -> bool:
    """Append *letter* to the record, with as many attempts as it takes; return False if the record is gone."""
    while (stored := await storage.fetch(key)) is not None:
        if await storage.replace(key, stored.data + letter, stored.expires_at, stored.version):
            return True
    return False


@many_rounds
async def test_moving_and_non_moving_writers_lose_no_write(rounds: int) -> None:
    for seed in range(2 * rounds):
        move = Move(seed, longest_pause=8)
        await move.old.insert("key", b"", int(move.clock()) + 3600)
        processes = [move.process(move=number % 2 == 0) for number in range(6)]
        await asyncio.gather(*(append(process, "key", b"%d" % number) for number, process in enumerate(processes)))
        stored = await move.process().fetch("key")

        assert stored is not None, seed
        assert sorted(stored.data) == sorted(b"012345"), seed


@many_rounds
async def test_of_writers_with_the_same_version_at_most_one_succeeds_and_its_data_stands(rounds: int) -> None:
    for seed in range(rounds):
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


@many_rounds
async def test_a_record_deleted_during_writes_is_gone(rounds: int) -> None:
    for seed in range(rounds):
        move = Move(seed, longest_pause=8)
        await move.old.insert("key", b"", int(move.clock()) + 3600)
        processes = [move.process(move=number != 2) for number in range(4)]
        writing = [append(process, "key", b"x") for process in processes]
        await asyncio.gather(move.process().delete("key"), *writing)

        assert await move.process().fetch("key") is None, seed
        assert await move.process().insert("key", b"again", int(move.clock()) + 3600), seed


@many_rounds
async def test_readers_during_a_move_always_find_the_record(rounds: int) -> None:
    for seed in range(rounds):
        move = Move(seed)
        await move.old.insert("key", b"", int(move.clock()) + 3600)
        readers = [move.process().fetch("key") for _ in range(5)]
        found = await asyncio.gather(append(move.process(), "key", b"x"), *readers)

        assert None not in found, seed


async def test_of_parallel_inserts_of_a_key_exactly_one_succeeds() -> None:
    for seed in range(200):
        move = Move(seed)
        expires_at = int(move.clock()) + 3600
        for _ in range(2):  # the second time, a copy is left that a slow move made too late
            versions = await asyncio.gather(*(move.process().insert("key", b"data", expires_at) for _ in range(3)))
            assert len([version for version in versions if version]) == 1, seed
            await move.process().delete("key")
            await move.new.insert("key", _Copy(b"gone", b"data").encode(), expires_at)
            assert await move.process().fetch("key") is None
