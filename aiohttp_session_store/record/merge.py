"""Merging the changes of requests onto the newest record, place by place."""

from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import SessionConflictError
from .changes import Changes
from .format import Record
from .json_encoders import dumps
from .merge_inside import merge_inside
from .sums import add_frozen

# The random ids that a record keeps, of the last writes with additions: one's own, and eight others.
MOST_WRITES = 9


def same_content(one: bytes, other: bytes) -> bool:
    """Return whether two stored live records hold the same data and flashes, regardless of when they were written."""
    return one.partition(b"\n")[2] == other.partition(b"\n")[2]


def merge(
    record: Record, changes: Iterable[Changes], now: int, idle_timeout: int | None, *, write: str | None = None
) -> Record:
    """Apply the changes of one or more saves to *record*, in order.

    Places that none of them changed stay as they are.

    Args:
        record: The newest record, which is not modified.
        changes: The changes, in order.
        now: The time at which the result is written, in whole Unix seconds.
        idle_timeout: The idle timeout in force, in seconds, or None.
        write: A random id, which the result notes if something was added.  None if that is not needed.

    Raises:
        SessionConflictError: A number cannot be added to what the record holds.
    """
    data, flashes, head, adds = record.data, record.flashes, record.head, False
    for change in changes:
        before, data = data, merge_data(data, change)
        adds = adds or (change.tries is not None and _differ(data, before))
        if change.cleared:
            flashes = ()
        if change.flashes_used or change.flashes_added:
            replaced = {added.key for added in change.flashes_added}
            kept = [flash for flash in flashes if flash.id not in change.flashes_used and flash.key not in replaced]
            flashes = (*kept, *{added.key: added for added in change.flashes_added}.values())
        if change.limits is not None and head is not None:
            head = head.shortened(change.limits)
        if change.notes and head is not None:
            head = head.noted(change.notes)
    writes = (*record.writes, write)[-MOST_WRITES:] if adds and write is not None else record.writes
    return Record(record.created_at, now, idle_timeout, data, flashes, head, writes)


def merge_data(data: Mapping[str, Any], change: Changes) -> dict[str, Any]:
    """Return *data*, in the frozen form, with the changes of one save.

    Raises:
        SessionConflictError: A number cannot be added to what *data* holds.
    """
    merged = dict(change.values) if change.cleared else {**data, **change.values}
    for key in change.unset:
        merged.pop(key, None)
    for key, edit in change.edits.items():
        merged[key] = merge_inside(edit, merged[key]) if key in merged else edit.left
    for key, by in change.sums.items():
        try:
            merged[key] = add_frozen(key, merged.get(key, 0), by)
        except TypeError as error:
            message = f"{error}. Another request has changed the value meanwhile: nothing was stored"
            raise SessionConflictError(message) from None
    return merged


def is_stored(change: Changes, record: Record) -> bool | None:
    """Return whether one of the tries of *change* was carried out, or None if *record* cannot tell any more."""
    tries = change.tries or ()
    if any(one.write in record.writes for one in tries):
        return True
    for one in tries:  # the record must go back to before the try
        if one.before[-1] not in record.writes if one.before else len(record.writes) >= MOST_WRITES:
            return None
    return False


def _differ(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one != other or dumps(one) != dumps(other)  # 1 and True are equal
