"""Which records may have expired, known without looking at all of them."""

from heapq import heappop, heappush

__all__ = ["ExpiryCalendar"]

# Seconds that share a day of the calendar: few enough keys to hold back in one go, few enough days.
_DAY = 60


class ExpiryCalendar:
    """Keys by the day on which they end, so that a sweep takes those that are due, in slices, and no others.

    Using a session moves its end: its key stays where it is, and is entered anew when its day has come.  So a use costs
    nothing here.  Whoever enters a key remembers the day, to take it out again.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._keys: dict[int, set[str]] = {}
        self._days: list[int] = []

    @staticmethod
    def day(seconds: int) -> int:
        """Return the day that holds *seconds*, a Unix time."""
        return seconds // _DAY

    def enter(self, key: str, day: int) -> None:
        """Note that *key* ends on *day*."""
        keys = self._keys.get(day)
        if keys is None:
            keys = self._keys[day] = set()
            heappush(self._days, day)
        keys.add(key)

    def remove(self, key: str, day: int) -> None:
        """Forget *key*, which was entered for *day*."""
        keys = self._keys.get(day)
        if keys is not None:
            keys.discard(key)

    def take(self, last_day: int, most: int) -> list[str]:
        """Remove and return some keys of the days up to *last_day*, *most* at a time; none when there are no more."""
        taken: list[str] = []
        while self._days and self._days[0] <= last_day:
            keys = self._keys[self._days[0]]
            while keys:
                if len(taken) == most:
                    return taken
                taken.append(keys.pop())
            del self._keys[heappop(self._days)]
        return taken
