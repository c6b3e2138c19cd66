"""The note about a device, also one that somebody else has written."""

import json

import pytest

from aiohttp_session_store.device.binding import NOTE, Binding, binding_of, bound_first, taken
from aiohttp_session_store.record.head import Head

WHOLE = {"id": "i", "key": "k", "bound_at": 1700000000, "turn": 3, "by": "b"}


def read(note: str) -> Binding | None:
    return binding_of(Head("ada", 1, "line", 9, notes={NOTE: note}))


def test_the_form_of_the_note_is_fixed() -> None:
    note = '{"id":"i","key":"k","bound_at":1700000000,"turn":3,"by":"b"}'

    assert Binding(**WHOLE).text() == note  # type: ignore[arg-type]
    assert read(note) == Binding(**WHOLE)  # type: ignore[arg-type]


def test_what_a_newer_version_says_besides_is_passed_over() -> None:
    assert read(json.dumps({**WHOLE, "new": [1]})) == Binding(**WHOLE)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "note",
    ["", "x", "[]", "null", "5", "{}", "[" * 5000, *(json.dumps({**WHOLE, name: None}) for name in WHOLE)],
    ids=["empty", "text", "list", "null", "number", "object", "deep", *WHOLE],
)
def test_a_damaged_note_is_a_binding_that_nothing_proves(note: str) -> None:
    assert read(note) == Binding("", "", 0)


def test_without_a_note_there_is_no_binding() -> None:
    assert binding_of(None) is None
    assert binding_of(Head("ada", 1, "line", 9)) is None


def test_the_first_binding_stays() -> None:
    first, second = Binding("i", "k", 1), Binding("i", "l", 2)

    assert bound_first(first)(None) == first.text()
    assert bound_first(second)(first.text()) == first.text()


@pytest.mark.parametrize("turn", [0, 2, 3, 4])
def test_a_turn_is_taken_once(turn: int) -> None:
    before = Binding("i", "k", 1, turn=3, by="x")

    note = taken(turn, "y")(before.text()) or ""

    assert read(note) == (Binding("i", "k", 1, turn=4, by="y") if turn == 3 else before)
    assert taken(3, "z")(note) == (note if turn == 3 else Binding("i", "k", 1, turn=4, by="z").text())
    assert taken(turn, "y")(None) is None
