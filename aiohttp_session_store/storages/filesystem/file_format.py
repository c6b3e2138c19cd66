"""The layout of a record file: a fixed header, then what :mod:`~aiohttp_session_store.record.format` writes.

=======  ======  ==============================================================================
offset   bytes   what
=======  ======  ==============================================================================
0        8       ``aiosess`` and the format, ``1``
8        8       version: random, and new at every write
16       8       ``expires_at`` in Unix seconds, signed, aligned, not in the checksum: a touch rewrites only this field
24       4       length of the body
28       4       CRC-32 of the format, the version, the length and the body
32       ...     the body
=======  ======  ==============================================================================

All numbers are little-endian.
"""

import os
import struct
import zlib
from dataclasses import dataclass

from ...record.format import NewerRecordError, Stored

_MAGIC = b"aiosess"
_FORMAT = b"1"
_HEADER = struct.Struct("<8s8sqII")
_EXPIRY = struct.Struct("<q")
HEADER_SIZE = _HEADER.size
EXPIRY_OFFSET = 16
# A later expiry is damage, which the checksum does not detect in this one field.  A session that is to live for longer
# is written with this one: 30,000 years will do.
LATEST = 10**12


class RubbishError(ValueError):
    """Raised for a file that is torn, truncated or not one of ours."""


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a file, which is all that a sweep or a version check reads."""

    version: bytes
    expires_at: int
    length: int
    checksum: int


def new_version() -> bytes:
    """Return a version that in practice was never used before."""
    return os.urandom(8)


def pack(data: bytes, expires_at: int, version: bytes) -> bytes:
    """Return the whole file for a record."""
    checksum = _checksum(version, len(data), data)
    return _HEADER.pack(_MAGIC + _FORMAT, version, expires_at, len(data), checksum) + data


def pack_expiry(expires_at: int) -> bytes:
    """Return the bytes that a touch writes at ``EXPIRY_OFFSET``."""
    return _EXPIRY.pack(expires_at)


def unpack_header(blob: bytes) -> Header:
    """Read the header of a file.

    Raises:
        NewerRecordError: A newer version of this package wrote it.
        RubbishError: It is not a valid header.
    """
    if len(blob) < HEADER_SIZE:
        raise RubbishError(f"{len(blob)} bytes are too short for a record")
    magic, version, expires_at, length, checksum = _HEADER.unpack_from(blob)
    if magic != _MAGIC + _FORMAT:
        if magic[:-1] == _MAGIC and magic[-1:].isdigit() and magic[-1:] > _FORMAT:
            raise NewerRecordError(f"file format {magic[-1:].decode()} is newer than this package")
        raise RubbishError("not a session file")
    if not 0 <= expires_at <= LATEST:
        raise RubbishError("the expiry is damaged")
    return Header(version, expires_at, length, checksum)


def unpack(blob: bytes) -> Stored:
    """Read a whole file.

    Raises:
        NewerRecordError: A newer version of this package wrote it.
        RubbishError: It is torn, truncated or not one of ours.
    """
    header = unpack_header(blob)
    data = blob[HEADER_SIZE:]
    if len(data) != header.length:
        raise RubbishError(f"{len(data)} bytes of data instead of {header.length}")
    if _checksum(header.version, header.length, data) != header.checksum:
        raise RubbishError("the checksum does not match")
    return Stored(data, header.version, header.expires_at)


def _checksum(version: bytes, length: int, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(b"%b%b%d" % (_FORMAT, version, length)))
