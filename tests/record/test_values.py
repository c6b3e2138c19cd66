"""Only values that come back unchanged are stored; others are refused with the path of the offending value."""

import datetime
import enum
import zoneinfo
from collections import Counter, OrderedDict
from decimal import Decimal
from typing import Any, NamedTuple

import pytest

from aiohttp_session_store.record.values import MAX_DEPTH, MAX_INTEGER, MIN_INTEGER, check_key, freeze


class Point(NamedTuple):
    x: int


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    ONE = 1


class MyFloat(float):
    pass


class MyList(list[int]):
    pass


PARIS = zoneinfo.ZoneInfo("Europe/Paris")
REFUSED: list[tuple[Any, str]] = [
    (float("nan"), "nan cannot be represented in JSON"),
    (float("inf"), "inf cannot be represented in JSON"),
    (float("-inf"), "-inf cannot be represented in JSON"),
    (Decimal("NaN"), "NaN is not a finite number"),
    (Decimal("-Infinity"), "-Infinity is not a finite number"),
    (Point(1), "a tests.record.test_values.Point would come back as a plain tuple; store tuple(value)"),
    (frozenset({1}), "a frozenset would come back as set; store set(value)"),
    (bytearray(b""), "a bytearray would come back as bytes; store bytes(value)"),
    (memoryview(b""), "a memoryview would come back as bytes; store bytes(value)"),
    (
        datetime.datetime(2024, 1, 1, tzinfo=PARIS),
        "a datetime in the zone Europe/Paris would come back with only its offset; store value.astimezone(",
    ),
    (
        datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(microseconds=1))),
        "a datetime with the offset 0:00:00.000001 would come back with another one",
    ),
    (datetime.timedelta(1), "a datetime.timedelta cannot be stored; store a str, int"),
    (datetime.time(1), "a datetime.time cannot be stored"),
    (object(), "an object cannot be stored"),
    (1j, "a complex cannot be stored"),
    (range(3), "a range cannot be stored"),
    ("\ud800", "a string with half a surrogate pair is not Unicode text"),
    ("ok \udfff", "a string with half a surrogate pair is not Unicode text"),
    (MAX_INTEGER + 1, "an integer beyond 64 bits; store it as a string"),
    (MIN_INTEGER - 1, "an integer beyond 64 bits; store it as a string"),
    (Colour.RED, "a tests.record.test_values.Colour would come back as a plain str; store str(value)"),
    (Level.ONE, "a tests.record.test_values.Level would come back as a plain int; store int(value)"),
    (MyFloat(1), "a tests.record.test_values.MyFloat would come back as a plain float; store float(value)"),
    (MyList(), "a tests.record.test_values.MyList would come back as a plain list; store list(value)"),
    (OrderedDict(a=1), "a collections.OrderedDict would come back as a plain dict; store dict(value)"),
    (Counter("a"), "a collections.Counter would come back as a plain dict; store dict(value)"),
]


NAMES = [repr(value).partition(" at 0x")[0][:40] for value, _ in REFUSED]  # ids must be the same in every process


@pytest.mark.parametrize(("value", "reason"), REFUSED, ids=NAMES)
def test_a_value_that_would_not_come_back_unchanged_is_refused(value: Any, reason: str) -> None:
    with pytest.raises(TypeError) as caught:
        freeze(value, "k")

    assert str(caught.value).startswith(f"session['k']: {reason}")


@pytest.mark.parametrize(("value", "reason"), REFUSED, ids=NAMES)
def test_the_message_names_the_path_of_the_offending_value(value: Any, reason: str) -> None:
    with pytest.raises(TypeError) as caught:
        freeze({"a": [0, {"b c": value}], "z": 1}, "cart")

    assert str(caught.value).startswith(f"session['cart']['a'][1]['b c']: {reason}")


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (1, "keys are strings, and this one is of type int"),
        (None, "keys are strings, and this one is of type NoneType"),
        (True, "keys are strings, and this one is of type bool"),
        ((1, 2), "keys are strings, and this one is of type tuple"),
        (Colour.RED, "keys are strings, and this one is of type Colour"),
        ("\ud800", "a string with half a surrogate pair is not Unicode text"),
    ],
)
def test_a_key_of_a_dict_that_json_would_change_is_refused(key: Any, reason: str) -> None:
    with pytest.raises(TypeError) as caught:
        freeze([{key: 1}], "k")

    assert str(caught.value) == f"session['k'][0][{key!r}]: {reason}"


@pytest.mark.parametrize("key", [1, None, b"k", Colour.RED, ("k",), "\udc00"])
def test_a_key_of_the_session_that_json_would_change_is_refused(key: Any) -> None:
    with pytest.raises(TypeError) as caught:
        check_key(key)

    assert str(caught.value).startswith(f"session key {key!r}: ")


def test_the_message_about_a_key_with_a_surrogate_can_be_encoded() -> None:
    with pytest.raises(TypeError) as caught:
        check_key("\ud800")

    assert str(caught.value).encode() == (
        rb"session key '\ud800': a string with half a surrogate pair is not Unicode text"
    )


def test_a_list_that_contains_itself_is_refused() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)

    with pytest.raises(TypeError, match="nested deeper than 100 levels, or containing itself"):
        freeze(cycle, "k")


def test_a_dict_that_contains_itself_through_a_list_is_refused() -> None:
    cycle: dict[str, Any] = {"a": []}
    cycle["a"].append(cycle)

    with pytest.raises(TypeError, match=r"session\['k'\]\['a'\]\[0\]\['a'\].*or containing itself"):
        freeze(cycle, "k")


@pytest.mark.parametrize("value", [(1, [object()]), {1, (object,)}])
def test_the_path_reaches_into_tuples_and_sets(value: Any) -> None:
    with pytest.raises(TypeError, match=r"session\['k'\]\[\d\]\[\d\]: "):
        freeze(value, "k")


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def test_more_than_a_hundred_levels_of_nesting_are_refused() -> None:
    with pytest.raises(TypeError, match="nested deeper than 100 levels"):
        freeze(nested(MAX_DEPTH + 1), "k")


def test_a_frozen_value_is_a_deep_copy() -> None:
    value = {"a": [{"b": [1]}]}
    frozen = freeze(value, "k")

    value["a"][0]["b"].append(2)

    assert frozen == {"a": [{"b": [1]}]}
