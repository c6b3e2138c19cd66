"""The index of owners in files, blocking: ``owners/<owner key>/<key>``, empty, with its end as the modification time.

Making and removing a name is atomic, so parallel processes never undo each other's entries.  Names that are no keys,
such as those that NFS or a desktop leaves behind, are none of ours.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from .atomic_files import SHARD_LENGTH
from .directory import OWNERS, SAFE, SessionDirectory
from .safe_path import make_private

_RETRIES = 5
_KEY = re.compile(r"[0-9a-f]{64}")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | SAFE


class OwnerIndex:
    """The entries of all owners below one directory."""

    def __init__(self, directory: SessionDirectory, *, durable: bool) -> None:
        """Work in *directory*.  With *durable*, every entry is lasting."""
        self._directory = directory
        self._durable = durable

    def link(self, owner_key: str, key: str, until: int) -> None:
        """Enter *key* until *until*, or move its end later; see :meth:`Verbs.link`.

        Raises:
            OSError: It could not be written.
        """
        for _ in range(_RETRIES):
            try:
                with self._folder(owner_key) as folder:
                    descriptor, new = self._entry(folder, key)
                    try:
                        last = until if new else max(until, int(os.fstat(descriptor).st_mtime))
                        os.utime(descriptor, (last, last))
                    finally:
                        os.close(descriptor)
                    if self._durable:
                        os.fsync(folder)
                    return
            except FileNotFoundError:  # no folder yet, or the sweep has just removed the empty one
                self._make_folder(owner_key)
        raise FileNotFoundError(errno.ENOENT, "the folder vanishes as soon as it is made", owner_key)

    def _entry(self, folder: int, key: str) -> tuple[int, bool]:
        """Open an entry, and say whether it is a new one, which has the time of now."""
        try:
            return os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFE, 0o600, dir_fd=folder), True
        except FileExistsError:
            return os.open(key, os.O_WRONLY | SAFE, dir_fd=folder), False

    def unlink(self, owner_key: str, key: str) -> None:
        """Remove *key*; see :meth:`Verbs.unlink`.

        Raises:
            OSError: It could not be removed.
        """
        with suppress(FileNotFoundError):
            with self._folder(owner_key) as folder:
                os.unlink(key, dir_fd=folder)
            self._remove_if_empty(owner_key)

    def linked(self, owner_key: str) -> list[str]:
        """Return the keys of an owner; see :meth:`Verbs.linked`.

        Raises:
            OSError: They could not be read.
        """
        with suppress(FileNotFoundError), self._folder(owner_key) as folder:
            return _keys_in(folder)
        return []

    # --- the sweep

    def owners(self) -> list[str]:
        """Return the keys of all owners."""
        with suppress(FileNotFoundError):
            descriptor = self._directory.open(OWNERS, os.O_RDONLY | os.O_DIRECTORY)
            try:
                return _keys_in(descriptor)
            finally:
                os.close(descriptor)
        return []

    def remove_ended(self, owner_keys: list[str], reclaimable: int) -> None:
        """Remove the entries of some owners that ended at *reclaimable* or before, and folders that became empty.

        A copy of the directory may have lost the modification times, so an entry stays for as long as its record does.
        """
        for owner_key in owner_keys:
            with suppress(FileNotFoundError, NotADirectoryError):
                with self._folder(owner_key) as folder:
                    for key in _keys_in(folder):
                        with suppress(FileNotFoundError):
                            ended = os.stat(key, dir_fd=folder, follow_symlinks=False).st_mtime <= reclaimable
                            if ended and not self._has_record(key):
                                os.unlink(key, dir_fd=folder)
                self._remove_if_empty(owner_key)

    def _has_record(self, key: str) -> bool:
        path = f"{key[:SHARD_LENGTH]}/{key[SHARD_LENGTH:]}"
        try:
            os.stat(path, dir_fd=self._directory.descriptor, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    # --- folders

    @contextmanager
    def _folder(self, owner_key: str) -> Iterator[int]:
        owners = self._directory.open(OWNERS, os.O_RDONLY | os.O_DIRECTORY)
        try:
            folder = os.open(owner_key, _FOLDER, dir_fd=owners)
        finally:
            os.close(owners)
        try:
            yield folder
        finally:
            os.close(folder)

    def _make_folder(self, owner_key: str) -> None:
        self._directory.make_folder(OWNERS)
        if self._durable:
            self._directory.sync()
        owners = self._directory.open(OWNERS, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with suppress(FileExistsError):
                make_private(owner_key, owners)
            if self._durable:
                os.fsync(owners)
        finally:
            os.close(owners)

    def _remove_if_empty(self, owner_key: str) -> None:
        with suppress(OSError):
            owners = self._directory.open(OWNERS, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.rmdir(owner_key, dir_fd=owners)
            finally:
                os.close(owners)


def _keys_in(folder: int) -> list[str]:
    return [name for name in os.listdir(folder) if _KEY.fullmatch(name)]
