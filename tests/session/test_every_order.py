"""Two long requests of one visitor, and what may come between: every sequence of events, and what follows.

These are two events in ``make test``, and three in ``make proofs``.  The random machine seldom gets as deep into one
session.
"""

import itertools

import pytest

from tests.session.modelled import BIG, GRACE, IDLE, MARGIN, SHORT_IDLE
from tests.session.test_session_machine import Sessions

ACTIONS = ["write", "write a lot", "flash", "renew", "log in", "log out", "begin anew", "ask", "hold"]
PASSING = ["write", "renew", "log in", "log out"]
TIMES = {
    "a tenth of the idle timeout passes": IDLE // 10,
    "the grace passes": GRACE,
    "nearly the idle timeout passes": IDLE - 1,
    "the idle timeout passes": IDLE,
    "what is over is swept": IDLE + MARGIN,
}
EVENTS = [
    *itertools.product(["one", "other"], ACTIONS),
    *itertools.product(["passing"], PASSING),
    *itertools.product(["time"], [*TIMES, "the idle timeout is shortened"]),
]
FIRST = [event for event in EVENTS if event[0] != "other"]  # at the beginning, the two requests are the same


@pytest.mark.parametrize("then", [1, pytest.param(2, marks=pytest.mark.long)], ids="and {} more".format)
@pytest.mark.parametrize("first", FIRST, ids=" ".join)
def test_every_sequence_of_events_has_the_result_that_the_model_predicts(first: tuple[str, str], then: int) -> None:
    for rest in itertools.product(EVENTS, repeat=then):
        world = Sessions()
        try:
            happens(world, [first, *rest])
        except AssertionError as error:
            raise AssertionError(f"{[first, *rest]}: {error}") from error
        finally:
            world.teardown()


def happens(world: Sessions, events: list[tuple[str, str]]) -> None:
    world.a_visitor_has_a_session(data={"a": [0]}, parallel=2)
    for who, event in events:
        if who == "passing":
            world.another_request_with_the_same_id_comes_and_goes(1, event)
        elif who == "time":
            time_passes(world, event)
        else:
            acts(world, 1 if who == "one" else 2, event)
        check(world)
    for request, action in ((2, "write and renew"), (1, "write")):  # each goes by what it believes to know
        world.reads(request)
        world.acts(request, action)
        world.saves(request)
        world.reads(request)
        check(world)


def acts(world: Sessions, index: int, event: str) -> None:
    if event == "hold":
        world.takes_it_exclusively(index)
    else:
        if event == "write a lot":
            world.sets(index, "ab"[index - 1], BIG)
        else:
            world.acts(index, event)
        world.save(index, confirm=event == "ask")


def time_passes(world: Sessions, event: str) -> None:
    if event in TIMES:
        world.time_passes(TIMES[event])
        world.the_sweep_runs()
    else:
        world.the_idle_timeout_is_changed(SHORT_IDLE)


def check(world: Sessions) -> None:
    world.the_records_are_those_of_the_model()
    world.every_id_reads_what_the_model_says_and_what_is_over_stays_over()
