"""What one request has changed in its session, kept apart from what it saw.

A session is never written back whole: only the :class:`Changes` of a request are merged onto the newest record, and
that is why parallel requests do not lose each other's keys.  :class:`ChangeLog` is the request's view and the log of
what it did to it.
"""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .codec import check_key, freeze, thaw
from .encoders import dumps


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


class ChangeLog:
    """A request's view of its session's data, and the log of what it changed there.

    ``data`` starts as a shallow copy of ``base``, the frozen record as it was loaded or last saved, which requests
    share and nobody changes.  A handler that asks for more than a scalar gets a thawed copy, and the original is kept
    in ``snapshots``, so that a change made inside the copy is noticed when the session is saved.
    """

    __slots__ = (
        "_added",
        "_assigned",
        "_base_flashes",
        "_cleared",
        "_handed_flashes",
        "_taken",
        "_unset",
        "_used",
        "base",
        "data",
        "flashes",
        "snapshots",
    )

    def __init__(self, data: dict[str, Any], flashes: Sequence[Flash] = (), *, use_flashes: bool = True) -> None:
        """Start from a record's *data*, which stays as it is.

        Args:
            flashes: What earlier requests left for this one.
            use_flashes: Whether a save uses them up; a retired record is read only.
        """
        self.base: dict[str, Any] = data
        self.data: dict[str, Any] = dict(data)
        self.flashes: dict[str, Any] = {flash.key: flash.value for flash in flashes}
        self._base_flashes = dict(self.flashes)
        self._handed_flashes: dict[str, Any] = {}
        self.snapshots: dict[str, Any] = {}
        self._assigned: dict[str, None] = {}
        self._unset: set[str] = set()
        self._cleared = False
        self._used = {flash.id for flash in flashes} if use_flashes else set()
        self._added: list[Flash] = []
        self._taken: Changes | None = None

    def spare_flashes(self) -> None:
        """Have the next save leave the flashes to whoever comes next."""
        self._used = set()

    # --- the view

    def value(self, key: str) -> Any:
        """Return what *key* holds, data before flash, watching a list or dict from now on.

        Raises:
            KeyError: Neither has it.
        """
        try:
            value = self.data[key]
        except KeyError:
            value = self.flashes[key]
            if type(value) is list or type(value) is dict:
                if key not in self._handed_flashes:
                    self._handed_flashes[key] = thaw(value)
                value = self._handed_flashes[key]
            return value
        kind = type(value)
        if (kind is list or kind is dict) and key not in self.snapshots and key not in self._assigned:
            self.snapshots[key] = value
            value = self.data[key] = thaw(value)
        return value

    def keys(self) -> Iterator[str]:
        """Return every readable key, data first."""
        yield from self.data
        for key in self.flashes:
            if key not in self.data:
                yield key

    def __contains__(self, key: object) -> bool:
        """Whether *key* can be read."""
        return key in self.data or key in self.flashes

    def __len__(self) -> int:
        """How many keys can be read."""
        return len(self.data.keys() | self.flashes.keys()) if self.flashes else len(self.data)

    # --- the log

    def assign(self, key: str, value: Any) -> None:
        """Record that *key* was set; a value that cannot be stored fails here, at the line that is to blame.

        Raises:
            TypeError: *key* or *value* cannot be stored.
        """
        check_key(key)
        freeze(value, key)
        self.snapshots.pop(key, None)
        self.data[key] = value
        self._assigned[key] = None
        self._unset.discard(key)

    def remove(self, key: str) -> None:
        """Record that *key* was unset, and hide a flash of that name.

        Raises:
            KeyError: There is no such key.
        """
        if key not in self:
            raise KeyError(key)
        self.flashes.pop(key, None)
        if key in self.data:
            self.snapshots.pop(key, None)
            del self.data[key]
            self._assigned.pop(key, None)
            self._unset.add(key)

    def clear(self) -> None:
        """Record that everything readable was removed, whatever other requests add until it is saved."""
        self.snapshots = {}
        self.data = {}
        self.flashes = {}
        self._assigned = {}
        self._unset = set()
        self._cleared = True

    def flash(self, key: str, value: Any) -> None:
        """Record *value* for the next request.

        Raises:
            TypeError: *key* or *value* cannot be stored.
        """
        check_key(key)
        self._added.append(Flash(secrets.token_urlsafe(6), key, freeze(value, key)))

    def mark_watched(self) -> None:
        """Record every list and dict that was handed out as changed."""
        for key in self.snapshots:
            self._assigned[key] = None

    @property
    def dirty(self) -> bool:
        """Whether the handler changed anything since the session was loaded or last saved."""
        return bool(self._assigned or self._unset or self._cleared or self._added or self._changed_inside())

    # --- saving

    def is_empty(self) -> bool:
        """Whether there is certainly nothing to save: nothing changed, and no list or dict that could have been."""
        return not (self._assigned or self.snapshots or self._unset or self._cleared or self._used or self._added)

    def take(self) -> Changes:
        """Empty the log into :class:`Changes`, all at once or not at all.

        Raises:
            TypeError: A value cannot be stored; the log is untouched.
        """
        if self.is_empty():
            self._taken = NO_CHANGES
            return NO_CHANGES
        if self.snapshots:
            self._assigned.update(dict.fromkeys(self._changed_inside()))
        values = {key: freeze(self.data[key], key) for key in self._assigned}
        changes = Changes(
            values, frozenset(self._unset), self._cleared, frozenset(self._used), tuple(self._added)
        )  # fmt: skip
        for key, value in values.items():
            if type(value) is list or type(value) is dict:
                self.snapshots[key] = value
        self._assigned = {}
        self._unset = set()
        self._cleared = False
        self._used = set()
        self._added = []
        self._taken = changes
        return changes

    def put_back(self, changes: Changes) -> None:
        """Return the *changes* last taken, which could not be saved, to the log, beneath whatever was changed since.

        What was discarded since then is not put back, but for the flashes that were read.
        """
        self._used |= changes.flashes_used
        if changes is not self._taken:
            return
        if not self._cleared:
            for key in changes.values:
                if key not in self._unset:
                    self._assigned.setdefault(key)
            self._unset.update(key for key in changes.unset if key not in self._assigned)
        self._cleared = self._cleared or changes.cleared
        self._added[:0] = changes.flashes_added

    def rebase(self, data: dict[str, Any]) -> None:
        """Continue on the record that was just saved, which may hold other requests' keys.

        A list or dict that the handler holds stays the one that the session holds, or its next change would be lost.
        """
        before = self.data
        self.base = data
        self._base_flashes = dict(self.flashes)
        self.data = {} if self._cleared else dict(data)
        for key in self._unset:
            self.data.pop(key, None)
        for key in (*self._assigned, *self.snapshots):
            if key in before:
                self.data[key] = before[key]

    def refresh(self, data: dict[str, Any]) -> None:
        """Continue on a newer record, keeping what was changed; lists and dicts that were not are let go."""
        self._assigned.update(dict.fromkeys(self._changed_inside()))
        self.snapshots = {key: snapshot for key, snapshot in self.snapshots.items() if key in self._assigned}
        self.rebase(data)

    def discard(self) -> None:
        """Go back to the record as loaded or last saved; lists and dicts that were handed out are let go."""
        self.snapshots = {}
        self.data = dict(self.base)
        self.flashes = dict(self._base_flashes)
        self._handed_flashes = {}
        self._assigned = {}
        self._unset = set()
        self._cleared = False
        self._added = []
        self._taken = None

    def empty(self) -> None:
        """Forget everything: the session was destroyed."""
        self.base = {}
        self._base_flashes = {}
        self._used = set()
        self.discard()

    def frozen(self) -> dict[str, Any]:
        """Return the data in its frozen form, as a save would store it.

        Raises:
            TypeError: A value cannot be stored.
        """
        live = self.snapshots.keys() | self._assigned.keys()
        return {key: freeze(value, key) if key in live else value for key, value in self.data.items()}

    def _changed_inside(self) -> list[str]:
        return [
            key
            for key, snapshot in self.snapshots.items()
            if key not in self._assigned and dumps(freeze(self.data[key], key)) != dumps(snapshot)
        ]


def largest_keys(data: Mapping[str, Any], most: int = 3) -> list[tuple[str, int]]:
    """Return the *most* largest keys of *data*, each with the bytes that it takes, largest first."""
    sizes = [(key, len(dumps({key: value}))) for key, value in data.items()]
    return sorted(sizes, key=lambda item: item[1], reverse=True)[:most]
