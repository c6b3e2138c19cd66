"""Which types a session can hold, and what to store instead of a value of another type."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import lru_cache
from types import FunctionType, MemberDescriptorType
from typing import Any
from uuid import UUID

__all__ = ["KINDS", "advice", "base_of", "type_name"]

#: What messages call the types that a session can hold.
KINDS = "str, int, float, bool, None, list, dict, tuple, set, bytes, date, datetime, Decimal or UUID"

# The storable types that can have subclasses. A datetime is a date, so it comes first.
_BASES: tuple[type, ...] = (str, int, float, list, dict, tuple, set, bytes, datetime, date, UUID, Decimal)

_WRITTEN_IN_PYTHON = (FunctionType, classmethod, staticmethod, property, MemberDescriptorType)


@lru_cache(maxsize=256)
def base_of(kind: type) -> type | None:
    """Return the storable type that a value of *kind* is stored as, or None if it cannot be stored.

    A subclass is stored as its base if it adds nothing: its body defines no method, property or slot, and no public
    name that the base lacks.  So nothing is lost if the base comes back.  This also holds for the UUID of asyncpg,
    which is UUID written in C.  A class can also say itself that the base is one of it, as the datetime of freezegun
    does.
    """
    if kind in (bool, type(None)):  # a bool is an int, but it is stored as a bool
        return kind
    for base in _BASES:
        if issubclass(kind, base):
            return base if issubclass(base, kind) or _adds_nothing(kind, base) else None
    return None


def _adds_nothing(kind: type, base: type) -> bool:
    return not any(
        isinstance(member, _WRITTEN_IN_PYTHON) or not (name.startswith("_") or hasattr(base, name))
        for added in kind.__mro__
        if added not in base.__mro__
        for name, member in vars(added).items()
    )


def type_name(kind: type) -> str:
    """Return the name of *kind* with its module, because two types of one name are easily confused."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def advice(kind: type) -> str:
    """Return why a value of *kind* cannot be stored, and what to store instead."""
    name = type_name(kind)
    name = f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
    for applies, instead in _INSTEAD:
        if applies(kind):
            return f"{name} {instead.format(kind=kind.__name__)}"
    for base in _BASES:
        if issubclass(kind, base):
            plain = _MADE_PLAIN.get(base, f"{base.__name__}(value)")
            return f"{name} would come back as a plain {base.__name__}; store {plain}"
    for applies, instead in _INSTEAD_OF_COLLECTIONS:
        if applies(kind):
            return f"{name} {instead}"
    return f"{name} cannot be stored; store a {KINDS} made from it"


_MADE_PLAIN = {
    datetime: "datetime.datetime.fromisoformat(value.isoformat())",
    date: "datetime.date.fromisoformat(value.isoformat())",
    UUID: "uuid.UUID(int=value.int)",
}


def _is(*bases: type) -> Callable[[type], bool]:
    return lambda kind: issubclass(kind, bases)


def _has(*names: str) -> Callable[[type], bool]:
    return lambda kind: all(hasattr(kind, name) for name in names)


# The names by which other packages mark their classes are used, so that none of them has to be imported.
_INSTEAD: tuple[tuple[Callable[[type[Any]], bool], str], ...] = (
    (_is(Enum), "is a member of an Enum; store value.value, and read it as {kind}(stored)"),
    (_has("__dataclass_fields__"), "is a dataclass; store dataclasses.asdict(value)"),
    (_has("__attrs_attrs__"), "is a class of attrs; store attrs.asdict(value)"),
    (_has("model_dump", "model_fields"), 'is a model of pydantic; store value.model_dump(mode="json")'),
    (_has("__struct_fields__"), "is a struct of msgspec; store msgspec.to_builtins(value)"),
    (
        _has("_fields", "_asdict"),
        "would come back as a plain tuple; store tuple(value), or value._asdict() to keep the names",
    ),
    (_has("to_pydatetime"), "would come back as a plain datetime; store value.to_pydatetime()"),
    (_is(frozenset), "would come back as set; store set(value)"),
    (_is(bytearray, memoryview), "would come back as bytes; store bytes(value)"),
    (_has("tolist"), "cannot be stored; store value.tolist()"),  # numpy: arrays, and scalars, which float is a base of
    (_is(timedelta), "cannot be stored; store value.total_seconds()"),
    (_is(time), "cannot be stored; store value.isoformat()"),
)
_INSTEAD_OF_COLLECTIONS: tuple[tuple[Callable[[type[Any]], bool], str], ...] = (
    (_is(Awaitable), "cannot be stored; await it, and store the result"),
    (
        lambda kind: (
            issubclass(kind, (tzinfo, Fraction))
            or hasattr(kind, "__fspath__")
            or kind.__module__ in ("ipaddress", "yarl")
        ),
        "cannot be stored; store str(value)",
    ),
    (lambda kind: issubclass(kind, Mapping) or _has("keys", "items")(kind), "cannot be stored; store dict(value)"),
    (_is(Iterable), "cannot be stored; store list(value)"),
)
