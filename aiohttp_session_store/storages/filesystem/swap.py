"""Gives a new file its name, atomically: in place of an older file, or only if there is none.

``rename`` onto an existing name makes ext4 write the new file to the disk at once.  To exchange both names and unlink
the old file takes an eighth of that time under load (``benchmarks/replace.py``), and is as atomic for readers.  The
drawback is that after a power cut, a record of the last seconds may be gone altogether.  ``rename`` keeps the old or
the new record.
"""

import ctypes
import errno
import os
from collections.abc import Callable

_RENAME_NOREPLACE, _RENAME_EXCHANGE = 1, 2
# The errors of a kernel or file system that does not know these flags (overlays, network file systems, some FUSE).
_UNABLE = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM}

Rename = Callable[[str, str, int], None]


def rename(source: str, target: str, folder: int) -> None:
    """Rename *source* to *target*, both in *folder*, and replace what is there."""
    os.rename(source, target, src_dir_fd=folder, dst_dir_fd=folder)


def exchange(source: str, target: str, folder: int) -> None:
    """Exchange the names *source* and *target*.  The caller removes the file that is then called *source*.

    Where names cannot be exchanged, it is a ``rename``.
    """
    if not _renamed(source, target, folder, _RENAME_EXCHANGE):
        rename(source, target, folder)


def put_new(source: str, target: str, folder: int) -> None:
    """Give the file *source* the name *target* in *folder*.  The caller removes the name *source* if it is left.

    Raises:
        FileExistsError: There is something called *target*.
    """
    if not _renamed(source, target, folder, _RENAME_NOREPLACE):
        os.link(source, target, src_dir_fd=folder, dst_dir_fd=folder)


def _renameat2() -> Callable[..., int] | None:
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return None
    call.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    return call


_call = _renameat2()


def _renamed(source: str, target: str, folder: int, flags: int) -> bool:
    """Rename with *flags*; return False if that is not possible here."""
    if _call is None:
        return False
    if _call(folder, os.fsencode(source), folder, os.fsencode(target), flags):
        code = ctypes.get_errno()
        if code not in _UNABLE:
            raise OSError(code, os.strerror(code), target)
        return False
    return True
