"""The secret that signs cookies, in a file beside the records.  The first process that needs it makes it."""

import errno
import logging
import os
import secrets
import stat
from contextlib import suppress

from ...errors import ConfigurationError
from .directory import SAFE, SECRET_FILE, TEMPORARY, SessionDirectory
from .swap import put_new

_logger = logging.getLogger("aiohttp_session_store")

_MIN_LENGTH = 32
_MAX_LENGTH = 4096


class SharedSecret:
    """The secret of one directory.

    Attributes:
        origin: Whether this process has ``"made"`` or ``"found"`` the secret, or None if nobody has asked for it.
    """

    def __init__(self, directory: SessionDirectory) -> None:
        """Look at nothing yet: an app with secrets of its own needs none here."""
        self._directory = directory
        self._value: str | None = None
        self._warned_of: str | None = None
        self.origin: str | None = None

    def get(self) -> str:
        """Return the secret, and make it if there is none.

        Raises:
            ConfigurationError: The file is damaged, open to other users, or cannot be made.
        """
        path = f"{self._directory.path}/{SECRET_FILE}"
        try:
            found, origin = self._read(), "found"
            if found is None:
                made = self._value or secrets.token_urlsafe(32)
                if self._write(made):
                    origin = "made"
                    if self._value is None and self._directory.shards():
                        _logger.warning("%s was missing and is made anew: all visitors have to log in again", path)
                found = self._read()
        except OSError as error:
            advice = "; pass SessionCookie(secrets=...) instead" if error.errno in (errno.EPERM, errno.ENOTSUP) else ""
            raise ConfigurationError(f"the secret file {path} cannot be used: {error}{advice}") from error
        if found is None:
            raise ConfigurationError(f"the secret file {path} disappears as soon as it is made")
        self.origin = self.origin or origin
        self._value = found
        return found

    def keep(self) -> None:
        """Put the secret back if somebody has removed its file, but never in the place of another one.

        Otherwise the next process would make a secret of its own.  Cookies that one process signs would then be
        worthless to the other, and visitors would be logged out in turn.

        Raises:
            ConfigurationError: The file is damaged or open to other users.
            OSError: The file cannot be read or put back.
        """
        if self._value is None:
            return
        found = self._read()
        if found is None and self._write(self._value):
            _logger.warning(
                "%s was removed from %s, and this process has put it back. Keep jobs that remove old files away from"
                " this directory",
                SECRET_FILE,
                self._directory.path,
            )
        elif found is None:  # another process has just put one there
            found = self._read()
        if found not in (None, self._value, self._warned_of):
            self._warned_of = found
            _logger.error(
                "%s in %s is not the secret that this process signs with, so each process logs out the visitors of the"
                " others. Restart all processes",
                SECRET_FILE,
                self._directory.path,
            )

    def _read(self) -> str | None:
        try:
            descriptor = self._directory.open(SECRET_FILE, os.O_RDONLY | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        path = f"{self._directory.path}/{SECRET_FILE}"
        try:
            self._make_private(descriptor, path)
            secret = os.read(descriptor, _MAX_LENGTH).decode("ascii", "replace").strip()
        finally:
            os.close(descriptor)
        if len(secret) < _MIN_LENGTH:
            raise ConfigurationError(
                f"{path} is damaged. If you remove it, a new one is made, and all visitors are logged out"
            )
        return secret

    def _make_private(self, descriptor: int, path: str) -> None:
        """Refuse a file that is not ours, or open to everybody.  If only its group can use it, its mode is repaired."""
        status = os.fstat(descriptor)
        mode = stat.S_IMODE(status.st_mode)
        if status.st_uid == os.geteuid() and not mode & stat.S_IRWXO:
            if not mode & stat.S_IRWXG:
                return
            with suppress(OSError):
                os.fchmod(descriptor, 0o600)
            if not os.fstat(descriptor).st_mode & stat.S_IRWXG:
                _logger.warning("%s had mode %04o, so its group could use it; it is 0600 now", path, mode)
                return
        raise ConfigurationError(
            f"{path} is not private to the user of this process, and anyone who reads it can sign session cookies."
            f" If nobody has read it, run: chmod 600 {path}"
        )

    def _write(self, secret: str) -> bool:
        """Put *secret* into the file, and return True, or False if there is one by now.

        The file appears with its content.  If it were made and then written, other processes would see it empty
        (measured).
        """
        folder = self._directory.open(".", os.O_RDONLY | os.O_DIRECTORY)
        temporary = TEMPORARY + secrets.token_hex(8)
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFE, 0o600, dir_fd=folder)
            try:
                try:
                    os.write(descriptor, f"{secret}\n".encode("ascii"))
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                put_new(temporary, SECRET_FILE, folder)
                os.fsync(folder)
            except FileExistsError:
                return False
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=folder)
        finally:
            os.close(folder)
        return True
