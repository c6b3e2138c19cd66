"""Settings of storages that are of the wrong type are refused when the storage is made, in a sentence."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiohttp_session_store import ConfigurationError, CookieStorage, FileSystemStorage, MemoryStorage
from aiohttp_session_store.migrate import MigratingStorage
from aiohttp_session_store.storages.postgres import PostgresStorage
from aiohttp_session_store.storages.redis import RedisStorage

Make = Callable[..., object]


def files(directory: Path) -> Make:
    return lambda **settings: FileSystemStorage(directory / "sessions", **settings)


def redis(**settings: Any) -> RedisStorage:
    return RedisStorage.from_url("redis://127.0.0.1:1/0", **settings)


def postgres(**settings: Any) -> PostgresStorage:
    return PostgresStorage.from_dsn("postgresql://127.0.0.1:1/app", **settings)


def moving(**settings: Any) -> MigratingStorage:
    return MigratingStorage(MemoryStorage(), MemoryStorage(), **settings)


@pytest.mark.parametrize("value", ["false", "yes", 0, 1, None])
def test_a_flag_that_is_no_bool_is_refused(tmp_path: Path, value: Any) -> None:
    for make, name in [(files(tmp_path), "durable"), (postgres, "prepared_statements"), (moving, "moving")]:
        with pytest.raises(ConfigurationError, match=f"{name} must be True or False"):
            make(**{name: value})


@pytest.mark.parametrize("value", ["5", True, 1.5, float("nan"), -1, None])
def test_a_count_that_is_no_whole_number_is_refused(tmp_path: Path, value: Any) -> None:
    counts: list[tuple[Make, str]] = [
        (MemoryStorage, "max_sessions"),
        (MemoryStorage, "max_session_size"),
        (files(tmp_path), "cache_size"),
        (postgres, "pool_size"),
    ]
    for make, name in counts:
        with pytest.raises(ConfigurationError, match=f"{name} must be a whole number"):
            make(**{name: value})


@pytest.mark.parametrize("value", ["5", True, float("nan"), float("inf"), -1, 0, dt.timedelta(-1)])
def test_a_span_that_is_no_number_of_seconds_is_refused(value: Any) -> None:
    spans: list[tuple[Make, str]] = [
        *((make, name) for make in (MemoryStorage, CookieStorage) for name in ("idle_timeout", "lifetime")),
        (MemoryStorage, "rotation_grace"),
        (MemoryStorage, "anonymous_idle_timeout"),
        (MemoryStorage, "sweep_interval"),
        *((make, name) for make in (redis, postgres) for name in ("timeout", "lock_lease")),
    ]
    for make, name in spans:
        with pytest.raises(ConfigurationError, match=f"{name} (is|must be) a number of seconds"):
            make(**{name: value})


def test_a_rotation_grace_of_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="rotation_grace is a number of seconds"):
        MemoryStorage(rotation_grace=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [None, 5, "time.time"])
def test_a_clock_that_is_no_function_is_refused(tmp_path: Path, value: Any) -> None:
    for make in (MemoryStorage, CookieStorage, files(tmp_path), redis, postgres):
        with pytest.raises(ConfigurationError, match=r"clock must be a function .* such as time\.time"):
            make(clock=value)
