"""The changes that one request made to its session.

A session is never written back as a whole.  Only the changes of a request are merged onto the newest record, so
parallel requests do not lose each other's changes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

from .head import Limits, Note


@dataclass(frozen=True, slots=True)
class Flash:
    """A value for the next request.

    The random *id* identifies the flash that a request has used up, even if another request leaves a new flash with the
    same key meanwhile.
    """

    id: str
    key: str
    value: Any


#: The elements of lists as the handler holds them, by the ``id()`` of the list in its frozen form.  They tell which
#: element of a list is which, even if it was changed inside.
Objects = Mapping[int, Sequence[Any]]


class Edit(NamedTuple):
    """A change inside a value.

    Attributes:
        given: The value in the frozen form, as the handler got it, or as ``setdefault`` put it there.
        left: What the handler made of it, in the frozen form.
        objects: The elements of the lists in *given* and *left*.
    """

    given: Any
    left: Any
    objects: Objects


class Try(NamedTuple):
    """A write whose answer was lost.

    Attributes:
        write: The random id that the record has noted if the write was carried out.
        before: What the record had noted before.
    """

    write: str
    before: tuple[str, ...]


class Changes(NamedTuple):
    """The changes of one request, checked and copied.  They can be merged onto any record.

    Attributes:
        values: What was assigned, by key, in the frozen form.
        unset: The keys that were removed.
        cleared: Whether everything was removed before.
        flashes_used: The ids of the flashes that were read.
        flashes_added: What is left for the next request.
        edits: What was changed inside values, by key.
        sums: What is to be added to numbers, by key.
        tries: The writes of these changes whose answer was lost, or None if they may be made twice.
        earlier: The changes of earlier saves of the request, of which it is not known whether they were stored.
        notes: How notes in the head change, by name.
    """

    values: Mapping[str, Any]
    unset: frozenset[str]
    cleared: bool
    flashes_used: frozenset[str]
    flashes_added: tuple[Flash, ...]
    limits: Limits | None = None
    edits: Mapping[str, Edit] = {}
    sums: Mapping[str, int | Decimal] = {}
    tries: list[Try] | None = None
    earlier: "tuple[Changes, ...]" = ()
    notes: Mapping[str, Note] = {}

    def __bool__(self) -> bool:
        """Return whether there is anything to merge."""
        return self.by_handler or bool(self.flashes_used)

    @property
    def by_handler(self) -> bool:
        """Whether the handler asked for any of the changes.  Removing flashes that were read is housekeeping."""
        return bool(
            self.values
            or self.unset
            or self.cleared
            or self.flashes_added
            or self.limits
            or self.edits
            or self.sums
            or self.earlier
            or self.notes
        )

    def saves(self) -> "Iterator[Changes]":
        """Yield the changes of each save, in order."""
        yield from self.earlier
        yield self


NO_CHANGES = Changes({}, frozenset(), cleared=False, flashes_used=frozenset(), flashes_added=())
