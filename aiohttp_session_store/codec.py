"""What a session can hold: values that come back from JSON as they went in, or nothing is stored at all.

Left to itself, JSON turns tuples into lists, integer keys into strings and NaN into rubbish.  :func:`freeze` refuses
all of that with the path of the offending value, and copies what it lets through, so that a later change in the
handler cannot leak into bytes that are being written.
"""

from math import isfinite
from typing import Any

# Deep enough for real data; CPython's own decoder gives up near 1000, and other encoders at 254.
MAX_DEPTH = 100
# What 64 bits hold: beyond them other JSON encoders and databases fail or round (RFC 8259, section 6).
MIN_INTEGER, MAX_INTEGER = -(2**63), 2**64 - 1


class _UnstorableError(Exception):
    """Carries the reason up through the levels, each of which adds its step to the path."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.path: list[str | int] = []


def freeze(value: Any, name: str) -> Any:
    """Copy *value*, having proved that JSON gives it back unchanged.

    Args:
        value: What the handler stored under *name*.
        name: The key in the session, for the message.

    Raises:
        TypeError: Some part of *value* cannot be stored; the message names its path.
    """
    try:
        return _copy(value, 0)
    except _UnstorableError as error:
        path = "".join(f"[{step!r}]" for step in (name, *reversed(error.path)))
        raise TypeError(f"session{path}: {error}") from None


def check_key(key: Any) -> None:
    """Refuse a session key that JSON would change.

    Raises:
        TypeError: *key* is not a plain string of Unicode characters.
    """
    if type(key) is str and key.isascii():
        return
    try:
        _check_key(key)
    except _UnstorableError as error:
        raise TypeError(f"session key {key!r}: {error}") from None


def _copy(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind is str:
        _check_text(value)
        return value
    if value is None or kind is bool:
        return value
    if kind is int:
        if not MIN_INTEGER <= value <= MAX_INTEGER:
            raise _UnstorableError("an integer beyond 64 bits; store it as a string")
        return value
    if kind is float:
        if not isfinite(value):
            raise _UnstorableError(f"{value} has no form in JSON")
        return value
    if kind is list or kind is dict:
        if depth >= MAX_DEPTH:
            raise _UnstorableError(f"nested deeper than {MAX_DEPTH} levels, or containing itself")
        return _copy_list(value, depth + 1) if kind is list else _copy_dict(value, depth + 1)
    raise _UnstorableError(_explain(kind))


def _copy_list(values: list[Any], depth: int) -> list[Any]:
    copy = []
    for value in values:
        try:
            copy.append(_copy(value, depth))
        except _UnstorableError as error:
            error.path.append(len(copy))
            raise
    return copy


def _copy_dict(values: dict[Any, Any], depth: int) -> dict[str, Any]:
    copy = {}
    for key, value in values.items():
        try:
            _check_key(key)
            copy[key] = _copy(value, depth)
        except _UnstorableError as error:
            error.path.append(key)
            raise
    return copy


def _check_key(key: Any) -> None:
    if type(key) is not str:
        raise _UnstorableError(f"keys are strings, and this one is of type {type(key).__name__}")
    _check_text(key)


def _check_text(text: str) -> None:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise _UnstorableError("a string with half a surrogate pair is not Unicode text") from None


def _explain(kind: type[Any]) -> str:
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    for plain in (list, dict, str, int, float):
        if issubclass(kind, plain):
            return f"a {name} would come back as a plain {plain.__name__}; store {plain.__name__}(value)"
    if issubclass(kind, tuple | set | frozenset):
        return f"a {name} would come back as a list; store list(value)"
    return f"a {name} cannot be stored; store a str, int, float, bool, None, list or dict made from it"
