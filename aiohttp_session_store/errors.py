"""What can go wrong, named by whom it belongs to.

::

    SessionStoreError
    ├── ConfigurationError (ValueError)     your settings: raised while the app is built
    ├── SessionUsageError (RuntimeError)    your handler: a call that cannot work where it stands
    │   ├── SessionDestroyedError           a write to a session that has been destroyed
    │   └── SessionCommittedError           a write that comes too late to reach the visitor
    ├── SessionTooLargeError (ValueError)   your data: more than the cookie can carry
    └── StorageError                        the world: disk, network, server; ``__cause__`` says what
        └── SessionLockError                a session that could not be had exclusively: try again

A value that cannot be stored raises the built-in :class:`TypeError`, naming the key path.  Nothing that a visitor sends
raises any of these: a bad cookie is a fresh session.
"""

__all__ = [
    "ConfigurationError",
    "SessionCommittedError",
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
    """Raised while the app is built, when settings contradict each other or a rule of cookies or files."""


class SessionUsageError(SessionStoreError, RuntimeError):
    """Raised at a call that cannot work where the handler makes it; the message says what to do instead."""


class SessionDestroyedError(SessionUsageError):
    """Raised by a write to a session that was destroyed, here or by another request, or replaced by a new one."""


class SessionCommittedError(SessionUsageError):
    """Raised by a write that nobody would store: the request is over, or a cookie is needed after the headers."""


class SessionTooLargeError(SessionStoreError, ValueError):
    """Raised when a session is too large for its cookie, before anything is sent.

    Attributes:
        size: Bytes that the cookie's name and value would take.
        limit: Bytes that browsers accept for both (RFC 6265bis, section 5.6).
    """

    def __init__(self, message: str, *, size: int, limit: int) -> None:
        """Keep *size* and *limit*, in bytes, beside the message."""
        super().__init__(message)
        self.size = size
        self.limit = limit

    def __reduce__(self) -> tuple[object, ...]:
        """Make the error picklable despite its keyword-only arguments."""
        return _too_large, (str(self), self.size, self.limit)


class StorageError(SessionStoreError):
    """Raised when a storage failed; ``__cause__`` is the error underneath.  What was stored before is intact."""


class SessionLockError(StorageError):
    """Raised by ``exclusive_session`` when the lock was not to be had in time, or the id was regenerated meanwhile."""


def _too_large(message: str, size: int, limit: int) -> SessionTooLargeError:
    return SessionTooLargeError(message, size=size, limit=limit)
