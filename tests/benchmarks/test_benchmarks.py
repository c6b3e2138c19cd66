"""The benchmarks still run; the numbers here are too small to mean anything."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def run(tmp_path: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    """Run one benchmark; return its figures and what it printed."""
    results = tmp_path / "figures.json"
    command = [sys.executable, "-m", *arguments, "--directory", str(tmp_path), "--json", str(results)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)
    assert finished.returncode == 0, finished.stderr
    return json.loads(results.read_text()), finished.stdout


@pytest.mark.long
def test_http_measures_what_sessions_add_to_a_request(tmp_path: Path) -> None:
    document, printed = run(tmp_path, "benchmarks.http", "memory, orjson", "--rounds", "1", "--sessions", "3")

    assert set(document["figures"]) == {"memory, orjson"}
    assert all(len(rounds) == 1 for paths in document["figures"].values() for rounds in paths.values())
    assert "| memory, orjson" in printed


def test_http_refuses_an_unknown_case(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="no such case: memory, nojson"):
        run(tmp_path, "benchmarks.http", "memory, nojson")


def test_storage_measures_every_step_and_counts_calls_in_threads(tmp_path: Path) -> None:
    document, printed = run(
        tmp_path, "benchmarks.storage", "memory", "files", "--rounds", "1", "--operations", "32", "--sessions", "32"
    )

    hops = {(row["case"], row["step"], row["way"]): row["hops"] for row in document["figures"]}
    assert hops["memory", "cycle", "one at a time"] == 0
    assert hops["files", "save", "one at a time"] == 1
    assert "| files" in printed


@pytest.mark.long
def test_scale_measures_several_numbers_of_sessions(tmp_path: Path) -> None:
    small = ("--sessions", "200", "--files", "200", "--smallest", "20")
    document, printed = run(tmp_path, "benchmarks.scale", *small, "--repeats", "1", "--rounds", "1", "--cycles", "50")

    assert set(document["cycles"]) == {"memory", "files", "files, no cache"}
    assert set(document["cycles"]["memory"]) == {"20", "200"}
    assert "a plain dict" in printed


def test_changes_inside_values_are_measured(tmp_path: Path) -> None:
    document, printed = run(tmp_path, "benchmarks.inside", "--rounds", "1", "--operations", "20")

    assert set(document["ratios"]) >= {"set a key", "increment"}
    assert "| dicts with an id" in printed


def test_owners_are_measured_among_few_and_among_many_sessions(tmp_path: Path) -> None:
    small = ("--memory", "200", "--files", "200", "--redis", "200", "--postgres", "200", "--smallest", "20")
    document, printed = run(tmp_path, "benchmarks.owners", *small, "--rounds", "2", "--owners", "2")

    assert set(document["figures"]) == {"memory", "files", "redis", "postgres"}
    assert set(document["figures"]["memory"]["end"]) == {"20", "200"}
    assert "`sessions_of`" in printed


def test_redis_calls_compares_our_calls_with_those_of_the_driver() -> None:
    command = [sys.executable, "-m", "benchmarks.redis_calls", "--rounds", "1", "--commands", "32"]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)

    assert finished.returncode == 0, finished.stderr
    assert "| redis-py, with a time limit |" in finished.stdout
    assert "| ours " in finished.stdout


def test_postgres_statements_compares_our_statements_with_those_of_the_driver() -> None:
    command = [sys.executable, "-m", "benchmarks.postgres_statements", "--rounds", "1", "--statements", "32"]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)

    assert finished.returncode == 0, finished.stderr
    for verb in ("fetch", "replace"):
        assert f"| {verb}, asyncpg with a time limit " in finished.stdout
        assert f"| {verb}, ours " in finished.stdout


def test_logout_compares_endings_with_a_save(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.logout", str(tmp_path), "--rounds", "1"]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)

    assert finished.returncode == 0, finished.stderr
    assert "| retire (a logout)" in finished.stdout
    assert list(tmp_path.iterdir()) == []


def test_tables_replace_only_the_text_between_their_markers() -> None:
    from benchmarks.tables import put

    text = "before\n<!-- figures: http -->\nold\n<!-- end of figures -->\nafter\n"
    assert put(text, "http", "new") == "before\n<!-- figures: http -->\n\nnew\n\n<!-- end of figures -->\nafter\n"
    with pytest.raises(ValueError, match="figures: scale"):
        put(text, "scale", "new")
