"""Merging the changes of requests onto the newest record."""

from collections.abc import Iterable

from .changes import Changes
from .format import Record


def same_content(one: bytes, other: bytes) -> bool:
    """Return whether two stored live records hold the same data and flashes, regardless of when they were written."""
    return one.partition(b"\n")[2] == other.partition(b"\n")[2]


def merge(record: Record, changes: Iterable[Changes], now: int, idle_timeout: int | None) -> Record:
    """Apply the changes of one or more requests to *record*, in order.

    Keys that none of the requests changed stay as they are.

    Args:
        now: The time at which the result is written, in whole Unix seconds.
        idle_timeout: The idle timeout in force, in seconds, or None.
    """
    data, flashes, head = record.data, record.flashes, record.head
    for change in changes:
        data = dict(change.values) if change.cleared else {**data, **change.values}
        for key in change.unset:
            data.pop(key, None)
        if change.cleared:
            flashes = ()
        if change.flashes_used or change.flashes_added:
            replaced = {added.key for added in change.flashes_added}
            kept = [flash for flash in flashes if flash.id not in change.flashes_used and flash.key not in replaced]
            flashes = (*kept, *{added.key: added for added in change.flashes_added}.values())
        if change.limits is not None and head is not None:
            head = head.shortened(change.limits)
    return Record(record.created_at, now, idle_timeout, data, flashes, head)
