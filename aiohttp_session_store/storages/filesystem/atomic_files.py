"""Record files.  The code blocks: each verb runs in a thread, does one whole transaction, and needs no event loop.

A write goes to a temporary file in the same folder, which takes the record's name by an atomic rename.  So a reader
sees the old record or the new one.  A file is removed or replaced only while it is locked, and what the change depends
on, such as its version, is checked under the same lock.  A new record takes its name only if nothing has that name.

*Lasting* calls return when their change is on the disk: the file is synced before it gets its name, and then the
folder.  A call that finds its work done by another process syncs the folder as well, as the other one may not have got
that far.
"""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

from ...record.format import Stored
from .directory import SAFE, TEMPORARY, SessionDirectory
from .file_format import EXPIRY_OFFSET, LATEST, new_version, pack, pack_expiry
from .lock import record_locked
from .record_file import header_of, is_misplaced, read_record, rubbish_or, stamp_with_own_time, write_all
from .stat_cache import Seen, Stamp
from .swap import Rename, exchange, put_new, rename

SHARD_LENGTH = 2
_RETRIES = 5
# Errors of rename and unlink after which nothing has changed. With others, such as EIO, nobody can know.
_NOTHING_DONE = {
    *(errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EXDEV),
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EMLINK, errno.EBUSY, errno.ENOMEM),
}


class MaybeDoneError(Exception):
    """Raised from the OSError of a step that comes so late that the change may stand, or certainly does."""


class RecordFiles:
    """The record files below one directory."""

    def __init__(self, directory: SessionDirectory, *, durable: bool) -> None:
        """Work in *directory*.  With *durable*, every write is lasting."""
        self._directory = directory
        self._durable = durable

    # --- the verbs

    def fetch(self, key: str) -> Seen | None:
        """Read the record of *key*.

        Raises:
            NewerRecordError: A newer version of this package wrote it.
            RubbishError: The file is no record.
            OSError: The file could not be read.
        """
        try:
            with self._folder(key) as folder:
                descriptor = os.open(key[SHARD_LENGTH:], os.O_RDONLY | os.O_NONBLOCK | SAFE, dir_fd=folder)
                try:
                    return read_record(descriptor)
                finally:
                    os.close(descriptor)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise rubbish_or(error) from error

    def insert(self, key: str, data: bytes, expires_at: int) -> Seen | None:
        """Create the record of *key*, or return None if it exists.

        Raises:
            RubbishError: Something that is no folder is in the place of its folder.
            MaybeDoneError: The record may have been written all the same.
            OSError: The file could not be written.
        """
        stored = Stored(data, new_version(), min(expires_at, LATEST))
        content = pack(data, stored.expires_at, stored.version)
        for _ in range(_RETRIES):
            placed = False
            try:
                with self._temporary(key, content, lasting=self._durable) as (folder, temporary, stamp):
                    with _may_have_been_done():
                        put_new(temporary, key[SHARD_LENGTH:], folder)
                    placed = True
                    if self._durable:
                        os.fsync(folder)
                    return Seen(stored, stamp)
            except FileExistsError:
                return None
            except FileNotFoundError:  # no folder yet, or the sweep has just removed the empty one
                self._make_folder(key)
            except NotADirectoryError as error:
                raise rubbish_or(error) from error
            except OSError as error:
                if placed:
                    raise MaybeDoneError from error
                raise
        raise FileNotFoundError(errno.ENOENT, "the folder vanishes as soon as it is made", key[:SHARD_LENGTH])

    def replace(
        self, key: str, data: bytes, expires_at: int | None, version: bytes, *, lasting: bool = False
    ) -> Seen | None:
        """Overwrite the record of *key* if it stands at *version*.

        Args:
            expires_at: Whole Unix seconds, or None to let the expiry stand that is found under the lock.

        Raises:
            BusyError: Another writer has the key.
            MaybeDoneError: The new record may have been written all the same.
            OSError: The file could not be written.  The old record is intact.
        """
        stored, name = Stored(data, new_version(), min(expires_at or 0, LATEST)), key[SHARD_LENGTH:]
        content = pack(data, stored.expires_at, stored.version)
        lasting = lasting or self._durable
        # A lasting file is on the disk already, so an exchange saves no time, and a rename guarantees more.
        put_in_place: Rename = rename if lasting else exchange
        placed = False
        try:
            with self._temporary(key, content, lasting=lasting) as (folder, temporary, written):
                stamp = written
                with _no_record_of_ours(), record_locked(folder, name) as descriptor:
                    header = header_of(descriptor)
                    if header.version == version:
                        if expires_at is None:
                            stored = stored._replace(expires_at=header.expires_at)
                            stamp = _with_expiry(folder, temporary, header.expires_at, lasting=lasting)
                        with _may_have_been_done():
                            put_in_place(temporary, name, folder)
                        placed = True
                if lasting:
                    os.fsync(folder)
        except FileNotFoundError:  # there is no folder
            if lasting:
                self._directory.sync()
        except OSError as error:
            if placed:
                raise MaybeDoneError from error
            raise
        return Seen(stored, stamp) if placed else None

    def touch(self, key: str, expires_at: int, version: bytes) -> bool:
        """Extend the record of *key* in place if it stands at *version*.

        Raises:
            BusyError: Another writer has the key.
            MaybeDoneError: The record may have been extended all the same.
            OSError: The file could not be written.
        """
        touched = writing = False
        expires_at = min(expires_at, LATEST)
        try:
            with (
                _no_record_of_ours(),
                self._folder(key) as folder,
                record_locked(folder, key[SHARD_LENGTH:]) as descriptor,
            ):
                header = header_of(descriptor)
                touched = header.version == version
                if touched and header.expires_at < expires_at:
                    writing = True
                    write_all(descriptor, pack_expiry(expires_at), EXPIRY_OFFSET)
                    stamp_with_own_time(descriptor)
                    if self._durable:
                        os.fsync(descriptor)
        except OSError as error:
            if writing:
                raise MaybeDoneError from error
            raise
        return touched

    def delete(self, key: str, version: bytes | None = None) -> bool:
        """Remove the record of *key*, if it is there, or only if it stands at *version*.  This is lasting, always.

        It makes no file, so it needs no space.

        Returns:
            Whether no record stands there now.

        Raises:
            BusyError: Another writer has the key.  If the file went between its check and its rename, the record would
                come back.
            MaybeDoneError: The file may have been removed all the same.
            OSError: The file could not be removed.
        """
        removed: bool | None = None
        try:
            with self._folder(key) as folder:
                removed = self._removed(folder, key[SHARD_LENGTH:], version)
                os.fsync(folder)
        except (FileNotFoundError, NotADirectoryError):  # there is no folder
            self._directory.sync()
        except OSError as error:
            if removed:
                raise MaybeDoneError from error
            raise
        return removed is not False

    def settle(self, key: str) -> None:
        """Return when the name of *key*, or that it is gone, is on the disk.  Its file is there before its name.

        Raises:
            OSError: It may not be on the disk.
        """
        try:
            with self._folder(key) as folder:
                os.fsync(folder)
        except (FileNotFoundError, NotADirectoryError):
            self._directory.sync()

    def _removed(self, folder: int, name: str, version: bytes | None) -> bool:
        gone = False
        try:
            with _no_record_of_ours(), record_locked(folder, name) as descriptor:
                if version is not None and header_of(descriptor).version != version:
                    return False
                with _may_have_been_done():
                    os.unlink(name, dir_fd=folder)
                gone = True
        except OSError as error:
            if gone:
                raise MaybeDoneError from error
            if version is not None or not isinstance(error, PermissionError):
                raise
            # Nobody of ours can open the file, so nobody can be writing to it. Its removal needs no permission of it.
            with suppress(FileNotFoundError), _may_have_been_done():
                os.unlink(name, dir_fd=folder)
        return True

    # --- what the verbs share

    @contextmanager
    def open_folder(self, shard: str) -> Iterator[int]:
        """Open the folder *shard* for the length of a block, without following a link.

        Raises:
            OSError: The folder does not exist, or something else is in its place.
        """
        descriptor = self._directory.open(shard, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _folder(self, key: str) -> AbstractContextManager[int]:
        return self.open_folder(key[:SHARD_LENGTH])

    @contextmanager
    def _temporary(self, key: str, content: bytes, *, lasting: bool) -> Iterator[tuple[int, str, Stamp]]:
        """Write *content* to a temporary file in the folder of *key*, and remove what has its name after the block."""
        with self._folder(key) as folder:
            name = TEMPORARY + secrets.token_hex(8)
            descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFE, 0o600, dir_fd=folder)
            try:
                try:
                    write_all(descriptor, content, 0)
                    stamp = stamp_with_own_time(descriptor)
                    if lasting:
                        os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                yield folder, name, stamp
            finally:
                with suppress(OSError):  # it has been renamed; or else the sweep removes it later
                    os.unlink(name, dir_fd=folder)

    def _make_folder(self, key: str) -> None:
        self._directory.make_folder(key[:SHARD_LENGTH])
        if self._durable:
            self._directory.sync()


def _with_expiry(folder: int, name: str, expires_at: int, *, lasting: bool) -> Stamp:
    """Write the expiry into a temporary file that is complete but for it, and return the stamp that it has now."""
    descriptor = os.open(name, os.O_WRONLY | SAFE, dir_fd=folder)
    try:
        write_all(descriptor, pack_expiry(expires_at), EXPIRY_OFFSET)
        stamp = stamp_with_own_time(descriptor)
        if lasting:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return stamp


@contextmanager
def _may_have_been_done() -> Iterator[None]:
    """Tell the errors of a rename or unlink after which nothing has changed from those that leave it open."""
    try:
        yield
    except OSError as error:
        if error.errno in _NOTHING_DONE:
            raise
        raise MaybeDoneError from error


@contextmanager
def _no_record_of_ours() -> Iterator[None]:
    """End the block, without an error, where it finds no record: no file, or one that is no record."""
    try:
        yield
    except (FileNotFoundError, ValueError):
        pass
    except OSError as error:
        if not is_misplaced(error):
            raise
