"""The two limits of a session: it ends by the limits it was stored under and by those in force now."""

import sys
from datetime import timedelta
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiohttp_session_store import ConfigurationError
from aiohttp_session_store.record.format import Record
from aiohttp_session_store.record.timeouts import Timeouts, last_use, seconds

IDLE, LIFETIME = 1000, 5000
LIMITS = Timeouts(IDLE, LIFETIME)


def written(at: int, *, created_at: int = 0, idle: int | None = IDLE) -> Record:
    return Record(created_at, at, idle, {})


# --- settings


@pytest.mark.parametrize(
    ("given", "whole"),
    [(1, 1), (60.9, 60), (timedelta(minutes=2), 120), (timedelta(seconds=1.5), 1), (timedelta.max, 86400000000000)],
)
def test_a_time_is_seconds_or_a_timedelta(given: Any, whole: int) -> None:
    assert seconds("idle_timeout", given) == whole


@pytest.mark.parametrize(
    "given",
    [
        0,
        -1,
        0.9,
        timedelta(0),
        timedelta(seconds=-5),
        timedelta(milliseconds=999),
        float("nan"),
        float("inf"),
        float("-inf"),
        True,
        False,
        "60",
        b"60",
        [60],
        sys.maxsize,
        10**400,
        1e15,
    ],
    ids=lambda value: repr(value)[:30],
)
def test_an_invalid_time_is_refused_with_the_name_of_the_setting(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="idle_timeout is a number of seconds or a timedelta"):
        Timeouts.build(given, 60)


@pytest.mark.parametrize("given", [0, True, float("nan")])
def test_an_invalid_lifetime_is_refused_with_its_name(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="lifetime is a number"):
        Timeouts.build(60, given)


def test_settings_without_any_limit_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="such a session would never end"):
        Timeouts.build(None, None)


# --- when a session ends


@pytest.mark.parametrize(
    ("timeouts", "now", "ends"),
    [
        (Timeouts(IDLE, LIFETIME), 100, 1100),
        (Timeouts(IDLE, LIFETIME), 4000, 5000),
        (Timeouts(IDLE, LIFETIME), 4500, 5000),
        (Timeouts(IDLE, None), 9000, 10000),
        (Timeouts(None, LIFETIME), 100, 5000),
        (Timeouts(None, LIFETIME), 4999, 5000),
    ],
)
def test_a_used_session_ends_with_the_earlier_of_its_limits(timeouts: Timeouts, now: int, ends: int) -> None:
    assert timeouts.expiry(now, 0) == ends


def test_a_lowered_lifetime_applies_to_old_sessions() -> None:
    assert Timeouts(IDLE, 300).limits(written(100), 1100)[0] == 300


def test_a_raised_lifetime_does_not_revive_old_sessions() -> None:
    assert Timeouts(IDLE, 99999).limits(written(4500), 5000)[0] == 5000


def test_a_lowered_idle_timeout_applies_to_old_sessions() -> None:
    assert Timeouts(50, LIFETIME).limits(written(100), 1100)[0] == 150


def test_a_lowered_idle_timeout_counts_from_the_last_touch() -> None:
    assert Timeouts(50, LIFETIME).limits(written(100), 1700)[0] == 750


def test_a_raised_idle_timeout_does_not_revive_old_sessions() -> None:
    assert Timeouts(9999, LIFETIME).limits(written(100), 1100)[0] == 1100


def test_a_newly_set_idle_timeout_counts_from_the_last_write() -> None:
    assert Timeouts(IDLE, LIFETIME).limits(written(100, idle=None), LIFETIME)[0] == 1100


def test_removing_the_idle_timeout_leaves_the_stored_expiry() -> None:
    assert Timeouts(None, LIFETIME).limits(written(100), 1100)[0] == 1100


def test_a_newly_set_lifetime_counts_from_the_creation() -> None:
    assert Timeouts(IDLE, 300).limits(written(9000, created_at=100), 10000)[0] == 400


# --- extending


@pytest.mark.parametrize(("now", "due"), [(0, False), (99, False), (100, True), (999, True)])
def test_a_touch_is_due_after_a_tenth_of_the_idle_timeout(now: int, due: bool) -> None:
    assert LIMITS.touch_due(written(0), IDLE, now) is due


def test_a_touch_counts_as_the_last_use() -> None:
    assert last_use(written(0), 1500) == 500
    assert not LIMITS.touch_due(written(0), 1500, 599)
    assert LIMITS.touch_due(written(0), 1500, 600)


def test_no_touch_is_due_once_the_lifetime_ends_the_session_first() -> None:
    assert not LIMITS.touch_due(written(4000), LIFETIME, 4900)


def test_no_touch_is_due_without_an_idle_timeout() -> None:
    assert not Timeouts(None, LIFETIME).touch_due(written(0, idle=None), LIFETIME, 4900)


def test_a_record_written_under_another_idle_timeout_is_due_for_renewal_at_once() -> None:
    assert Timeouts(IDLE, LIFETIME).limits(written(100, idle=IDLE + 1), 1100)[1] == 0
    assert Timeouts(IDLE, LIFETIME).renewal_due(written(100, idle=IDLE + 1), 1100, 101)


def test_using_a_session_without_an_idle_timeout_never_extends_it() -> None:
    assert Timeouts(None, LIFETIME).limits(written(0, idle=None), LIFETIME)[1] == inf


@pytest.mark.parametrize(
    ("idle", "outdated"), [(IDLE, False), (IDLE + 1, True), (None, True)], ids=["same", "other", "none"]
)
def test_a_record_written_under_another_idle_timeout_is_outdated(idle: int | None, outdated: bool) -> None:
    assert Timeouts(idle, LIFETIME).outdated(written(0)) is outdated


spans = st.integers(1, 10_000)
limits = st.builds(Timeouts, idle=spans | st.none(), lifetime=spans | st.none()).filter(
    lambda timeouts: timeouts.idle is not None or timeouts.lifetime is not None
)


@given(limits, limits, st.integers(0, 5000), st.integers(0, 5000))
def test_no_session_outlives_the_limits_in_force_nor_those_it_was_stored_under(
    before: Timeouts, now: Timeouts, created_at: int, used_after: int
) -> None:
    used_at = created_at + used_after
    stored_expiry = before.expiry(used_at, created_at)
    ends, _ = now.limits(Record(created_at, used_at, before.idle, {}), stored_expiry)

    assert ends <= stored_expiry
    for timeouts in (before, now):
        assert timeouts.lifetime is None or ends <= created_at + timeouts.lifetime
        assert timeouts.idle is None or ends <= used_at + timeouts.idle


@given(limits, limits, st.integers(0, 5000), st.integers(0, 5000), st.integers(0, 9000))
def test_no_renewal_is_due_before_its_time(
    before: Timeouts, now: Timeouts, created_at: int, used_after: int, later: int
) -> None:
    used_at = created_at + used_after
    record, stored_expiry = Record(created_at, used_at, before.idle, {}), before.expiry(used_at, created_at)
    at = used_at + later

    assert at >= now.limits(record, stored_expiry)[1] or not now.renewal_due(record, stored_expiry, at)
