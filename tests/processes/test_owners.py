"""Logins, renewals, logouts and endings of one owner at once, with four real workers on one storage."""

import asyncio
import random
import secrets

import aiohttp
import pytest

from aiohttp_session_store.testing.contract.owners import OwnerContract
from tests.engine.suspending import RacyStorage
from tests.processes.conftest import Workers

FEW, MANY = 25, 1000
FEW_CROWDS, MANY_CROWDS = 5, 200


def few_and(full: int, few: int) -> pytest.MarkDecorator:
    """Run a test with *few* rounds, and once more at full size among the proofs that take minutes."""
    return pytest.mark.parametrize(
        "rounds", [few, pytest.param(full, marks=[pytest.mark.long, pytest.mark.timeout(900)])]
    )


def sent(response: aiohttp.ClientResponse) -> str:
    """Return the cookie value that an answer sets, or ``""``."""
    return response.cookies["session"].value if "session" in response.cookies else ""


@few_and(MANY, FEW)
async def test_an_ending_ends_what_was_answered_before_and_the_index_shows_the_rest(
    workers: Workers, rounds: int
) -> None:
    random.seed(3)
    for _ in range(rounds):
        owner = secrets.token_hex(8)
        before = [
            sent(answer) for answer in await asyncio.gather(*(workers.get(f"/enter?owner={owner}") for _ in "123"))
        ]
        pauses = [random.uniform(0, 0.01) for _ in before]
        requests = [
            workers.get(f"/renew?pause={pauses[0]}", before[0]),
            workers.get(f"/renew?pause={pauses[1]}&old=worthless", before[1]),
            workers.get("/leave", before[2]),
            *(workers.get(f"/enter?owner={owner}") for _ in range(2)),
        ]
        random.shuffle(requests)
        meanwhile = [asyncio.ensure_future(request) for request in requests]
        await asyncio.sleep(random.uniform(0, 0.005))
        ended = (await workers.ask(f"/end?owner={owner}"))["ended"]
        answers = [sent(answer) for answer in await asyncio.gather(*meanwhile)]

        assert 2 <= ended <= 5, "the logout may have been first, and the new logins may have been late"
        shown = (await workers.ask(f"/devices?owner={owner}"))["keys"]
        alive = 0
        for cookie in {*before, *answers} - {""}:
            found = await workers.ask("/mine", cookie)
            assert found["owner"] in (owner, None)
            if found["owner"]:
                alive += 1
                assert found["key"] in shown, "a session whose id a browser has is in the index"
                assert cookie not in before, "what was answered before the ending began is over"
        assert alive == len(shown), "nothing else is in the index"
        assert alive + ended <= 5, "a renewal does not escape"
    assert len(workers.met) == 4


@few_and(MANY_CROWDS, FEW_CROWDS)
async def test_of_twenty_logins_at_once_exactly_three_live(workers: Workers, rounds: int) -> None:
    for _ in range(rounds):
        owner = secrets.token_hex(8)
        answers = await asyncio.gather(*(workers.get(f"/enter?owner={owner}&most=3") for _ in range(20)))

        found = await asyncio.gather(*(workers.ask("/mine", sent(answer)) for answer in answers))
        alive = [one["key"] for one in found if one["owner"]]
        assert len(alive) == 3
        assert sorted((await workers.ask(f"/devices?owner={owner}"))["keys"]) == sorted(alive)
    assert len(workers.met) == 4


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_the_same_holds_within_a_process_for_a_storage_that_suspends_anywhere() -> None:
    """A thousand endings, and two hundred crowds of twenty logins."""
    for seed in range(100):
        await OwnerContract().test_ending_in_a_race_with_logins_and_renewals(RacyStorage(seed))
        if seed < 20:
            await OwnerContract().test_of_many_logins_at_once_exactly_as_many_live_as_may(RacyStorage(seed))
