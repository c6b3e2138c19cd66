"""Which records may have expired, known without looking at all of them."""

from dataclasses import dataclass, field
from heapq import heappop, heappush

__all__ = ["ExpiryCalendar"]

# Seconds that share a day of the calendar: few enough keys to hold back in one go, few enough days.
_DAY = 60


@dataclass(slots=True)
class _Day:
    """The keys that end on one day, and how many were taken out since their set was made."""

    number: int
    keys: set[str] = field(default_factory=set)
    removed: int = 0


class ExpiryCalendar:
    """Keys by the day on which they end, so that a sweep takes those that are due, in slices, and no others.

    Using a session moves its end: its key stays where it is, and is entered anew when its day has come.  So a use costs
    nothing here.  Whoever enters a key remembers the day, to take it out again.
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
        """Note that *key* ends on day *number*, and return that as the one object that all keys of the day share."""
        day = self._days.get(number)
        if day is None:
            day = self._days[number] = _Day(number)
            heappush(self._in_order, number)
        day.keys.add(key)
        return day.number

    def remove(self, key: str, number: int) -> None:
        """Forget *key*, which was entered for day *number*.

        A set keeps the room that it once needed: after a flood of visitors, each of its days would until it comes.  So
        one of which more was taken out than is left is made anew.
        """
        day = self._days.get(number)
        if day is None:
            return
        day.keys.discard(key)
        day.removed += 1
        if day.removed > len(day.keys):
            day.keys, day.removed = set(day.keys), 0

    def take(self, last_day: int, most: int) -> list[str]:
        """Remove and return some keys of the days up to *last_day*, *most* at a time; none when there are no more."""
        taken: list[str] = []
        while self._in_order and self._in_order[0] <= last_day:
            keys = self._days[self._in_order[0]].keys
            while keys:
                if len(taken) == most:
                    return taken
                taken.append(keys.pop())
            del self._days[heappop(self._in_order)]
        return taken
