"""The directory of a file storage.  It is checked and opened at the start, and used through its descriptor.

So a running process keeps to the directory that it opened, whatever is renamed or put at the path later.
"""

import errno
import logging
import os
import re
import stat
import threading
from contextlib import suppress
from fnmatch import fnmatchcase

from ...errors import ConfigurationError
from .safe_path import absolute, make_private, open_directory

_logger = logging.getLogger("aiohttp_session_store")

SET_ASIDE = "set-aside"
OWNERS = "owners"
SECRET_FILE = "secret.key"  # noqa: S105  a name
LOCK_FILE = "locks"
TEMPORARY = ".tmp-"
SHARD = re.compile(r"[0-9a-f]{2}")
#: The name of a record file in its folder: the rest of the key.
RECORD_NAME = re.compile(r"[0-9a-f]{62}")
GIT_IGNORE = ".gitignore"
# Patterns of all names that we make, for git and for fnmatch.
_OURS = (GIT_IGNORE, SECRET_FILE, LOCK_FILE, OWNERS, SET_ASIDE, TEMPORARY + "*", "[0-9a-f][0-9a-f]")
# What we write into .gitignore: in a directory for sessions alone, and beside other files.
IGNORE_ALL, IGNORE_OURS = "*\n", "".join(f"/{name}\n" for name in _OURS)
# Files that keep an otherwise empty directory in git.
_PLACEHOLDERS = {".gitkeep", ".keep"}
# Links are never followed.
SAFE = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
# The errors of a call in a directory that was removed, or through a descriptor that somebody has closed.
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.EBADF, errno.ESTALE}


class SessionDirectory:
    """The open directory.

    Attributes:
        path: Its real path when it was opened.
        descriptor: Of the open directory; -1 after :meth:`close`.
    """

    def __init__(self, directory: object) -> None:
        """Open *directory*.  If it is missing, it is made for our user alone, and so are its parents.

        Raises:
            ConfigurationError: It is not a directory, belongs to another user, or other users could write to it or put
                one of their own in its place; or this system is not POSIX.
        """
        self.descriptor: int = -1
        if os.name != "posix":
            raise ConfigurationError(
                "FileSystemStorage needs a POSIX system, because it relies on POSIX locks, links and permissions"
            )
        path = absolute(directory)
        self.descriptor = _open_checked(path, make_parents=True)
        self.path: str = os.path.realpath(path)
        self._identity = identity_of(os.fstat(self.descriptor))
        self._restorations = 0
        self._guard = threading.Lock()
        self._ignore()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor.  The next call opens the directory again, with the checks of the start."""
        descriptor, self.descriptor = self.descriptor, -1
        with suppress(OSError):  # somebody has closed it, and its number may mean something else since
            if descriptor >= 0 and identity_of(os.fstat(descriptor)) == self._identity:
                os.close(descriptor)

    # --- what is in it

    def open(self, name: str, flags: int, mode: int = 0o600) -> int:
        """Open *name* without following a link.  See :meth:`restored` for a directory that was removed.

        Raises:
            OSError: It cannot be opened.
        """
        before = self._restorations
        try:
            return os.open(name, flags | SAFE, mode, dir_fd=self.descriptor)
        except OSError as error:
            if error.errno not in _GONE or not self.restored(before):
                raise
        return os.open(name, flags | SAFE, mode, dir_fd=self.descriptor)

    def make_folder(self, name: str) -> None:
        """Make folder *name* for our user alone, if it is missing."""

        def make() -> None:
            with suppress(FileExistsError):
                make_private(name, self.descriptor)

        before = self._restorations
        try:
            make()
        except OSError as error:
            if error.errno not in _GONE or not self.restored(before):
                raise
            make()

    def names(self) -> list[str]:
        """Return the names of all that is in it."""
        descriptor = self.open(".", os.O_RDONLY | os.O_DIRECTORY)  # a descriptor that is shared has one position
        try:
            return os.listdir(descriptor)
        finally:
            os.close(descriptor)

    def shards(self) -> list[str]:
        """Return the names of the folders with records."""
        return sorted(name for name in self.names() if SHARD.fullmatch(name))

    def sync(self) -> None:
        """Wait until the names in it are on the disk."""
        os.fsync(self.descriptor)

    def clock(self) -> int:
        """Return the time by the clock of the file system, in whole Unix seconds.

        Needs no space: the directory's own times are set, and the file system notes when that was.
        """
        os.utime(self.descriptor)
        return int(os.fstat(self.descriptor).st_ctime)

    # --- the directory itself

    def in_place(self) -> bool:
        """Return whether the directory that is open is the one at its path."""
        try:
            return identity_of(os.stat(self.path)) == self._identity
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:  # it cannot be reached by its path, which says nothing about what is there
            return True

    def restored(self, before: int | None = None) -> bool:
        """Open the directory at the path if ours was removed or closed, and make it again if none is there.

        It has to pass the checks of the start.  Missing parents are not made: they mean that more is wrong.

        Args:
            before: How often it had been restored before a call failed.  Another thread may have done it since.

        Returns:
            Whether a call that failed may be tried again.  False if the directory is not removed.

        Raises:
            OSError: There is no directory that may be used.
        """
        with self._guard:
            if before is not None and before != self._restorations:
                return True
            was_closed, known = self.descriptor < 0, self._identity
            if not self._reopened():
                return False
            self._restorations += 1
        if self._identity != known:
            self._ignore()
            if not was_closed:
                _logger.warning("%s was removed while it was in use, and its sessions with it", self.path)
        return True

    def _reopened(self) -> bool:
        ours = False
        with suppress(OSError):  # somebody has closed our descriptor
            status = os.fstat(self.descriptor)
            ours = identity_of(status) == self._identity
            if ours and status.st_nlink:
                return False
        try:
            descriptor = _open_checked(self.path, make_parents=False)
        except ConfigurationError as error:
            raise OSError(errno.ESTALE, f"the directory was removed, and cannot be used again: {error}") from error
        self._identity = identity_of(os.fstat(descriptor))
        if ours:  # keeps its number, because other threads are about to use it
            os.dup2(descriptor, self.descriptor, inheritable=False)
            os.close(descriptor)
        else:  # the number of a descriptor that somebody has closed may mean another file now
            self.descriptor = descriptor
        return True

    def adopt(self) -> None:
        """Be ready for use in a forked child, whose parent may have had threads at work here.

        A daemon closes all descriptors after its fork, and the number of ours may mean something else since.
        """
        self._guard = threading.Lock()
        try:
            still_ours = identity_of(os.fstat(self.descriptor)) == self._identity
        except OSError:
            still_ours = False
        if not still_ours:
            self.descriptor = -1

    def _ignore(self) -> None:
        """Keep the records and the secret out of git.  What else is in the directory stays visible to it."""
        with suppress(OSError):  # "File exists" in most cases; a disk that cannot be written to shows elsewhere, too
            alone = all(_is_ours(name) or name in _PLACEHOLDERS for name in self.names())
            content = IGNORE_ALL if alone else IGNORE_OURS
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFE
            try:
                descriptor = os.open(GIT_IGNORE, flags, 0o600, dir_fd=self.descriptor)
            except FileExistsError:
                self._check_ignored()
                return
            try:
                os.write(descriptor, content.encode())
            except OSError:
                os.unlink(GIT_IGNORE, dir_fd=self.descriptor)
            finally:
                os.close(descriptor)

    def _check_ignored(self) -> None:
        """Warn of a ``.gitignore`` that the project has here itself, if git would add what we make."""
        descriptor = os.open(GIT_IGNORE, os.O_RDONLY | os.O_NONBLOCK | SAFE, dir_fd=self.descriptor)
        try:
            content = os.read(descriptor, 65536)
        finally:
            os.close(descriptor)
        lines = {line.strip().lstrip("/") for line in content.decode(errors="replace").splitlines()}
        if content and "*" not in lines and not lines.issuperset(_OURS[1:]):  # empty: a parallel start is writing it
            _logger.warning(
                "%s has a .gitignore by which git may add the sessions and the secret that signs their cookies. Add the"
                " line * to it, or if other files there belong in git, the lines %s",
                self.path,
                " ".join(f"/{name}" for name in _OURS[1:]),
            )


def _is_ours(name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in _OURS)


def identity_of(status: os.stat_result) -> tuple[int, int]:
    """Return the device and the inode, which tell one open file from all others."""
    return status.st_dev, status.st_ino


def _open_checked(path: str, *, make_parents: bool) -> int:
    try:
        descriptor = open_directory(path, make_parents=make_parents)
    except NotADirectoryError:
        raise ConfigurationError(f"{path} is not a directory") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot hold sessions: {error}") from error
    try:
        _make_ours_alone(descriptor, path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _make_ours_alone(descriptor: int, path: str) -> None:
    """Refuse a directory that is not ours alone.  If only its group can write to it, its mode is repaired."""
    status = os.fstat(descriptor)
    if status.st_uid != os.geteuid():
        raise ConfigurationError(
            f"{path} belongs to user {status.st_uid}, but this process runs as user {os.geteuid()}. The owner of the"
            " session directory can impersonate every visitor. Give the sessions a directory of their own, that"
            " belongs to the user of the app"
        )
    mode = stat.S_IMODE(status.st_mode)
    advice = f"and others can write to it or to a folder in it, and could plant sessions. Run: chmod -R go-rwx {path}"
    if mode & stat.S_IWOTH and mode & stat.S_ISVTX:  # such as /tmp, which all users need
        raise ConfigurationError(
            f"{path} has mode {mode:04o}, so it is meant for all users. Give the sessions a directory of their own,"
            f" such as {os.path.join(path, 'sessions')}"
        )
    open_to = mode | _open_below(descriptor, mode)
    if open_to & stat.S_IWOTH:
        raise ConfigurationError(f"{path} has mode {mode:04o}, {advice}")
    if not open_to & stat.S_IWGRP:
        return
    _shut_out_the_group(descriptor, path)
    if os.fstat(descriptor).st_mode & stat.S_IRWXG:
        raise ConfigurationError(f"{path} has mode {mode:04o}, which cannot be changed here, {advice}")
    _logger.warning(
        "%s had mode %04o, and its group could write there; it and what is in it is private now", path, mode
    )


def _open_below(descriptor: int, mode: int) -> int:
    """Return who else can write to our folders in a directory of *mode*, as bits of a mode.

    We make them for our user alone, but a ``chmod -R`` may have opened them since.
    """
    reached = (stat.S_IWGRP if mode & stat.S_IXGRP else 0) | (stat.S_IWOTH if mode & stat.S_IXOTH else 0)
    found = 0
    for name in filter(_is_ours, os.listdir(descriptor) if reached else ()):
        with suppress(FileNotFoundError):
            below = os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode
            found |= below & reached if stat.S_ISDIR(below) else 0
    return found


def _shut_out_the_group(descriptor: int, path: str) -> None:
    """Take the permissions of the group from a directory and from our files and folders in it.

    Raises:
        ConfigurationError: The group has been there: one of them belongs to another user.
    """
    with suppress(OSError):  # found out by the caller
        os.fchmod(descriptor, 0o700)
    for name in filter(_is_ours, os.listdir(descriptor)):
        with suppress(FileNotFoundError):
            owner = os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_uid
            if owner not in (0, os.geteuid()):
                raise ConfigurationError(
                    f"{path}/{name} belongs to user {owner}, who can read sessions there or plant some. Remove it"
                )
        with suppress(OSError):  # a link, or a file that was removed since; no longer reached by others, in any case
            entry = os.open(name, os.O_RDONLY | os.O_NONBLOCK | SAFE, dir_fd=descriptor)
            try:
                os.fchmod(entry, stat.S_IMODE(os.fstat(entry).st_mode) & ~stat.S_IRWXG)
            finally:
                os.close(entry)
