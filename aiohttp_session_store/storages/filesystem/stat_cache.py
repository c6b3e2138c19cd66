"""The read cache: if this process has seen a record before, one ``stat`` is enough to read it again.

Every write makes a new file, but only two inodes alternate, and two writes can fall into one tick of the clock.  So
every write and every touch gives the file a modification time of its own, near now, with 40 random bits.  If inode,
modification time and size are unchanged, the record is the one that was seen before.
"""

import os
import time
from collections import OrderedDict
from contextlib import suppress
from typing import NamedTuple

from ...record.format import Stored

# Room for the sessions that are in use. Larger records are rare, and reading them again is not their main cost.
DEFAULT_CACHE_SIZE = 1024
LARGEST_CACHED = 16 * 1024
_RANDOM_BITS = 40  # of nanoseconds: 18 minutes, so that the time still tells other tools roughly when it was written


class Stamp(NamedTuple):
    """Tells one state of a file from all others."""

    inode: int
    modified_ns: int
    size: int


class Seen(NamedTuple):
    """A record, with the stamp of the file that it was read from or written to."""

    stored: Stored
    stamp: Stamp


def stamp_of(status: os.stat_result) -> Stamp:
    """Return the stamp that *status* shows."""
    return Stamp(status.st_ino, status.st_mtime_ns, status.st_size)


def own_time_ns() -> int:
    """Return a modification time near now that no other file state has."""
    random = int.from_bytes(os.urandom(5), "little")
    return time.time_ns() - (1 << (_RANDOM_BITS - 1)) + random


class ReadCache:
    """The most recently used records, each with its stamp.

    It is used on the event loop.  A loop in another thread may use it, too: it then finds less, but nothing wrong.
    """

    def __init__(self, size: int) -> None:
        """Keep *size* records of up to ``LARGEST_CACHED`` bytes; 0 keeps none."""
        self._size = size
        self._seen: OrderedDict[str, Seen] = OrderedDict()

    def __len__(self) -> int:
        """How many records are kept."""
        return len(self._seen)

    def get(self, key: str, path: str, directory: int) -> Stored | None:
        """Return the record of *key* if the file at *path* in the open *directory* is still the one that was seen.

        Blocks for one ``stat``, 3 us on a local disk.
        """
        seen = self._seen.get(key)
        if seen is None:
            return None
        try:
            status = os.stat(path, dir_fd=directory, follow_symlinks=False)
        except OSError:
            self.forget(key)
            return None
        if seen.stamp != (status.st_ino, status.st_mtime_ns, status.st_size):
            return None
        with suppress(KeyError):  # another thread has just dropped it
            self._seen.move_to_end(key)
        return seen.stored

    def put(self, key: str, seen: Seen) -> None:
        """Remember the record of *key*."""
        if self._size and seen.stamp.size <= LARGEST_CACHED:
            self._seen.pop(key, None)
            self._seen[key] = seen
            if len(self._seen) > self._size:
                self._seen.popitem(last=False)

    def forget(self, key: str) -> None:
        """Forget the record of *key*."""
        self._seen.pop(key, None)
