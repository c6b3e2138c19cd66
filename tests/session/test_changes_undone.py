"""What a request sees after a save, and after a discard."""

from typing import Any

import pytest

from aiohttp_session_store.record.changes import Flash
from aiohttp_session_store.session.change_log import ChangeLog

NOTICE = Flash("f1", "notice", "Saved.")


def log_of(**data: Any) -> ChangeLog:
    return ChangeLog(data)


def readable(log: ChangeLog) -> dict[str, Any]:
    return {key: log.value(key) for key in tuple(log.keys())}


# --- after a save


def test_after_a_save_the_keys_of_other_requests_can_be_read() -> None:
    log = log_of(a=1)
    log.assign("a", 2)
    log.take()
    log.rebase({"a": 2, "theirs": 3})

    assert readable(log) == {"a": 2, "theirs": 3}


def test_changes_made_during_the_save_are_kept_after_it() -> None:
    log = log_of(a=1, b=1, c=1)
    log.assign("a", 2)
    log.take()
    log.assign("b", 5)
    log.remove("c")
    log.rebase({"a": 2, "b": 1, "c": 1})

    assert readable(log) == {"a": 2, "b": 5}


def test_a_clear_during_the_save_still_applies_after_it() -> None:
    log = log_of(a=1)
    log.assign("a", 2)
    log.take()
    log.clear()
    log.assign("new", 3)
    log.rebase({"a": 2, "theirs": 3})

    assert readable(log) == {"new": 3}


def test_a_changed_list_still_belongs_to_the_session_after_a_save() -> None:
    log = log_of(cart=[1])
    cart = log.value("cart")
    cart.append(2)
    log.take()
    log.rebase({"cart": [1, 2]})
    cart.append(3)

    assert log.take().edits["cart"][:2] == ([1, 2], [1, 2, 3])


def test_a_list_that_was_only_read_still_belongs_to_the_session_after_a_save() -> None:
    log = log_of(cart=[1], a=1)
    cart = log.value("cart")
    log.assign("a", 2)
    log.take()
    log.rebase({"cart": [1], "a": 2})
    cart.append(2)

    assert log.take().edits["cart"][:2] == ([1], [1, 2])


# --- discard


def test_discard_restores_scalars_and_unset_keys() -> None:
    log = log_of(a=1, b=2)
    log.assign("a", 3)
    log.assign("c", 4)
    log.remove("b")
    log.discard()

    assert readable(log) == {"a": 1, "b": 2}
    assert not log.dirty


def test_discard_undoes_changes_inside_a_value() -> None:
    log = log_of(cart={"items": [1]})
    log.value("cart")["items"].append(2)
    log.discard()

    assert readable(log) == {"cart": {"items": [1]}}
    assert not log.take()


def test_discard_detaches_lists_that_were_handed_out() -> None:
    log = log_of(cart=[1])
    cart = log.value("cart")
    log.discard()
    cart.append(2)

    assert readable(log) == {"cart": [1]}


@pytest.mark.parametrize("undo", ["clear", "remove", "assign"])
def test_discard_restores_a_list_that_was_changed_and_then_removed(undo: str) -> None:
    log = log_of(cart=[1])
    log.value("cart").append(2)
    if undo == "clear":
        log.clear()
    elif undo == "remove":
        log.remove("cart")
    else:
        log.assign("cart", log.value("cart"))
    log.discard()

    assert readable(log) == {"cart": [1]}


def test_discard_after_a_failed_save_goes_back_to_what_was_loaded() -> None:
    log = log_of(cart=[1])
    log.value("cart").append(2)
    log.put_back(log.take())
    log.discard()

    assert readable(log) == {"cart": [1]}


def test_discard_after_changed_and_a_failed_save_goes_back_to_what_was_loaded() -> None:
    log = log_of(cart=[1])
    log.value("cart")
    log.mark_watched()
    log.value("cart").append(2)
    log.put_back(log.take())
    log.discard()

    assert readable(log) == {"cart": [1]}


def test_discard_after_a_save_goes_back_to_what_was_saved() -> None:
    log = log_of(cart=[1])
    log.value("cart").append(2)
    log.take()
    log.rebase({"cart": [1, 2]})
    log.value("cart").append(3)
    log.discard()

    assert readable(log) == {"cart": [1, 2]}


@pytest.mark.parametrize("how", ["remove", "clear"])
def test_discard_restores_a_hidden_flash(how: str) -> None:
    log = ChangeLog({}, [NOTICE])
    if how == "remove":
        log.remove("notice")
    else:
        log.clear()
    log.discard()

    assert readable(log) == {"notice": "Saved."}


def test_discard_withdraws_new_flashes() -> None:
    log = log_of()
    log.flash("notice", "x")
    log.discard()

    assert not log.take()


def test_changes_never_reach_the_loaded_data() -> None:
    base = {"cart": [1], "d": {"x": []}}
    log = ChangeLog(base)
    log.value("cart").append(2)
    log.value("d")["x"].append(1)
    log.take()

    assert base == {"cart": [1], "d": {"x": []}}
