"""A session that another library stored, and what reads it."""

from typing import Any, NamedTuple, Protocol

__all__ = ["OldSession", "OldSessionReader"]


class OldSession(NamedTuple):
    """What was found of an old session.

    Attributes:
        data: Its keys and values.
        created_at: Whole Unix seconds of its last change, which is what aiohttp-session calls created.
        identity: What only this session's cookie leads to, however it is spelt; None where anybody can write one, so
            that equal cookies may be two visitors'.
    """

    data: dict[str, Any]
    created_at: int
    identity: bytes | None


class OldSessionReader(Protocol):
    """Reads one kind of old session; for kinds that are not here, write your own.

    Attributes:
        cookie_name: What its cookie is called.
        max_age: Seconds for which the old cookie is accepted, or None for as long as browsers keep it.
        path: The old cookie's, to clear it.
        domain: The old cookie's, to clear it.
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
        """Return the session behind a cookie's *value*, which may be anything, or None.

        Raises:
            StorageError: What keeps it failed.
        """
