"""Opens the directory of a file storage, name by name from ``/`` on, and refuses a path that others can exchange."""

import errno
import os
import re
import stat
import tempfile
from contextlib import suppress

from ...errors import ConfigurationError

# A directory on the way is only passed through, which needs no permission to list it. The kernel follows no link here.
_PASS = sum(getattr(os, name, 0) for name in ("O_PATH", "O_DIRECTORY", "O_NOFOLLOW", "O_CLOEXEC"))
# As many as Linux follows in one path (path_resolution(7)).
_MOST_LINKS = 40
# A URL, also one that pathlib has taken for a path and left with one slash.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_TEMPORARY_PLACES = ("/tmp", "/var/tmp", "/run", "/dev/shm")  # noqa: S108  only compared with


def absolute(directory: object) -> str:
    """Return *directory* as an absolute path.

    What is no path is not shown, because it may be a URL with a password.

    Raises:
        ConfigurationError: It is not a path, or it is one that is likely a mistake.
    """
    path = directory.__fspath__() if isinstance(directory, os.PathLike) else directory
    if not isinstance(path, str):
        raise ConfigurationError(
            f"FileSystemStorage needs a directory as a str or a pathlib.Path, not a value of type {type(path).__name__}"
        )
    if _URL.match(path):
        raise ConfigurationError(
            "FileSystemStorage needs a directory, not a URL: for a URL, use RedisStorage.from_url(url) or"
            " PostgresStorage.from_dsn(url)"
        )
    try:
        impossible = b"\0" in os.fsencode(path)
    except UnicodeEncodeError:
        impossible = True
    if impossible:
        raise ConfigurationError(f"the directory {path!r} contains a character that no path can contain")
    if path.startswith("~"):
        raise ConfigurationError(
            f"the directory {path!r} starts with '~', which means a home directory only to a shell. Pass"
            f" os.path.expanduser({path!r}), which is {os.path.expanduser(path)!r}"
        )
    try:
        full = os.path.join("" if os.path.isabs(path) else os.getcwd(), path)
    except OSError as error:
        raise ConfigurationError(f"{path!r} is relative to the current directory, which is gone: {error}") from error
    if not path or os.path.normpath(path) == ".":
        raise ConfigurationError(
            f"the directory {path!r} means the current directory, {full}. Give the sessions a directory of their own,"
            " such as 'var/sessions'"
        )
    if os.path.normpath(path).strip("/") == "":
        raise ConfigurationError(
            f"the directory {path!r} means the root directory. Give the sessions a directory of their own, such as"
            " '/var/lib/app/sessions'"
        )
    return full


def is_temporary(path: str) -> bool:
    """Return whether *path*, a real path, is below a directory where files are removed by age or at a reboot."""
    places = set(_TEMPORARY_PLACES)
    with suppress(OSError):
        # If no place for temporary files can be used, gettempdir() returns the current directory.
        places |= {tempfile.gettempdir()} - {os.getcwd()}
    return any(path.startswith(os.path.join(os.path.realpath(place), "")) for place in places)


def open_directory(path: str, *, make_parents: bool) -> int:
    """Open the directory at *path*, and make it with mode 0700 if it is missing.

    Each name is looked up in the directory that was opened before it, so nobody can exchange one of them meanwhile.

    Args:
        path: An absolute path.  Links in it are followed.
        make_parents: Whether missing parents are made, too, also with mode 0700.

    Returns:
        A descriptor for reading.

    Raises:
        ConfigurationError: Another user could put a directory of their own in its place.
        OSError: It cannot be opened or made.
    """
    names = _names(path)
    of_path, links, place = len(names), 0, "/"
    here = os.open("/", _PASS)
    try:
        while names:
            _refuse_if_open_to_everybody(here, place, path)
            from_link = len(names) > of_path
            name = names.pop()
            of_path = min(of_path, len(names))
            try:
                below = os.open(name, _PASS, dir_fd=here)
            except FileNotFoundError:
                # The target of a link is not made: rather than a wish, it is a volume that is not mounted.
                if from_link or (names and not make_parents):
                    raise
                with suppress(FileExistsError):
                    make_private(name, here)
                    _sync(here)
                below = os.open(name, _PASS, dir_fd=here)
            except OSError as error:
                target = _target_of_link(error, here, place, name)
                links += 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path) from None
                names += _names(target)
                if not target.startswith("/"):
                    continue
                place, below = "/", os.open("/", _PASS)
            else:
                place = os.path.dirname(place) if name == ".." else os.path.join(place, name)
            here, above = below, here
            os.close(above)
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=here)
    finally:
        os.close(here)


def make_private(name: str, directory: int) -> None:
    """Make folder *name* in the open *directory* for our user alone, whatever the umask is.

    Raises:
        OSError: It cannot be made, or there is something of that name.
    """
    os.mkdir(name, 0o700, dir_fd=directory)
    with suppress(FileNotFoundError):  # the sweep has just removed it, because it is empty
        if os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode & stat.S_IRWXU != stat.S_IRWXU:
            os.chmod(name, 0o700, dir_fd=directory)  # a umask such as 0177 takes the permission to enter it from us


def _sync(directory: int) -> None:
    """Write a new name in *directory* to the disk, if we may read the directory at all."""
    with suppress(OSError):
        descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _names(path: str) -> list[str]:
    """Return the names in *path*, the last one first."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


def _refuse_if_open_to_everybody(directory: int, place: str, path: str) -> None:
    mode = os.fstat(directory).st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise ConfigurationError(
            f"{place} has mode {stat.S_IMODE(mode):04o}, so every user of this machine can write to it, and could put a"
            f" directory of theirs in the place of {path}. Run: chmod o-w {place} (or chmod +t {place}, if others need"
            " to write to it)"
        )


def _target_of_link(error: OSError, directory: int, place: str, name: str) -> str:
    """Return the target of the link *name*, which could not be opened as a directory because of *error*.

    A link in a directory that several users can write to must be ours, root's or of that directory's owner, because it
    decides where the sessions are.  Linux guards links in /tmp in the same way (protected_symlinks in proc(5)).
    """
    if error.errno not in (errno.ENOTDIR, errno.ELOOP, errno.EMLINK):
        raise error
    try:
        target = os.readlink(name, dir_fd=directory)
    except OSError:  # it is no link
        raise error from None
    owner, around = os.stat(name, dir_fd=directory, follow_symlinks=False).st_uid, os.fstat(directory)
    if around.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and owner not in (0, os.geteuid(), around.st_uid):
        raise ConfigurationError(
            f"{os.path.join(place, name)} is a link of user {owner}, who could lead the sessions anywhere. Make it anew"
        )
    return target
