"""The errors of this package, grouped by their cause.

::

    SessionStoreError
    ├── ConfigurationError (ValueError)     your settings are wrong; raised while the app is built
    ├── SessionUsageError (RuntimeError)    your handler makes a call that cannot work at that point
    │   ├── SessionDestroyedError           a write to a session that was destroyed
    │   └── SessionCommittedError           a write that comes too late to be stored or to send its cookie
    ├── SessionTooLargeError (ValueError)   your data does not fit in the cookie
    ├── SessionConflictError (ValueError)   an increment does not fit what another request stored meanwhile
    └── StorageError                        the disk, the network or a server failed; see ``__cause__``
        └── SessionLockError                the session cannot be held exclusively; try the request again

A value that cannot be stored raises the built-in :class:`TypeError`, whose message names the path to the value.
Nothing that a visitor sends raises any of these errors: a visitor with an invalid cookie gets a new session.
"""

__all__ = [
    "ConfigurationError",
    "SessionCommittedError",
    "SessionConflictError",
    "SessionDestroyedError",
    "SessionLockError",
    "SessionStoreError",
    "SessionTooLargeError",
    "SessionUsageError",
    "StorageError",
]


class SessionStoreError(Exception):
    """Base of every error that this package raises on purpose."""


class ConfigurationError(SessionStoreError, ValueError):
    """Raised while the app is built, if settings contradict each other or break a rule for cookies or files."""


class SessionUsageError(SessionStoreError, RuntimeError):
    """Raised by a call that cannot work at this point of the handler.  The message says what to do instead."""


class SessionDestroyedError(SessionUsageError):
    """Raised by a write to a session that this or another request destroyed."""


class SessionCommittedError(SessionUsageError):
    """Raised by a write that would be lost.

    Either the request is over, or the write needs a cookie and the headers are already sent.
    """


class SessionTooLargeError(SessionStoreError, ValueError):
    """Raised if a session does not fit in its cookie, before anything is sent.

    Attributes:
        size: Bytes that the cookie's name and value would take together.
        limit: Bytes that browsers accept for name and value together (RFC 6265bis, section 5.6).
    """

    def __init__(self, message: str, *, size: int, limit: int) -> None:
        """Keep the message, and *size* and *limit* in bytes.

        Args:
            message: Says which keys are the largest.
            size: Bytes of the session, or of the cookie's name and value.
            limit: Bytes that are allowed.
        """
        super().__init__(message)
        self.size = size
        self.limit = limit

    def __reduce__(self) -> tuple[object, ...]:
        """Make the error picklable despite its keyword-only arguments."""
        return _too_large, (str(self), self.size, self.limit)


class SessionConflictError(SessionStoreError, ValueError):
    """Raised by a save if an increment cannot be added to what another request stored meanwhile.  Nothing was stored.

    The other request has stored something that is no number, or the sum is beyond 64 bits.
    """


class StorageError(SessionStoreError):
    """Raised if a storage fails.

    ``__cause__`` is the underlying error, if there is one.  Unless *maybe_stored* is True, what was stored before is
    intact.

    Attributes:
        maybe_stored: Whether the write may have been carried out all the same, because its answer was lost.  False
            means that nothing was stored.
    """

    def __init__(self, *args: object, maybe_stored: bool = False) -> None:
        """Keep the message and *maybe_stored*.

        Args:
            args: The message.
            maybe_stored: Whether the write may have been carried out all the same.
        """
        super().__init__(*args)
        self.maybe_stored: bool = maybe_stored

    def __str__(self) -> str:
        """Return the message, and say if nobody can know whether the write was carried out."""
        message = super().__str__()
        return f"{message} (the write may have been carried out all the same)" if self.maybe_stored else message


class SessionLockError(StorageError):
    """Raised by ``exclusive_session`` if the session cannot be held exclusively.

    The lock was not free in time or was lost, or the session's id was regenerated meanwhile.
    """


def one_line(error: BaseException) -> str:
    """Return what *error* and its causes say, in one line: a storage that fails may be logged for every request.

    A cause that the message before it repeats already is left out.
    """
    said = ""
    chain: list[BaseException] = []
    found: BaseException | None = error
    while found is not None and found not in chain:
        while isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]
        chain.append(found)
        text = " ".join(str(found).split())
        if not said:
            said = text or type(found).__name__
        elif not text or text not in said:
            said += f" ({type(found).__name__}: {text})" if text else f" ({type(found).__name__})"
        found = found.__cause__
    return said


def _too_large(message: str, size: int, limit: int) -> SessionTooLargeError:
    return SessionTooLargeError(message, size=size, limit=limit)
