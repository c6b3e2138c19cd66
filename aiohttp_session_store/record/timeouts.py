"""The idle timeout and the lifetime of a session: which ends it first, and when a use extends it."""

from dataclasses import dataclass
from datetime import timedelta
from math import inf

from ..errors import ConfigurationError
from .format import Record

_LONGEST = timedelta.max.total_seconds()


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The two limits of a session, in whole seconds.

    Attributes:
        idle: Counted from the last use.  None for no idle timeout.
        lifetime: Counted from the beginning of the session, and never extended by a use.  None for no lifetime.
    """

    idle: int | None
    lifetime: int | None

    @classmethod
    def build(cls, idle_timeout: float | timedelta | None, lifetime: float | timedelta | None) -> "Timeouts":
        """Convert and check the settings of a developer.

        Raises:
            ConfigurationError: A setting is zero, negative or not a time, or both limits are None.
        """
        timeouts = cls(seconds("idle_timeout", idle_timeout), seconds("lifetime", lifetime))
        if timeouts.idle is None and timeouts.lifetime is None:
            raise ConfigurationError(
                "idle_timeout and lifetime are both None: such a session would never end. Set at least one of them"
            )
        return timeouts

    def expiry(self, now: int, created_at: int) -> int:
        """Return when a session that is used at *now* ends, in whole Unix seconds."""
        if self.idle is None:
            return created_at + (self.lifetime or 0)
        if self.lifetime is None:
            return now + self.idle
        return min(now + self.idle, created_at + self.lifetime)

    def limits(self, record: Record, stored_expiry: int) -> tuple[int, float]:
        """Return when a stored session ends, and from when on a use extends it.

        Both the limits that the session was stored under and the current ones apply, and the earlier end counts.  A use
        extends the session once a tenth of the idle timeout has passed.  If the record was written under another idle
        timeout, the next use extends it at once.

        Returns:
            Both in Unix seconds.  The second one is infinity if no use ever extends the session.  It is only a lower
            bound if the lifetime is about to end.
        """
        idle, lifetime, ends = self.idle, self.lifetime, stored_expiry
        if lifetime is not None and record.created_at + lifetime < ends:
            ends = record.created_at + lifetime
        renewal = inf
        if idle is not None:
            used = last_use(record, stored_expiry)
            ends = min(ends, used + idle)
            renewal = used + idle / 10
        return ends, renewal if record.idle_timeout == idle else 0

    def touch_due(self, record: Record, stored_expiry: int, now: int) -> bool:
        """Return whether a use at *now* extends the session by enough to be worth a call to the storage."""
        return now >= self.limits(record, stored_expiry)[1] and self.expiry(now, record.created_at) > stored_expiry

    def renewal_due(self, record: Record, stored_expiry: int, now: int) -> bool:
        """Return whether a use at *now* must extend or rewrite the record although nothing was changed."""
        return self.outdated(record) or self.touch_due(record, stored_expiry, now)

    def outdated(self, record: Record) -> bool:
        """Return whether *record* was written under another idle timeout, and must be rewritten instead of touched."""
        return record.idle_timeout != self.idle


def last_use(record: Record, stored_expiry: int) -> int:
    """Return the latest time at which the session is known to have been used, in whole Unix seconds."""
    if record.idle_timeout is None:
        return record.written_at
    return max(record.written_at, stored_expiry - record.idle_timeout)


def seconds(name: str, value: float | timedelta | None) -> int | None:
    """Convert a time span to whole seconds.

    Raises:
        ConfigurationError: *value* is not a span of at least one second that a record can hold.  The message calls it
            *name*.
    """
    if value is None:
        return None
    span = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(span, bool) or not isinstance(span, int | float) or not 1 <= span <= _LONGEST:
        raise ConfigurationError(
            f"{name} is a number of seconds or a timedelta, from one second to timedelta.max, not {value!r}"
        )
    return int(span)
