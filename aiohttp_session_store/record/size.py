"""How large a session is, and how large it may be."""

from collections.abc import Mapping
from typing import Any

from .json_encoders import dumps

# RFC 6265bis, section 5.6: browsers drop a cookie whose name and value exceed this many bytes.
COOKIE_LIMIT = 4096


def largest_keys(data: Mapping[str, Any], most: int = 3) -> list[tuple[str, int]]:
    """Return the *most* largest keys of *data*, each with the bytes that it takes, largest first."""
    sizes = [(key, len(dumps({key: value}))) for key, value in data.items()]
    return sorted(sizes, key=lambda item: item[1], reverse=True)[:most]
