"""Walking over all record files, without changing any.  The code blocks: each call does a bounded piece of work."""

import os

from ...engine.verbs import Found
from ...record.format import NewerRecordError
from .atomic_files import RecordFiles
from .directory import RECORD_NAME, SAFE, SHARD, SessionDirectory
from .file_format import RubbishError
from .record_file import read_record, rubbish_or


class FileWalk:
    """Finds the record files of one directory, folder by folder."""

    def __init__(self, directory: SessionDirectory, files: RecordFiles) -> None:
        """Look at *files*, which are in *directory*."""
        self._directory = directory
        self._files = files

    def shards(self) -> list[str]:
        """Return the names of the folders with records, in order.

        Raises:
            OSError: The directory cannot be read.
        """
        return sorted(filter(SHARD.fullmatch, self._directory.names()))

    def names(self, shard: str) -> list[str]:
        """Return the names of the records in folder *shard*, in no particular order.

        Raises:
            OSError: The folder cannot be read.
        """
        try:
            with self._files.open_folder(shard) as folder, os.scandir(folder) as entries:
                return [entry.name for entry in entries if RECORD_NAME.fullmatch(entry.name)]
        except (FileNotFoundError, NotADirectoryError):  # the sweep has removed it; or no record can be there
            return []

    def read(self, shard: str, names: list[str]) -> list[Found]:
        """Read some files of folder *shard*.  Those that were removed meanwhile are left out.

        A file that cannot be read does not hide the others: it is found with its fault.

        Raises:
            OSError: The folder cannot be opened.
        """
        found = []
        try:
            with self._files.open_folder(shard) as folder:
                for name in names:
                    one = _read(folder, shard + name, name)
                    if one is not None:
                        found.append(one)
        except (FileNotFoundError, NotADirectoryError):
            pass
        return found


def _read(folder: int, key: str, name: str) -> Found | None:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | SAFE, dir_fd=folder)
        try:
            return Found(key, read_record(descriptor).stored)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return None
    except (RubbishError, NewerRecordError) as error:
        return Found(key, None, str(error))
    except OSError as error:
        fault = rubbish_or(error)
        return Found(key, None, f"it cannot be read: {error.strerror}" if fault is error else str(fault))
