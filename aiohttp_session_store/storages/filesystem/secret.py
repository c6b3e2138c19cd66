"""The secret that signs cookies, in a file beside the records.  The first process that needs it creates it."""

import errno
import os
import secrets
import stat
from contextlib import suppress

from ...errors import ConfigurationError

SECRET_FILE = "secret.key"  # noqa: S105  a name
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_MIN_LENGTH = 32


def shared_secret(root: str) -> str:
    """Return the secret in *root*, and create it if there is none.

    ``link`` makes the complete file appear at once.  With ``O_EXCL`` and a write, other processes would see it empty
    (measured).

    Raises:
        ConfigurationError: The file is damaged, open to other users, or cannot be created.
    """
    path = os.path.join(root, SECRET_FILE)
    try:
        found = _read_secret(path)
        if found is None:
            _write_secret(root, path)
            found = _read_secret(path)
    except OSError as error:
        advice = "; pass SessionCookie(secrets=...) instead" if error.errno in (errno.EPERM, errno.ENOTSUP) else ""
        raise ConfigurationError(f"the secret file {path} cannot be used: {error}{advice}") from error
    if found is None:
        raise ConfigurationError(f"the secret file {path} disappears as soon as it is created")
    return found


def _read_secret(path: str) -> str | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid() or status.st_mode & _OTHERS:
            raise ConfigurationError(
                f"{path} is not private to the user of this process, and anyone who reads it can sign session cookies."
                f" If nobody has read it, run: chmod 600 {path}"
            )
        secret = file.read().decode("ascii", "replace").strip()
    if len(secret) < _MIN_LENGTH:
        raise ConfigurationError(
            f"{path} is damaged. If you remove it, a new one is created, and all visitors are logged out"
        )
    return secret


def _write_secret(root: str, path: str) -> None:
    temporary = os.path.join(root, f".{SECRET_FILE}-{secrets.token_hex(8)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    with os.fdopen(os.open(temporary, flags, 0o600), "w") as file:
        try:
            file.write(secrets.token_urlsafe(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(temporary, path)
        finally:
            os.unlink(temporary)
