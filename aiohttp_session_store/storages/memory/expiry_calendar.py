"""Finds the records that may have expired, without looking at all records."""

from dataclasses import dataclass, field
from heapq import heappop, heappush

__all__ = ["ExpiryCalendar"]

# The length of a calendar day in seconds. It keeps both the keys of one day and the number of days small.
_DAY = 60


@dataclass(slots=True)
class _Day:
    """The keys that end on one day, and how many were removed since the set was made."""

    number: int
    keys: set[str] = field(default_factory=set)
    removed: int = 0


class ExpiryCalendar:
    """Keys by the day on which they end.  A sweep takes only those that are due, in slices.

    Using a session moves its end.  Its key stays on the old day, and is entered again when that day has come, so a use
    costs nothing here.  The caller that enters a key has to remember the day, to remove the key again.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._days: dict[int, _Day] = {}
        self._in_order: list[int] = []

    @staticmethod
    def day(seconds: int) -> int:
        """Return the day that holds *seconds*, a Unix time."""
        return seconds // _DAY

    def enter(self, key: str, number: int) -> int:
        """Note that *key* ends on day *number*, and return *number* as an object that all keys of the day share."""
        day = self._days.get(number)
        if day is None:
            day = self._days[number] = _Day(number)
            heappush(self._in_order, number)
        day.keys.add(key)
        return day.number

    def remove(self, key: str, number: int) -> None:
        """Forget *key*, which was entered for day *number*.

        A set keeps the memory that it once needed.  After a flood of visitors, a day would keep that memory until it
        comes.  So if more keys were removed from a day than are left, its set is made anew.
        """
        day = self._days.get(number)
        if day is None:
            return
        day.keys.discard(key)
        day.removed += 1
        if day.removed > len(day.keys):
            day.keys, day.removed = set(day.keys), 0

    def take(self, last_day: int, most: int) -> list[str]:
        """Remove and return up to *most* keys of the days up to *last_day*; none if there are no more."""
        taken: list[str] = []
        while self._in_order and self._in_order[0] <= last_day:
            keys = self._days[self._in_order[0]].keys
            while keys:
                if len(taken) == most:
                    return taken
                taken.append(keys.pop())
            del self._days[heappop(self._in_order)]
        return taken
