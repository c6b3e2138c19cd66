"""What is shown of values that anybody may have put into a session: no control of the terminal, and no markup."""

import json
import time
from typing import Any

__all__ = ["as_json", "count", "moment", "plainly", "size", "span"]

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))
_KILO = 1000
_SIZES = ("bytes", "kB", "MB", "GB", "TB")


def plainly(text: str) -> str:
    r"""Return *text* on one line, with an escape such as ``\x1b`` for each character that is not simply shown.

    These are control characters, those that change the direction of text, and halves of surrogate pairs.
    """
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def as_json(value: Any, *, indent: int | None = None) -> str:
    """Return *value* as JSON of ASCII characters alone."""
    return json.dumps(value, ensure_ascii=True, indent=indent)


def count(number: int, one: str, many: str | None = None) -> str:
    """Return *number* with the noun that it counts, such as ``1,234 records``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def size(number: int) -> str:
    """Return *number* of bytes in a unit that people can read."""
    power = 0
    while number >= _KILO ** (power + 1) and power < len(_SIZES) - 1:
        power += 1
    return f"{number} bytes" if not power else f"{number / _KILO**power:.1f} {_SIZES[power]}"


def span(seconds: int) -> str:
    """Return a time span in its largest unit, such as ``13 d``."""
    for length, unit in _UNITS:
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{max(0, seconds)} s"


def moment(seconds: int) -> str:
    """Return whole Unix seconds as a time in UTC; as a number, if no calendar has it."""
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):
        return str(seconds)
