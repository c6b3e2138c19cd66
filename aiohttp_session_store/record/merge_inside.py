"""Merging a change inside a value: what the handler was given, what it left, and the newest value.

Both sides of such a change are known only by their content, as a record holds it.  In addition, the elements of a list
that the handler holds are known by their objects, so it is known which of them was changed, removed or moved.  The
rules are told in ``docs/concurrency.md``.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from .changes import Edit, Objects
from .json_encoders import dumps
from .values import tag_of, thaw

# A list beyond either of these is taken whole unless both sides only appended: its elements are compared one by one.
MOST_ELEMENTS, MOST_BYTES = 10_000, 256 * 1024
# Bytes that a merge of one value looks at. Lists in lists would be looked at once for each level otherwise.
_ROOM = 8 * MOST_BYTES

_SET = "$set"
_CHANGEABLE = (dict, list, set)
# What the text of a dict or list begins with; or the empty string.
_BRACKETS = "{["


def merge_inside(edit: Edit, newest: Any) -> Any:
    """Return *newest*, in the frozen form, with the change that *edit* made to what it was given."""
    given, left, objects = edit
    if newest is given or dumps(newest) == dumps(given):
        return left
    return _Merging(objects).value(given, left, newest)


class _Merging:
    """One merge, and how much it may still look at."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._room = _ROOM

    def value(self, given: Any, left: Any, newest: Any) -> Any:
        kind = _kind(left)
        if kind is None or kind != _kind(given) or kind != _kind(newest):
            return newest if _same(given, left) else left
        if kind is dict:
            return self._dict(given, left, newest)
        return self._list(given, left, newest) if kind is list else _set(given, left, newest)

    def _dict(self, given: dict[str, Any], left: dict[str, Any], newest: dict[str, Any]) -> dict[str, Any]:
        merged = dict(newest)
        for key, value in left.items():
            if key in given:
                if key in newest:
                    merged[key] = self.value(given[key], value, newest[key])
                elif not _same(given[key], value):
                    merged[key] = value
            elif key in newest and _kind(value) is dict and _kind(newest[key]) is dict:
                merged[key] = self._dict({}, value, newest[key])
            else:
                merged[key] = value
        for key in given:
            if key not in left:
                merged.pop(key, None)
        return merged

    def _list(self, given: list[Any], left: list[Any], newest: list[Any]) -> list[Any]:
        texts = dumps(given), dumps(left), dumps(newest)
        if texts[0] == texts[2]:
            return left
        if texts[0] == texts[1]:
            return newest
        if _starts(texts[1], texts[0]) and _starts(texts[2], texts[0]):
            return newest + left[len(given) :]
        self._room -= sum(map(len, texts))
        if self._room < 0 or max(map(len, texts)) > MOST_BYTES:
            return left
        if max(len(given), len(left), len(newest)) > MOST_ELEMENTS:
            return left
        if _are_simple(given) and _are_simple(left) and _are_simple(newest):
            return _simple_lists(given, left, newest)
        tokens = [_token(element) for element in given]
        left_tokens, newest_tokens = _tokens(left, given, tokens), _tokens(newest, given, tokens)
        ours = self._ours(given, left, tokens, left_tokens)
        theirs = _theirs(given, newest, tokens, newest_tokens)
        if ours is None or theirs is None:
            return left
        place = {index: number for number, index in enumerate(theirs) if index is not None}
        merged = list(newest)
        for number, index in enumerate(ours):
            where = None if index is None else place.pop(index, None)
            if index is None or where is None or left_tokens[number] == tokens[index]:
                continue  # new, removed by the other request, or not changed by this one
            untouched = newest_tokens[where] == tokens[index]
            merged[where] = left[number] if untouched else self.value(given[index], left[number], newest[where])
        gone = set(place.values())
        return [
            *(element for number, element in enumerate(merged) if number not in gone),
            *(element for element, index in zip(left, ours, strict=True) if index is None),
        ]

    def _ours(
        self, given: list[Any], left: list[Any], tokens: Sequence[object], left_tokens: Sequence[object]
    ) -> list[int | None] | None:
        """Return which element of *given* each one of *left* is, None for a new one; or None for a new order."""
        handed, held = self._objects.get(id(given), ()), self._objects.get(id(left), ())
        known = {id(value): index for index, value in enumerate(handed) if isinstance(value, _CHANGEABLE)}
        found: list[int | None] = [None] * len(left)
        for number, value in enumerate(held):
            if isinstance(value, _CHANGEABLE):
                found[number] = known.pop(id(value), None)
        _in_order(found, tokens, left_tokens)
        indexes = [index for index in found if index is not None]
        new = left_tokens[len(indexes) :]
        if any(index is None for index in found[: len(indexes)]) or any(map(_before, indexes, indexes[1:])):
            return None
        kept = set(indexes)
        removed = {token for index, token in enumerate(tokens) if index not in kept} if new else ()
        return None if any(token in removed for token in new) else found


def _are_simple(elements: list[Any]) -> bool:
    """Return whether all elements are strings or integers, each another one, as in most long lists."""
    return {*map(type, elements)} <= {str, int} and len(set(elements)) == len(elements)


def _simple_lists(given: list[Any], left: list[Any], newest: list[Any]) -> list[Any]:
    """Do the same as for other lists, in a tenth of the time."""
    before, after, now = set(given), set(left), set(newest)
    kept = [element for element in given if element in after]
    if left[: len(kept)] != kept:
        return left  # a new order
    if [element for element in given if element in now] != [element for element in newest if element in before]:
        return left
    return [element for element in newest if element in after or element not in before] + left[len(kept) :]


def _theirs(
    given: list[Any], newest: list[Any], tokens: list[object], newest_tokens: Sequence[object]
) -> list[int | None] | None:
    """Return which element of *given* each one of *newest* is, None for others; or None for a new order.

    An element that was changed meanwhile is recognised by its first entry, or by its index if one behind it has not
    moved, or if it has no first entry that could be an id and all before it are where they were.
    """
    found: list[int | None] = [None] * len(newest)
    if not any(map(_kind, given)) and _are_all_there(found, tokens, newest_tokens):
        return found
    _in_order(found, tokens, newest_tokens)
    changed_inside = None in found[: _length(found)]
    if changed_inside:  # equal elements are more likely at their own index
        found = [index if tokens[index : index + 1] == [token] else None for index, token in enumerate(newest_tokens)]
        _in_order(found, tokens, newest_tokens)
    unknown = set(range(len(given))).difference(found)
    rest = {tokens[index] for index in unknown}
    for number, index in enumerate(found):
        if index is None and newest_tokens[number] in rest and not (changed_inside and _kind(newest[number])):
            return None  # moved
    _by_first_entry(found, unknown, given, newest)
    indexes = [index for index in found if index is not None]
    if any(map(_before, indexes, indexes[1:])):
        return None
    unmoved = max((number for number, index in enumerate(found) if number == index), default=0)
    for number in sorted(unknown):
        kind = _kind(given[number])
        if number >= len(newest) or found[number] is not None or kind is None or kind is not _kind(newest[number]):
            continue
        if number < unmoved or _stays(number, found, given[number], newest[number]):
            found[number] = number
    return found


def _stays(number: int, found: list[int | None], given: Any, newest: Any) -> bool:
    """Return whether an element that nothing tells apart, such as an empty list, stands where it stood."""
    if number > 0 and found[number - 1] != number - 1:
        return False
    return _first_entry(given) is None and (not given or _first_entry(newest) is None)


def _are_all_there(found: list[int | None], tokens: Sequence[object], others: Sequence[object]) -> bool:
    """Return whether all elements are there, in order, with others before, among or behind them; and fill them in."""
    index = 0
    for number, token in enumerate(others):
        if index < len(tokens) and token == tokens[index]:
            found[number] = index
            index += 1
    if index < len(tokens):
        found[:] = [None] * len(others)
    return index == len(tokens)


def _in_order(found: list[int | None], tokens: Sequence[object], others: Sequence[object]) -> None:
    """Fill in, from the left, the next element with the same content that is not found yet."""
    taken = {index for index in found if index is not None}
    places: dict[object, list[int]] | None = None
    last = -1
    for number, token in enumerate(others):
        index = found[number]
        if index is None:
            for following in range(last + 1, min(last + 4, len(tokens))):  # most often it is one of these
                if tokens[following] == token and following not in taken:
                    index = following
                    break
            else:
                if places is None:
                    places = _places(tokens, taken)
                stack = places.get(token, [])
                while stack and stack[-1] <= last:
                    stack.pop()
                index = stack.pop() if stack else None
            found[number] = index
        if index is not None and index > last:
            last = index


def _places(tokens: Sequence[object], taken: set[int]) -> dict[object, list[int]]:
    """Return the indexes of each token but those that are *taken*, the first one last."""
    places: dict[object, list[int]] = {}
    for index in range(len(tokens) - 1, -1, -1):
        if index not in taken:
            places.setdefault(tokens[index], []).append(index)
    return places


def _by_first_entry(found: list[int | None], unknown: set[int], given: list[Any], newest: list[Any]) -> None:
    """Fill in the elements that have a first entry which no other one has, and take them out of *unknown*."""
    before = _unique(unknown, given)
    after = _unique([number for number, index in enumerate(found) if index is None], newest)
    for entry, number in after.items():
        index = before.get(entry)
        if index is not None and number is not None and not _same(given[index], newest[number]):
            found[number] = index
            unknown.discard(index)


def _unique(numbers: Iterable[int], elements: list[Any]) -> dict[bytes, int | None]:
    unique: dict[bytes, int | None] = {}
    for number in numbers:
        entry = _first_entry(elements[number])
        if entry is not None:
            unique[entry] = None if entry in unique else number
    return unique


def _first_entry(element: Any) -> bytes | None:
    kind = _kind(element)
    if kind not in (dict, list) or not element:
        return None
    key, value = next(iter(element.items())) if kind is dict else (0, element[0])
    if type(value) in (str, int) or tag_of(value) not in (None, _SET, "$tuple"):  # what an id can be
        return dumps([key, value])
    return None


def _length(found: Sequence[int | None]) -> int:
    """Return the length of *found* up to its last known element."""
    return max((number + 1 for number, index in enumerate(found) if index is not None), default=0)


def _before(index: int, following: int) -> bool:
    return following < index


def _set(given: dict[str, Any], left: dict[str, Any], newest: dict[str, Any]) -> dict[str, Any]:
    before, after = ({dumps(element) for element in one[_SET]} for one in (given, left))
    kept = [element for element in newest[_SET] if (text := dumps(element)) in after or text not in before]
    added = [element for element in left[_SET] if dumps(element) not in before]
    merged = {thaw(element): element for element in [*added, *kept]}  # as a set has it: 1 and True are one element
    return {_SET: sorted(merged.values(), key=dumps)}


def _kind(value: Any) -> Any:
    """Return dict, list or set for what is merged inside, None for what is only replaced."""
    kind = type(value)
    if kind is not dict:
        return list if kind is list else None
    tag = tag_of(value)
    return dict if tag is None else set if tag == _SET else None


def _token(element: Any) -> object:
    """Return something that is equal for equal content of the same type."""
    kind = type(element)
    if kind is dict or kind is list:
        return repr(element)  # thousands of results of orjson.dumps cost ten times that: each takes a kilobyte first
    return element if kind is str and element[:1] not in _BRACKETS else (kind, element)


def _tokens(elements: list[Any], like: list[Any], known: list[object]) -> list[object]:
    """Return the token of each element, given another list with the tokens of its elements.

    Most elements are those of the other list, in the same order.  To compare two takes a tenth of the time of making a
    token.  To Python, ``1`` equals ``True``, so what was found to be equal is compared as text once more, all at once.
    """
    tokens: list[object] = []
    equal: tuple[list[Any], list[Any]] = [], []
    at, most = 0, len(like)
    for element in elements:
        for index in (at, at + 1):  # one may have been removed
            if index < most and element == like[index]:
                break
        else:
            tokens.append(_token(element))
            at += 1
            continue
        tokens.append(known[index])
        equal[0].append(element)
        equal[1].append(like[index])
        at = index + 1
    return tokens if dumps(equal[0]) == dumps(equal[1]) else [_token(element) for element in elements]


def _same(one: Any, other: Any) -> bool:
    return one is other or dumps(one) == dumps(other)


def _starts(text: bytes, beginning: bytes) -> bool:
    """Return whether an encoded list starts with the elements of another one."""
    length = len(beginning) - 1
    return text.startswith(beginning[:-1]) and (length == 1 or text[length : length + 1] in (b",", b"]"))
