"""The sweep of a directory of record files, blocking, in slices: each call does a bounded piece of work in a thread."""

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

# A write takes milliseconds: a temporary file this old, in seconds, belonged to a process that was killed.
TEMPORARY_KEPT = 60 * 60
# Long enough, in seconds, to look at what was wrong; short enough that what it held does not lie about for ever.
SET_ASIDE_KEPT = 30 * 24 * 60 * 60

_SHARD = re.compile(r"[0-9a-f]{2}")
_NAME = re.compile(r"[0-9a-f]{62}")


class Slice(NamedTuple):
    """What came of some of the files of a folder.

    Attributes:
        removed: The keys that were removed.
        rubbish: The keys of files that are no records.
        failed: Why others could not be looked at or removed.
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
        """Return what stands in folder *shard*, in no order."""
        with suppress(FileNotFoundError, NotADirectoryError), self._files.open_folder(shard) as folder:
            return os.listdir(folder)
        return []

    def remove_expired(self, shard: str, names: list[str], reclaimable: int) -> "Slice":
        """Look at the files *names* in folder *shard* and remove what expired at *reclaimable* or before.

        A file is looked at again under its writer lock before it goes: it may have been touched.  What is busy stays,
        and so does what cannot be read: it must not keep the others from being swept.

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
        """Remove folder *shard* if nothing is left in it; a writer that wants it makes it again."""
        with suppress(OSError):
            os.rmdir(os.path.join(self._files.root, shard))

    def forget_set_aside(self, most: int) -> int:
        """Remove up to *most* files that were set aside long ago, and return how many that were."""
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
    """Remove file *name* if it was neither written nor renamed for *age* seconds, by the disk's clock."""
    with suppress(FileNotFoundError, IsADirectoryError, PermissionError):
        if os.stat(name, dir_fd=folder, follow_symlinks=False).st_ctime < time.time() - age:
            os.unlink(name, dir_fd=folder)
            return True
    return False
