"""The rules for a change inside a value, told plainly: every element of a list has a name, so no element is guessed.

The elements of lists are numbers, each used once, and dicts that begin with an ``id`` which nobody changes.  So what is
which can be seen, and the merge of the package, which has to find it out, must come to the same.
"""

from typing import Any


def merged(given: Any, left: Any, newest: Any) -> Any:
    """Return *newest* with what a request changed, which was given one value and left another."""
    if given == left:
        return newest
    if isinstance(left, dict) and isinstance(given, dict) and isinstance(newest, dict):
        return _dict(given, left, newest)
    if isinstance(left, set) and isinstance(given, set) and isinstance(newest, set):
        return (newest - (given - left)) | (left - given)
    if isinstance(left, list) and isinstance(given, list) and isinstance(newest, list):
        return _list(given, left, newest)
    return left


def _dict(given: dict[str, Any], left: dict[str, Any], newest: dict[str, Any]) -> dict[str, Any]:
    result = dict(newest)
    for key in given.keys() - left.keys():
        result.pop(key, None)
    for key, value in left.items():
        if key in given and key in newest:
            result[key] = merged(given[key], value, newest[key])
        elif key not in given and isinstance(value, dict) and isinstance(newest.get(key), dict):
            result[key] = merged({}, value, newest[key])
        elif key not in given or value != given[key]:
            result[key] = value
    return result


def _list(given: list[Any], left: list[Any], newest: list[Any]) -> list[Any]:
    if newest == given:
        return left
    names, ours, theirs = ([_name(element) for element in one] for one in (given, left, newest))
    if _new_order(names, ours) or _new_order(names, [name for name in theirs if name in names]):
        return left
    before, after = dict(zip(names, given, strict=True)), dict(zip(ours, left, strict=True))
    result = []
    for name, element in zip(theirs, newest, strict=True):
        if name in before and name in after:
            result.append(merged(before[name], after[name], element))
        elif name not in before:
            result.append(element)
    return result + [element for name, element in after.items() if name not in before]


def _new_order(names: list[Any], others: list[Any]) -> bool:
    """Return whether the elements that stayed are in another order, or have a new one among them."""
    places = [names.index(name) if name in names else len(names) for name in others]
    return places != sorted(places)


def _name(element: Any) -> Any:
    return ("id", element["id"]) if isinstance(element, dict) else element
