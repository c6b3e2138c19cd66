"""Session ids, and the keys that storages see instead of them."""

import hashlib
import re
import secrets
from functools import lru_cache

# About 1 MB of ids and keys. A request needs its key two or three times, and computing it takes half a microsecond.
KEYS_KEPT = 4096
_ID = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_KEY = re.compile(r"[0-9a-f]{64}", re.ASCII)


def new_id() -> str:
    """Make a session id: 256 random bits, 43 characters (OWASP ASVS 5.0, 7.2.3 asks for 128 bits)."""
    return secrets.token_urlsafe(32)


def is_id(text: str) -> bool:
    """Return whether *text* has the form of an id from :func:`new_id`.  Any other text never reaches a storage."""
    return _ID.fullmatch(text) is not None


def is_key(text: str) -> bool:
    """Return whether *text* has the form of a key.  Any other text never reaches a storage."""
    return _KEY.fullmatch(text) is not None


def snapshot_key(old_key: str, new_key: str) -> str:
    """Return the key of what an old id may still read, once the record of *old_key* moved to *new_key*.

    No session id leads to it, because no id has this text's form.
    """
    return hashlib.sha256(f"snapshot {old_key} {new_key}".encode()).hexdigest()


@lru_cache(KEYS_KEPT)
def key_of(session_id: str) -> str:
    """Return the key of *session_id*, its SHA-256 in hex.

    A storage, a file name or a log line only ever sees the key.
    """
    return hashlib.sha256(session_id.encode()).hexdigest()
