"""Metrics for Prometheus, by the package ``prometheus_client``.

::

    setup(app, storage, observer=PrometheusObserver())
"""

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram

from ..engine.observing import REASONS, Observer, Outcome, SessionEvent
from .call_buckets import BUCKETS

__all__ = ["PrometheusObserver"]


class PrometheusObserver(Observer):
    """Counts events and measures calls.

    No label has an id, a key or an owner, and each has few values.  The metrics are:

    - ``aiohttp_session_events_total`` with the labels ``kind`` and ``reason``, which is empty where there is none;
    - ``aiohttp_session_storage_call_seconds``, a histogram with the labels ``verb`` and ``outcome``.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        """Register the metrics.

        Args:
            registry: Where to register them.  One observer serves all apps of a process: a second one for the same
                registry is refused.

        Raises:
            ValueError: The registry has these metrics already.
        """
        self._events = Counter(
            "aiohttp_session_events", "Events in the life of sessions.", ["kind", "reason"], registry=registry
        )
        self._calls = Histogram(
            "aiohttp_session_storage_call_seconds",
            "How long calls to the session storage take.",
            ["verb", "outcome"],
            registry=registry,
            buckets=BUCKETS,
        )
        for kind, reasons in REASONS.items():  # or an alert would miss the first one: a rate needs a value from before
            for reason in reasons:
                self._events.labels(kind, reason or "")

    def on_event(self, event: SessionEvent) -> None:
        """See :meth:`Observer.on_event`."""
        self._events.labels(event.kind, event.reason or "").inc()

    def on_call(self, verb: str, seconds: float, outcome: Outcome) -> None:
        """See :meth:`Observer.on_call`."""
        self._calls.labels(verb, outcome).observe(seconds)
