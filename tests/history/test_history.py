"""What visitors of real processes see keeps the promises; ``python -m tests.history`` runs for as long as one likes."""

import secrets
from pathlib import Path

import pytest

from tests.history.history import Call, History
from tests.history.judge import judge
from tests.history.running import STORAGES, Settings, run
from tests.history.shrink import describe, shrink


def check(settings: Settings, keep: Path) -> History:
    """Run, judge, and show the few calls that matter if a promise was broken."""
    history, _ = run(settings)
    verdicts = judge(history)
    if verdicts:
        history.save(keep)
        pytest.fail(f"{settings}; the history is in {keep}\n{describe(verdicts[0], shrink(history, verdicts[0]))}")
    return history


@pytest.mark.parametrize("storage", ["memory", "files"])
def test_a_short_run_keeps_the_promises(storage: str, tmp_path: Path) -> None:
    history = check(Settings(storage, 3, secrets.randbelow(1_000_000)), tmp_path / "history.jsonl")
    answered = sum(call.succeeded for call in history.calls)
    assert answered > len(history.calls) / 2


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("storage", STORAGES)
def test_a_run_with_chaos_keeps_the_promises(storage: str, tmp_path: Path) -> None:
    """Five minutes in all."""
    history = check(Settings(storage, 75, secrets.randbelow(1_000_000), chaos=True), tmp_path / "history.jsonl")
    assert history.calls


def test_a_history_is_the_same_after_it_was_written_to_a_file(tmp_path: Path) -> None:
    history = History(
        [Call(0, steps=[["set", "a", "t1"]], sent=1.0, answered=2.0)], [("kill", 1.0, 2.0)], [(1.0, 70.0)]
    )
    history.save(tmp_path / "kept")
    assert History.load(tmp_path / "kept") == history
