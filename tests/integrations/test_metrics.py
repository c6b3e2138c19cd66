"""Metrics, as a scrape by Prometheus and a reader of OpenTelemetry find them after the same story."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from pytest_aiohttp.plugin import AiohttpClient

from aiohttp_session_store import Observer, SessionEvent
from aiohttp_session_store.engine.observing import OUTCOMES, REASONS
from aiohttp_session_store.engine.timed_calls import TIMED
from aiohttp_session_store.integrations.call_buckets import BUCKETS
from aiohttp_session_store.integrations.opentelemetry import OpenTelemetryObserver
from aiohttp_session_store.integrations.prometheus import PrometheusObserver
from aiohttp_session_store.testing import FailingStorage
from tests.web.observed import Recorder, observed_app, tell_story
from tests.web.visits import Client, visit, without_jar

Labels = frozenset[tuple[str, str]]


class Expected(Recorder):
    """Counts what the metrics have to count."""

    def __init__(self) -> None:
        super().__init__()
        self.event_counts: Counter[Labels] = Counter()
        self.call_counts: Counter[Labels] = Counter()
        self.seconds: Counter[Labels] = Counter()

    def on_event(self, event: SessionEvent) -> None:
        super().on_event(event)
        self.event_counts[labels(kind=event.kind, reason=event.reason or "")] += 1

    def on_call(self, verb: str, seconds: float, outcome: str) -> None:
        super().on_call(verb, seconds, outcome)
        self.call_counts[labels(verb=verb, outcome=outcome)] += 1
        self.seconds[labels(verb=verb, outcome=outcome)] += seconds  # type: ignore[assignment]


def labels(**values: str) -> Labels:
    """Return labels as both systems see them: an empty one is none."""
    return frozenset((name, value) for name, value in values.items() if value)


async def live(aiohttp_client: AiohttpClient, observer: Observer, *routes: web.RouteDef) -> tuple[Client, Expected]:
    """Serve an app with *observer* and *routes*, let everything happen to its sessions, and let the storage fail."""
    storage, expected = FailingStorage(max_sessions_per_owner=3), Expected()
    app = observed_app(storage, observer)
    app.add_routes(routes)
    client = await without_jar(aiohttp_client, app)
    with storage.observing.telling(expected):
        await tell_story(client, expected)
        with storage.failing():
            assert (await visit(client, "/?set=a")).status == 503
    assert expected.call_counts[labels(verb="insert", outcome="error")] == 1
    return client, expected


async def test_a_scrape_has_all_events_and_calls(aiohttp_client: AiohttpClient) -> None:
    registry = CollectorRegistry()

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    observer = PrometheusObserver(registry)
    client, expected = await live(aiohttp_client, observer, web.get("/metrics", metrics))

    async with client.get("/metrics") as response:
        families = list(text_string_to_metric_families(await response.text()))
    ours = [one for one in families if not one.name.endswith("_created")]  # which the client adds to each
    assert {(one.name, one.type) for one in ours} == {
        ("aiohttp_session_events", "counter"),
        ("aiohttp_session_storage_call_seconds", "histogram"),
    }
    samples: dict[str, dict[Labels, float]] = {}
    for one in (sample for family in families for sample in family.samples if "le" not in sample.labels):
        samples.setdefault(one.name, {})[labels(**one.labels)] = one.value
    told = {about: count for about, count in samples["aiohttp_session_events_total"].items() if count}
    assert told == expected.event_counts
    assert samples["aiohttp_session_storage_call_seconds_count"] == expected.call_counts
    assert samples["aiohttp_session_storage_call_seconds_sum"] == pytest.approx(expected.seconds)
    values = {value for counts in samples.values() for about in counts for _, value in about}
    assert values <= {*TIMED, *OUTCOMES, *REASONS, *(one for reasons in REASONS.values() for one in reasons)}


def test_every_event_has_a_count_from_the_start() -> None:
    """A rate over the first event of a kind is 0 if there was no value before."""
    registry = CollectorRegistry()
    PrometheusObserver(registry)

    families = text_string_to_metric_families(generate_latest(registry).decode())
    zeros = {labels(**one.labels): one.value for family in families for one in family.samples if "total" in one.name}
    known = {labels(kind=kind, reason=reason or "") for kind, reasons in REASONS.items() for reason in reasons}
    assert zeros == dict.fromkeys(known, 0.0)


def test_the_number_of_series_is_bounded() -> None:
    registry = CollectorRegistry()
    observer = PrometheusObserver(registry)
    for verb in TIMED:
        for outcome in OUTCOMES:
            observer.on_call(verb, 0.01, outcome)
    for number in range(1000):
        observer.on_event(SessionEvent("created", f"key {number}", f"owner {number}"))

    families = text_string_to_metric_families(generate_latest(registry).decode())
    series = Counter(sample.name for family in families for sample in family.samples)
    assert series["aiohttp_session_events_total"] == sum(len(reasons) for reasons in REASONS.values())
    assert series["aiohttp_session_storage_call_seconds_count"] == len(TIMED) * len(OUTCOMES)


def test_a_second_observer_for_the_same_registry_is_refused() -> None:
    registry = CollectorRegistry()
    PrometheusObserver(registry)

    with pytest.raises(ValueError, match="Duplicated"):
        PrometheusObserver(registry)


async def test_a_reader_of_opentelemetry_has_all_events_and_calls(aiohttp_client: AiohttpClient) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    observer = OpenTelemetryObserver(provider.get_meter("test"))

    _, expected = await live(aiohttp_client, observer)

    data: Any = reader.get_metrics_data()
    provider.shutdown()
    metrics: Mapping[str, Any] = {
        metric.name: metric
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert set(metrics) == {"aiohttp_session.events", "aiohttp_session.storage.call.duration"}
    events, calls = metrics["aiohttp_session.events"], metrics["aiohttp_session.storage.call.duration"]
    assert (events.unit, calls.unit) == ("{event}", "s")
    assert {labels(**one.attributes): one.value for one in events.data.data_points} == expected.event_counts
    assert {labels(**one.attributes): one.count for one in calls.data.data_points} == expected.call_counts
    sums = {labels(**one.attributes): one.sum for one in calls.data.data_points}
    assert sums == pytest.approx(expected.seconds)
    assert all(tuple(one.explicit_bounds) == BUCKETS for one in calls.data.data_points)


def test_without_a_meter_it_is_the_global_one_and_without_an_sdk_it_does_nothing() -> None:
    observer = OpenTelemetryObserver()

    observer.on_event(SessionEvent("created", "key"))
    observer.on_call("fetch", 0.1, "ok")
