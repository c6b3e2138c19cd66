"""Record files.  The code blocks: each verb runs in a thread, does one whole transaction, and needs no event loop.

A write goes to a temporary file in the same folder, which takes the record's name by an atomic rename.  So a reader
sees the old record or the new one.  A file is removed or replaced only under the writer lock, and what the change
depends on, such as its version, is checked under the same lock.
"""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

from ...record.format import Stored
from .file_format import (
    EXPIRY_OFFSET,
    HEADER_SIZE,
    Header,
    RubbishError,
    new_version,
    pack,
    pack_expiry,
    unpack,
    unpack_header,
)
from .lock import WRITER, LockFile, offset_of
from .stat_cache import Seen, Stamp, own_time_ns, stamp_of
from .swap import Rename, fastest, rename

SET_ASIDE = "set-aside"
TEMPORARY = ".tmp-"
SHARD_LENGTH = 2
_RETRIES = 5
_READ_SIZE = 1 << 16
# Links are never followed.
_SAFE = os.O_CLOEXEC | os.O_NOFOLLOW
# Errors of finding something else in the place of our file (a folder, a link, a socket, a pipe) or of its folder (a
# file).
_MISPLACED = {errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ESPIPE}


class RecordFiles:
    """The record files below one directory."""

    def __init__(self, root: str, locks: LockFile, *, durable: bool) -> None:
        """Work below *root*.  With *durable*, every write waits for the disk."""
        self.root = root
        self._locks = locks
        self._durable = durable
        # A durable file is on the disk already, so an exchange saves no time, and a rename guarantees more.
        self._put_in_place: Rename = rename if durable else fastest()

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
                content, stamp = _read_file(folder, key[SHARD_LENGTH:])
                return Seen(unpack(content), stamp)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _rubbish_or(error) from error

    def insert(self, key: str, data: bytes, expires_at: int) -> Seen | None:
        """Create the record of *key*, or return None if it exists.

        Raises:
            BusyError: Another writer has the key.
            RubbishError: Something that is no folder is in the place of its folder.
            OSError: The file could not be written.
        """
        stored = Stored(data, new_version(), expires_at)
        content = pack(data, expires_at, stored.version)
        for _ in range(_RETRIES):
            try:
                with self._temporary(key, content) as (folder, temporary, stamp):
                    with self._locks.holding(offset_of(key, WRITER)):
                        if _exists(folder, key[SHARD_LENGTH:]):
                            return None
                        rename(temporary, key[SHARD_LENGTH:], folder)
                    self._make_durable(folder)
                    return Seen(stored, stamp)
            except FileNotFoundError:  # no folder yet, or the sweep has just removed the empty one
                self._make_folder(key)
            except NotADirectoryError as error:
                raise _rubbish_or(error) from error
        raise FileNotFoundError(errno.ENOENT, "the folder vanishes as soon as it is made", key[:SHARD_LENGTH])

    def replace(self, key: str, data: bytes, expires_at: int, version: bytes) -> Seen | None:
        """Overwrite the record of *key* if it stands at *version*.

        Raises:
            BusyError: Another writer has the key.
            OSError: The file could not be written.  The old record is intact.
        """
        stored = Stored(data, new_version(), expires_at)
        try:
            with self._temporary(key, pack(data, expires_at, stored.version)) as (folder, temporary, stamp):
                with self._locks.holding(offset_of(key, WRITER)):
                    header = read_header(folder, key[SHARD_LENGTH:])
                    if header is None or header.version != version:
                        return None
                    self._put_in_place(temporary, key[SHARD_LENGTH:], folder)
                self._make_durable(folder)
        except (FileNotFoundError, ValueError):  # the folder is gone, or the file is no record any more
            return None
        return Seen(stored, stamp)

    def touch(self, key: str, expires_at: int, version: bytes) -> bool:
        """Extend the record of *key* in place if it stands at *version*.

        Raises:
            BusyError: Another writer has the key.
            OSError: The file could not be written.
        """
        try:
            with self._folder(key) as folder, self._locks.holding(offset_of(key, WRITER)):
                descriptor = os.open(key[SHARD_LENGTH:], os.O_RDWR | os.O_NONBLOCK | _SAFE, dir_fd=folder)
                try:
                    header = unpack_header(os.pread(descriptor, HEADER_SIZE, 0))
                    if header.version != version:
                        return False
                    if header.expires_at < expires_at:
                        write_all(descriptor, pack_expiry(expires_at), EXPIRY_OFFSET)
                        _stamp(descriptor)
                        if self._durable:
                            os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        except (FileNotFoundError, ValueError):
            return False
        except OSError as error:
            if error.errno in _MISPLACED:
                return False
            raise
        return True

    def delete(self, key: str, version: bytes | None = None) -> bool:
        """Remove the record of *key*, if it is there, or only if it stands at *version*.

        Returns:
            Whether no record stands there now.

        Raises:
            BusyError: Another writer has the key.  If the file went between its check and its rename, the record would
                come back.
            OSError: The file could not be removed.
        """
        try:
            with self._folder(key) as folder, self._locks.holding(offset_of(key, WRITER)):
                if version is not None:
                    header = read_header(folder, key[SHARD_LENGTH:])
                    if header is None or header.version != version:
                        return header is None
                os.unlink(key[SHARD_LENGTH:], dir_fd=folder)
                self._make_durable(folder)
        except (FileNotFoundError, ValueError):  # gone, or no record of ours any more
            pass
        except OSError as error:
            if error.errno not in _MISPLACED:
                raise
        return True

    def fetch_or_set_aside(self, key: str, version: bytes | None = None) -> Seen | str | None:
        """Read the file of *key* again while no writer has it, and set it aside if it is no record.

        Args:
            version: At this version, the file is set aside although it is sound, because its content is rubbish.

        Returns:
            The record, if there is one after all.  A string if the file was set aside: what was wrong with it.  None if
            the file is gone.

        Raises:
            BusyError: A writer has the key.
            OSError: The file could not be read or moved.
        """
        with self._locks.holding(offset_of(key, WRITER)):
            try:
                seen = self.fetch(key)
                if seen is None or seen.stored.version != version:
                    return seen
                reason = "its content is damaged"
            except RubbishError as error:
                reason = str(error)
            self._set_aside(key)
            return reason

    # --- what the verbs share

    @contextmanager
    def open_folder(self, shard: str) -> Iterator[int]:
        """Open the folder *shard* for the length of a block, without following a link.

        Raises:
            OSError: The folder does not exist, or something else is in its place.
        """
        descriptor = os.open(os.path.join(self.root, shard), os.O_RDONLY | os.O_DIRECTORY | _SAFE)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _folder(self, key: str) -> AbstractContextManager[int]:
        return self.open_folder(key[:SHARD_LENGTH])

    @contextmanager
    def _temporary(self, key: str, content: bytes) -> Iterator[tuple[int, str, Stamp]]:
        """Write *content* to a temporary file in the folder of *key*, and remove what has its name after the block."""
        with self._folder(key) as folder:
            name = TEMPORARY + secrets.token_hex(8)
            descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE, 0o600, dir_fd=folder)
            try:
                try:
                    write_all(descriptor, content, 0)
                    stamp = _stamp(descriptor)
                    if self._durable:
                        os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                yield folder, name, stamp
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=folder)

    def _make_folder(self, key: str) -> None:
        for folder in (self.root, os.path.join(self.root, key[:SHARD_LENGTH])):
            with suppress(FileExistsError):
                os.mkdir(folder, 0o700)
        if self._durable:
            with self.open_folder("") as root:
                os.fsync(root)

    def _make_durable(self, folder: int) -> None:
        if self._durable:
            os.fsync(folder)

    def _set_aside(self, key: str) -> None:
        folder = os.path.join(self.root, SET_ASIDE)
        with suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        target = os.path.join(folder, f"{key}.{secrets.token_hex(4)}")
        shard = os.path.join(self.root, key[:SHARD_LENGTH])
        try:
            if stat.S_ISDIR(os.lstat(shard).st_mode):
                os.rename(os.path.join(shard, key[SHARD_LENGTH:]), target)
                return
        except FileNotFoundError:
            return
        # The target is a file, which a folder cannot replace. So a folder stays where it is: somebody may have repaired
        # it since, and it may hold sessions.
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE, 0o600))
        try:
            os.rename(shard, target)
        except (FileNotFoundError, NotADirectoryError):
            os.unlink(target)


def read_header(folder: int, name: str) -> Header | None:
    """Return the header of file *name*, or None if there is none.

    Raises:
        NewerRecordError: A newer version of this package wrote the file.
        RubbishError: The file is no record.
        OSError: The file could not be read.
    """
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | _SAFE, dir_fd=folder)
        try:
            return unpack_header(os.pread(descriptor, HEADER_SIZE, 0))
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _rubbish_or(error) from error


def write_all(descriptor: int, content: bytes, offset: int) -> None:
    """Write every byte.  A full disk, a quota or a signal can cut a write short without any error."""
    view = memoryview(content)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written


def _stamp(descriptor: int) -> Stamp:
    """Give an open file a modification time that no other file has, and return its stamp."""
    now = own_time_ns()
    os.utime(descriptor, ns=(now, now))
    return stamp_of(os.fstat(descriptor))


def _read_file(folder: int, name: str) -> tuple[bytes, Stamp]:
    descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | _SAFE, dir_fd=folder)
    try:
        # Taken before the content is read: if a touch comes between, the stamp is outdated and never matches again.
        stamp = stamp_of(os.fstat(descriptor))
        content = os.read(descriptor, _READ_SIZE)
        if len(content) == _READ_SIZE:
            parts = [content]
            while part := os.read(descriptor, _READ_SIZE):
                parts.append(part)
            content = b"".join(parts)
        return content, stamp
    finally:
        os.close(descriptor)


def _exists(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _rubbish_or(error: OSError) -> Exception:
    """Return the exception for an error of opening or reading: rubbish if something is misplaced, else the error."""
    if error.errno in _MISPLACED:
        return RubbishError(f"not a file of ours: {os.strerror(error.errno or 0)}")
    return error
