"""Creates the directory of a file storage, or refuses one that is not safe."""

import os
import stat
from pathlib import Path

from ...errors import ConfigurationError

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def prepare(directory: str | os.PathLike[str]) -> str:
    """Create *directory* for our user alone if it is missing, and return its real path.

    Raises:
        ConfigurationError: It is not a directory, belongs to another user, or is writable by others; or this system is
            not POSIX.
    """
    if os.name != "posix":
        raise ConfigurationError(
            "FileSystemStorage needs a POSIX system, because it relies on POSIX locks, links and permissions"
        )
    try:
        Path(directory).mkdir(mode=0o700, parents=True, exist_ok=True)
        path = os.path.realpath(directory)
        found = os.stat(path)
    except FileExistsError:
        raise ConfigurationError(f"{os.fspath(directory)} is not a directory") from None
    except OSError as error:
        raise ConfigurationError(f"{os.fspath(directory)} cannot hold sessions: {error}") from error
    if found.st_uid != os.geteuid():
        raise ConfigurationError(
            f"{path} belongs to user {found.st_uid}, but this process runs as user {os.geteuid()}. The owner of the"
            " session directory can impersonate every visitor. Change its owner to the user that runs the app"
        )
    if found.st_mode & _OTHERS_WRITE:
        raise ConfigurationError(
            f"{path} has mode {stat.S_IMODE(found.st_mode):04o}, so others can write to it and could plant sessions."
            f" Run: chmod 700 {path}"
        )
    return path
