"""Finds out at the start what would otherwise show at the first write."""

import os
from contextlib import suppress
from typing import NamedTuple

from .directory import TEMPORARY, SessionDirectory
from .lock import record_locked
from .stat_cache import own_time_ns
from .swap import put_new


class Probe(NamedTuple):
    """What can be done in a directory.

    Attributes:
        keeps_own_times: Whether its file system keeps a modification time to the nanosecond.
        error: Why no record could be written there, or None.
    """

    keeps_own_times: bool
    error: OSError | None


def probe(directory: SessionDirectory) -> Probe:
    """Do in *directory* what a write does, and remove the file."""
    first, second = (f"{TEMPORARY}{os.urandom(8).hex()}" for _ in range(2))
    try:
        descriptor, folder = directory.open(first, os.O_WRONLY | os.O_CREAT | os.O_EXCL), directory.descriptor
        try:
            odd = own_time_ns() | 1
            os.utime(descriptor, ns=(odd, odd))
            keeps_own_times = os.fstat(descriptor).st_mtime_ns == odd
            put_new(first, second, folder)
            with record_locked(folder, second):
                pass
        finally:
            os.close(descriptor)
            for name in (first, second):
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=folder)
    except OSError as error:
        return Probe(keeps_own_times=False, error=error)
    return Probe(keeps_own_times, error=None)
