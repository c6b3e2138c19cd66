"""The changes that one request has made to its session, kept apart from the data that it read.

A session is never written back as a whole.  Only the :class:`Changes` of a request are merged onto the newest record,
so parallel requests do not lose each other's keys.  :class:`ChangeLog` holds the request's view of the data and the log
of its changes.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any

from ..errors import SessionConflictError
from ..record.changes import NO_CHANGES, Changes, Edit, Flash
from ..record.format import Record
from ..record.head import Limits
from ..record.json_encoders import dumps
from ..record.merge import is_stored, merge_data
from ..record.sums import add, can_be_added_to, plus
from ..record.values import check_key, freeze, tag_of, thaw
from .flashes import Flashes
from .given import Given


class ChangeLog:
    """A request's view of its session's data, and the log of its changes.

    ``data`` starts as a shallow copy of ``base``, the frozen record as it was loaded or last saved.  Requests share
    ``base``, and nobody changes it.  If a handler reads more than a scalar, it gets a thawed copy, and the original is
    kept in ``given``.  When the session is saved, the copy is compared with the original, so a change made inside the
    copy is noticed.  Such a change is merged with what other requests change inside the same value; what is assigned
    replaces it.
    """

    __slots__ = (
        "_assigned",
        "_cleared",
        "_defaults",
        "_limits_over",
        "_sums",
        "_taken",
        "_uncertain",
        "_unset",
        "base",
        "data",
        "flashes",
        "given",
        "limits",
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
        self.given: dict[str, Given] = {}
        self.limits: Limits | None = None
        self._assigned: dict[str, None] = {}
        self._unset: set[str] = set()
        self._cleared = False
        self._taken: Changes | None = None
        self._limits_over = False  # since that was taken
        self._defaults: dict[str, Any] = _NO_VALUES  # what setdefault() put there, in the frozen form
        self._sums: dict[str, int | Decimal] = _NO_VALUES
        self._uncertain: tuple[Changes, ...] = ()  # earlier saves, of which nobody knows whether they were stored

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
        if (kind is list or kind is dict) and key not in self.given and key not in self._assigned:
            elements: dict[int, Sequence[Any]] = {}
            frozen, value = value, thaw(value, elements)
            if isinstance(value, list | dict | set | tuple):  # anything else cannot be changed inside
                self.given[key], self.data[key] = Given(frozen, elements), value
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
        if key in self.given and self.has_changed(key):
            self._assigned[key] = None
        if key in self._assigned:
            self._forget(key)
        else:
            self.given.pop(key, None)
        self.data[key] = converted
        frozen = freeze(converted, key)
        watched = (type(frozen) is list or type(frozen) is dict) and not isinstance(converted, Decimal)
        if watched and key not in self._assigned:
            self.given[key] = Given(frozen, {}, converted=True)

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
        """Record that *key* was set, unless *value* is the very list, dict or set that was handed out for it.

        ``session["cart"] += [item]`` changes the list in place, and then assigns that list.  So this is a change inside
        the value.  A value that cannot be stored fails here, so that the traceback shows the assignment.

        Raises:
            TypeError: *key* or *value* cannot be stored.
        """
        key = check_key(key)
        freeze(value, key)
        given = self.given.get(key)
        if given is not None and value is self.data[key] and isinstance(value, list | dict | set):
            if given.converted:
                self._assigned[key] = None  # what is stored is another value
            return
        self._forget(key)
        self.data[key] = value
        self._assigned[key] = None
        self._unset.discard(key)

    def set_default(self, key: str, value: Any) -> None:
        """Set *key*, which cannot be read; if another request sets it at the same time, theirs is the value.

        What is changed inside *value* from now on is merged with theirs.

        Raises:
            TypeError: *key* or *value* cannot be stored.
        """
        if self._cleared or key in self._unset or key in self.data:
            self.assign(key, value)
            return
        key = check_key(key)
        frozen = freeze(value, key)
        self.data[key] = value
        self._defaults = {**self._defaults, key: frozen}
        if type(frozen) is list or type(frozen) is dict:
            self.given[key] = Given.now(frozen, value)

    def increment(self, key: str, by: int | Decimal) -> int | Decimal:
        """Record that *by* is to be added to the number of *key*, and return the sum as this request sees it.

        Raises:
            TypeError: *key* holds no number, or the sum cannot be stored.
        """
        key = check_key(key)
        total = add(key, self.value(key) if key in self.data else 0, by)
        stored = self._defaults.get(key, self.base.get(key, 0))
        # What a converter made a number of is none in the record, where a save would add.
        if self._cleared or key in self._unset or key in self._assigned or not can_be_added_to(stored):
            self.assign(key, total)
            return total
        self._sums = {**self._sums, key: plus(key, self._sums.get(key, 0), by)}
        self.given.pop(key, None)
        self.data[key] = total
        return total

    def remove(self, key: str) -> None:
        """Record that *key* was unset, and hide a flash of that name.

        Raises:
            KeyError: There is no such key.
        """
        if key not in self:
            raise KeyError(key)
        self.flashes.hide(key)
        if key in self.data:
            self._forget(key)
            del self.data[key]
            self._assigned.pop(key, None)
            self._unset.add(key)

    def clear(self) -> None:
        """Record that everything readable was removed, including what other requests add until this is saved."""
        uncertain = self._uncertain
        self._forget_all()
        self.data = {}
        self.flashes.hide_all()
        self._cleared = True
        self._keep_beside_data(uncertain)

    def start_anew(self) -> None:
        """Record that everything was removed, also what this request has set and left as flash messages.

        Nothing of a save that is under way is put back if it fails: it belonged to another account.
        """
        self.clear()
        self.flashes.added = ()
        self._taken = None

    def flash(self, key: str, value: Any) -> None:
        """Record *value* for the next request.

        Raises:
            TypeError: *key* or *value* cannot be stored.
        """
        self.flashes.add(check_key(key), value)

    def shorten(self, limits: Limits) -> None:
        """Record that *limits* apply to the session as well."""
        self.limits = limits if self.limits is None else self.limits.and_also(limits)

    def end_limits(self) -> None:
        """Record that limits so far, also those of a save that may still fail, are over: the next login begins anew."""
        self.limits = None
        self._uncertain = _unlimited(self._uncertain)
        self._limits_over = True

    def mark_watched(self) -> None:
        """Record every list and dict that was handed out as assigned."""
        self._assigned.update(dict.fromkeys(self.given))

    @property
    def dirty(self) -> bool:
        """Whether the handler changed anything since the session was loaded or last saved."""
        return self._has_entries() or bool(self.flashes.added or self._changed_inside())

    def _has_entries(self) -> bool:
        return bool(
            self._assigned
            or self._unset
            or self._cleared
            or self.limits
            or self._defaults
            or self._sums
            or self._uncertain
        )

    # --- saving

    def is_empty(self) -> bool:
        """Return whether there is certainly nothing to save.

        In that case nothing was changed, and no list or dict was handed out that could have been changed.
        """
        flashes = self.flashes
        return not (self.given or flashes.used or flashes.added or self._has_entries())

    def take(self) -> Changes:
        """Empty the log into :class:`Changes`, all of it or nothing.

        What the handler left is from then on what it was given.

        Raises:
            TypeError: A value cannot be stored.  The log keeps all changes.
        """
        self._limits_over = False
        if self.is_empty():
            self._taken = NO_CHANGES
            return NO_CHANGES
        values = {key: freeze(self.data[key], key) for key in self._assigned}
        left = self._changed_inside() if self.given else _NO_VALUES
        edits = _NO_VALUES
        if left or self._defaults:
            edits = {key: Edit(default, default, {}) for key, default in self._defaults.items()}
            for key, inside in left.items():
                before = self.given[key]
                if before.converted:
                    values[key] = inside
                else:
                    after = self.given[key] = Given.now(inside, self.data[key])
                    edits[key] = before.edit(after)
        for key, value in values.items():
            if type(value) is list or type(value) is dict:
                self.given[key] = Given.now(value, self.data[key])
        adds = self._sums or any(_adds(edit.given, edit.left) for edit in edits.values())
        changes = Changes(
            values,
            frozenset(self._unset) if self._unset else _NO_KEYS,
            self._cleared,
            self.flashes.used,
            self.flashes.added,
            self.limits,
            edits,
            self._sums,
            [] if adds else None,
            self._uncertain,
        )
        self._forget_changes()
        self.limits = None
        self.flashes.taken()
        self._taken = changes
        return changes

    def put_back(self, changes: Changes, *, lost: bool = False) -> None:
        """Put *changes*, which were taken last and could not be saved, back into the log.

        Changes made since then take precedence.  After a :meth:`discard`, only the flashes that were read are put back.
        Additions that may have been stored all the same stay apart, so that the next save can leave them out.

        Args:
            changes: What could not be saved.
            lost: Nobody can know any more what became of the earlier saves in *changes*.  The handler was told so, and
                they are given up.
        """
        self.flashes.put_back_used(changes.flashes_used)
        if changes is not self._taken:
            return
        if self._limits_over:
            [changes] = _unlimited([changes])
        self._uncertain = () if lost else changes.earlier
        # Two sums of one key are not added here: the sum of both could have more digits than that with the value.
        if changes.tries or changes.sums.keys() & self._sums.keys():
            apart = (*self._uncertain, changes._replace(earlier=()))
            self._uncertain = () if self._cleared else apart
            if self._cleared:
                self._keep_beside_data(apart)
            return
        if not self._cleared:
            for key in changes.values:
                if key not in self._unset:
                    self._assigned.setdefault(key)
                    self._sums = _without(self._sums, key)
            self._unset.update(key for key in changes.unset if key not in self._assigned)
            for key, edit in changes.edits.items():
                if key not in self._unset and key not in self._assigned:
                    self._put_back_edit(key, edit)
            for key, by in changes.sums.items():
                if key not in self._unset and key not in self._assigned:
                    self._sums = {**self._sums, key: by}
        self._cleared = self._cleared or changes.cleared
        if changes.limits is not None:
            self.shorten(changes.limits)
        self.flashes.put_back_added(changes.flashes_added)

    def _keep_beside_data(self, saves: Sequence[Changes]) -> None:
        """Put back what *saves* say beside the data, which was cleared since.  It does no harm to say it twice."""
        for save in reversed(saves):
            self.flashes.put_back_added(save.flashes_added)
            if save.limits is not None:
                self.shorten(save.limits)

    def _put_back_edit(self, key: str, edit: Edit) -> None:
        if key not in self.base:  # setdefault() put it there
            self._defaults = {**self._defaults, key: edit.given}
        if key in self.given and not self.given[key].converted:
            self.given[key] = Given(edit.given, dict(edit.objects))

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
        for key in (*self._assigned, *self.given):
            if key in before:
                self.data[key] = before[key]
        for key, default in self._defaults.items():
            self.data.setdefault(key, before.get(key, default))
        for key, by in self._sums.items():
            try:
                self.data[key] = add(key, thaw(self.data.get(key, 0)), by)
            except TypeError:  # another request has stored something that is no number; the next save will say so
                self.data[key] = before[key]

    def keep(self, changes: Changes) -> None:
        """Go on with the view as it is, now that *changes* are saved where this request cannot read.

        Another request changed the session's id, and what the session holds since is not for the old id to read.
        """
        for save in changes.saves():
            self.base = merge_data(self.base, save)
        self.flashes.rebase()

    def refresh(self, record: Record) -> None:
        """Continue on a newer record, and keep this request's changes, also those of a save whose answer was lost.

        Lists and dicts that were handed out and not changed are detached: later changes in them are not saved.  One
        that was changed gets what other requests have changed in it meanwhile.
        """
        data = record.data
        for save in self._uncertain:
            if is_stored(save, record) is False:
                with suppress(SessionConflictError):  # the next save says so
                    data = merge_data(data, save)
        left = self._changed_inside()
        for key, given in list(self.given.items()):
            if key in left and given.converted:
                self._assigned[key] = None
            elif key in left and key in data and key not in self._assigned:
                self._catch_up(key, given, left[key], data[key])
            elif key not in left and key not in self._assigned and key not in self._defaults:
                del self.given[key]
        self.rebase(data)
        self.base = record.data

    def _catch_up(self, key: str, given: Given, left: Any, newest: Any) -> None:
        value = self.data[key]
        merged = given.merged(left, value, newest)
        if merged is None:
            return
        self.given[key] = Given(newest, {})
        if type(value) is list and type(merged) is list:  # the handler may hold it
            value[:] = merged
        elif type(value) is type(merged) and isinstance(value, dict | set):
            value.clear()
            value.update(merged)
        else:
            self.data[key] = merged

    def discard(self) -> None:
        """Go back to the record as loaded or last saved.

        Lists and dicts that were handed out are detached: later changes in them are not saved.
        """
        self._forget_all()
        self.data = dict(self.base)
        self.flashes.discard()
        self._uncertain = ()
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
        live = self.given.keys() | self._assigned.keys() | self._defaults.keys()
        return {
            key: freeze(value, key) if key in live or isinstance(value, Decimal) else value
            for key, value in self.data.items()
        }

    def _changed_inside(self) -> dict[str, Any]:
        """Return what the handler has changed inside what it was given, in the frozen form."""
        return {
            key: inside
            for key, given in self.given.items()
            if key not in self._assigned and (inside := given.left(key, self.data[key])) is not None
        }

    def has_changed(self, key: str) -> bool:
        """Return whether the handler has changed something inside what it was given for *key*.

        Raises:
            TypeError: It has put something there that cannot be stored.
        """
        return self.given[key].left(key, self.data[key]) is not None

    def _forget(self, key: str) -> None:
        """Forget how *key* was changed so far, because it is set or removed now."""
        self.given.pop(key, None)
        if key in self._sums or key in self._defaults:
            self._sums, self._defaults = _without(self._sums, key), _without(self._defaults, key)

    def _forget_changes(self) -> None:
        self._assigned = {}
        self._unset = set()
        self._cleared = False
        self._sums = self._defaults = _NO_VALUES
        self._uncertain = ()

    def _forget_all(self) -> None:
        self._forget_changes()
        self.given = {}


# Most logs have none, and so none makes a dict or set of its own for them. Nobody changes these.
_NO_VALUES: dict[str, Any] = {}
_NO_KEYS: frozenset[str] = frozenset()


def _unlimited(saves: Iterable[Changes]) -> tuple[Changes, ...]:
    return tuple(save._replace(limits=None, earlier=_unlimited(save.earlier)) for save in saves)


def _without(values: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != key} if key in values else values


def _adds(given: Any, left: Any) -> bool:
    """Return whether a change inside a value may not be made twice: one inside a list."""
    if type(given) is list and type(left) is list:
        return given != left or dumps(given) != dumps(left)  # 1 and True are equal
    if type(given) is dict and type(left) is dict and tag_of(left) is None:
        for key, value in left.items():
            if (type(value) is list or type(value) is dict) and key in given and _adds(given[key], value):
                return True
    return False
