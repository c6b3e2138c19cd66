"""Tells a directory of sessions from any other one, without changing it."""

import os
import stat

from ...record.format import NewerRecordError
from .directory import GIT_IGNORE, IGNORE_ALL, IGNORE_OURS, RECORD_NAME, SAFE, SHARD
from .file_format import HEADER_SIZE, RubbishError, unpack_header

__all__ = ["is_used"]


def is_used(path: str) -> bool:
    """Return whether the directory at *path* has been used for sessions.

    What tells is the content of files, because others have the same names: a repository of git has a ``.gitignore``,
    and folders that are named as ours.  Either a storage has written the ``.gitignore``, or there is a record.

    Raises:
        OSError: It is no directory, or cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | getattr(os, "O_CLOEXEC", 0))
    try:
        ignored = _content(descriptor, GIT_IGNORE, len(IGNORE_OURS) + 1)
        if ignored in (IGNORE_ALL.encode(), IGNORE_OURS.encode()):
            return True
        return any(_has_record(descriptor, shard) for shard in os.listdir(descriptor) if SHARD.fullmatch(shard))
    finally:
        os.close(descriptor)


def _has_record(directory: int, shard: str) -> bool:
    try:
        folder = os.open(shard, os.O_RDONLY | os.O_DIRECTORY | SAFE, dir_fd=directory)
    except OSError:
        return False
    try:
        with os.scandir(folder) as entries:
            return any(RECORD_NAME.fullmatch(entry.name) and _is_record(folder, entry.name) for entry in entries)
    finally:
        os.close(folder)


def _is_record(folder: int, name: str) -> bool:
    try:
        unpack_header(_content(folder, name, HEADER_SIZE) or b"")
    except RubbishError:
        return False
    except NewerRecordError:
        return True
    return True


def _content(directory: int, name: str, most: int) -> bytes | None:
    """Return the first bytes of a file, or None if there is no such file."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | SAFE, dir_fd=directory)
    except OSError:
        return None
    try:
        return os.read(descriptor, most) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
    finally:
        os.close(descriptor)
