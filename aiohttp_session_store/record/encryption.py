"""Encrypted records: any of the other formats inside an envelope that opens only at its own place.

Format 5::

    5 E <name of the key>
    <16 random bytes><the record, padded and encrypted with AES-256-GCM><16 bytes that prove it>

The first line, the purpose and the place are proved as well: an envelope that was copied to another session does not
open.  The padding, by ISO/IEC 7816-4, hides by how many characters two sessions differ.
"""

import re

from .format import NewerRecordError
from .key_ring import KeyRing

__all__ = ["COOKIE", "RECORD", "UnopenedRecordError", "decrypt", "encrypt", "is_encrypted", "key_name"]

#: Records of a storage, and the cookie of ``CookieStorage``, and to how many bytes each is padded.
RECORD, COOKIE = b"record", b"cookie"
_STEPS = {RECORD: 64, COOKIE: 16}
_LINE = re.compile(rb"5 E ([A-Za-z0-9._-]{1,32})\n")
_END = b"\x80"


class UnopenedRecordError(NewerRecordError):
    """Raised for a record that the keys of the storage do not open.  It must be left in place: another key may.

    Attributes:
        about: The name of the key, or what is wrong if it is not the key.
    """

    def __init__(self, message: str, about: str) -> None:
        """Say what is wrong."""
        super().__init__(message)
        self.about = about

    @property
    def is_plain(self) -> bool:
        """Whether it is not encrypted at all.  No name of a key has a space."""
        return self.about.startswith("plain ")


def is_encrypted(data: bytes) -> bool:
    """Return whether *data* is in the format of this module."""
    return data.startswith(b"5 E ")


def key_name(data: bytes) -> str | None:
    """Return the name of the key that *data* was encrypted under, or None if it is not encrypted."""
    line = _LINE.match(data)
    return None if line is None else line[1].decode("ascii")


def encrypt(data: bytes, ring: KeyRing, place: str, purpose: bytes = RECORD) -> bytes:
    """Return *data* in an envelope.

    Args:
        data: A record in any other format.
        ring: Its first key encrypts.
        place: Where the record stands: the key of the session.  It opens nowhere else.
        purpose: What it is, one of the constants of this module.
    """
    line = b"5 E %b\n" % ring.names[0].encode()
    padded = data + _END
    padded += bytes(-len(padded) % _STEPS[purpose])
    return line + ring.seal(padded, _about(line, purpose, place))


def decrypt(data: bytes, ring: KeyRing | None, place: str, purpose: bytes = RECORD) -> bytes:
    """Return what :func:`encrypt` was given.

    Raises:
        UnopenedRecordError: No key of the ring opens it.
    """
    line = _LINE.match(data)
    if line is None:
        raise UnopenedRecordError("it is encrypted, but the name of its key is damaged", "a damaged name")
    name = line[1].decode("ascii")
    if ring is None:
        raise UnopenedRecordError(
            f"it is encrypted under the key {name!r}, and the storage has no encryption=KeyRing(...)", name
        )
    try:
        padded = ring.open(name, data[line.end() :], _about(line[0], purpose, place))
    except KeyError:
        raise UnopenedRecordError(
            f"it is encrypted under the key {name!r}, which the ring does not have", name
        ) from None
    except ValueError as error:
        raise UnopenedRecordError(f"the key {name!r} does not open it: {error}", name) from None
    return padded.rstrip(b"\0")[:-1]


def _about(line: bytes, purpose: bytes, place: str) -> bytes:
    return b"%b%b\n%b" % (line, purpose, place.encode())
