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
        self._holes: dict[int, int] = {}
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
        """Forget *key*, which was entered for *day*.

        A set keeps the room that it once needed: after a flood of visitors, each of its days would until it comes.  So
        one of which more was taken out than is left is made anew.
        """
        keys = self._keys.get(day)
        if keys is None:
            return
        keys.discard(key)
        holes = self._holes.get(day, 0) + 1
        if holes > len(keys):
            self._keys[day], holes = set(keys), 0
        self._holes[day] = holes

    def take(self, last_day: int, most: int) -> list[str]:
        """Remove and return some keys of the days up to *last_day*, *most* at a time; none when there are no more."""
        taken: list[str] = []
        while self._days and self._days[0] <= last_day:
            keys = self._keys[self._days[0]]
            while keys:
                if len(taken) == most:
                    return taken
                taken.append(keys.pop())
            day = heappop(self._days)
            del self._keys[day]
            self._holes.pop(day, None)
        return taken
