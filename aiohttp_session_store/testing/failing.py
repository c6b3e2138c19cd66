"""A storage that is away when a test says so."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Literal

from ..errors import StorageError
from ..record.format import Stored
from ..storages.memory.storage import MemoryStorage

__all__ = ["FailingStorage"]

Verb = Literal["fetch", "insert", "replace", "touch", "delete"]
VERBS: tuple[Verb, ...] = ("fetch", "insert", "replace", "touch", "delete")


class FailingStorage(MemoryStorage):
    """A storage in memory that fails when it is told to: what does the app answer when its sessions are away?

    ``with storage.failing(): ...`` is a server that is down.  ``with storage.failing("insert", "replace"): ...`` is
    one that can be read but not written.
    """

    suspends: ClassVar[bool] = True  # as storages on servers do, so that saves go the same ways

    _verbs: tuple[Verb, ...] = ()
    _left: int | None = None

    @contextmanager
    def failing(self, *verbs: Verb, times: int | None = None) -> Iterator[None]:
        """Fail with :class:`StorageError` for the length of a ``with`` block, before anything is done.

        Args:
            verbs: Which calls fail; all, if none is named.
            times: How many of them; None for all.

        Raises:
            ValueError: There is no such verb.
        """
        if unknown := set(verbs) - set(VERBS):
            raise ValueError(f"a storage has the verbs {', '.join(VERBS)}, not {', '.join(map(repr, sorted(unknown)))}")
        before = self._verbs, self._left
        self._verbs, self._left = verbs or VERBS, times
        try:
            yield
        finally:
            self._verbs, self._left = before

    def _check(self, verb: Verb) -> None:
        if verb not in self._verbs or self._left == 0:
            return
        if self._left is not None:
            self._left -= 1
        raise StorageError(f"{verb}: the storage was told to fail")

    async def fetch(self, key: str) -> Stored | None:
        """See :meth:`KeyedStorage.fetch`."""
        self._check("fetch")
        return await super().fetch(key)

    async def insert(self, key: str, data: bytes, expires_at: int) -> bytes | None:
        """See :meth:`KeyedStorage.insert`."""
        self._check("insert")
        return await super().insert(key, data, expires_at)

    async def replace(self, key: str, data: bytes, expires_at: int, version: bytes) -> bytes | None:
        """See :meth:`KeyedStorage.replace`."""
        self._check("replace")
        return await super().replace(key, data, expires_at, version)

    async def touch(self, key: str, expires_at: int, version: bytes) -> bool:
        """See :meth:`KeyedStorage.touch`."""
        self._check("touch")
        return await super().touch(key, expires_at, version)

    async def delete(self, key: str) -> None:
        """See :meth:`KeyedStorage.delete`."""
        self._check("delete")
        await super().delete(key)
