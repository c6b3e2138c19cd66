"""Locks between processes: all of them in one file, as locked byte ranges.

Every key has two bytes at an offset of its own, far beyond the end of the file: one for writers, and one for requests
that hold the session exclusively.  If the holder of a lock dies, the kernel releases the lock.  The file never grows,
so it needs no cleaning up.
"""

import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

try:
    import fcntl
except ImportError:  # pragma: no cover  not POSIX, where FileSystemStorage refuses to be built
    fcntl = None  # type: ignore[assignment]

WRITER, EXCLUSIVE = 0, 1
# Two bytes for each of 2**60 values stay below the largest offset of 2**63 - 1. The byte of the sweep comes after them.
_KEY_DIGITS = 15
SWEEP = 1 << (4 * _KEY_DIGITS + 1)


class BusyError(Exception):
    """Raised when somebody else holds the lock.  Try again a little later."""


def offset_of(key: str, role: int) -> int:
    """Return the offset of the byte that a WRITER or an EXCLUSIVE holder of *key* locks."""
    return int(key[:_KEY_DIGITS], 16) * 2 + role


class LockFile:
    """Byte-range locks that never wait.  The whole process holds them, each at its own offset.

    On Linux, the locks belong to an open file description.  A forked child shares the description, so the child must
    call :meth:`forget`.  Other systems only have classic record locks.  The kernel drops these when *any* descriptor of
    the file is closed, so there is only ever one descriptor.  Neither kind keeps the threads of one process apart.  For
    that, the held offsets are noted here.
    """

    def __init__(self, path: str) -> None:
        """Lock in the file at *path*, which is created when it is first needed."""
        self._path = path
        self._descriptor: int | None = None
        self._held: dict[int, int] = {}  # each offset with the descriptor that locked it
        self._guard = threading.Lock()
        self._pid = os.getpid()

    def acquire(self, offset: int) -> None:
        """Lock the byte at *offset*.

        Raises:
            BusyError: Somebody else holds it.
            OSError: The lock file cannot be opened.
        """
        with self._guard:
            if offset in self._held:
                raise BusyError
            descriptor = self._current()
            try:
                _lock(descriptor, offset)
            except (BlockingIOError, PermissionError) as error:
                raise BusyError from error
            self._held[offset] = descriptor

    def release(self, offset: int) -> None:
        """Release the byte at *offset*, unless the parent process holds it.

        A forked child may leave the same block as its parent.
        """
        if self._pid != os.getpid():
            return
        with self._guard:
            descriptor = self._held.pop(offset, None)
            if descriptor is not None:
                _unlock(descriptor, offset)
                if descriptor != self._descriptor:
                    self._close_unless_needed(descriptor)

    @contextmanager
    def holding(self, offset: int) -> Iterator[None]:
        """Hold the byte at *offset* for the length of a block.

        Raises:
            BusyError: Somebody else holds it.
            OSError: The lock file cannot be opened.
        """
        self.acquire(offset)
        try:
            yield
        finally:
            self.release(offset)

    def close(self) -> None:
        """Close the file if nothing is locked.  It is opened again when needed."""
        with self._guard:
            if self._descriptor is not None and not self._held:
                os.close(self._descriptor)
                self._descriptor = None

    def forget(self) -> None:
        """Start afresh in a forked child: the locks are held by the parent."""
        descriptors = set(self._held.values())
        if self._descriptor is not None:
            descriptors.add(self._descriptor)
        self._descriptor = None
        self._held = {}
        self._guard = threading.Lock()
        self._pid = os.getpid()
        for descriptor in descriptors:
            with suppress(OSError):
                os.close(descriptor)

    def _current(self) -> int:
        """Return a descriptor of the file that is at the path now.

        Somebody may have emptied or removed the folder.  Locks that are held in an earlier file stay held there.
        """
        if self._descriptor is not None:
            try:
                if os.path.samestat(os.stat(self._path), os.fstat(self._descriptor)):
                    return self._descriptor
            except FileNotFoundError:
                pass
            outdated, self._descriptor = self._descriptor, None
            self._close_unless_needed(outdated)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._descriptor = os.open(self._path, flags, 0o600)
        except FileNotFoundError:
            with suppress(FileExistsError):
                os.mkdir(os.path.dirname(self._path), 0o700)
            self._descriptor = os.open(self._path, flags, 0o600)
        return self._descriptor

    def _close_unless_needed(self, descriptor: int) -> None:
        if descriptor not in self._held.values():
            os.close(descriptor)


if fcntl is not None and hasattr(fcntl, "F_OFD_SETLK"):

    def _set(descriptor: int, kind: int, offset: int) -> None:
        # struct flock: type, whence, start, length, and a process id that must be 0
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack("hhqqi", kind, os.SEEK_SET, offset, 1, 0))

    def _lock(descriptor: int, offset: int) -> None:
        _set(descriptor, fcntl.F_WRLCK, offset)

    def _unlock(descriptor: int, offset: int) -> None:
        _set(descriptor, fcntl.F_UNLCK, offset)

else:  # pragma: no cover  other POSIX systems

    def _lock(descriptor: int, offset: int) -> None:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset, os.SEEK_SET)

    def _unlock(descriptor: int, offset: int) -> None:
        fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, offset, os.SEEK_SET)
