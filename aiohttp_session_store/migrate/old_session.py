"""A session that another library stored, and the interface of what reads it."""

from typing import Any, NamedTuple, Protocol

__all__ = ["OldSession", "OldSessionReader"]


class OldSession(NamedTuple):
    """An old session as it was found.

    Attributes:
        data: Its keys and values.
        created_at: The time of its last change in whole Unix seconds.  aiohttp-session calls this time ``created``.
        identity: Bytes that identify this session's cookie, however its value is spelled.  None if anybody can write
            such a cookie, because then two visitors may have equal ones.
    """

    data: dict[str, Any]
    created_at: int
    identity: bytes | None


class OldSessionReader(Protocol):
    """Reads one kind of old session.  For a kind that this package has no reader for, write your own.

    Attributes:
        cookie_name: The name of the old cookie.
        max_age: Seconds for which the old cookie is accepted, or None for as long as browsers keep it.
        path: The path of the old cookie, with which it is cleared.
        domain: The domain of the old cookie, with which it is cleared.
    """

    @property
    def cookie_name(self) -> str: ...  # noqa: D102

    @property
    def max_age(self) -> int | None: ...  # noqa: D102

    @property
    def path(self) -> str: ...  # noqa: D102

    @property
    def domain(self) -> str | None: ...  # noqa: D102

    async def read(self, value: str) -> OldSession | None:
        """Return the session behind the *value* of a cookie, or None if there is none.

        Args:
            value: What the visitor sent, which may be anything.

        Raises:
            StorageError: The storage of the old sessions failed.
        """
