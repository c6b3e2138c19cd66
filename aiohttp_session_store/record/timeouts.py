"""The idle timeout and the lifetime of a session: which ends it first, and when a use extends it."""

from dataclasses import dataclass
from datetime import timedelta
from math import inf

from ..errors import ConfigurationError
from .format import Record
from .head import Head

_LONGEST = timedelta.max.total_seconds()
# An entry of an owner's index is good for so many idle timeouts, and for 400 days at most, as a cookie is.
_UNTIL = 4
_LONGEST_UNTIL = 400 * 24 * 60 * 60


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The two limits of a session, in whole seconds.

    Attributes:
        idle: Counted from the last use.  None for no idle timeout.
        lifetime: Counted from the beginning of the session, and never extended by a use.  None for no lifetime.
        anonymous: The idle timeout of a session that has no owner.  None if it is the same.
    """

    idle: int | None
    lifetime: int | None
    anonymous: int | None = None

    @classmethod
    def build(
        cls,
        idle_timeout: float | timedelta | None,
        lifetime: float | timedelta | None,
        anonymous_idle_timeout: float | timedelta | None = None,
    ) -> "Timeouts":
        """Convert and check the settings of a developer.

        Raises:
            ConfigurationError: A setting is zero, negative or not a time, or both limits are None.
        """
        timeouts = cls(
            seconds("idle_timeout", idle_timeout),
            seconds("lifetime", lifetime),
            seconds("anonymous_idle_timeout", anonymous_idle_timeout),
        )
        if timeouts.idle is None and timeouts.lifetime is None:
            raise ConfigurationError(
                "idle_timeout and lifetime are both None: such a session would never end. Set at least one of them"
            )
        return timeouts

    def idle_of(self, head: Head | None) -> int | None:
        """Return the idle timeout of a session with *head*, in seconds, or None."""
        if head is not None or self.anonymous is None:
            return self.idle
        return self.anonymous if self.idle is None else min(self.idle, self.anonymous)

    def expiry(self, now: int, created_at: int, head: Head | None = None) -> int:
        """Return when a session that is used at *now* ends, in whole Unix seconds."""
        idle = self.idle if self.anonymous is None else self.idle_of(head)
        if idle is None:
            ends = created_at + (self.lifetime or 0)
        elif self.lifetime is None:
            ends = now + idle
        else:
            ends = min(now + idle, created_at + self.lifetime)
        return ends if head is None else min(ends, head.until)

    def until(self, now: int, created_at: int) -> int:
        """Return until when the index of an owner shows a session that is written at *now*, in whole Unix seconds.

        That is some idle timeouts ahead, so that an extension seldom has to change the index, and entries of sessions
        that ended are gone before long.  It is never more than 400 days ahead.
        """
        if self.lifetime is not None and self.idle is None:
            return created_at + self.lifetime
        ahead = now + min(_UNTIL * (self.idle or 0), _LONGEST_UNTIL)
        return ahead if self.lifetime is None else min(ahead, created_at + self.lifetime)

    def until_due(self, record: Record, now: int) -> bool:
        """Return whether the index forgets the session in half of the time that it could, or within an idle timeout."""
        head = record.head
        if head is None:
            return False
        left, most = head.until - now, self.until(now, record.created_at) - now
        return left < most and (2 * left <= most or left < (self.idle or 0))

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
        if self.anonymous is not None:
            idle = self.idle_of(record.head)
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
        return now >= self.limits(record, stored_expiry)[1] and (
            self.expiry(now, record.created_at, record.head) > stored_expiry
        )

    def renewal_due(self, record: Record, stored_expiry: int, now: int) -> bool:
        """Return whether a use at *now* must extend or rewrite the record although nothing was changed."""
        return self.outdated(record) or self.touch_due(record, stored_expiry, now)

    def outdated(self, record: Record) -> bool:
        """Return whether *record* was written under another idle timeout, and must be rewritten instead of touched."""
        return record.idle_timeout != self.idle_of(record.head)


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
