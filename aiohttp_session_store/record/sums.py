"""Exact addition of numbers, for counters."""

from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, Inexact, InvalidOperation
from typing import Any

from .kinds import type_name
from .values import freeze, tag_of, thaw

# More digits than any amount or count has; a sum that needs more is refused rather than rounded.
_exact = Context(prec=1000, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[Inexact, InvalidOperation])


def checked_step(by: Any) -> int | Decimal:
    """Return *by* if it can be added.

    Raises:
        TypeError: It is neither an int nor a finite Decimal.
    """
    if isinstance(by, int) and not isinstance(by, bool):
        return int(by)
    if isinstance(by, Decimal) and by.is_finite():
        return Decimal(by)
    advice = "; a float cannot be added exactly, use a Decimal" if isinstance(by, float) else ""
    raise TypeError(f"increment() adds an int or a finite Decimal, not {type_name(type(by))}{advice}")


def add(key: str, value: Any, by: int | Decimal) -> int | Decimal:
    """Return the sum of *value*, which the session holds under *key*, and *by*.

    Raises:
        TypeError: *value* is neither an int nor a Decimal, or the sum cannot be stored or is not exact.
    """
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        advice = "; to count exactly, store a Decimal instead of a float" if isinstance(value, float) else ""
        raise TypeError(
            f"session[{key!r}]: increment() adds to an int or Decimal, not {type_name(type(value))}{advice}"
        )
    total = plus(key, value, by)
    freeze(total, key)
    return total


def plus(key: str, one: int | Decimal, other: int | Decimal) -> int | Decimal:
    """Return the exact sum of two numbers that are to be added to *key*, whatever the decimal context is.

    Raises:
        TypeError: It has too many digits.
    """
    if isinstance(one, int) and isinstance(other, int):
        return one + other
    try:
        return _exact.add(Decimal(one), Decimal(other))
    except (Inexact, InvalidOperation):
        raise TypeError(f"session[{key!r}]: the sum has too many digits to be exact") from None


def can_be_added_to(value: Any) -> bool:
    """Return whether *value*, in its frozen form, is a number that :func:`add_frozen` can add to."""
    return type(value) is int or tag_of(value) == "$decimal"


def add_frozen(key: str, value: Any, by: int | Decimal) -> Any:
    """Do what :func:`add` does with a value in its frozen form."""
    return freeze(add(key, thaw(value), by), key)
