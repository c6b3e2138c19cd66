"""Telling observers what happens to sessions, and how long the calls to the storage take.

An event is told where its fact is made, after the storage has answered.  So nothing is told of what a failed request
had asked for, and each fact is told once, by the process that made it.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from ..record.encryption import UnopenedRecordError
from ..record.format import (
    ENDED,
    IDLE,
    LIFETIME,
    LOGIN,
    LOGOUT,
    RENEWED,
    REPLACED,
    REVOKED,
    TOO_MANY,
    NewerRecordError,
)
from ..record.head import Head
from ..tracebacks import hide_locals

__all__ = [
    "OUTCOMES",
    "REASONS",
    "EventKind",
    "Observer",
    "Observing",
    "Outcome",
    "SessionEvent",
    "observing_of",
    "why_unreadable",
]

_logger = logging.getLogger("aiohttp_session_store")

EventKind = Literal["created", "logged_in", "rotated", "ended", "refused", "merged"]
Outcome = Literal["ok", "missing", "conflict", "error", "unknown", "cancelled"]

ADOPTED = "adopted"
CONFIRMED = "confirmed"
COOKIE_SIGNATURE, COOKIE_CONTENT = "cookie_signature", "cookie_content"
RECORD_MISSING, RECORD_ENDED, RECORD_EXPIRED = "record_missing", "record_ended", "record_expired"
RECORD_DAMAGED, RECORD_NEWER = "record_damaged", "record_newer"
RECORD_KEY, RECORD_PLAIN = "record_key", "record_plain"
DEVICE = "device"

#: The reasons of each kind of event.  There are no others, so they may be labels of a metric.
REASONS: Mapping[EventKind, tuple[str | None, ...]] = {
    "created": (None, ADOPTED),
    "logged_in": (None,),
    "rotated": (RENEWED, REPLACED, LOGIN, CONFIRMED),
    "ended": (LOGOUT, REVOKED, TOO_MANY, REPLACED, IDLE, LIFETIME, ENDED),
    "refused": (
        COOKIE_SIGNATURE,
        COOKIE_CONTENT,
        RECORD_MISSING,
        RECORD_ENDED,
        RECORD_EXPIRED,
        RECORD_DAMAGED,
        RECORD_NEWER,
        RECORD_KEY,
        RECORD_PLAIN,
        DEVICE,
    ),
    "merged": (None,),
}
OUTCOMES: tuple[Outcome, ...] = ("ok", "missing", "conflict", "error", "unknown", "cancelled")

# Ends that are remembered as told. Whoever comes across the same one again does so soon.
_ENDS_KEPT = 4096


@dataclass(frozen=True, slots=True)
class SessionEvent:
    """Something that has happened to a session.

    Attributes:
        kind: ``"created"``: it was stored for the first time.  ``"logged_in"``: ``login()`` was stored.  ``"rotated"``:
            it has got another id.  ``"ended"``: nothing can use it any more.  ``"refused"``: a cookie came that leads
            to no session.  ``"merged"``: a change met one of another request, and both are stored.
        key: The key of the session, as in the log; that of the new id if it was rotated.  None if it is not known, as
            for a cookie with a wrong signature.
        owner: The account that it belongs to, or None if nobody is logged in or it is not known.
        reason: Why, or None.  The page *Metrics and events* lists the reasons of each kind.
    """

    kind: EventKind
    key: str | None
    owner: str | None = None
    reason: str | None = None


class Observer:
    """Hears what happens to sessions; see ``setup(observer=...)``.  Override one of the methods or both.

    They are plain functions, called on the event loop, and a slow one holds up all requests.  An error in them is
    logged once, and never fails a request.
    """

    def on_event(self, event: SessionEvent) -> None:
        """Hear of an event, after it has been stored.

        Args:
            event: What has happened.
        """

    def on_call(self, verb: str, seconds: float, outcome: Outcome) -> None:
        """Hear of a call to the storage, when it has ended.

        Args:
            verb: The method of :class:`KeyedStorage` that was called, such as ``"fetch"``; for ``"lock"``, until the
                lock was held.
            seconds: How long it took.
            outcome: ``"ok"``; ``"missing"``: there was no record; ``"conflict"``: the record exists already, or was
                changed meanwhile; ``"error"``: the storage failed; ``"unknown"``: it failed, and the write may have
                been carried out; ``"cancelled"``: nobody waits for the answer any more.
        """


class Observing:
    """The observers of one storage, each told once however many apps have given it.

    Attributes:
        observers: Who is told.
    """

    def __init__(self, time_calls: Callable[[], Callable[[], None]] | None = None) -> None:
        """Begin without observers.

        Args:
            time_calls: Starts to time the calls to the storage, and returns what stops it; None if it has no calls.
        """
        self.observers: tuple[Observer, ...] = ()
        self._given: list[Observer] = []
        self._time_calls = time_calls
        self._stop_timing: Callable[[], None] | None = None
        self._failed: list[Observer] = []
        self._ends: OrderedDict[str, None] = OrderedDict()

    @contextmanager
    def telling(self, observer: Observer) -> Iterator[None]:
        """Tell *observer* what happens, for the length of a ``with`` block."""
        self._given.append(observer)
        self._changed()
        try:
            yield
        finally:
            del self._given[next(at for at, one in enumerate(self._given) if one is observer)]
            self._changed()

    def _changed(self) -> None:
        self.observers = tuple({id(one): one for one in self._given}.values())
        if self.observers and self._stop_timing is None and self._time_calls is not None:
            self._stop_timing = self._time_calls()
        elif not self.observers and self._stop_timing is not None:
            self._stop_timing()
            self._stop_timing = None

    @contextmanager
    def muted(self) -> Iterator[None]:
        """Tell nobody of what is only tried out, for the length of a ``with`` block that awaits nothing."""
        observers, self.observers = self.observers, ()
        try:
            yield
        finally:
            self.observers = observers

    def tell(self, kind: EventKind, key: str | None, owner: str | None = None, reason: str | None = None) -> None:
        """Tell of an event; the arguments are those of :class:`SessionEvent`."""
        if self.observers:
            event = SessionEvent(kind, key, owner, reason)
            for observer in self.observers:
                self._guarded(observer, observer.on_event, event)

    def tell_end(self, key: str, head: Head | None, reason: str) -> None:
        """Tell of the end of a session, unless this process has told it already.

        Many may come across an end that nobody made, by time for example.  And while a session is getting another id,
        it may stand at two keys, and two requests may end it at one each.

        Args:
            key: Where it stood.
            head: Whose it was, or None.
            reason: One of the reasons for this kind of event.
        """
        about = key if head is None else head.line
        if not self.observers or about in self._ends:
            return
        self._ends[about] = None
        if len(self._ends) > _ENDS_KEPT:
            self._ends.popitem(last=False)
        self.tell("ended", key, None if head is None else head.owner, reason)

    def tell_call(self, verb: str, seconds: float, outcome: Outcome) -> None:
        """Tell of a call to the storage; see :meth:`Observer.on_call`."""
        for observer in self.observers:
            self._guarded(observer, observer.on_call, verb, seconds, outcome)

    def _guarded(self, observer: Observer, hook: Callable[..., None], *args: object) -> None:
        try:
            hook(*args)
        except (KeyboardInterrupt, SystemExit):  # the process is to end
            raise
        except BaseException as error:
            # A CancelledError as well: it is the observer's own, because nothing is awaited here.
            if not any(one is observer for one in self._failed):
                self._failed.append(observer)
                hide_locals(error)
                _logger.exception(
                    "the observer %s failed. Sessions go on; further errors of it are not logged",
                    type(observer).__name__,
                )


def observing_of(storage: object) -> Observing:
    """Return the observers of *storage*, or nobody's if it shares no base of ours and tells nothing."""
    found = getattr(storage, "observing", None)
    return found if isinstance(found, Observing) else Observing()


def why_unreadable(error: NewerRecordError) -> str:
    """Return the reason for an event about a record that is left in place."""
    if isinstance(error, UnopenedRecordError):
        return RECORD_PLAIN if error.is_plain else RECORD_KEY
    return RECORD_NEWER
