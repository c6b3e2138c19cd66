"""A storage that fails when a test tells it to."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar, Literal

from ..errors import StorageError
from ..record.format import Stored
from ..storages.memory.storage import MemoryStorage

__all__ = ["FailingStorage"]

Verb = Literal["fetch", "insert", "replace", "touch", "delete"]
VERBS: tuple[Verb, ...] = ("fetch", "insert", "replace", "touch", "delete")


class FailingStorage(MemoryStorage):
    """A storage in memory that fails when it is told to.

    Use it to test how an app responds when its sessions are unavailable.  ``with storage.failing(): ...`` is like a
    server that is down.  ``with storage.failing("insert", "replace"): ...`` is like one that can be read but not
    written.
    """

    suspends: ClassVar[bool] = True  # like storages on servers, so that saves take the same paths

    _verbs: tuple[Verb, ...] = ()
    _left: int | None = None

    @contextmanager
    def failing(self, *verbs: Verb, times: int | None = None) -> Iterator[None]:
        """Fail with :class:`StorageError` for the length of a ``with`` block, before anything is done.

        Args:
            verbs: Which calls fail.  If none is named, all do.
            times: How many of these calls fail; None for all.

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

    async def versions(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        """See :meth:`Verbs.versions`.  It is a ``fetch`` without the data."""
        self._check("fetch")
        return await super().versions(keys)

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

    async def delete(self, key: str, version: bytes | None = None) -> bool:
        """See :meth:`KeyedStorage.delete`."""
        self._check("delete")
        return await super().delete(key, version)
