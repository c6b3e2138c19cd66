"""A storage that fails writes one line at once and one line every ten seconds, however many requests it fails."""

import asyncio
import logging

import pytest

from aiohttp_session_store import StorageError
from aiohttp_session_store.engine.outage_log import EVERY, OutageLog

AWAY = "sessions are unavailable"


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(clock: Clock) -> OutageLog:
    return OutageLog(clock=clock)


def failed(text: str, cause: BaseException | None = None) -> StorageError:
    error = StorageError(text)
    error.__cause__ = cause
    return error


def refused(port: int = 6379) -> StorageError:
    return failed("Redis failed", ConnectionError(f"Error 111 connecting to 127.0.0.1:{port}"))


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    said = [line for record in caplog.records for line in caplog.handler.format(record).splitlines()]
    messages = [record.getMessage() for record in caplog.records]
    assert len(said) == len(messages), "a line of the log has no traceback"
    caplog.clear()
    return messages


async def test_a_thousand_failures_are_one_line_at_once_and_one_line_in_ten_seconds(
    log: OutageLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(1000):
        log.note(logging.ERROR, refused(), AWAY)

    cause = "Redis failed (ConnectionError: Error 111 connecting to 127.0.0.1:6379)"
    assert lines(caplog) == [f"{AWAY}: {cause}"]

    clock.seconds += 10
    log.sum_up()

    assert lines(caplog) == [f"the storage failed 999 more times in 10 s: {AWAY}: {cause} (999 times)"]
    log.close()


async def test_the_line_is_written_ten_seconds_after_the_first_failure_and_again_while_it_goes_on(
    log: OutageLog, caplog: pytest.LogCaptureFixture
) -> None:
    loop = asyncio.get_running_loop()
    log.note(logging.ERROR, refused(), AWAY)
    first = log._timer
    assert first is not None
    assert EVERY == 10
    assert 9 < first.when() - loop.time() <= 10

    log.note(logging.ERROR, refused(), AWAY)
    assert log._timer is first, "further failures do not put the line off"
    log.sum_up()

    assert log._timer is not None
    log.close()


async def test_the_timer_writes_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    log = OutageLog(every=0.01)
    for _ in range(3):
        log.note(logging.ERROR, refused(), AWAY)
    while log._timer is not None:
        await asyncio.sleep(0.01)

    _, counted, over = lines(caplog)
    assert counted.startswith("the storage failed 2 more times in 1 s: ")
    assert over.startswith("the storage has not failed for 0.01 s: it failed 3 times in ")


async def test_a_different_cause_is_told_at_once(log: OutageLog, caplog: pytest.LogCaptureFixture) -> None:
    log.note(logging.ERROR, refused(), AWAY)
    log.note(logging.ERROR, failed("Redis failed", TimeoutError("no answer in 5 s")), AWAY)
    log.note(logging.ERROR, failed("Redis failed", OSError(28, "No space left on device")), AWAY)
    log.note(logging.ERROR, failed("Redis failed", OSError(5, "Input/output error")), AWAY)
    log.note(logging.ERROR, failed("Redis failed", ConnectionError("Error 113 connecting to 127.0.0.1:6379")), AWAY)

    assert len(lines(caplog)) == 5
    log.close()


async def test_what_was_prevented_is_told_at_once_too(log: OutageLog, caplog: pytest.LogCaptureFixture) -> None:
    log.note(logging.ERROR, refused(), AWAY)
    log.note(logging.ERROR, refused(), "a session could not be deleted")

    assert [line.partition(":")[0] for line in lines(caplog)] == [AWAY, "a session could not be deleted"]
    log.close()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (refused(6379), refused(50001)),
        (failed(f"session {'0a' * 32} kept changing for 5 s"), failed(f"session {'b7' * 32} kept changing for 5 s")),
        (failed("x", OSError(28, "full", "/var/sessions/ab")), failed("x", OSError(28, "full", "/var/sessions/cd"))),
        (failed("x", ValueError("<object at 0x7f02>")), failed("x", ValueError("<object at 0x7fa9>"))),
        (failed("x", ExceptionGroup("g", [refused()])), failed("x", ExceptionGroup("h", [refused()]))),
    ],
    ids=["port", "session", "file", "address", "group"],
)
async def test_what_differs_from_request_to_request_makes_no_other_cause(
    log: OutageLog, caplog: pytest.LogCaptureFixture, one: StorageError, other: StorageError
) -> None:
    log.note(logging.ERROR, one, AWAY)
    log.note(logging.ERROR, other, AWAY)

    assert len(lines(caplog)) == 1
    log.close()


async def test_causes_that_differ_without_end_do_not_flood_the_log_either(
    log: OutageLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(500):
        log.note(logging.ERROR, failed(f"cause {chr(0x4E00 + number)}"), AWAY)

    assert len(lines(caplog)) == 16
    clock.seconds += 10
    log.sum_up()
    assert lines(caplog) == [
        "the storage failed 484 more times in 10 s: other failures: of more kinds than are listed (484 times)"
    ]
    log.close()


async def test_the_first_line_names_the_session_and_the_count_does_not(
    log: OutageLog, caplog: pytest.LogCaptureFixture
) -> None:
    for key in ("one", "two"):
        log.note(logging.WARNING, refused(), "session %s could not be extended", key)
    log.sum_up()

    first, counted = lines(caplog)
    assert first.startswith("session one could not be extended: Redis failed")
    assert "session could not be extended" in counted
    assert "two" not in counted
    log.close()


async def test_the_end_of_an_outage_is_told_with_how_much_it_was(
    log: OutageLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        for _ in range(4):
            log.note(logging.ERROR, refused(), AWAY)
        clock.seconds += 10
        log.sum_up()
    caplog.clear()
    clock.seconds += 10
    log.sum_up()

    assert lines(caplog) == ["the storage has not failed for 10 s: it failed 12 times in 30 s"]
    assert log._timer is None

    log.note(logging.ERROR, refused(), AWAY)
    assert len(lines(caplog)) == 1, "the next outage is told at once"
    log.close()


async def test_a_single_failure_is_a_single_line(log: OutageLog, caplog: pytest.LogCaptureFixture) -> None:
    log.note(logging.ERROR, refused(), AWAY)
    log.sum_up()

    assert len(lines(caplog)) == 1
    assert log._timer is None


async def test_what_was_counted_is_told_when_the_app_stops_and_nothing_is_left_running(
    log: OutageLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        log.note(logging.ERROR, refused(), AWAY)
    timer = log._timer
    assert timer is not None
    clock.seconds += 3
    log.close()

    assert "the storage failed 4 more times in 3 s: " in lines(caplog)[-1]
    assert timer.cancelled()
    log.close()
    assert not lines(caplog)


def test_another_event_loop_starts_anew(log: OutageLog, caplog: pytest.LogCaptureFixture) -> None:
    """A worker that is forked amid an outage has the parent's counts and a timer that never fires."""

    async def fail() -> None:
        log.note(logging.ERROR, refused(), AWAY)
        assert log._timer is not None
        assert log._timer.when() > asyncio.get_running_loop().time()

    asyncio.run(fail())
    asyncio.run(fail())

    assert len(lines(caplog)) == 2


@pytest.mark.parametrize(("level", "expected"), [(logging.INFO, 0), (logging.DEBUG, 1)], ids=["info", "debug"])
async def test_a_traceback_is_for_debugging_and_comes_once(
    log: OutageLog, caplog: pytest.LogCaptureFixture, level: int, expected: int
) -> None:
    caplog.set_level(level)
    for _ in range(3):
        try:
            raise StorageError("away")
        except StorageError as error:
            log.note(logging.ERROR, error, AWAY, with_traceback=True)
            log.note(logging.ERROR, error, "a session could not be extended")
    log.sum_up()

    assert sum(record.exc_info is not None for record in caplog.records) == expected
    log.close()


def test_without_an_event_loop_only_the_first_line_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    log = OutageLog()
    for _ in range(3):
        log.note(logging.WARNING, StorageError("away"), "session %s could not be extended", "a")

    assert [record.getMessage() for record in caplog.records] == ["session a could not be extended: away"]
    log.close()
