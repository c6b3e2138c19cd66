"""JSON by orjson if it is installed (the extra ``orjson``), otherwise by the standard library.

Neither of them decides which values can be stored: :func:`~.values.freeze` checks every value first.  Without that
check, orjson would turn NaN into null and dates and UUIDs into strings, and would fail beyond 64 bits.  Each of them
reads what the other wrote, so the extra can be installed or removed at any time.
"""

import json
from collections.abc import Callable
from math import isfinite
from typing import Any, Protocol

try:
    import orjson
except ImportError:
    orjson = None  # type: ignore[assignment]

__all__ = ["Codec", "dumps", "dumps_standard", "loads", "loads_standard"]


class Codec(Protocol):
    """Encodes session data in a form of its own: encrypted, compressed, or readable by other programs.

    Attributes:
        name: Marks the records of this codec.  At most 32 of the letters ``a-z``, digits, ``.``, ``_`` and ``-``.  If
            the form changes, the name must change.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    def dumps(self, value: Any) -> bytes:
        """Return the stored form of *value*, which is plain JSON: str, int, float, bool, None, list and dict.

        Args:
            value: What JSON can hold: dicts with string keys, lists, strings, numbers, bools and None.
        """

    def loads(self, data: bytes) -> Any:
        """Return the value that :meth:`dumps` was given.  Any exception means that *data* cannot be read here.

        Args:
            data: What :meth:`dumps` has returned.
        """


_encoder = json.JSONEncoder(ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":"))


def dumps_standard(value: Any) -> bytes:
    """Encode *value* compactly, in UTF-8."""
    return _encoder.encode(value).encode()


def loads_standard(data: bytes) -> Any:
    """Decode *data*, which may not be JSON.

    Raises:
        ValueError: *data* is not JSON, or holds a number or text that could not be encoded again.
    """
    text = data.decode()
    try:
        value, end = _decoder.raw_decode(text)  # decode() also looks for white space, which takes a quarter of the time
        if end != len(text):
            raise ValueError("there is more data after the JSON")
        if "\\ud" in text or "\\uD" in text:  # UTF-8 cannot hold half a surrogate pair, but an escape can
            dumps_standard(value)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not isfinite(number):
        raise ValueError(f"{digits} is too large for a float")
    return number


_decoder = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)


def _dumps_fast(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # only for a record that we did not write: it is nested deeper than ours, or has larger numbers
        return dumps_standard(value)


#: Encodes a value compactly, in UTF-8.
dumps: Callable[[Any], bytes]
#: Decodes data that may not be JSON.  Raises ``ValueError`` if it is not.
loads: Callable[[bytes], Any]
dumps, loads = (dumps_standard, loads_standard) if orjson is None else (_dumps_fast, orjson.loads)
