"""What a failure and its causes say in one line of the log."""

from aiohttp_session_store import StorageError
from aiohttp_session_store.errors import one_line


def caused(error: BaseException, *causes: BaseException) -> BaseException:
    """Return *error* with a chain of *causes*."""
    chain = [error, *causes]
    for one, cause in zip(chain, causes, strict=False):
        one.__cause__ = cause
    return error


def test_the_causes_are_added() -> None:
    error = caused(StorageError("the write failed"), RuntimeError("no connection"), OSError(28, "No space left"))

    assert one_line(error) == "the write failed (RuntimeError: no connection) (OSError: [Errno 28] No space left)"


def test_what_was_said_already_is_not_repeated() -> None:
    assert one_line(caused(StorageError("Redis: OSError: gone"), OSError("gone"))) == "Redis: OSError: gone"


def test_a_cause_without_a_text_is_named_by_its_type() -> None:
    assert one_line(caused(StorageError("no answer"), TimeoutError())) == "no answer (TimeoutError)"
    assert one_line(TimeoutError()) == "TimeoutError"


def test_it_stays_one_line() -> None:
    assert one_line(caused(StorageError("a\nb"), OSError("c\r\n\td"))) == "a b (OSError: c d)"


def test_a_group_says_what_its_first_error_says() -> None:
    inner = ExceptionGroup("two", [StorageError("first"), StorageError("second")])

    assert one_line(ExceptionGroup("one", [inner])) == "first"


def test_a_chain_that_leads_back_to_itself_ends() -> None:
    error, cause = StorageError("a"), OSError("b")
    error.__cause__, cause.__cause__ = cause, error

    assert one_line(error) == "a (OSError: b)"


def test_what_merely_happened_before_is_left_out() -> None:
    """It was hidden with ``from None``, perhaps because it holds a password."""
    error = StorageError("cannot connect")
    error.__context__ = ValueError("secret")

    assert one_line(error) == "cannot connect"
