"""Locks between processes.  If the holder of a lock dies, the kernel releases the lock.

- A writer locks the *record file* that it is about to change, replace or remove.
- A request that holds a session exclusively locks a byte of the *lock file*, and so does the sweep.  Every key has a
  byte at an offset of its own, far beyond the end of the file, so there need not be a record.  The lock file never
  grows and needs no cleaning up.
"""

import errno
import os
import stat
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

try:
    import fcntl
except ImportError:  # pragma: no cover  not POSIX, where FileSystemStorage refuses to be built
    fcntl = None  # type: ignore[assignment]

from .directory import LOCK_FILE, SAFE, SessionDirectory, identity_of

# One byte for each of 2**60 values stays below the largest offset of 2**63 - 1. The byte of the sweep comes after them.
_KEY_DIGITS = 15
SWEEP = 1 << (4 * _KEY_DIGITS)
# A file can be replaced between its opening and its locking. More often than this in a row, it is a busy file.
_RETRIES = 5


class BusyError(Exception):
    """Raised when somebody else holds the lock.  Try again a little later."""


# --- record files


@contextmanager
def record_locked(folder: int, name: str) -> Iterator[int]:
    """Lock the record file *name* in *folder* for the length of a block, and give its descriptor.

    During the block, the name belongs to this very file: whoever gives the name to another file, or removes the file,
    first takes this lock.  This holds whatever happens to other files, as there is no lock file that could be removed.

    Raises:
        BusyError: Somebody else holds it.
        FileNotFoundError: There is no such file.
        OSError: It cannot be opened or locked.
    """
    descriptor = _locked(folder, name)
    try:
        yield descriptor
    finally:
        try:
            # Closing alone would not unlock it if a child was forked meanwhile, which has the descriptor, too.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        finally:
            os.close(descriptor)


@contextmanager
def folder_locked(folder: int) -> Iterator[None]:
    """Lock a folder for the length of a block, against others that do the same.

    Raises:
        BusyError: Somebody else holds it.
    """
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BusyError from error
    except OSError:  # NFS cannot lock a folder
        yield
        return
    try:
        yield
    finally:
        fcntl.flock(folder, fcntl.LOCK_UN)


def _locked(folder: int, name: str) -> int:
    for _ in range(_RETRIES):
        descriptor = _open(folder, name)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.ENXIO, os.strerror(errno.ENXIO), name)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(status, os.stat(name, dir_fd=folder, follow_symlinks=False)):
                return descriptor
        except BlockingIOError as error:
            os.close(descriptor)
            raise BusyError from error
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    raise BusyError


def _open(folder: int, name: str) -> int:
    try:
        return os.open(name, os.O_RDWR | os.O_NONBLOCK | SAFE, dir_fd=folder)
    except PermissionError:  # a file whose mode somebody has changed can still be replaced and removed
        return os.open(name, os.O_RDONLY | os.O_NONBLOCK | SAFE, dir_fd=folder)


# --- the lock file


def offset_of(key: str) -> int:
    """Return the offset of the byte that the exclusive holder of *key* locks."""
    return int(key[:_KEY_DIGITS], 16)


class LockFile:
    """Byte-range locks that never wait.  The whole process holds them, each at its own offset.

    On Linux, the locks belong to an open file description.  A forked child shares the description, so the child must
    call :meth:`forget`.  Other systems only have classic record locks.  The kernel drops these when *any* descriptor of
    the file is closed, so there is only ever one descriptor.  Neither kind keeps the threads of one process apart.  For
    that, the held offsets are noted here.
    """

    def __init__(self, directory: SessionDirectory) -> None:
        """Lock in the lock file of *directory*, which is made when it is first needed."""
        self._directory = directory
        self._descriptor: int | None = None
        self._held: dict[int, int] = {}  # each offset with the descriptor that locked it
        self._identities: dict[int, tuple[int, int]] = {}  # of each descriptor, the file that it was opened for
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
            for _ in range(_RETRIES):
                descriptor = self._opened()
                try:
                    _lock(descriptor, offset)
                    if self._in_place(descriptor):
                        self._held[offset] = descriptor
                        return
                    # Somebody has removed the file, and others lock bytes of a new one.
                    _unlock(descriptor, offset)
                except (BlockingIOError, PermissionError) as error:
                    raise BusyError from error
                except OSError as error:
                    if error.errno != errno.EBADF:
                        raise
                self._descriptor = None
                self._close_unless_needed(descriptor)
            raise BusyError

    def holds(self, offset: int) -> bool:
        """Return whether the byte at *offset* is locked by us, in the file that others find at the path, too.

        It is not if somebody has removed the file.
        """
        if self._pid != os.getpid():
            return False
        with self._guard:
            descriptor = self._held.get(offset)
            with suppress(OSError):
                return descriptor is not None and self._in_place(descriptor) and self._is_ours(descriptor, offset)
        return False

    def release(self, offset: int) -> None:
        """Release the byte at *offset*, unless the parent process holds it.

        A forked child may leave the same block as its parent.
        """
        if self._pid != os.getpid():
            return
        with self._guard:
            descriptor = self._held.pop(offset, None)
            if descriptor is not None:
                with suppress(OSError):  # for example, a daemon has closed all descriptors, and so released the lock
                    _unlock(descriptor, offset)
                if descriptor != self._descriptor:
                    self._close_unless_needed(descriptor)

    def close(self) -> bool:
        """Close the file if nothing is locked, and return whether that is so.  It is opened again when needed."""
        with self._guard:
            if self._held:
                return False
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is not None:
                self._close_unless_needed(descriptor)
            return True

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
            self._close_unless_needed(descriptor)

    def _opened(self) -> int:
        if self._descriptor is None:
            self._descriptor = self._directory.open(LOCK_FILE, os.O_RDWR | os.O_CREAT)
            self._identities[self._descriptor] = identity_of(os.fstat(self._descriptor))
        return self._descriptor

    def _in_place(self, descriptor: int) -> bool:
        try:
            at_path = os.stat(LOCK_FILE, dir_fd=self._directory.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(at_path, os.fstat(descriptor))

    def _is_ours(self, descriptor: int, offset: int) -> bool:
        """Return whether the byte is locked, and by us."""
        if _CAN_ASK:
            other = os.open(LOCK_FILE, os.O_RDWR | SAFE, dir_fd=self._directory.descriptor)
            try:
                if not _is_locked(other, offset):
                    return False
            finally:
                os.close(other)
        try:
            _lock(descriptor, offset)  # does nothing if it is ours
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _close_unless_needed(self, descriptor: int) -> None:
        if descriptor in self._held.values():
            return
        identity = self._identities.pop(descriptor, None)
        # Some daemons close all descriptors, and the number of ours may be another file's since.
        with suppress(OSError):
            if identity_of(os.fstat(descriptor)) == identity:
                os.close(descriptor)


def _flock(kind: int, offset: int) -> bytes:
    # struct flock: type, whence, start, length, and a process id that must be 0
    return struct.pack("hhqqi", kind, os.SEEK_SET, offset, 1, 0)


# Only with locks of an open file description can another description of the same process ask whether they are held.
_CAN_ASK = hasattr(fcntl, "F_OFD_SETLK")

if _CAN_ASK:

    def _lock(descriptor: int, offset: int) -> None:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _flock(fcntl.F_WRLCK, offset))

    def _unlock(descriptor: int, offset: int) -> None:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _flock(fcntl.F_UNLCK, offset))

    def _is_locked(descriptor: int, offset: int) -> bool:
        found = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _flock(fcntl.F_WRLCK, offset))
        return bool(struct.unpack_from("h", found)[0] != fcntl.F_UNLCK)

else:  # pragma: no cover  other POSIX systems

    def _lock(descriptor: int, offset: int) -> None:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset, os.SEEK_SET)

    def _unlock(descriptor: int, offset: int) -> None:
        fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, offset, os.SEEK_SET)

    def _is_locked(descriptor: int, offset: int) -> bool:
        raise NotImplementedError
