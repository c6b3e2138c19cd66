"""What a look at watched sessions costs least: which folders have changed, and at which version records stand.

The code blocks: it runs in a thread.
"""

import os

from .atomic_files import SHARD_LENGTH
from .directory import SAFE, SessionDirectory
from .file_format import RubbishError
from .record_file import header_of, is_misplaced
from .stat_cache import stamp_of

# Of two digits in hex.
_FOLDERS = [f"{number:02x}" for number in range(256)]
# Records whose versions are remembered, at about 250 bytes each.
_MOST = 50_000
# Stands for the version of a file that is there, but cannot be read as a record.
_UNREADABLE = b""


class ChangedFolders:
    """Finds the folders in which a file was made, replaced or removed since the last look.

    Each of these changes the modification time of the folder.  A ``touch`` of a record does not.  Two changes can fall
    into one tick of the clock, so a folder that has changed is named in two looks.
    """

    def __init__(self, directory: SessionDirectory) -> None:
        """Know nothing yet, so that the first look finds all folders changed."""
        self._directory = directory
        self._seen: dict[str, tuple[int, int] | None] = {}
        self._changed: set[str] = set()

    def look(self) -> set[str]:
        """Return the names of the folders that have changed.

        Raises:
            OSError: A folder could not be looked at.
        """
        changed = set()
        for name in _FOLDERS:
            try:
                status = os.stat(name, dir_fd=self._directory.descriptor, follow_symlinks=False)
            except FileNotFoundError:
                stamp = None
            else:
                stamp = (status.st_ino, status.st_mtime_ns)
            if self._seen.get(name, ()) != stamp:
                self._seen[name] = stamp
                changed.add(name)
        before, self._changed = self._changed, changed
        return changed | before


class Versions:
    """Tells at which version records stand, by one ``stat`` for each that was not written since the last time."""

    def __init__(self, directory: SessionDirectory, *, remember: bool) -> None:
        """Work in *directory*; with *remember*, a file with unchanged times is taken for unchanged."""
        self._directory = directory
        self._remember = remember
        self._known: dict[str, tuple[int, int, int, bytes]] = {}

    def of(self, keys: list[str]) -> dict[str, bytes]:
        """Return the versions of the records of *keys*, without those that do not exist.

        Raises:
            OSError: A file could not be read.
        """
        if len(self._known) > _MOST:
            self._known = {}
        versions = {}
        for key in keys:
            version = self._version(key)
            if version is None:
                self._known.pop(key, None)
            else:
                versions[key] = version
        return versions

    def _version(self, key: str) -> bytes | None:
        path = f"{key[:SHARD_LENGTH]}/{key[SHARD_LENGTH:]}"
        try:
            known = self._known.get(key)
            if known is not None:
                status = os.stat(path, dir_fd=self._directory.descriptor, follow_symlinks=False)
                if known[:3] == (status.st_ino, status.st_mtime_ns, status.st_size):
                    return known[3]
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | SAFE, dir_fd=self._directory.descriptor)
            try:
                stamp = stamp_of(os.fstat(descriptor))  # before it is read: a touch in between makes it outdated
                version = header_of(descriptor).version
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            return None
        except (RubbishError, ValueError):  # damaged, or of a newer version
            return _UNREADABLE
        except OSError as error:
            if is_misplaced(error) or isinstance(error, PermissionError):  # perhaps of another user
                return _UNREADABLE
            raise
        if self._remember:
            self._known[key] = (*stamp, version)
        return version
