"""The idle timeout and the lifetime of a session: which ends it first, and when a use extends it."""

from dataclasses import dataclass
from datetime import timedelta
from math import inf
from typing import Any

from ..errors import ConfigurationError
from .format import IDLE, LIFETIME, Record
from .head import Head, shorter

_LONGEST = timedelta.max.total_seconds()
# An entry of an owner's index is good for so many idle timeouts, and for 400 days at most, as a cookie is.
_UNTIL = 4
_LONGEST_UNTIL = 400 * 24 * 60 * 60
# A use extends a session once so much of the idle timeout has passed, and an entry that cannot be longer.
_EXTEND_AFTER = 1 / 10


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
        """Return the idle timeout of a session with *head*, in seconds, or None.

        A session that is to be remembered has one of its own, however long the storage's is.
        """
        if head is None:
            return shorter(self.idle, self.anonymous)
        return shorter(self.idle if head.remember is None else head.remember, head.idle)

    def lifetime_of(self, head: Head | None) -> int | None:
        """Return the lifetime of a session with *head*, in seconds, or None."""
        return self.lifetime if head is None else shorter(self.lifetime, head.lifetime)

    def expiry(self, now: int, created_at: int, head: Head | None = None) -> int:
        """Return when a session that is used at *now* ends, in whole Unix seconds."""
        idle, lifetime = self.idle_of(head), self.lifetime_of(head)
        if idle is None:
            ends = created_at + (lifetime or 0)
        elif lifetime is None:
            ends = now + idle
        else:
            ends = min(now + idle, created_at + lifetime)
        return ends if head is None else min(ends, head.until)

    def passed(self, record: Record, ends: int) -> str:
        """Return which of the two limits has ended a session at *ends*."""
        lifetime = self.lifetime_of(record.head)
        return IDLE if lifetime is None or ends < record.created_at + lifetime else LIFETIME

    def until(self, now: int, created_at: int, head: Head) -> int:
        """Return until when an index shows a session with *head* that is written at *now*, in whole Unix seconds.

        That is some idle timeouts ahead, so that an extension seldom has to change the index, and entries of sessions
        that ended are gone before long.  It is never more than 400 days ahead.
        """
        idle, lifetime = self.idle_of(head), self.lifetime_of(head)
        ahead = now + (_LONGEST_UNTIL if idle is None else min(_UNTIL * idle, _LONGEST_UNTIL))
        return ahead if lifetime is None else min(ahead, created_at + lifetime)

    def until_due(self, record: Record, now: int) -> bool:
        """Return whether the index of an owner will forget the session too soon, and should be changed.

        It forgets it in half of the time that it could show it, or would end it by a tenth too early.
        """
        head = record.head
        if head is None:
            return False
        left, most = head.until - now, self.until(now, record.created_at, head) - now
        return left < most and (2 * left <= most or 10 * left <= 9 * min(most, self.idle_of(head) or most))

    def limits(self, record: Record, stored_expiry: int) -> tuple[int, float]:
        """Return when a stored session ends, and from when on a use extends it.

        Both the limits that the session was stored under and the current ones apply, and the earlier end counts.  A use
        extends the session once a tenth of the idle timeout has passed.  If the record was written under another idle
        timeout, the next use extends it at once.

        Returns:
            Both in Unix seconds.  The second one is infinity if no use ever extends the session.  It is only a lower
            bound if the lifetime is about to end.
        """
        idle, lifetime, ends = self.idle_of(record.head), self.lifetime_of(record.head), stored_expiry
        if lifetime is not None and record.created_at + lifetime < ends:
            ends = record.created_at + lifetime
        used = last_use(record, stored_expiry)
        if idle is not None:
            ends = min(ends, used + idle)
        return ends, self.renew_at(used, idle, record.head) if record.idle_timeout == idle else 0

    def renew_at(self, used: int, idle: int | None, head: Head | None) -> float:
        """Return from when on a use extends a session that was last used at *used*; infinity if none ever does.

        Args:
            used: Whole Unix seconds.
            idle: Its idle timeout in seconds, or None.
            head: Its head.  The entry in the index of its owner has to be extended in time, too.
        """
        if head is not None and (idle is None or idle > _LONGEST_UNTIL):
            idle = _LONGEST_UNTIL
        return inf if idle is None else used + idle * _EXTEND_AFTER

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


def checked_span(name: str, value: Any) -> int:
    """Convert a time span that a handler gives to whole seconds.

    Raises:
        TypeError: *value* is neither a number of seconds nor a timedelta.
        ValueError: It is less than a second, or more than a record can hold.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | timedelta):
        raise TypeError(
            f"{name} is a number of seconds or a timedelta, such as timedelta(days=30), not of type"
            f" {type(value).__name__}"
        )
    span = value.total_seconds() if isinstance(value, timedelta) else value
    if not 1 <= span <= _LONGEST:
        raise ValueError(f"{name} is from one second to timedelta.max, not {value!r}")
    return int(span)
