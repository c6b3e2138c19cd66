"""Reads and writes one open record file, and tells what is no such file.  The code blocks."""

import errno
import os

from .directory import SAFE
from .file_format import HEADER_SIZE, Header, RubbishError, unpack, unpack_header
from .stat_cache import Seen, Stamp, own_time_ns, stamp_of

_READ_SIZE = 1 << 16
# Errors of finding something else in the place of our file (a folder, a link, a socket, a pipe) or of its folder (a
# file).
_MISPLACED = {errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ESPIPE}


def header_of(descriptor: int) -> Header:
    """Return the header of an open file; see :func:`read_header`."""
    return unpack_header(os.pread(descriptor, HEADER_SIZE, 0))


def read_header(folder: int, name: str) -> Header | None:
    """Return the header of file *name*, or None if there is none.

    Raises:
        NewerRecordError: A newer version of this package wrote the file.
        RubbishError: The file is no record.
        OSError: The file could not be read.
    """
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | SAFE, dir_fd=folder)
        try:
            return header_of(descriptor)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise rubbish_or(error) from error


def write_all(descriptor: int, content: bytes, offset: int) -> None:
    """Write every byte.  A full disk, a quota or a signal can cut a write short without any error."""
    view = memoryview(content)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written


def read_record(descriptor: int) -> Seen:
    """Read an open record file.

    Raises:
        NewerRecordError: A newer version of this package wrote it.
        RubbishError: It is no record.
        OSError: It could not be read.
    """
    # Taken before the content is read: if a touch comes between, the stamp is outdated and never matches again.
    stamp = stamp_of(os.fstat(descriptor))
    content = os.read(descriptor, _READ_SIZE)
    if len(content) == _READ_SIZE:
        parts = [content]
        while part := os.read(descriptor, _READ_SIZE):
            parts.append(part)
        content = b"".join(parts)
    return Seen(unpack(content), stamp)


def is_misplaced(error: OSError) -> bool:
    """Return whether something that is not ours is in the place of our file or of its folder."""
    return error.errno in _MISPLACED


def rubbish_or(error: OSError) -> Exception:
    """Return the exception for an error of opening or reading: rubbish if something is misplaced, else the error."""
    if is_misplaced(error):
        return RubbishError(f"not a file of ours: {os.strerror(error.errno or 0)}")
    return error


def stamp_with_own_time(descriptor: int) -> Stamp:
    """Give an open file a modification time that no other file has, and return its stamp."""
    now = own_time_ns()
    os.utime(descriptor, ns=(now, now))
    return stamp_of(os.fstat(descriptor))
