"""The sweep of a directory of record files.  The code blocks: each call does a bounded piece of work in a thread."""

import os
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

from ...record.format import NewerRecordError
from .atomic_files import RecordFiles
from .directory import RECORD_NAME, SET_ASIDE, SHARD, TEMPORARY, SessionDirectory
from .file_format import Header, RubbishError
from .lock import BusyError, record_locked
from .record_file import header_of, read_header

# In seconds. A write takes milliseconds, so a temporary file this old belonged to a process that was killed.
TEMPORARY_KEPT = 60 * 60
# In seconds. Long enough to find out what was wrong with a file, but its content must not stay on the disk for ever.
SET_ASIDE_KEPT = 30 * 24 * 60 * 60


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

    def __init__(self, directory: SessionDirectory, files: RecordFiles) -> None:
        """Sweep *files*, which are in *directory*."""
        self._directory = directory
        self._files = files

    def begin(self) -> tuple[list[str], int]:
        """Return the names of the folders with records, and the time by the clock of the file system."""
        names, now = self._directory.names(), self._directory.clock()
        for name in names:
            if name.startswith(TEMPORARY):
                _remove_older(name, now - TEMPORARY_KEPT, self._directory.descriptor)
        return sorted(filter(SHARD.fullmatch, names)), now

    def names(self, shard: str) -> list[str]:
        """Return the names in folder *shard*, in no particular order."""
        with suppress(FileNotFoundError, NotADirectoryError), self._files.open_folder(shard) as folder:
            return os.listdir(folder)
        return []

    def remove_expired(self, shard: str, names: list[str], reclaimable: int, now: int) -> "Slice":
        """Look at the files *names* in folder *shard* and remove those that expired at *reclaimable* or before.

        A file is checked again while it is locked, before it is removed, because it may have been touched.  Files that
        are busy or cannot be read stay, and the others are swept all the same.

        Args:
            now: The time by the clock of the file system.

        Raises:
            OSError: The folder cannot be opened.
        """
        removed, rubbish, failed = found = Slice([], [], [])
        with suppress(FileNotFoundError, NotADirectoryError), self._files.open_folder(shard) as folder:
            for name in names:
                if name.startswith(TEMPORARY):
                    _remove_older(name, now - TEMPORARY_KEPT, folder)
                elif RECORD_NAME.fullmatch(name):
                    try:
                        if _expired(read_header(folder, name), reclaimable) and _removed(folder, name, reclaimable):
                            removed.append(shard + name)
                    except (BusyError, NewerRecordError, FileNotFoundError):
                        continue
                    except RubbishError:
                        rubbish.append(shard + name)
                    except OSError as error:
                        failed.append(error)
        return found

    def remove_empty(self, shard: str) -> None:
        """Remove folder *shard* if it is empty.  A writer that needs it creates it again."""
        with suppress(OSError):
            os.rmdir(shard, dir_fd=self._directory.descriptor)

    def forget_set_aside(self, most: int, now: int) -> int:
        """Look at up to *most* files that were set aside, remove the old ones, and return how many that were."""
        count = 0
        with suppress(FileNotFoundError, NotADirectoryError), self._files.open_folder(SET_ASIDE) as folder:
            for name in islice(os.listdir(folder), most):
                count += _remove_older(name, now - SET_ASIDE_KEPT, folder)
        return count


def _removed(folder: int, name: str, reclaimable: int) -> bool:
    with record_locked(folder, name) as descriptor:
        if not _expired(header_of(descriptor), reclaimable):
            return False
        os.unlink(name, dir_fd=folder)
        return True


def _expired(header: Header | None, reclaimable: int) -> bool:
    return header is not None and header.expires_at <= reclaimable


def _remove_older(name: str, before: int, folder: int) -> bool:
    """Remove file *name* if, by the clock of the file system, it was last written or renamed before *before*.

    Returns:
        Whether it was removed.
    """
    with suppress(FileNotFoundError, IsADirectoryError, PermissionError):
        if os.stat(name, dir_fd=folder, follow_symlinks=False).st_ctime < before:
            os.unlink(name, dir_fd=folder)
            return True
    return False
