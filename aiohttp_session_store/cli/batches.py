"""Changing records side by side, so that one which cannot be changed does not keep the command from the others."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from ..errors import StorageError, one_line
from .running import Run
from .showing import count, plainly

__all__ = ["AT_ONCE", "Batches"]

T = TypeVar("T")

#: Records that are changed at once. On a disk, they share the time that it takes to write.
AT_ONCE = 32
# Failures in a row after which the storage is taken to be down.
_MOST_IN_A_ROW = 2 * AT_ONCE
# Records that are named.
_MOST_NAMED = 32


class Batches:
    """Changes records, and keeps what failed.

    Attributes:
        failed: How many could not be changed.
    """

    def __init__(self) -> None:
        """Begin with no failure."""
        self.failed: int = 0
        self._faults: list[tuple[str, str]] = []
        self._in_a_row = 0

    async def each(self, some: Sequence[T], key_of: Callable[[T], str], work: Callable[[T], Awaitable[None]]) -> None:
        """Do *work* for some records side by side.

        Raises:
            StorageError: It failed for so many in a row that it is the storage, and not the records.
        """
        results = await asyncio.gather(*map(work, some), return_exceptions=True)
        failures = [(one, error) for one, error in zip(some, results, strict=True) if isinstance(error, BaseException)]
        for _, error in failures:
            if not isinstance(error, StorageError):
                raise error
        self.failed += len(failures)
        self._in_a_row = 0 if len(failures) < len(some) else self._in_a_row + len(failures)
        if failures and self._in_a_row >= _MOST_IN_A_ROW:
            raise failures[0][1]
        named = failures[: _MOST_NAMED - len(self._faults)]
        self._faults += [(key_of(one), one_line(error)) for one, error in named]

    def say(self, run: Run) -> None:
        """Name the first of those that failed, with the reason."""
        for key, fault in self._faults:
            run.remark(f"{key} could not be changed: {plainly(fault)}")
        if self.failed > len(self._faults):
            run.remark(f"So could {count(self.failed - len(self._faults), 'more record')} not.")
