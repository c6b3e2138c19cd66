"""Moves what is in the place of a record, but is no record, out of the way.  The code blocks."""

import errno
import os
import secrets
import stat
from contextlib import suppress

from .atomic_files import SHARD_LENGTH, RecordFiles
from .directory import SAFE, SET_ASIDE, SessionDirectory
from .file_format import RubbishError
from .lock import BusyError, folder_locked, record_locked
from .record_file import is_misplaced, read_record
from .stat_cache import Seen


class SetAside:
    """The folder ``set-aside`` of one directory."""

    def __init__(self, directory: SessionDirectory, files: RecordFiles) -> None:
        """Look after *files*, which are in *directory*."""
        self._directory = directory
        self._files = files

    def fetch_or_set_aside(self, key: str, version: bytes | None = None) -> Seen | str | None:
        """Read the file of *key* again while no writer has it, and set it aside if it is no record.

        Args:
            version: At this version, the file is set aside although it is sound, because its content is rubbish.

        Returns:
            The record, if there is one after all.  A string if the file was set aside: what was wrong with it.  None if
            the file is gone.

        Raises:
            BusyError: Somebody else is at work here.
            NewerRecordError: A newer version of this package wrote the file.
            OSError: The file could not be read or moved.
        """
        try:
            with self._files.open_folder(key[:SHARD_LENGTH]) as folder:
                try:
                    with record_locked(folder, key[SHARD_LENGTH:]) as descriptor:
                        return self._checked(folder, descriptor, key, version)
                except OSError as error:
                    if not is_misplaced(error):
                        raise
                    return self._move_what_is_no_file(folder, key, error)
        except FileNotFoundError:
            return None
        except NotADirectoryError as error:
            self._move_what_is_no_folder(key)
            return _reason(error)

    def _checked(self, folder: int, descriptor: int, key: str, version: bytes | None) -> Seen | str:
        try:
            seen = read_record(descriptor)
            if seen.stored.version != version:
                return seen
            reason = "its content is damaged"
        except RubbishError as error:
            reason = str(error)
        self._move(folder, key)
        return reason

    def _move(self, folder: int, key: str) -> None:
        aside = self._folder()
        try:
            os.rename(key[SHARD_LENGTH:], _new_name(key), src_dir_fd=folder, dst_dir_fd=aside)
        finally:
            os.close(aside)

    def _move_what_is_no_file(self, folder: int, key: str, error: OSError) -> str:
        """Move a folder, a link or a pipe, which no writer locks.

        So whoever moves one locks the folder around it, and looks again: a second mover would move the new record that
        a writer has put there since.
        """
        with folder_locked(folder):
            found = os.stat(key[SHARD_LENGTH:], dir_fd=folder, follow_symlinks=False)
            if stat.S_ISREG(found.st_mode):
                raise BusyError  # by now, it can be locked
            self._move(folder, key)
        return _reason(error)

    def _move_what_is_no_folder(self, key: str) -> None:
        shard, root, aside = key[:SHARD_LENGTH], self._directory.descriptor, self._folder()
        try:
            with suppress(FileNotFoundError):
                if not stat.S_ISDIR(os.stat(shard, dir_fd=root, follow_symlinks=False).st_mode):
                    # The target is a file, which a folder cannot replace. So a folder stays where it is: somebody may
                    # have repaired it since, and it may hold sessions.
                    target = _new_name(key)
                    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFE, 0o600, dir_fd=aside))
                    try:
                        os.rename(shard, target, src_dir_fd=root, dst_dir_fd=aside)
                    except (FileNotFoundError, NotADirectoryError):
                        os.unlink(target, dir_fd=aside)
        finally:
            os.close(aside)

    def _folder(self) -> int:
        self._directory.make_folder(SET_ASIDE)
        try:
            return self._directory.open(SET_ASIDE, os.O_RDONLY | os.O_DIRECTORY)
        except NotADirectoryError:
            path = f"{self._directory.path}/{SET_ASIDE}"
            raise FileExistsError(errno.EEXIST, "it should be a folder", path) from None


def _new_name(key: str) -> str:
    return f"{key}.{secrets.token_hex(4)}"


def _reason(error: OSError) -> str:
    return f"not a file of ours: {os.strerror(error.errno or 0)}"
