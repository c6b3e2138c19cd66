"""Metrics for OpenTelemetry, by the package ``opentelemetry-api``.

::

    setup(app, storage, observer=OpenTelemetryObserver())
"""

from opentelemetry.metrics import Meter, get_meter

from ..engine.observing import Observer, Outcome, SessionEvent
from .call_buckets import BUCKETS

__all__ = ["OpenTelemetryObserver"]


class OpenTelemetryObserver(Observer):
    """Counts events and measures calls.

    No attribute has an id, a key or an owner, and each has few values.  The instruments are:

    - ``aiohttp_session.events``, a counter with the attributes ``kind``, and ``reason`` where there is one;
    - ``aiohttp_session.storage.call.duration``, a histogram in seconds with the attributes ``verb`` and ``outcome``.
    """

    def __init__(self, meter: Meter | None = None) -> None:
        """Create the instruments.

        Args:
            meter: Makes them.  None for the one of the global meter provider that is named after this package.
        """
        if meter is None:
            meter = get_meter("aiohttp_session_store")
        self._events = meter.create_counter(
            "aiohttp_session.events", unit="{event}", description="Events in the life of sessions."
        )
        self._calls = meter.create_histogram(
            "aiohttp_session.storage.call.duration",
            unit="s",
            description="How long calls to the session storage take.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )

    def on_event(self, event: SessionEvent) -> None:
        """See :meth:`Observer.on_event`."""
        attributes = {"kind": event.kind} if event.reason is None else {"kind": event.kind, "reason": event.reason}
        self._events.add(1, attributes)

    def on_call(self, verb: str, seconds: float, outcome: Outcome) -> None:
        """See :meth:`Observer.on_call`."""
        self._calls.record(seconds, {"verb": verb, "outcome": outcome})
