"""The sweep of a directory of record files.  The code blocks: each call does a bounded piece of work in a thread."""

import os
import re
import time
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

from ...record.format import NewerRecordError
from .atomic_files import SET_ASIDE, TEMPORARY, RecordFiles, read_header
from .file_format import Header, RubbishError
from .lock import WRITER, BusyError, LockFile, offset_of

# In seconds. A write takes milliseconds, so a temporary file this old belonged to a process that was killed.
TEMPORARY_KEPT = 60 * 60
# In seconds. Long enough to find out what was wrong with a file, but its content must not stay on the disk for ever.
SET_ASIDE_KEPT = 30 * 24 * 60 * 60

_SHARD = re.compile(r"[0-9a-f]{2}")
_NAME = re.compile(r"[0-9a-f]{62}")


class Slice(NamedTuple):
    """The result of sweeping some of the files of a folder.

    Attributes:
        removed: The keys whose records were removed.
        rubbish: The keys of files that are no records.
        failed: The errors of files that could not be read or removed.
    """

    removed: list[str]
    rubbish: list[str]
    failed: list[OSError]


class FileSweep:
    """Removes expired records, old temporary files, and folders that became empty."""

    def __init__(self, files: RecordFiles, locks: LockFile) -> None:
        """Sweep *files*, taking the same *locks* as their writers."""
        self._files = files
        self._locks = locks

    def shards(self) -> list[str]:
        """Return the names of the folders with records."""
        try:
            return sorted(name for name in os.listdir(self._files.root) if _SHARD.fullmatch(name))
        except FileNotFoundError:
            return []

    def names(self, shard: str) -> list[str]:
        """Return the names in folder *shard*, in no particular order."""
        with suppress(FileNotFoundError, NotADirectoryError), self._files.open_folder(shard) as folder:
            return os.listdir(folder)
        return []

    def remove_expired(self, shard: str, names: list[str], reclaimable: int) -> "Slice":
        """Look at the files *names* in folder *shard* and remove those that expired at *reclaimable* or before.

        A file is checked again under its writer lock before it is removed, because it may have been touched.  Files
        that are busy or cannot be read stay, and the others are swept all the same.

        Raises:
            OSError: The folder cannot be opened.
        """
        removed, rubbish, failed = found = Slice([], [], [])
        with suppress(FileNotFoundError, NotADirectoryError), self._files.open_folder(shard) as folder:
            for name in names:
                if name.startswith(TEMPORARY):
                    _remove_older(name, TEMPORARY_KEPT, folder)
                elif _NAME.fullmatch(name):
                    key = shard + name
                    try:
                        if _expired(read_header(folder, name), reclaimable) and self._remove(folder, key, reclaimable):
                            removed.append(key)
                    except (BusyError, NewerRecordError):
                        continue
                    except RubbishError:
                        rubbish.append(key)
                    except OSError as error:
                        failed.append(error)
        return found

    def remove_empty(self, shard: str) -> None:
        """Remove folder *shard* if it is empty.  A writer that needs it creates it again."""
        with suppress(OSError):
            os.rmdir(os.path.join(self._files.root, shard))

    def forget_set_aside(self, most: int) -> int:
        """Look at up to *most* files that were set aside, remove the old ones, and return how many that were."""
        count = 0
        with suppress(FileNotFoundError), self._files.open_folder(SET_ASIDE) as folder:
            for name in islice(os.listdir(folder), most):
                count += _remove_older(name, SET_ASIDE_KEPT, folder)
        return count

    def _remove(self, folder: int, key: str, reclaimable: int) -> bool:
        name = key[2:]
        with self._locks.holding(offset_of(key, WRITER)):
            if not _expired(read_header(folder, name), reclaimable):
                return False
            os.unlink(name, dir_fd=folder)
            return True


def _expired(header: Header | None, reclaimable: int) -> bool:
    return header is not None and header.expires_at <= reclaimable


def _remove_older(name: str, age: int, folder: int) -> bool:
    """Remove file *name* if, by the disk's clock, it was neither written nor renamed for *age* seconds.

    Returns:
        Whether it was removed.
    """
    with suppress(FileNotFoundError, IsADirectoryError, PermissionError):
        if os.stat(name, dir_fd=folder, follow_symlinks=False).st_ctime < time.time() - age:
            os.unlink(name, dir_fd=folder)
            return True
    return False
