"""The judge accepts what the documentation allows, and refuses what it rules out: reads, failures, locks, flashes."""

from typing import Any

from tests.history.history import Step
from tests.history.story import LOGOUT, SET_A, Story

# --- an answered write is read


def test_an_answered_write_is_read() -> None:
    story = Story()
    story.begin(SET_A)
    story.read(a="t1")
    assert story.rules() == set()

    story.read()
    assert story.rules() == {"read"}


def test_what_was_appended_and_counted_is_read_once() -> None:
    story = Story()
    story.begin()
    story.call("c1", ["add", "t1"], at=(10, 20), data={"first": "t0"}, added=[0, 0])
    story.call("c1", ["add", "t2"], at=(11, 19), data={"first": "t0"}, added=[0, 0])
    story.call("c1", data={"first": "t0", "+t1": "t1", "+t2": "t2"}, added=[2, 2])
    assert story.rules() == set()

    story.call("c1", data={"first": "t0", "+t1": "t1", "+t2": "t2"}, added=[3, 3])
    assert story.rules() == {"additions"}

    story = Story()
    story.begin()
    story.call("c1", ["add", "t1"], at=(10, 20), data={"first": "t0"}, added=[0, 0])
    story.call("c1", data={"first": "t0"}, added=[0, 1])
    assert story.rules() == {"read", "additions"}


def test_an_answered_write_may_be_missing_while_it_overlaps_with_its_removal() -> None:
    story = Story()
    story.begin()
    story.call("c1", SET_A, at=(10, 20), data={"first": "t0"})
    story.call("c1", ["unset", "a"], at=(11, 12), data={"first": "t0"})
    story.read(first="t0")
    assert story.rules() == set()

    story = Story()
    story.begin()
    story.call("c1", ["unset", "a"], at=(11, 12), data={"first": "t0"})
    story.call("c1", SET_A, at=(13, 20), data={"first": "t0"})
    story.read(first="t0")
    assert story.rules() == {"read"}


def test_of_two_writes_one_after_the_other_the_second_is_read() -> None:
    story = Story()
    story.begin(SET_A)
    story.call("c1", ["set", "a", "t2"], data={"a": "t1"})
    story.read(a="t1")
    assert story.rules() == {"read"}


def test_of_two_writes_at_once_either_is_read() -> None:
    for tag in ("t1", "t2"):
        story = Story()
        story.begin()
        story.call("c1", SET_A, at=(10, 20), data={"first": "t0"})
        story.call("c1", ["set", "a", "t2"], at=(11, 19), data={"first": "t0"})
        story.read(first="t0", a=tag)
        assert story.rules() == set()


def test_a_write_without_an_answer_may_be_read_or_not_but_not_come_and_go() -> None:
    story = Story()
    story.begin()
    story.call("c1", SET_A, at=(10, None))
    story.read(at=(20, 21), first="t0")
    story.read(at=(22, 23), first="t0", a="t1")
    assert story.rules() == set()

    story.read(at=(24, 25), first="t0")
    assert story.rules() == {"read"}


def test_a_write_without_an_answer_is_whole() -> None:
    story = Story()
    story.begin()
    story.call("c1", SET_A, ["set", "b", "t2"], at=(10, None))
    story.read(at=(20, 21), first="t0", a="t1")
    assert story.rules() == {"read"}


def test_clear_removes_every_key() -> None:
    story = Story()
    story.begin(SET_A)
    story.call("c1", ["clear"], data={"a": "t1"})
    story.read()
    assert story.rules() == set()

    story.read(a="t1")
    assert story.rules() == {"read"}


def test_to_unset_what_is_not_there_is_no_write() -> None:
    story = Story()
    story.begin()
    story.call("c1", SET_A, at=(10, 20), data={"first": "t0"})
    story.call("c1", ["unset", "a"], at=(15, 25), data={"first": "t0"})
    story.read(first="t0", a="t1")
    assert story.rules() == set()


def test_nobody_reads_a_value_of_another_session() -> None:
    story = Story()
    story.begin()
    story.call(None, SET_A, given="c2")
    story.read("c1", first="t0", a="t1")
    assert story.rules() == {"read"}


# --- failures


def test_nothing_of_a_failed_handler_is_stored() -> None:
    failures: list[dict[str, Any]] = [{"status": 500, "end": "crash"}, {"status": 503, "stored": "no"}]
    for told in failures:
        story = Story()
        story.begin()
        story.call("c1", SET_A, **told)
        story.read(first="t0")
        assert story.rules() == set()

        story.read(first="t0", a="t1")
        assert story.rules() == {"failed"}


def test_an_error_that_says_that_nobody_knows_may_have_stored_the_changes() -> None:
    story = Story()
    story.begin()
    story.call("c1", SET_A, status=503, stored="unknown")
    story.read(first="t0", a="t1")
    assert story.rules() == set()


def test_what_was_saved_before_the_failure_stays() -> None:
    story = Story()
    story.begin()
    steps: list[Step] = [SET_A, ["save"], ["set", "b", "t2"]]
    story.call("c1", *steps, status=500, end="crash", saved=[True], data={"first": "t0"})
    story.read(first="t0", a="t1")
    assert story.rules() == set()

    story.read(first="t0")
    assert story.rules() == {"read"}


def test_a_failed_handler_logs_out_all_the_same() -> None:
    story = Story()
    story.begin()
    story.call("c1", LOGOUT, status=500, end="crash")
    story.read(first="t0")
    assert story.rules() == {"logout"}

    story = Story(faults=True)  # the storage may have failed, too
    story.begin()
    story.call("c1", LOGOUT, status=500, end="crash")
    story.read(first="t0")
    assert story.rules() == set()


def test_an_error_that_nothing_explains_is_reported() -> None:
    story = Story()
    story.begin()
    story.call("c1", status=500)
    assert story.rules() == {"errors"}


# --- exclusive blocks


def test_two_exclusive_blocks_never_succeed_on_the_same_state() -> None:
    story = Story()
    story.begin(["set", "x", "t0"])
    story.call("c1", ["set", "x", "t1"], at=(10, 20), exclusive=True, data={"x": "t0"})
    story.call("c1", ["set", "x", "t2"], at=(11, 21), exclusive=True, data={"x": "t1"})
    assert story.rules() == set()

    story.call("c1", ["set", "x", "t3"], at=(12, 21), exclusive=True, data={"x": "t1"})
    assert story.rules() == {"exclusive"}


def test_a_block_that_failed_counts_for_nothing() -> None:
    story = Story()
    story.begin(["set", "x", "t0"])
    story.call("c1", ["set", "x", "t1"], at=(10, 20), exclusive=True, data={"x": "t0"}, status=503, stored="no")
    story.call("c1", ["set", "x", "t2"], at=(11, 21), exclusive=True, data={"x": "t0"})
    assert story.rules() == set()


# --- flashes

FLASH: Step = ["flash", "f:1", "f1"]
SHOWN: dict[str, Any] = {"f:1": "f1"}


def test_a_flash_is_shown_once() -> None:
    story = Story()
    story.begin(FLASH)
    story.read(**SHOWN)
    story.read()
    assert story.rules() == set()

    story.read(**SHOWN)
    assert story.rules() == {"flash"}


def test_a_flash_is_shown_to_the_next_request() -> None:
    story = Story()
    story.begin(FLASH)
    story.read()
    assert story.rules() == {"flash"}


def test_parallel_requests_may_both_show_a_flash() -> None:
    story = Story()
    story.begin(FLASH)
    story.read(at=(10, 20), **SHOWN)
    story.read(at=(11, 21), **SHOWN)
    assert story.rules() == set()


def test_a_failed_request_uses_no_flash_up() -> None:
    story = Story()
    story.begin(FLASH)
    story.call("c1", data=SHOWN, status=500, end="crash")
    story.read(**SHOWN)
    assert story.rules() == set()

    story = Story()
    story.begin(FLASH)
    story.call("c1", data=SHOWN, status=500, end="crash")
    story.read()
    assert story.rules() == {"flash"}


def test_a_request_without_an_answer_may_have_used_a_flash() -> None:
    story = Story()
    story.begin(FLASH)
    story.call("c1", at=(10, None))
    story.read(at=(20, 21))
    assert story.rules() == set()


def test_a_flash_that_was_kept_is_shown_again() -> None:
    story = Story()
    story.begin(FLASH)
    story.call("c1", ["keep"], data=SHOWN)
    story.read(**SHOWN)
    assert story.rules() == set()


def test_a_flash_may_be_shown_again_if_the_storage_could_not_remove_it() -> None:
    story = Story(faults=True)
    story.begin(FLASH)
    story.read(**SHOWN)
    story.read(**SHOWN)
    assert story.rules() == set()
