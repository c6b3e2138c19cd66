"""The change log of one request: what a save takes, and what is put back when the save fails or is cancelled."""

from typing import Any

import pytest

from aiohttp_session_store.record.changes import Changes, Flash
from aiohttp_session_store.record.size import largest_keys
from aiohttp_session_store.session.change_log import ChangeLog

NOTICE = Flash("f1", "notice", "Saved.")


def log_of(**data: Any) -> ChangeLog:
    return ChangeLog(data)


def inside(changes: Changes) -> dict[str, tuple[Any, Any]]:
    """Return what was changed inside values: what the handler got, and what it left."""
    return {key: (edit.given, edit.left) for key, edit in changes.edits.items()}


def readable(log: ChangeLog) -> dict[str, Any]:
    return {key: log.value(key) for key in tuple(log.keys())}


# --- take


def test_an_untouched_log_takes_nothing() -> None:
    assert not log_of(a=1, cart=[1]).take()


def test_a_list_that_was_only_read_is_not_taken() -> None:
    log = log_of(cart=[1])
    log.value("cart")

    assert not log.dirty
    assert not log.take()


def test_only_assigned_keys_are_taken() -> None:
    log = log_of(a=1, b=2)
    log.assign("a", 3)

    assert log.take().values == {"a": 3}


def test_a_change_inside_a_list_takes_the_list() -> None:
    log = log_of(cart=[1], other=[2])
    log.value("other")
    log.value("cart").append(2)

    assert inside(log.take()) == {"cart": ([1], [1, 2])}


def test_a_change_inside_a_list_that_is_undone_is_not_taken() -> None:
    log = log_of(cart=[1])
    log.value("cart").append(2)
    log.value("cart").pop()

    assert not log.take()


def test_a_changed_order_of_keys_inside_a_dict_is_a_change() -> None:
    log = log_of(d={"a": 1, "b": 2})
    log.value("d")["a"] = log.value("d").pop("a")

    assert list(log.take().edits["d"].left) == ["b", "a"]


def test_taken_values_are_detached_from_the_handlers_objects() -> None:
    log = log_of()
    cart = [1]
    log.assign("cart", cart)
    changes = log.take()
    cart.append(2)

    assert changes.values == {"cart": [1]}


def test_a_change_after_the_take_is_taken_the_next_time() -> None:
    log = log_of()
    cart = [1]
    log.assign("cart", cart)
    log.take()
    cart.append(2)

    assert inside(log.take()) == {"cart": ([1], [1, 2])}


def test_one_list_under_two_keys_is_taken_for_both() -> None:
    log = log_of(a=[1])
    log.assign("b", log.value("a"))
    log.take()
    log.value("b").append(2)

    assert inside(log.take()) == {"a": ([1], [1, 2]), "b": ([1], [1, 2])}


def test_a_key_that_is_set_and_then_unset_is_unset() -> None:
    log = log_of()
    log.assign("a", 1)
    log.remove("a")
    changes = log.take()

    assert (changes.values, changes.unset) == ({}, frozenset({"a"}))


def test_a_key_that_is_unset_and_then_set_is_set() -> None:
    log = log_of(a=1)
    log.remove("a")
    log.assign("a", 2)
    changes = log.take()

    assert (changes.values, changes.unset) == ({"a": 2}, frozenset())


def test_clear_drops_earlier_assignments() -> None:
    log = log_of(a=1)
    log.assign("b", 2)
    log.clear()
    log.assign("c", 3)
    changes = log.take()

    assert (changes.cleared, changes.values) == (True, {"c": 3})


def test_clear_keeps_a_flash_for_the_next_request() -> None:
    log = log_of()
    log.flash("notice", "Bye.")
    log.clear()

    assert [flash.value for flash in log.take().flashes_added] == ["Bye."]


def test_loaded_flashes_are_used_up_only_by_the_first_take() -> None:
    log = ChangeLog({}, [NOTICE])

    assert log.take().flashes_used == {"f1"}
    assert not log.take()


def test_flashes_read_under_a_retired_id_are_not_used_up() -> None:
    log = ChangeLog({}, [NOTICE], use_flashes=False)

    assert log.value("notice") == "Saved."
    assert not log.take()


def test_using_up_a_flash_does_not_count_as_a_change_by_the_handler() -> None:
    changes = ChangeLog({}, [NOTICE]).take()

    assert changes
    assert not changes.by_handler


def test_a_flash_is_detached_from_the_handlers_object() -> None:
    log, messages = log_of(), ["a"]
    log.flash("notice", messages)
    messages.append("b")

    assert log.take().flashes_added[0].value == ["a"]


def test_after_mark_watched_read_lists_are_taken_even_if_unchanged() -> None:
    log = log_of(cart=[1], unread=[2], n=3)
    log.value("cart")
    log.value("n")
    log.mark_watched()

    assert log.take().values == {"cart": [1]}


def test_a_bad_value_inside_a_list_fails_the_take_and_keeps_the_log() -> None:
    log = log_of(cart=[1])
    log.assign("a", 1)
    cart = log.value("cart")
    cart.append(object())
    with pytest.raises(TypeError, match=r"session\['cart'\]\[1\]"):
        log.take()
    cart.pop()

    assert log.take().values["a"] == 1


# --- put back


def test_changes_that_were_put_back_are_taken_again() -> None:
    log = ChangeLog({"a": 1, "b": 2, "cart": [1]}, [NOTICE])
    log.assign("a", 3)
    log.remove("b")
    log.value("cart").append(2)
    log.flash("next", "x")
    first = log.take()
    log.put_back(first)
    again = log.take()

    assert again._replace(edits={}) == first._replace(edits={})
    assert inside(again) == inside(first) == {"cart": ([1], [1, 2])}


def test_a_later_value_wins_over_one_that_was_put_back() -> None:
    log = log_of()
    log.assign("a", "early")
    taken = log.take()
    log.assign("a", "late")
    log.put_back(taken)

    assert log.take().values == {"a": "late"}


def test_a_value_that_was_put_back_does_not_undo_a_later_unset() -> None:
    log = log_of(a=0)
    log.assign("a", 1)
    taken = log.take()
    log.remove("a")
    log.put_back(taken)
    changes = log.take()

    assert (changes.values, changes.unset) == ({}, frozenset({"a"}))


def test_an_unset_that_was_put_back_does_not_undo_a_later_value() -> None:
    log = log_of(a=0)
    log.remove("a")
    taken = log.take()
    log.assign("a", 1)
    log.put_back(taken)
    changes = log.take()

    assert (changes.values, changes.unset) == ({"a": 1}, frozenset())


def test_changes_that_were_put_back_do_not_survive_a_later_clear() -> None:
    log = log_of(b=0)
    log.assign("a", 1)
    log.remove("b")
    taken = log.take()
    log.clear()
    log.put_back(taken)
    changes = log.take()

    assert (changes.values, changes.unset, changes.cleared) == ({}, frozenset(), True)


def test_a_clear_that_was_put_back_keeps_later_values() -> None:
    log = log_of(a=0)
    log.clear()
    taken = log.take()
    log.assign("b", 1)
    log.put_back(taken)
    changes = log.take()

    assert (changes.values, changes.cleared) == ({"b": 1}, True)


def test_flashes_that_were_put_back_come_before_later_ones() -> None:
    log = log_of()
    log.flash("notice", "early")
    taken = log.take()
    log.flash("notice", "late")
    log.put_back(taken)

    assert [flash.value for flash in log.take().flashes_added] == ["early", "late"]


def test_a_change_inside_a_list_during_a_failing_save_is_taken_by_the_next_save() -> None:
    log = log_of(cart=[1])
    log.value("cart").append(2)
    taken = log.take()
    log.value("cart").append(3)
    log.put_back(taken)

    assert inside(log.take()) == {"cart": ([1], [1, 2, 3])}


def test_a_discard_during_a_failing_save_discards_its_changes_too() -> None:
    log = ChangeLog({"a": 1}, [NOTICE])
    log.assign("a", 2)
    log.assign("b", 3)
    taken = log.take()
    log.discard()
    log.put_back(taken)
    changes = log.take()

    assert not changes.by_handler
    assert readable(log) == {"a": 1, "notice": "Saved."}


def test_a_discard_during_a_failing_save_still_uses_up_the_loaded_flashes() -> None:
    log = ChangeLog({}, [NOTICE])
    taken = log.take()
    log.discard()
    log.put_back(taken)

    assert log.take().flashes_used == {"f1"}


# --- the rest


def test_removing_a_missing_key_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="missing"):
        log_of(a=1).remove("missing")


def test_the_largest_keys_come_first() -> None:
    data = {"small": 1, "large": "x" * 50, "middle": "x" * 20, "tiny": 0}

    assert [key for key, _ in largest_keys(data)] == ["large", "middle", "small"]
