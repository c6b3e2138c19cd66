"""A whole migration from the old storage to the new one, with random, seeded requests and a model to compare with.

During each step of the rollout, processes of that step and of the one before run at the same time.  There are rounds
of parallel requests, each in its own process, which may die at any call or lose its answer.  Between rounds, time
passes and the storages are swept.  After each round, every process must read what the model says.
"""

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from aiohttp_session_store import KeyedStorage, StorageError
from aiohttp_session_store.migrate import MigratingStorage
from aiohttp_session_store.session.session import state_of
from aiohttp_session_store.testing import ManualClock
from tests.records import live_keys
from tests.storages.plain import PlainStorage

DAY = 24 * 60 * 60
IDLE = 14 * DAY
STEPS = ["old", "staying", "moving", "new"]


class Line(PlainStorage):
    """One process's connection to a shared storage: it suspends at random, and fails once its process is dead."""

    suspends = True

    def __init__(self, shared: PlainStorage, chance: random.Random, life: list[int]) -> None:
        super().__init__(clock=shared.clock)
        self._records = shared._records
        self._exclusive = shared._exclusive
        self._chance, self._life = chance, life

    async def _call(self, verb: Any, *args: Any) -> Any:
        await self._pause()
        self._life[0] -= 1
        if self._life[0] < 0:
            raise StorageError("dead")
        result = await verb(*args)
        await self._pause()
        if self._life[0] == 0 and self._life[1]:
            raise StorageError("the answer was lost", maybe_stored=True)
        return result

    async def _pause(self) -> None:
        for _ in range(self._chance.randint(0, 4)):
            await asyncio.sleep(0)

    async def fetch(self, key: str) -> Any:
        return await self._call(super().fetch, key)

    async def insert(self, key: str, data: bytes, expires_at: int) -> Any:
        return await self._call(super().insert, key, data, expires_at)

    async def replace(self, key: str, data: bytes, expires_at: int, version: bytes) -> Any:
        return await self._call(super().replace, key, data, expires_at, version)

    async def touch(self, key: str, expires_at: int, version: bytes) -> Any:
        return await self._call(super().touch, key, expires_at, version)

    async def delete(self, key: str, version: bytes | None = None) -> bool:
        return bool(await self._call(super().delete, key, version))


@dataclass
class Visit:
    """What the model knows of one visitor's session."""

    ids: list[str]
    sure: set[str] = field(default_factory=set)
    tried: set[str] = field(default_factory=set)
    fate: str = "alive"  # or "over", "expired", or "unknown" once something failed that may have ended it
    ends: int = 0  # unless it is used again


class World:
    def __init__(self, seed: int, *, faults: bool) -> None:
        self.chance = random.Random(seed)
        self.faults = faults
        self.clock = ManualClock()
        self.old, self.new = PlainStorage(clock=self.clock), PlainStorage(clock=self.clock)
        self.visits: list[Visit] = []
        self.crashed = False
        self.writes = 0

    def process(self, step: str, life: list[int] | None = None, *, watching: bool = False) -> KeyedStorage:
        """Return the storage object of one more process, or of one that is *watching*, and works on a copy."""
        old, new = (Line(one, self.chance, life or [10**9, 0]) for one in (self.old, self.new))
        if watching:
            old._records, new._records = dict(old._records), dict(new._records)
        if step == "old":
            return old
        if step == "new":
            return new
        return MigratingStorage(new, old, moving=step == "moving")

    async def round(self, window: list[str]) -> None:
        visits = [visit for visit in self.visits if visit.fate != "over"]
        if not visits or self.chance.random() < 0.2:
            await self.create(self.chance.choice(window))
            return
        visit = self.chance.choice(visits)
        actions = self.chance.choices(
            ["write", "read", "ask", "rotate", "login", "logout"], [5, 1, 1, 2, 1, 0.5], k=self.chance.randint(1, 4)
        )
        newest = visit.ids[-1]
        requests = [self.request(visit, newest, action, self.chance.choice(window), actions) for action in actions]
        await asyncio.gather(*requests)

    async def create(self, step: str) -> None:
        storage = self.process(step)
        session = await storage.read(None)
        session["user"] = 1
        value = await storage.save(session)
        assert value
        self.visits.append(Visit([value], {"user"}, {"user"}, ends=session.expires_at))

    async def request(self, visit: Visit, session_id: str, action: str, step: str, beside: list[str]) -> None:
        life = (
            [self.chance.randint(3, 12), self.chance.randint(0, 1)]
            if self.faults and self.chance.random() < 0.5
            else [10**9, 0]
        )
        storage = self.process(step, life)
        for _ in range(self.chance.randint(0, 6)):
            await asyncio.sleep(0)
        try:
            session = await storage.read(session_id)
        except StorageError:
            return
        if session.new:
            assert visit.fate in ("unknown", "expired") or {"logout", "login"} & set(beside), f"{action} found nothing"
            return
        key = f"k{self.writes}"
        self.writes += 1
        if action == "write":
            session[key] = 1
            visit.tried.add(key)
        elif action == "logout":
            session.destroy()
        elif action == "ask":
            state_of(session).confirm = True
        elif action != "read":
            session.regenerate_id(action == "login")
        try:
            value = await storage.save(session)
        except StorageError:
            if life[0] > 0:  # this process did not die
                raise
            if action == "logout" and visit.fate == "alive":
                visit.fate = "unknown"
            if action in ("rotate", "login"):
                visit.fate = "unknown" if visit.fate == "alive" else visit.fate
            return
        if action == "logout":
            visit.fate = "over"
        elif session.destroyed:
            assert {"logout", "login"} & set(beside) or visit.fate != "alive", f"{action} was told of a logout"
        else:
            visit.ends = max(visit.ends, session.expires_at)
            if action == "write" and "login" not in beside:
                visit.sure.add(key)
        if value:
            visit.ids.append(value)

    async def check(self, window: list[str]) -> None:
        for visit in self.visits:
            views = []
            for step in window:
                storage = self.process(step, watching=True)  # reading extends a session
                seen = []
                for session_id in visit.ids:
                    session = await storage.read(session_id)
                    seen.append(None if session.new else frozenset(session))
                views.append(seen)
            assert all(view == views[0] for view in views), f"processes disagree: {views}"
            seen = views[0]
            if visit.fate in ("over", "expired"):
                assert not any(seen), "a session came back"
            elif visit.fate == "alive":
                newest = next((one for one in reversed(seen) if one), None)
                assert newest is not None, "a session was lost"
                assert visit.sure <= newest <= visit.tried, f"wrong data: {newest} {visit}"

    async def pass_time(self) -> None:
        self.clock.advance(self.chance.choice([0, 1, 61, 3600, 2 * DAY, 3 * DAY]))
        for visit in self.visits:
            if visit.fate == "alive" and self.clock() >= visit.ends:
                visit.fate = "unknown" if self.faults else "expired"  # a process that died may have extended it
        for storage in (self.old, self.new):
            if self.chance.random() < 0.5:
                await storage.sweep()

    async def run(self) -> None:
        for number, step in enumerate(STEPS):
            before = STEPS[max(0, number - 1)]
            if step == "new":
                # as documented, wait for the idle timeout: sessions that were not used since then have ended
                until = self.clock() + IDLE
                while self.clock() < until:
                    await self.rounds(["moving"], 1)
            await self.rounds([before, step], self.chance.randint(4, 12))
            await self.rounds([step], self.chance.randint(1, 3))

    async def rounds(self, window: list[str], count: int) -> None:
        for _ in range(count):
            await self.round(window)
            await self.check(window)
            if not self.faults:
                alive = sum(visit.fate == "alive" for visit in self.visits)
                maybe = sum(visit.fate in ("unknown", "expired") for visit in self.visits)
                assert alive <= len(live_keys(self.old, self.new)) <= alive + maybe, "an orphan lives"
            await self.pass_time()


@pytest.mark.parametrize("seeds", [range(8), pytest.param(range(8, 40), marks=pytest.mark.long)], ids=repr)
@pytest.mark.parametrize("faults", [pytest.param(False, marks=pytest.mark.long), True], ids=["", "processes die"])
async def test_a_step_by_step_rollout_loses_nothing_and_brings_nothing_back(faults: bool, seeds: range) -> None:
    for seed in seeds:
        try:
            await World(seed, faults=faults).run()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
