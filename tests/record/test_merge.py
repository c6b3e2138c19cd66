"""What parallel requests change inside values, merged in any order of their saves; a plain model tells the rules."""

import itertools
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiohttp_session_store.record.changes import Changes, Edit
from aiohttp_session_store.record.format import Record, decode_record, encode_record
from aiohttp_session_store.record.merge import merge
from aiohttp_session_store.record.merge_inside import MOST_BYTES, MOST_ELEMENTS, merge_inside
from aiohttp_session_store.record.values import freeze, note_elements, thaw
from aiohttp_session_store.session.change_log import ChangeLog
from tests.record import merge_model
from tests.record.strategies import typed, values

Handler = Callable[[Any], object]


def edit_of(value: Any, handler: Handler) -> Edit:
    """Return what *handler* changes inside *value*, as a request does that gets it and saves."""
    given = freeze(value, "k")
    objects: dict[int, Any] = {}
    live = thaw(given, objects)
    handler(live)
    left = freeze(live, "k")
    note_elements(left, live, objects)
    return Edit(given, left, objects)


def after(value: Any, *handlers: Handler) -> Any:
    """Return the value when requests that all got *value* have saved, in order."""
    newest = freeze(value, "k")
    for edit in [edit_of(value, handler) for handler in handlers]:
        record = Record(0, 0, None, {"k": newest})
        changes = Changes({}, frozenset(), cleared=False, flashes_used=frozenset(), flashes_added=(), edits={"k": edit})
        stored = decode_record(encode_record(merge(record, [changes], 0, None)))
        assert isinstance(stored, Record)
        newest = stored.data["k"]
    return thaw(newest)


# --- the rules, one by one

CART = [{"article": 1, "qty": 1}, {"article": 2, "qty": 1}]
TREE = {"ui": {"theme": {"dark": True}, "lang": "en"}, "seen": {1, 2}, "log": [1, 2]}


def quantity(number: int, qty: int) -> Handler:
    return lambda cart: cart[number].update(qty=qty)


@pytest.mark.parametrize(
    ("value", "handlers", "result"),
    [
        ([], [lambda v: v.append(1), lambda v: v.append(2)], {"[1, 2]", "[2, 1]"}),
        (["x"], [lambda v: v.append("x"), lambda v: v.append("x")], {"['x', 'x', 'x']"}),
        ([1, 2, 3], [lambda v: v.remove(1), lambda v: v.append(4), lambda v: v.remove(3)], {"[2, 4]"}),
        ([1, 2, 3], [lambda v: v.remove(1), lambda v: v.remove(1)], {"[2, 3]"}),
        ({1}, [lambda v: v.add(2), lambda v: v.discard(1)], {"{2}"}),
        (
            CART,
            [quantity(0, 5), quantity(1, 6), lambda v: v.append({"article": 3, "qty": 1})],
            {"[{'article': 1, 'qty': 5}, {'article': 2, 'qty': 6}, {'article': 3, 'qty': 1}]"},
        ),
        (
            [{"qty": 1}, {"qty": 1}],
            [quantity(0, 5), quantity(1, 6), lambda v: v.append({"qty": 1})],
            {"[{'qty': 5}, {'qty': 6}, {'qty': 1}]"},
        ),
        (
            [{"id": 1}],
            [lambda v: (v[0].update(a=2), v.insert(0, 5)), lambda v: (v.pop(0), v.append(7))],
            {"[5, 7]", "[5, {'id': 1, 'a': 2}]"},
        ),
        ([[], []], [lambda v: v[1].append(1), lambda v: v[1].append(2)], {"[[], [1, 2]]", "[[], [2, 1]]"}),
        (
            [{"items": []}],
            [lambda v: v[0]["items"].append(1), lambda v: v[0]["items"].append(2), lambda v: v.append({})],
            {"[{'items': [1, 2]}, {}]", "[{'items': [2, 1]}, {}]"},
        ),
        ([{}], [lambda v: v[0].update(a=1), lambda v: v[0].update(b=2)], {"[{'a': 1, 'b': 2}]", "[{'b': 2, 'a': 1}]"}),
        (
            CART,
            [lambda v: v.pop(1), quantity(1, 6), lambda v: v.append({"article": 3, "qty": 1})],
            {"[{'article': 1, 'qty': 1}, {'article': 3, 'qty': 1}]"},
        ),
        (
            CART[:1],
            [lambda v: v.pop(0), quantity(0, 6), lambda v: v.append({"article": 3, "qty": 1})],
            {"[{'article': 3, 'qty': 1}]"},
        ),
        (
            CART,
            [lambda v: v[0].update(qty=2, a=1), lambda v: v[0].update(qty=3, b=1)],
            {f"[{{'article': 1, 'qty': {q}, {order}}}, {{'article': 2, 'qty': 1}}]"
             for q, order in [(3, "'a': 1, 'b': 1"), (2, "'b': 1, 'a': 1")]},
        ),
        ([3, 1, 2], [lambda v: v.sort(), lambda v: v.append(0)], {"[1, 2, 3]", "[3, 1, 2, 0]"}),
        ([1, 2], [lambda v: v.insert(0, 0), lambda v: v.append(3)], {"[0, 1, 2]", "[0, 1, 2, 3]"}),
        ({"a": 1}, [lambda v: v.update(b={"x": 1}), lambda v: v.update(b={"y": 1})],
         {"{'a': 1, 'b': {'x': 1, 'y': 1}}", "{'a': 1, 'b': {'y': 1, 'x': 1}}"}),
        ({"a": [1]}, [lambda v: v.pop("a"), lambda v: v["a"].append(2)], {"{'a': [1, 2]}", "{}"}),
        ([1, True, 1.0], [lambda v: v.pop(1), lambda v: v.append(2)], {"[1, 1.0, 2]"}),
        ([0, [3]], [lambda v: v[1].append(4), lambda v: v[1].append(5)], {"[0, [3, 4, 5]]", "[0, [3, 5, 4]]"}),
    ],
    ids=[
        "append", "append equal", "remove and append", "remove the same", "sets", "quantities", "equal elements",
        "inserted before a changed one", "list at the end", "list in a dict", "empty dict", "article removed",
        "only article removed", "same leaf", "sorted", "inserted", "both put a dict", "deleted", "types",
        "lists in lists",
    ],
)  # fmt: skip
def test_the_rules_hold_in_every_order(value: Any, handlers: list[Handler], result: set[str]) -> None:
    assert {repr(after(value, *order)) for order in itertools.permutations(handlers)} == result


def test_changes_two_levels_down_are_all_kept() -> None:
    handlers: list[Handler] = [
        lambda v: v["ui"]["theme"].update(a=1),
        lambda v: v["ui"].pop("lang"),
        lambda v: (v["seen"].add(3), v["log"].append(3)),
        lambda v: (v["seen"].discard(1), v["ui"].update(b=2)),
    ]
    for order in itertools.permutations(handlers):
        assert after(TREE, *order) == {
            "ui": {"theme": {"dark": True, "a": 1}, "b": 2}, "seen": {2, 3}, "log": [1, 2, 3],
        }  # fmt: skip


def test_a_list_beyond_the_bound_is_taken_whole_but_appends_are_merged() -> None:
    long = list(range(MOST_ELEMENTS + 1))
    append: Handler = lambda v: v.append("a")  # noqa: E731

    assert after(long, append, lambda v: v.append("b")) == [*long, "a", "b"]
    assert after(long, append, lambda v: v.remove(0)) == long[1:]
    assert after(["x" * MOST_BYTES], append, lambda v: v.pop(0)) == []


# --- against the model


def model_values() -> st.SearchStrategy[Any]:
    """Return a strategy for values whose list elements all have a name; see the model."""
    small = st.integers(0, 3)

    def build(shape: Any, numbers: Iterator[int]) -> Any:
        if isinstance(shape, list):
            return [
                {"id": next(numbers), **build(inner, numbers)} if isinstance(inner, dict) else next(numbers)
                for inner in shape
            ]
        return {key: build(inner, numbers) for key, inner in shape.items()} if isinstance(shape, dict) else shape

    shapes = st.recursive(
        small | st.sets(small, max_size=3),
        lambda inner: (
            st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
            | st.lists(small | st.dictionaries(st.sampled_from("abc"), inner, max_size=2), max_size=4)
        ),
        max_leaves=10,
    )
    return st.dictionaries(st.sampled_from("abc"), shapes, max_size=3).map(lambda one: build(one, itertools.count(100)))


def containers(value: Any) -> Iterator[Any]:
    """Yield every dict, list and set in *value*."""
    if isinstance(value, dict | list | set):
        yield value
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from containers(inner)


def change(draw: Callable[[st.SearchStrategy[Any]], Any], value: Any, numbers: Iterator[int]) -> None:
    """Change something inside *value*."""
    found = list(containers(value))
    one = found[draw(st.integers(0, len(found) - 1))]
    number = next(numbers)
    if isinstance(one, set):
        one.symmetric_difference_update({draw(st.integers(0, 4))})
    elif isinstance(one, dict):
        key = draw(st.sampled_from("abcd"))
        fresh = draw(st.sampled_from([None, number, {"a": number}, [number], {number}, {"b": {"a": [number]}}]))
        if fresh is None:
            one.pop(key, None)
        else:
            one[key] = fresh
    else:
        what = draw(st.sampled_from(["append", "append dict", "remove", "remove", "reverse", "insert", "replace"]))
        fresh = {"id": number, "a": 1} if what == "append dict" else number
        place = draw(st.integers(0, max(0, len(one) - 1)))
        if what.startswith("append") or not one:
            one.append(fresh)
        elif what == "remove":
            del one[place]
        elif what == "reverse":
            one.reverse()
        elif what == "insert":
            one.insert(place, fresh)
        else:
            one[place] = fresh


@settings(max_examples=200, deadline=None)
@given(st.data(), model_values(), st.integers(2, 3))
def test_any_requests_in_any_order_come_to_what_the_model_says(drawn: st.DataObject, value: Any, requests: int) -> None:
    numbers = itertools.count(1000)
    logs, expected = [], value
    frozen = {"k": freeze(value, "k")}
    for _ in range(requests):
        log = ChangeLog(frozen)
        live = log.value("k")
        for _ in range(drawn.draw(st.integers(1, 4))):
            change(drawn.draw, live, numbers)
        logs.append((log, live))
    record = Record(0, 0, None, frozen)
    for log, live in drawn.draw(st.permutations(logs)):
        expected = deepcopy(merge_model.merged(value, live, expected))
        stored = decode_record(encode_record(merge(record, [log.take()], 0, None)))
        assert isinstance(stored, Record)
        record = stored

    assert thaw(record.data["k"]) == expected


def test_a_list_of_dicts_tells_equal_elements_of_other_types_apart() -> None:
    value = [{"id": number, "on": True} for number in range(6)]

    def handler(live: list[dict[str, Any]]) -> None:
        live[3]["on"] = 1  # equal to True, but not the same
        del live[0]

    newest = [*value[:5], {"id": 5, "on": 1}, {"id": 6, "on": True}]
    merged = thaw(merge_inside(edit_of(value, handler), freeze(newest, "k")))

    assert [type(element["on"]) for element in merged] == [bool, bool, int, bool, int, bool]
    assert [element["id"] for element in merged] == [1, 2, 3, 4, 5, 6]


@settings(max_examples=200, deadline=None)
@given(values, values, values)
def test_any_values_are_merged_without_an_error(one: Any, left: Any, newest: Any) -> None:
    frozen = freeze(one, "k"), freeze(left, "k"), freeze(newest, "k")
    result = merge_inside(Edit(frozen[0], frozen[1], {}), frozen[2])

    assert typed(thaw(freeze(thaw(result), "k"))) == typed(thaw(result))
    assert typed(thaw(merge_inside(Edit(frozen[0], frozen[1], {}), freeze(one, "k")))) == typed(left)
    assert typed(thaw(merge_inside(Edit(frozen[0], freeze(one, "k"), {}), frozen[2]))) == typed(newest)
