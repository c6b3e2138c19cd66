"""The page about metrics and events names what there is, and the alert rules ask for nothing else."""

import re
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from aiohttp_session_store import SessionEvent
from aiohttp_session_store.engine.observing import OUTCOMES, REASONS
from aiohttp_session_store.engine.timed_calls import TIMED
from aiohttp_session_store.integrations.prometheus import PrometheusObserver
from tests.docs.blocks import ROOT, block

PAGE = "docs/observing.md"


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table whose first heading is *heading*."""
    text = (ROOT / PAGE).read_text()
    table = re.search(rf"^\| {heading} \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert table is not None, heading
    return [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table[1].splitlines()]


def names(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`(?!\()", cell)


@pytest.fixture
def exported() -> dict[str, dict[str, set[str]]]:
    """Return the metrics of an app in which everything has happened, with the values of their labels."""
    registry = CollectorRegistry()
    observer = PrometheusObserver(registry)
    for kind, reasons in REASONS.items():
        for reason in reasons:
            observer.on_event(SessionEvent(kind, "key", None, reason))
    for verb in TIMED:
        for outcome in OUTCOMES:
            observer.on_call(verb, 0.1, outcome)
    found: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for name, value in sample.labels.items():
                labels.setdefault(name, set()).add(value)
    return found


def test_the_table_of_events_has_every_kind_and_reason_and_no_other() -> None:
    told: dict[str, set[str]] = {}
    for kind, _, reasons in rows("kind"):
        told[kind.strip("`")] = set(re.findall(r"(?:^|; )`(\w+)`", reasons))
    told["refused"] = {row[0].strip("`") for row in rows("reason")}

    assert told == {kind: {one for one in reasons if one} for kind, reasons in REASONS.items()}


def test_the_tables_of_calls_have_every_verb_and_outcome_and_no_other() -> None:
    assert sorted(verb for row in rows("verb") for verb in names(row[0])) == sorted(TIMED)
    assert [row[0].strip("`") for row in rows("outcome")] == list(OUTCOMES)


def test_the_table_of_metrics_names_them_and_their_labels(exported: dict[str, dict[str, set[str]]]) -> None:
    counter, histogram = rows("metric")

    assert names(counter[0])[0] in exported
    assert names(counter[2]) == sorted(exported["aiohttp_session_events_total"])
    assert names(histogram[0])[0] + "_count" in exported
    assert set(names(histogram[2])) == set(exported["aiohttp_session_storage_call_seconds_count"])


def test_the_alert_rules_ask_for_metrics_labels_and_values_that_there_are(
    exported: dict[str, dict[str, set[str]]],
) -> None:
    rules: list[dict[str, Any]] = yaml.safe_load(block(PAGE, "yaml", "groups:"))["groups"][0]["rules"]
    asked = 0
    for rule in rules:
        assert {"alert", "expr", "for", "labels", "annotations"} == set(rule)
        assert rule["expr"].count("(") == rule["expr"].count(")")
        selectors = re.findall(r"(aiohttp_session_\w+)(?:\{([^}]*)\})?\[5m\]", rule["expr"])
        assert rule["expr"].count("aiohttp_session_") == len(selectors) > 0
        for metric, matchers in selectors:
            assert metric in exported, metric
            parts = [part.strip() for part in matchers.split(",") if part.strip()]
            for part in parts:
                matcher = re.fullmatch(r'(\w+)=~?"([\w|]+)"', part)
                assert matcher is not None, part
                asked += 1
                assert set(matcher[2].split("|")) <= exported[metric][matcher[1]], part
        for grouped in re.findall(r"by \((\w+)\)", rule["expr"]):
            assert grouped in exported["aiohttp_session_events_total"]

    assert [rule["alert"] for rule in rules] == ["SessionStorageFails", "SessionCookiesRefused", "SessionConflicts"]
    assert asked == 6


def test_the_lines_of_the_log_on_the_page_are_those_that_are_written() -> None:
    """They are looked for by operators."""
    code = (ROOT / "aiohttp_session_store/engine/outage_log.py").read_text()
    counted = block(PAGE, "text", "more times")

    assert "the storage failed %d more times in %d s: %s" in code
    assert counted.startswith("the storage failed 4711 more times in 10 s: sessions are unavailable: ")
