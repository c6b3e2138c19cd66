"""A process is killed at any step of a login, a changed id or an ending: the index shows all that browsers have."""

import asyncio
import json
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiohttp_session_store import KeyedStorage
from aiohttp_session_store.record.head import owner_key
from aiohttp_session_store.session.session import state_of
from tests.processes.worker import make_storage, prepare
from tests.races.dying import WHEN, storage_at
from tests.races.owner_operations import OPERATIONS
from tests.servers.postgres import postgres_server
from tests.servers.redis import redis_server

PLACES = ["files", "redis", *(pytest.param(one, marks=pytest.mark.long) for one in ("postgres", "from files to redis"))]


@pytest.fixture(scope="module", params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = str(tmp_path_factory.mktemp("dying") / "sessions")
    if request.param == "postgres":
        with postgres_server() as postgres:
            asyncio.run(prepare(make_storage(postgres.dsn)))
            yield postgres.dsn
    elif request.param == "files":
        yield directory
    else:
        with redis_server() as redis:
            yield redis.url if request.param == "redis" else f"{redis.url},{directory}"


@pytest.mark.timeout(300)
def test_no_killed_process_leaves_a_session_that_the_index_does_not_show(place: str) -> None:
    killer = [sys.executable, "-m", "tests.races.dying", place]
    lines = subprocess.run(killer, stdout=subprocess.PIPE, check=True, cwd=Path(__file__).parents[2]).stdout
    cases = [json.loads(line) for line in lines.splitlines()]
    killed: dict[tuple[str, str], int] = defaultdict(int)
    for case in cases:
        assert case["exit"] == (0 if case["finished"] else -signal.SIGKILL), case
        killed[case["operation"], case["when"]] += not case["finished"]
    assert len([case for case in cases if case["finished"]]) == len(OPERATIONS) * len(WHEN), "each must end at last"
    assert min(killed.values()) >= 2, "each operation must have died at some steps"
    asyncio.run(_check(place, cases))


async def _check(place: str, cases: list[dict[str, Any]]) -> None:
    storage = storage_at(place)
    for case in cases:
        await _check_one(storage, case)
    await storage.aclose()


async def _check_one(storage: KeyedStorage, case: dict[str, Any]) -> None:
    owner = str(case["owner"])
    ids = {case["old_id"], case.get("new_id"), case.get("sent")} - {None, ""}
    owners = {owner, f"{owner} II"}
    for session_id in ids:
        found = await storage.read(session_id)
        place = state_of(found).place  # an id that was renewed leads to the session's new one
        if place is not None and found.owner is not None:
            assert found.owner in owners, case
            assert place.key in await storage.linked(owner_key(found.owner)), case
            assert place.key in {info.key for info in await storage.sessions_of(found.owner)}, case
    alive = {session_id for session_id in ids if (await storage.read(session_id)).owner in owners}
    if case["finished"]:
        sent = {case["sent"]} - {""}
        if case["operation"] == "one_login_too_many":  # both are logins of the same second
            assert len(alive) == 1, case
        else:
            both = sent | {case["old_id"]}
            assert alive == {"first_login": both, "renewal": both}.get(case["operation"], sent), case

    for one in owners:
        await storage.end_sessions(one)
        assert await storage.sessions_of(one) == [], case
        assert not await storage.linked(owner_key(one)), case
    for session_id in ids:
        assert (await storage.read(session_id)).owner is None, case
