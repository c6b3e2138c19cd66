"""What one request changed in its session: checked, detached from it, and ready to be merged onto any record.

A session is never written back whole.  Only the changes of a request are merged onto the newest record, which is why
parallel requests do not lose each other's keys.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True)
class Flash:
    """A value for the next request; the random *id* says which one was used up when two requests race."""

    id: str
    key: str
    value: Any


class Changes(NamedTuple):
    """The changes of one request, checked and detached from it: ready to be merged onto any record."""

    values: Mapping[str, Any]
    unset: frozenset[str]
    cleared: bool
    flashes_used: frozenset[str]
    flashes_added: tuple[Flash, ...]

    def __bool__(self) -> bool:
        """Whether there is anything at all to merge."""
        return self.by_handler or bool(self.flashes_used)

    @property
    def by_handler(self) -> bool:
        """Whether the handler asked for any of it; the removal of flashes that were read is housekeeping."""
        return bool(self.values or self.unset or self.cleared or self.flashes_added)


NO_CHANGES = Changes({}, frozenset(), cleared=False, flashes_used=frozenset(), flashes_added=())
