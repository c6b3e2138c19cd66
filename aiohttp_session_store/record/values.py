"""The values that a session can hold.

Every value comes back exactly as it was stored.  If a value cannot come back unchanged, nothing is stored at all.  A
value of a subclass that adds nothing to its base comes back as a value of the base; see :func:`~.kinds.base_of`.

JSON holds strings, numbers, booleans, None, lists and dicts with string keys.  A small, closed set of other types is
written as an object with a single key, the tag: ``{"$datetime": "2024-05-01T12:00:00"}``.  If a key of the handler
begins with ``$``, another ``$`` is put in front of it, so that it is not mistaken for a tag.

The result is called the *frozen* form.  It is the form that is merged and encoded.  :func:`freeze` makes the frozen
form.  It refuses every other value, and its error names the path to that value.  :func:`thaw` turns the frozen form
back into what the handler stored.  Both functions copy, so later changes to one side do not affect the other.
"""

import base64
import binascii
from collections.abc import Callable, Sequence
from datetime import date, datetime, timezone, tzinfo
from decimal import Decimal, InvalidOperation
from enum import Enum
from math import isfinite
from typing import Any
from uuid import UUID

from .json_encoders import dumps
from .kinds import advice, base_of, type_name

__all__ = [
    "MAX_DEPTH",
    "MAX_INTEGER",
    "MIN_INTEGER",
    "check_key",
    "escape",
    "freeze",
    "note_elements",
    "tag_of",
    "thaw",
]

# Deep enough for real data. CPython's own decoder fails near 1000 levels, and other encoders fail at 254.
MAX_DEPTH = 100
# The range of 64 bits. Beyond it, other JSON encoders and databases fail or round (RFC 8259, section 6).
MIN_INTEGER, MAX_INTEGER = -(2**63), 2**64 - 1

_TAG = "$"


class _UnstorableError(Exception):
    """Carries the reason up through the nested values.  Each level adds its step to the path."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.path: list[str | int] = []


def freeze(value: Any, name: str) -> Any:
    """Return a copy of *value* in its frozen form, after checking that it comes back unchanged.

    Args:
        value: What the handler stored under *name*.
        name: The key in the session, for the error message.

    Raises:
        TypeError: A part of *value* cannot be stored.  The message names the path to it.
    """
    try:
        return _copy(value, 0)
    except _UnstorableError as error:
        path = "".join(f"[{step!r}]" for step in (name, *reversed(error.path)))
        raise TypeError(f"session{path}: {error}") from None


def thaw(value: Any, handed: dict[int, Sequence[Any]] | None = None) -> Any:
    """Return a copy of a frozen value in the form that the handler stored.

    Args:
        value: The frozen value.
        handed: Gets the elements of the copy of each list, by the ``id()`` of the frozen list.

    Raises:
        ValueError: A tag is not one of ours, or what it holds cannot be read.
    """
    kind = type(value)
    if kind is list:
        # Scalars are not worth a call each.
        copy = [thaw(inner, handed) if type(inner) is list or type(inner) is dict else inner for inner in value]
        if handed is not None:
            handed[id(value)] = copy[:]
        return copy
    if kind is not dict:
        return value
    if len(value) == 1:
        ((key, inner),) = value.items()
        if key[:1] == _TAG and key[:2] != _TAG * 2:
            try:
                return _THAWERS[key](inner)
            except (KeyError, TypeError, ValueError, AttributeError, InvalidOperation) as error:
                raise ValueError(f"a value tagged {key!r} cannot be read: {type(error).__name__}") from None
    return {_unescaped(key): thaw(inner, handed) for key, inner in value.items()}


def tag_of(value: Any) -> str | None:
    """Return the tag of a frozen value, or None if it has none, as plain JSON."""
    if type(value) is not dict or len(value) != 1:
        return None
    (key,) = value
    return key if key[:1] == _TAG and key[:2] != _TAG * 2 else None


def note_elements(frozen: Any, value: Any, held: dict[int, Sequence[Any]]) -> None:
    """Note in *held* the elements of each list in *value*, by the ``id()`` of the list in its *frozen* form."""
    if type(frozen) is list and isinstance(value, list):
        held[id(frozen)] = list(value)
        for inner, original in zip(frozen, value, strict=True):
            if type(inner) is list or type(inner) is dict:
                note_elements(inner, original, held)
    elif type(frozen) is dict and isinstance(value, dict):
        for inner, original in zip(frozen.values(), value.values(), strict=True):
            if type(inner) is list or type(inner) is dict:
                note_elements(inner, original, held)


def escape(value: Any) -> Any:
    """Return the frozen form of plain JSON, which records held before tags were introduced."""
    kind = type(value)
    if kind is list:
        return [escape(inner) for inner in value]
    return {_escaped(key): escape(inner) for key, inner in value.items()} if kind is dict else value


def _escaped(key: str) -> str:
    return _TAG + key if key[:1] == _TAG else key


def _unescaped(key: str) -> str:
    return key[1:] if key[:2] == _TAG * 2 else key


def check_key(key: Any) -> str:
    """Return *key* as a plain string, after refusing a session key that JSON would change.

    Raises:
        TypeError: *key* is not a string of Unicode characters.
    """
    if type(key) is str and key.isascii():
        return key
    try:
        return _plain_key(key)
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
            raise _UnstorableError(f"{value} cannot be represented in JSON")
        return value
    if kind is list or kind is dict:
        _check_depth(depth)
        return _copy_list(value, depth + 1) if kind is list else _copy_dict(value, depth + 1)
    freezer = _FREEZERS.get(kind)
    if freezer is None:
        base = _base(value)
        if base is None:
            raise _UnstorableError(advice(kind))
        freezer = _FREEZERS.get(base)
        if freezer is None:
            return _copy(base(value), depth)
    return freezer(value, depth)


def _base(value: Any) -> type | None:
    """Return the type that *value* is stored as, or None if it cannot be stored."""
    kind: Any = type(value)
    base = base_of(kind)
    return None if base is not None and getattr(value, "__dict__", None) else base  # it can carry attributes of its own


def _check_depth(depth: int) -> None:
    if depth >= MAX_DEPTH:
        raise _UnstorableError(f"nested deeper than {MAX_DEPTH} levels, or containing itself")


def _copy_list(values: Any, depth: int) -> list[Any]:
    copy: list[Any] = []
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
            copy[_escaped(_plain_key(key))] = _copy(value, depth)
        except _UnstorableError as error:
            error.path.append(key)
            raise
    return copy


def _plain_key(key: Any) -> str:
    if type(key) is str:
        text = key
    elif _base(key) is str:
        text = str(key)
    else:
        instead = "; use its .value" if isinstance(key, Enum) else ""
        raise _UnstorableError(f"keys are strings, and this one is of type {type_name(type(key))}{instead}")
    _check_text(text)
    return text


def _check_text(text: str) -> None:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise _UnstorableError("a string with half a surrogate pair is not Unicode text") from None


# --- beyond JSON


# Marks the second of two equal times when clocks are set back in autumn. isoformat() leaves it out.
_FOLDED = ";fold=1"


def _freeze_datetime(value: datetime, _: int) -> dict[str, Any]:
    if value.tzinfo is not None and type(value.tzinfo) is not timezone and not _is_fixed(value.tzinfo, value.year):
        raise _UnstorableError(
            f"a datetime in the zone {value.tzinfo} would come back with only its offset; store"
            " value.astimezone(datetime.UTC), and the zone's name if you need it"
        )
    text = value.isoformat()
    if datetime.fromisoformat(text).utcoffset() != value.utcoffset():
        raise _UnstorableError(f"a datetime with the offset {value.utcoffset()} would come back with another one")
    return {"$datetime": text + _FOLDED if value.fold else text}


def _is_fixed(zone: tzinfo, year: int) -> bool:
    """Return whether *zone* is nothing but an offset, as every zone that is UTC, so that the offset says it all.

    Zones of the standard library, dateutil and pytz that have rules return None if they are asked for no datetime.  A
    zone of another origin might return its offset in winter, so January and July are looked at, too.
    """
    try:
        offset = zone.utcoffset(None)
        return offset is not None and all(
            zone.utcoffset(datetime(year, month, 1, tzinfo=zone)) == offset for month in (1, 7)
        )
    except (ArithmeticError, AttributeError, NotImplementedError, TypeError, ValueError):
        return False  # a zone that has to be asked for a datetime has rules


def _freeze_decimal(value: Decimal, _: int) -> dict[str, Any]:
    if not value.is_finite():
        raise _UnstorableError(f"{value} is not a finite number")
    return {"$decimal": str(value)}


def _freeze_tuple(value: tuple[Any, ...], depth: int) -> dict[str, Any]:
    _check_depth(depth)
    return {"$tuple": _copy_list(value, depth + 1)}


def _freeze_set(value: set[Any], depth: int) -> dict[str, Any]:
    _check_depth(depth)
    return {"$set": sorted(_copy_list(value, depth + 1), key=dumps)}  # in a fixed order, or it would look changed


_FREEZERS: dict[type, Callable[[Any, int], dict[str, Any]]] = {
    datetime: _freeze_datetime,
    date: lambda value, _: {"$date": value.isoformat()},
    UUID: lambda value, _: {"$uuid": str(value)},
    Decimal: _freeze_decimal,
    bytes: lambda value, _: {"$bytes": base64.b64encode(value).decode("ascii")},
    set: _freeze_set,
    tuple: _freeze_tuple,
}


def _thaw_datetime(text: str) -> datetime:
    if type(text) is not str:
        raise ValueError("a datetime must be a string")
    moment = datetime.fromisoformat(text.removesuffix(_FOLDED))
    return moment.replace(fold=1) if text.endswith(_FOLDED) else moment


def _thaw_bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None


def _thaw_elements(values: Any) -> list[Any]:
    if type(values) is not list:
        raise ValueError("the elements must be a list")
    return [thaw(value) for value in values]


_THAWERS: dict[str, Callable[[Any], Any]] = {
    "$datetime": _thaw_datetime,
    "$date": date.fromisoformat,
    "$uuid": UUID,
    "$decimal": lambda text: Decimal(str(text)),
    "$bytes": _thaw_bytes,
    "$set": lambda values: set(_thaw_elements(values)),
    "$tuple": lambda values: tuple(_thaw_elements(values)),
}
