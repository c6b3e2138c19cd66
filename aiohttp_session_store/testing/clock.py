"""A clock that moves only when a test tells it to."""

from datetime import timedelta

__all__ = ["ManualClock"]


class ManualClock:
    """Replaces :func:`time.time` as the ``clock`` of a storage, so that a test can let weeks pass."""

    def __init__(self, now: float = 1_700_000_000) -> None:
        """Start at *now*, in Unix seconds.

        Args:
            now: The time at the start, in Unix seconds.
        """
        self._now = float(now)

    def __call__(self) -> float:
        """Return the time in Unix seconds."""
        return self._now

    def advance(self, by: float | timedelta) -> None:
        """Move forward by seconds or a timedelta.

        Args:
            by: Seconds, or a timedelta.
        """
        self._now += by.total_seconds() if isinstance(by, timedelta) else by
