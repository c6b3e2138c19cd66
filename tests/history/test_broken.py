"""The judge catches every storage and engine of ``broken.py``, and says which promise it broke."""

import time

import pytest

from tests.history.broken import BROKEN, SlowStorage, UnreliableStorage
from tests.history.judge import judge
from tests.history.running import Settings, run
from tests.history.shrink import describe, shrink

# On a machine that does nothing else each is caught within a minute; other tests may run at the same time.
WITHIN = 150.0
SLICE = 6.0
# Few enough to be read at a glance: who created the session, changed its id, wrote, ended and read it.
MOST_CALLS = 12


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("broken", BROKEN)
def test_what_is_broken_is_caught_and_shrunk_to_a_few_calls(broken: type[SlowStorage]) -> None:
    begun, seed = time.monotonic(), 1
    while time.monotonic() - begun < WITHIN:
        history, _ = run(Settings("memory", SLICE, seed, broken=broken.__name__, visitors=6))
        found = [verdict for verdict in judge(history) if verdict.rule in BROKEN[broken]]
        if found:
            few = shrink(history, found[0])
            assert len(few.calls) <= MOST_CALLS, describe(found[0], few)
            return
        seed += 1
    pytest.fail(f"{broken.__name__} was not caught")


@pytest.mark.parametrize("kind", [SlowStorage, UnreliableStorage])
def test_a_storage_that_is_not_broken_is_accepted(kind: type[SlowStorage]) -> None:
    """One that is slow, and one whose calls fail, lose their answers and arrive late."""
    history, _ = run(Settings("memory", 3, 1, broken=kind.__name__))
    verdicts = judge(history)
    assert not verdicts, describe(verdicts[0], shrink(history, verdicts[0]))
    assert len(history.calls) > 100
