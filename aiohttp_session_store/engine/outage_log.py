"""What is logged of a storage that fails: each kind of failure at once, and then only how often it came again.

With a storage down, every request fails.  A line for each of them fills the disk and hides what else goes wrong.
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import one_line
from ..tracebacks import hide_locals

__all__ = ["OutageLog"]

_logger = logging.getLogger("aiohttp_session_store")

# Seconds between two lines that count.
EVERY = 10.0
# Kinds of failures that get a line of their own. An outage has one or two; a server behind a proxy may have some more.
_MOST = 16
_OTHERS = "other failures"
# What differs between two failures of one kind: keys of sessions, addresses of objects, ports and times. A shorter
# number may be that of the error.
_VARIES = re.compile(r"0x[0-9a-f]+|[0-9a-f]{16,}|\d{4,}")
_KEPT = 200


@dataclass(slots=True)
class _Failure:
    """One kind of failure: what it prevented and why, and how often since the last line."""

    level: int
    what: str
    cause: str
    again: int = 0


class OutageLog:
    """Logs the failures of one storage."""

    def __init__(self, every: float = EVERY, clock: Callable[[], float] = time.monotonic) -> None:
        """Log nothing yet.

        Args:
            every: Seconds between two lines that count.  After so many seconds without a failure, the outage is over.
            clock: Returns the time in seconds.
        """
        self._every = every
        self._clock = clock
        self._failures: dict[tuple[str, object], _Failure] = {}
        self._total = 0
        self._began = self._told_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def note(self, level: int, error: BaseException, what: str, *args: object, with_traceback: bool = False) -> None:
        """Log a failure at once if it is the first one of its kind in this outage, or else count it.

        Failures are of one kind if they prevented the same and have the same cause, whatever session it is about.

        Args:
            level: That of the line.
            error: The failure.
            what: What it prevented, with a ``%s`` for each of *args*.
            args: Which session it is about, for example.
            with_traceback: Whether the first line has a traceback if the logger's level is DEBUG.
        """
        self._begin()
        self._total += 1
        about = (what, _cause_of(error))
        known = self._failures.get(about)
        if known is None and len(self._failures) >= _MOST:
            about, what = (_OTHERS, None), _OTHERS
            known = self._failures.setdefault(about, _Failure(level, what, "of more kinds than are listed"))
        if known is not None:
            known.again += 1
            known.level = max(known.level, level)
            return
        self._failures[about] = _Failure(level, what.replace(" %s", ""), one_line(error))
        traceback = None
        if with_traceback and _logger.isEnabledFor(logging.DEBUG):
            hide_locals(error)
            traceback = error
        _logger.log(level, f"{what}: %s", *args, one_line(error), exc_info=traceback)  # noqa: G004  it is a format

    def _begin(self) -> None:
        """Start the timer, unless it runs."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # who drives a storage without an event loop has no timer, and the first lines only
            return
        if self._loop is not loop:  # a forked child's parent, or a test before, has its own
            self._loop, self._timer = loop, None
            self._forget()
        if self._timer is None:
            self._began = self._told_at = self._clock()
            self._timer = loop.call_later(self._every, self.sum_up)

    def sum_up(self) -> None:
        """Log how often the storage has failed since the last line; if it has not, the outage is over."""
        self._timer = None
        if self._tell_again():
            if self._loop is not None:
                self._timer = self._loop.call_later(self._every, self.sum_up)
            return
        if self._total > len(self._failures):
            lasted = self._clock() - self._began - self._every
            _logger.warning(
                "the storage has not failed for %g s: it failed %d times in %.0f s", self._every, self._total, lasted
            )
        self._forget()

    def close(self) -> None:
        """Log what was counted, because the app stops."""
        if self._timer is not None and self._loop is asyncio.get_running_loop():
            self._timer.cancel()
            self._tell_again()
        self._timer = None
        self._forget()

    def _tell_again(self) -> bool:
        """Log one line about all kinds of failures that came again; return whether there are any."""
        again = [one for one in self._failures.values() if one.again]
        if not again:
            return False
        now = self._clock()
        counts = "; ".join(f"{one.what}: {one.cause} ({one.again} times)" for one in again)
        _logger.log(
            max(one.level for one in again),
            "the storage failed %d more times in %d s: %s",
            sum(one.again for one in again),
            max(1, round(now - self._told_at)),
            counts,
        )
        self._told_at = now
        for one in again:
            one.again = 0
        return True

    def _forget(self) -> None:
        self._failures, self._total = {}, 0


def _cause_of(error: BaseException) -> object:
    """Return what is equal for two failures that have the same cause."""
    seen = [error]
    while True:
        last = seen[-1]
        inner = last.exceptions[0] if isinstance(last, BaseExceptionGroup) else last.__cause__
        if inner is None or inner in seen:
            break
        seen.append(inner)
    if isinstance(last, OSError) and last.errno is not None:  # its text may name a file or a port
        return type(last), last.errno
    return type(last), _VARIES.sub("#", str(last))[:_KEPT]
