"""Endings and re-encryption amid requests that change ids and values, in any order of their steps."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import suppress

import pytest

from aiohttp_session_store import KeyRing, SessionDestroyedError
from aiohttp_session_store.cli.ending import end_all
from aiohttp_session_store.cli.entries import LIVE, SNAPSHOT, entries
from aiohttp_session_store.cli.running import Run
from aiohttp_session_store.cli.upkeep import reencrypt
from aiohttp_session_store.engine.verbs import Found, Walked
from tests.engine.suspending import RacyStorage, stored_id

OLD, NEW = KeyRing.new_key(), KeyRing.new_key()


class SlowWalk(RacyStorage):
    """Walks step by step, in any order, and finds nothing that it need not find."""

    async def walk(self) -> AsyncGenerator[Walked, None]:
        keys = self.record_keys()
        self.random.shuffle(keys)
        for number, key in enumerate(keys, 1):
            await self.pause()
            stored = self._records.get(key)
            yield Walked([] if stored is None else [Found(key, stored)], number / len(keys))


class Visitor:
    """Changes a session and its id again and again, until it is logged out."""

    def __init__(self, storage: RacyStorage, session_id: str) -> None:
        self.storage = storage
        self.ids = [session_id]
        self.counted = 0

    async def write(self, *, renews: bool = True) -> None:
        while True:
            session = await self.storage.read(self.ids[-1])
            if session.new:
                return
            with suppress(SessionDestroyedError):
                session.increment("n")
                if renews and self.storage.random.random() < 0.5:
                    session.regenerate_id(self.storage.random.random() < 0.5)
            sent = await self.storage.save(session)
            if session.destroyed:
                return
            self.counted += 1
            if sent:
                self.ids.append(sent)
            await self.storage.pause()


@pytest.mark.parametrize("seed", range(12))
async def test_no_session_escapes_an_ending_of_all_by_changing_its_id(
    seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = SlowWalk(seed)
    visitors = [Visitor(storage, await stored_id(storage, n=0)) for _ in range(8)]
    writing = [asyncio.ensure_future(visitor.write()) for visitor in visitors]
    for _ in range(seed):
        await storage.pause()
    with Run(json=True) as run:
        assert await end_all(run, storage, dry_run=False) == 0
    async with asyncio.timeout(20):
        await asyncio.gather(*writing)

    for visitor in visitors:
        for session_id in visitor.ids:
            assert (await storage.read(session_id)).new


@pytest.mark.parametrize("seed", range(3))
async def test_a_session_that_is_met_by_an_old_id_first_counts_once(
    seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = SlowWalk(seed)
    for number in range(20):
        session = await storage.read(await stored_id(storage, n=0))
        if number % 2:
            session.regenerate_id()
        else:
            session.login("ada")
        await storage.save(session)
    counted = []
    for dry_run in (True, False, False):
        with Run(json=True) as run:
            assert await end_all(run, storage, dry_run=dry_run) == 0
        document = json.loads(capsys.readouterr().out)
        counted.append(document["would_end" if dry_run else "ended"])

    assert counted == [20, 20, 0]


@pytest.mark.parametrize("seed", range(8))
async def test_a_reencryption_undoes_no_write_and_no_extension(seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    storage = SlowWalk(seed, encryption=KeyRing(OLD))
    visitors = [Visitor(storage, await stored_id(storage, n=0)) for _ in range(6)]
    storage.records.ring = KeyRing(NEW, OLD)
    writing = [asyncio.ensure_future(visitor.write(renews=False)) for visitor in visitors]
    with Run(json=True) as run:
        assert await reencrypt(run, storage, dry_run=False) == 0
    for task in writing:
        task.cancel()
    await asyncio.wait(writing)
    await storage.aclose()

    storage.records.ring = KeyRing(NEW)
    for visitor in visitors:
        session = await storage.read(visitor.ids[-1])
        assert session["n"] - visitor.counted in (0, 1), "a cancelled save was under way"


@pytest.mark.parametrize("seed", range(6))
async def test_what_an_old_id_may_still_read_is_not_taken_for_a_session(seed: int) -> None:
    """In whatever order the walk finds the session, the mark under its old id, and the snapshot."""
    storage = SlowWalk(seed)
    for number in range(5):
        session = await storage.read(await stored_id(storage, n=number))
        session.regenerate_id()
        await storage.save(session)
    kinds = [entry.kind async for part, _ in entries(storage) for entry in part]

    assert (kinds.count(LIVE), kinds.count(SNAPSHOT), len(kinds)) == (5, 5, 15)
