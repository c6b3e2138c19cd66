"""AES-256-GCM under a key of its own for each message.  Loaded when a key ring is made: it needs ``cryptography``.

Each message has 16 random bytes, and HKDF-SHA256 derives the key and the nonce from the ring's key and these bytes.  So
two messages share a nonce under one key only if 16 random bytes come twice, and no number of messages is too many.

References:
    NIST SP 800-38D, section 8.3 (2^32 messages under one key with random nonces); RFC 5869 (HKDF).
"""

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

__all__ = ["WrongKeyError", "derived", "open_sealed", "seal"]

KEY = 32  # bytes
_SALT, _NONCE, _TAG = 16, 12, 16
_PURPOSE = b"aiohttp_session_store "


class WrongKeyError(ValueError):
    """Raised for bytes that a key does not open: they were changed, copied from elsewhere, or sealed by another key."""


def seal(key: bytes, plain: bytes, about: bytes) -> bytes:
    """Encrypt *plain*; :func:`open_sealed` has to be given the same *about*."""
    salt = secrets.token_bytes(_SALT)
    cipher, nonce = _cipher(key, salt)
    return salt + cipher.encrypt(nonce, plain, about)


def open_sealed(key: bytes, sealed: bytes, about: bytes) -> bytes:
    """Return what :func:`seal` was given.

    Raises:
        WrongKeyError: It does not open.
    """
    if len(sealed) < _SALT + _TAG:
        raise WrongKeyError("it is too short")
    cipher, nonce = _cipher(key, sealed[:_SALT])
    try:
        return cipher.decrypt(nonce, sealed[_SALT:], about)
    except InvalidTag:
        raise WrongKeyError("it was changed, copied from elsewhere, or encrypted under another key") from None


def derived(key: bytes, purpose: bytes, salt: bytes = b"", length: int = KEY) -> bytes:
    """Return *length* bytes for one purpose.  They say nothing about *key*, nor about those for another purpose."""
    return HKDF(SHA256(), length, salt, _PURPOSE + purpose).derive(key)


def _cipher(key: bytes, salt: bytes) -> tuple[AESGCM, bytes]:
    both = derived(key, b"encryption", salt, KEY + _NONCE)
    return AESGCM(both[:KEY]), both[KEY:]
