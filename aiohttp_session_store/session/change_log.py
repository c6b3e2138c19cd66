"""The changes that one request has made to its session, kept apart from the data that it read.

A session is never written back as a whole.  Only the :class:`Changes` of a request are merged onto the newest record,
so parallel requests do not lose each other's keys.  :class:`ChangeLog` holds the request's view of the data and the log
of its changes.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from ..record.changes import NO_CHANGES, Changes, Flash
from ..record.head import Limits
from ..record.json_encoders import dumps
from ..record.values import check_key, freeze, thaw
from .flashes import Flashes


class ChangeLog:
    """A request's view of its session's data, and the log of its changes.

    ``data`` starts as a shallow copy of ``base``, the frozen record as it was loaded or last saved.  Requests share
    ``base``, and nobody changes it.  If a handler reads more than a scalar, it gets a thawed copy, and the original is
    kept in ``snapshots``.  When the session is saved, the copy is compared with the original, so a change made inside
    the copy is noticed.
    """

    __slots__ = (
        "_assigned",
        "_cleared",
        "_taken",
        "_unset",
        "base",
        "data",
        "flashes",
        "limits",
        "snapshots",
    )

    def __init__(self, data: dict[str, Any], flashes: Sequence[Flash] = (), *, use_flashes: bool = True) -> None:
        """Start from a record's *data*, which is never modified.

        Args:
            data: The data of the record, in its frozen form.
            flashes: The flashes that earlier requests left for this one.
            use_flashes: Whether a save uses them up.  False for a retired record, which is only read.
        """
        self.base: dict[str, Any] = data
        self.data: dict[str, Any] = dict(data)
        self.flashes: Flashes = Flashes(flashes, use_up=use_flashes)
        self.snapshots: dict[str, Any] = {}
        self.limits: Limits | None = None
        self._assigned: dict[str, None] = {}
        self._unset: set[str] = set()
        self._cleared = False
        self._taken: Changes | None = None

    # --- the view

    def value(self, key: str) -> Any:
        """Return the value of *key* in the data, or else in the flashes.

        From now on, a list or dict of the data that is returned is watched for changes inside it.

        Raises:
            KeyError: Neither the data nor the flashes have *key*.
        """
        try:
            value = self.data[key]
        except KeyError:
            return self.flashes.value(key)
        kind = type(value)
        if (kind is list or kind is dict) and key not in self.snapshots and key not in self._assigned:
            self.snapshots[key] = value
            value = self.data[key] = thaw(value)
        return value

    def hand_out(self, key: str, converted: Any) -> None:
        """Let *key* read as *converted*, which was made from its stored value, in the rest of this request.

        This is no change.  A change inside *converted* is one, and then all of it is stored in the place of the value.
        So is a change that was made inside the stored value before, which *converted* holds, too.

        Raises:
            TypeError: *converted* cannot be stored, or the stored value has been given a part that cannot.
        """
        if key not in self.data:
            return  # a flash, in which no change is stored
        if key in self.snapshots and self._has_changed(key):
            self._assigned[key] = None
        self.snapshots.pop(key, None)
        self.data[key] = converted
        frozen = freeze(converted, key)
        if (type(frozen) is list or type(frozen) is dict) and key not in self._assigned:
            self.snapshots[key] = frozen

    def keys(self) -> Iterator[str]:
        """Yield every readable key, those of the data first."""
        yield from self.data
        yield from self.flashes.keys_beneath(self.data)

    def __contains__(self, key: object) -> bool:
        """Return whether *key* can be read."""
        return key in self.data or key in self.flashes.readable

    def __len__(self) -> int:
        """Return how many keys can be read."""
        flashes = self.flashes.readable
        return len(self.data.keys() | flashes.keys()) if flashes else len(self.data)

    # --- the log

    def assign(self, key: str, value: Any) -> None:
        """Record that *key* was set.

        A value that cannot be stored fails here, so that the traceback shows the assignment.

        Raises:
            TypeError: *key* or *value* cannot be stored.
        """
        key = check_key(key)
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
        self.flashes.hide(key)
        if key in self.data:
            self.snapshots.pop(key, None)
            del self.data[key]
            self._assigned.pop(key, None)
            self._unset.add(key)

    def clear(self) -> None:
        """Record that everything readable was removed, including what other requests add until this is saved."""
        self.snapshots = {}
        self.data = {}
        self.flashes.hide_all()
        self._assigned = {}
        self._unset = set()
        self._cleared = True

    def start_anew(self) -> None:
        """Record that everything was removed, also what this request has set and left as flash messages."""
        self.clear()
        self.flashes.added = ()

    def flash(self, key: str, value: Any) -> None:
        """Record *value* for the next request.

        Raises:
            TypeError: *key* or *value* cannot be stored.
        """
        self.flashes.add(check_key(key), value)

    def shorten(self, limits: Limits) -> None:
        """Record that *limits* apply to the session as well."""
        self.limits = limits if self.limits is None else self.limits.and_also(limits)

    def mark_watched(self) -> None:
        """Record every list and dict that was handed out as changed."""
        for key in self.snapshots:
            self._assigned[key] = None

    @property
    def dirty(self) -> bool:
        """Whether the handler changed anything since the session was loaded or last saved."""
        asked = self._assigned or self._unset or self._cleared or self.limits or self.flashes.added
        return bool(asked or self._changed_inside())

    # --- saving

    def is_empty(self) -> bool:
        """Return whether there is certainly nothing to save.

        In that case nothing was changed, and no list or dict was handed out that could have been changed.
        """
        flashes = self.flashes
        asked = self._assigned or self.snapshots or self._unset or self._cleared or self.limits
        return not (asked or flashes.used or flashes.added)

    def take(self) -> Changes:
        """Empty the log into :class:`Changes`, all of it or nothing.

        Raises:
            TypeError: A value cannot be stored.  The log keeps all changes.
        """
        if self.is_empty():
            self._taken = NO_CHANGES
            return NO_CHANGES
        if self.snapshots:
            self._assigned.update(dict.fromkeys(self._changed_inside()))
        values = {key: freeze(self.data[key], key) for key in self._assigned}
        flashes = self.flashes
        changes = Changes(values, frozenset(self._unset), self._cleared, flashes.used, flashes.added, self.limits)
        for key, value in values.items():
            if type(value) is list or type(value) is dict:
                self.snapshots[key] = value
        self._assigned = {}
        self._unset = set()
        self._cleared = False
        self.limits = None
        self.flashes.taken()
        self._taken = changes
        return changes

    def put_back(self, changes: Changes) -> None:
        """Put *changes*, which were taken last and could not be saved, back into the log.

        Changes made since then take precedence.  After a :meth:`discard`, only the flashes that were read are put back.
        """
        self.flashes.put_back_used(changes.flashes_used)
        if changes is not self._taken:
            return
        if not self._cleared:
            for key in changes.values:
                if key not in self._unset:
                    self._assigned.setdefault(key)
            self._unset.update(key for key in changes.unset if key not in self._assigned)
        self._cleared = self._cleared or changes.cleared
        if changes.limits is not None:
            self.shorten(changes.limits)
        self.flashes.put_back_added(changes.flashes_added)

    def rebase(self, data: dict[str, Any]) -> None:
        """Continue on the record that was just saved, which may hold other requests' keys.

        A list or dict that the handler holds remains the session's own.  Otherwise its next change would be lost.
        """
        before = self.data
        self.base = data
        self.flashes.rebase()
        self.data = {} if self._cleared else dict(data)
        for key in self._unset:
            self.data.pop(key, None)
        for key in (*self._assigned, *self.snapshots):
            if key in before:
                self.data[key] = before[key]

    def keep(self, changes: Changes) -> None:
        """Go on with the view as it is, now that *changes* are saved where this request cannot read.

        Another request changed the session's id, and what the session holds since is not for the old id to read.
        """
        base = dict(changes.values) if changes.cleared else {**self.base, **changes.values}
        for key in changes.unset:
            base.pop(key, None)
        self.base = base
        self.flashes.rebase()

    def refresh(self, data: dict[str, Any]) -> None:
        """Continue on a newer record, and keep this request's changes.

        Lists and dicts that were handed out and not changed are detached: later changes in them are not saved.
        """
        self._assigned.update(dict.fromkeys(self._changed_inside()))
        self.snapshots = {key: snapshot for key, snapshot in self.snapshots.items() if key in self._assigned}
        self.rebase(data)

    def discard(self) -> None:
        """Go back to the record as loaded or last saved.

        Lists and dicts that were handed out are detached: later changes in them are not saved.
        """
        self.snapshots = {}
        self.data = dict(self.base)
        self.flashes.discard()
        self._assigned = {}
        self._unset = set()
        self._cleared = False
        self.limits = None
        self._taken = None

    def empty(self) -> None:
        """Forget everything, because the session was destroyed."""
        self.base = {}
        self.flashes.forget()
        self.discard()

    def frozen(self) -> dict[str, Any]:
        """Return the data in the frozen form that a save would store.

        Raises:
            TypeError: A value cannot be stored.
        """
        live = self.snapshots.keys() | self._assigned.keys()
        return {key: freeze(value, key) if key in live else value for key, value in self.data.items()}

    def _changed_inside(self) -> list[str]:
        return [key for key in self.snapshots if key not in self._assigned and self._has_changed(key)]

    def _has_changed(self, key: str) -> bool:
        return dumps(freeze(self.data[key], key)) != dumps(self.snapshots[key])
