"""The directory of a file storage: made safe, or refused."""

import os
import stat
from pathlib import Path

from ...errors import ConfigurationError

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def prepare(directory: str | os.PathLike[str]) -> str:
    """Make *directory* if need be, for us alone, and return its real path.

    Raises:
        ConfigurationError: It is not a directory, not ours, or others could write to it; or this system is not POSIX.
    """
    if os.name != "posix":
        raise ConfigurationError(
            "FileSystemStorage needs a POSIX system: it relies on its locks, links and permissions"
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
            f"{path} belongs to user {found.st_uid}, and this process runs as {os.geteuid()}: whoever owns the"
            " directory of the sessions can become any visitor. Give it to the user that runs the app"
        )
    if found.st_mode & _OTHERS_WRITE:
        raise ConfigurationError(
            f"{path} has mode {stat.S_IMODE(found.st_mode):04o}: others can write to it, and could plant sessions."
            f" Run: chmod 700 {path}"
        )
    return path
