"""JSON by orjson where that is installed (the extra ``orjson``), else by the standard library.

Neither is trusted with what can be stored: :func:`~.codec.freeze` decides that before either sees a value, for left to
itself orjson turns NaN into null, dates and UUIDs into strings, and fails beyond 64 bits.  Each reads what the other
wrote, so the extra can come and go.
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
    """Writes session data in a form of its own: encrypted, compressed, or for other programs to read.

    Attributes:
        name: What records are marked with, of the letters ``a-z``, digits, ``.``, ``_`` and ``-``, 32 at most.  A new
            form needs a new name.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    def dumps(self, value: Any) -> bytes:
        """Return the stored form of *value*, which is plain JSON: str, int, float, bool, None, list and dict."""

    def loads(self, data: bytes) -> Any:
        """Return what :meth:`dumps` was given; any exception means that this cannot be read here."""


_encoder = json.JSONEncoder(ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":"))


def dumps_standard(value: Any) -> bytes:
    """Encode *value* compactly, in UTF-8."""
    return _encoder.encode(value).encode()


def loads_standard(data: bytes) -> Any:
    """Decode what may not be JSON.

    Raises:
        ValueError: It is not, or holds a number or text that could not be encoded again.
    """
    text = data.decode()
    try:
        value, end = _decoder.raw_decode(text)  # decode() would also look for white space, at a quarter of the time
        if end != len(text):
            raise ValueError("something follows the JSON")
        if "\\ud" in text or "\\uD" in text:  # only an escape can smuggle half a surrogate pair through UTF-8
            dumps_standard(value)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not isfinite(number):
        raise ValueError(f"{digits} is beyond what a float holds")
    return number


_decoder = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)


def _dumps_fast(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # only somebody else's record: deeper than ours can be, or with larger numbers
        return dumps_standard(value)


#: Encodes a value compactly, in UTF-8.
dumps: Callable[[Any], bytes]
#: Decodes what may not be JSON, or raises ``ValueError``.
loads: Callable[[bytes], Any]
dumps, loads = (dumps_standard, loads_standard) if orjson is None else (_dumps_fast, orjson.loads)
