"""Session ids, and the keys that storages see in their place."""

import hashlib
import re
import secrets
from functools import lru_cache

# About 1 MB of ids and keys. A key is asked for two or three times in a request, at half a microsecond each.
KEYS_KEPT = 4096
_ID = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


def new_id() -> str:
    """Make a session id: 256 random bits, 43 characters (OWASP ASVS 5.0, 7.2.3 asks for 128 bits)."""
    return secrets.token_urlsafe(32)


def is_id(text: str) -> bool:
    """Whether *text* has the form of an id that :func:`new_id` makes; anything else never reaches a storage."""
    return _ID.fullmatch(text) is not None


@lru_cache(KEYS_KEPT)
def key_of(session_id: str) -> str:
    """Return the key of *session_id*, its SHA-256 in hex: all that a storage, a file name or a log line ever sees."""
    return hashlib.sha256(session_id.encode()).hexdigest()
