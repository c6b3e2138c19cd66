"""Replaces a file by a new one, atomically.

``rename`` onto an existing name makes ext4 write the new file to the disk at once.  To exchange both names and unlink
the old file takes an eighth of that time under load (``benchmarks/replace.py``), and is as atomic for readers.  The
drawback is that after a power cut, a record of the last seconds may be gone altogether.  ``rename`` keeps the old or
the new record.
"""

import ctypes
import errno
import os
from collections.abc import Callable

_RENAME_EXCHANGE = 2
# The errors of a kernel or file system that cannot exchange names (overlays, network file systems, some FUSE).
_UNABLE = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM}

Rename = Callable[[str, str, int], None]


def rename(source: str, target: str, folder: int) -> None:
    """Rename *source* to *target*, both in *folder*, and replace what is there."""
    os.rename(source, target, src_dir_fd=folder, dst_dir_fd=folder)


def fastest() -> Rename:
    """Return the fastest way to replace a file on this system: an exchange if there is one, else a rename."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return rename
    call.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]

    def exchange(source: str, target: str, folder: int) -> None:
        """Exchange the names *source* and *target*.  The caller removes the file that is then called *source*."""
        if call(folder, os.fsencode(source), folder, os.fsencode(target), _RENAME_EXCHANGE):
            code = ctypes.get_errno()
            if code not in _UNABLE:
                raise OSError(code, os.strerror(code), target)
            rename(source, target, folder)

    return exchange
