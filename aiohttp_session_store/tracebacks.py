"""Errors leave this package without the local variables of the functions that they passed through.

Error trackers such as Sentry record the local variables of every frame in a traceback.  In our frames, and in those of
the drivers below them, these are session ids, cookies and the data of sessions.  So where an error leaves the package,
each frame in its traceback is replaced by one that names the same place in the code and has no variables.

This costs something only if there is an error.  Nothing has to be cleared: a frame in a traceback can belong to a task
that is still running.
"""

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import lru_cache, wraps
from types import CodeType, FrameType, FunctionType, TracebackType
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# Places in the code that an error has passed through. The whole package has about a thousand functions.
_CODES_KEPT = 1024


def hide_locals(error: BaseException) -> None:
    """Hide the local variables in the traceback of *error*, and in those of the errors that it came from.

    Call it in an ``except`` clause, and go on with a bare ``raise``: the calling function itself is hidden then, too.
    The functions above it keep their variables, and so do errors that one of these is handling just now.
    """
    callers = set(_callers())
    todo, seen = [error], set[int]()
    while todo:
        one = todo.pop()
        traceback = one.__traceback__
        if id(one) in seen or (traceback is not None and traceback.tb_frame in callers):
            continue
        seen.add(id(one))
        one.with_traceback(_bare(traceback))  # an assignment would fail for a frozen dataclass
        todo += [other for other in (one.__cause__, one.__context__) if other is not None]
        if isinstance(one, BaseExceptionGroup):
            todo += one.exceptions


def hides_locals(function: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Let the errors of a coroutine function leave it without local variables.

    A function that many requests call has an ``except`` clause instead, which costs nothing as long as nothing fails.
    """

    @wraps(function)
    async def hiding(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await function(*args, **kwargs)
        except BaseException as error:
            hide_locals(error)
            raise

    return hiding


def hides_settings(function: Callable[P, T]) -> Callable[P, T]:
    """Let the errors of a constructor leave it without local variables, which may hold a password or a secret."""

    @wraps(function)
    def hiding(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            hide_locals(error)
            raise

    return hiding


def _callers() -> Iterator[FrameType]:
    """Yield the frames above the function that asked to hide its variables."""
    frame = inspect.currentframe()
    for _ in range(3):  # this generator, hide_locals, and the function that called it
        frame = frame and frame.f_back
    while frame is not None:
        yield frame
        frame = frame.f_back


def _bare(traceback: TracebackType | None) -> TracebackType | None:
    entries = []
    while traceback is not None:
        entries.append(traceback)
        traceback = traceback.tb_next
    bare = None
    for entry in reversed(entries):  # -1: without the position within the line, which belongs to the code that ran
        bare = TracebackType(bare, _frame_without_locals(entry.tb_frame), -1, entry.tb_lineno)
    return bare


def _frame_without_locals(frame: FrameType) -> FrameType:
    # The frame of a generator that has not started: the one frame that can be had without running its code.
    result: FrameType = FunctionType(_code_without_locals(frame.f_code), frame.f_globals)().gi_frame
    return result


@lru_cache(_CODES_KEPT)
def _code_without_locals(code: CodeType) -> CodeType:
    return _nothing.__code__.replace(
        co_filename=code.co_filename,
        co_name=code.co_name,
        co_qualname=code.co_qualname,
        co_firstlineno=code.co_firstlineno,
    )


def _nothing() -> Iterator[None]:
    yield
