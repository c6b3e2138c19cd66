"""A storage that fails at a chosen call."""

from collections.abc import Awaitable, Callable
from typing import Any, Literal

from aiohttp_session_store import MemoryStorage, StorageError

Kind = Literal["refused", "lost", "late"]


class FailingStorage(MemoryStorage):
    """Fails at one call, or from one call on.

    Attributes:
        failed: The verbs that have failed since :meth:`fail_at`.
        lost: Whether one of them may have been carried out all the same, as far as the caller knows.
    """

    failed: tuple[str, ...] = ()
    lost = False
    _countdown: int | None = None
    _kind: Kind = "refused"
    _down = False
    _late: Callable[[], Awaitable[Any]] | None = None

    def fail_at(self, call: int, kind: Kind, *, down: bool = False) -> None:
        """Fail at call number *call*.

        Args:
            call: Counted from now on, from 1.
            kind: Whether the call is refused; or is carried out, and only its answer is lost; or is carried out late,
                at :meth:`work_again`.  A fetch is always refused.
            down: Whether all calls after that one are refused.
        """
        self._countdown, self._kind, self._down = call, kind, down
        self.failed, self.lost = (), False

    async def work_again(self) -> None:
        """Fail no more, and carry out the call that is late, if there is one."""
        self._countdown = None
        if self._late is not None:
            await self._late()
        self._late = None

    async def _call(self, verb: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        if self._countdown is None:
            return await verb(*args)
        self._countdown -= 1
        if self._countdown > 0 or (self._countdown < 0 and not self._down):
            return await verb(*args)
        self.failed = (*self.failed, verb.__name__)
        if self._countdown < 0 or self._kind == "refused" or verb.__name__ == "fetch":
            raise StorageError("told to fail")
        self.lost = True
        if self._kind == "lost":
            await verb(*args)
        else:
            self._late = lambda: verb(*args)
        raise StorageError("the answer was lost", maybe_stored=True)

    async def fetch(self, key: str) -> Any:
        return await self._call(super().fetch, key)

    async def insert(self, key: str, data: bytes, expires_at: int) -> Any:
        return await self._call(super().insert, key, data, expires_at)

    async def replace(self, key: str, data: bytes, expires_at: int, version: bytes) -> Any:
        return await self._call(super().replace, key, data, expires_at, version)

    async def touch(self, key: str, expires_at: int, version: bytes) -> Any:
        return await self._call(super().touch, key, expires_at, version)

    async def delete(self, key: str, version: bytes | None = None) -> Any:
        return await self._call(super().delete, key, version)
