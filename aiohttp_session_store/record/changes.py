"""The changes that one request made to its session.

A session is never written back as a whole.  Only the changes of a request are merged onto the newest record, so
parallel requests do not lose each other's keys.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from .head import Limits


@dataclass(frozen=True, slots=True)
class Flash:
    """A value for the next request.

    The random *id* identifies the flash that a request has used up, even if another request leaves a new flash with the
    same key meanwhile.
    """

    id: str
    key: str
    value: Any


class Changes(NamedTuple):
    """The changes of one request, checked and copied.  They can be merged onto any record."""

    values: Mapping[str, Any]
    unset: frozenset[str]
    cleared: bool
    flashes_used: frozenset[str]
    flashes_added: tuple[Flash, ...]
    limits: Limits | None = None

    def __bool__(self) -> bool:
        """Return whether there is anything to merge."""
        return self.by_handler or bool(self.flashes_used)

    @property
    def by_handler(self) -> bool:
        """Whether the handler asked for any of the changes.  Removing flashes that were read is housekeeping."""
        return bool(self.values or self.unset or self.cleared or self.flashes_added or self.limits)


NO_CHANGES = Changes({}, frozenset(), cleared=False, flashes_used=frozenset(), flashes_added=())
