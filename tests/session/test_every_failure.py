"""A storage fails at each call of a save in turn, after everything that parallel requests may have done before it."""

import itertools
from collections.abc import Iterator

import pytest

from tests.session.failing import Kind
from tests.session.machine import Fault
from tests.session.modelled import GRACE, IDLE
from tests.session.test_session_machine import Sessions

# What may happen before: this request saves something, others with the same cookie come and go, or time passes.
OWN = ["write", "flash", "renew"]
OTHERS = ["write", "renew", "write and renew", "log in", "log out", "begin anew"]
TIMES = ["the grace passes", "the session expires"]
EVENTS = [
    *(("own", action) for action in OWN),
    *(("other", action) for action in OTHERS),
    *(("", time) for time in TIMES),
]
LAST = ["write", "flash", "renew", "write and renew", "log in", "log out", "begin anew", "ask"]


def scenarios(length: int) -> Iterator[tuple[tuple[str, str], ...]]:
    yield from itertools.product(EVENTS, repeat=length)


@pytest.mark.parametrize("down", [False, True], ids=["one call", "all later calls, too"])
@pytest.mark.parametrize("kind", ["refused", "lost", "late"])
@pytest.mark.parametrize("last", LAST)
@pytest.mark.parametrize("length", [0, 1, pytest.param(2, marks=pytest.mark.long)])
def test_a_save_that_fails_has_done_nothing_or_all_of_it_and_says_which(
    length: int, last: str, kind: Kind, down: bool
) -> None:
    for scenario in scenarios(length):
        for call in itertools.count(1):
            world = Sessions()
            try:
                failed = save_fails(world, scenario, last, Fault(call, kind, down))
            except AssertionError as error:
                raise AssertionError(f"after {scenario}, at call {call}: {error}") from error
            finally:
                world.teardown()
            if not failed:
                break


def save_fails(world: Sessions, scenario: tuple[tuple[str, str], ...], last: str, fault: Fault) -> bool:
    """Return whether the save got as far as the call that fails; the next one, of the same request, must succeed."""
    world.a_visitor_has_a_session(data={"a": [0]}, parallel=1)
    for who, event in scenario:
        if who == "own":
            world.acts(1, event)
            world.saves(1)
        elif who == "other":
            world.another_request_with_the_same_id_comes_and_goes(1, event)
        else:
            world.time_passes(GRACE if event == TIMES[0] else IDLE)
    world.acts(1, last)
    world.save(1, confirm=last == "ask", fault=fault)
    failed = bool(world.storage.failed)
    check(world)
    world.save(1, confirm=last == "ask")
    check(world)
    return failed


def check(world: Sessions) -> None:
    world.the_records_are_those_of_the_model()
    world.every_id_reads_what_the_model_says_and_what_is_over_stays_over()
