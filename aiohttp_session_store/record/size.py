"""The size of a session, and the limit for one in a cookie."""

from collections.abc import Mapping
from typing import Any

from .json_encoders import dumps

# RFC 6265bis, section 5.6: browsers drop a cookie whose name and value exceed this many bytes.
COOKIE_LIMIT = 4096


def largest_keys(data: Mapping[str, Any], most: int = 3) -> list[tuple[str, int]]:
    """Return up to *most* of the largest keys of *data*, largest first, each with the bytes that it takes."""
    sizes = [(key, len(dumps({key: value}))) for key, value in data.items()]
    return sorted(sizes, key=lambda item: item[1], reverse=True)[:most]
