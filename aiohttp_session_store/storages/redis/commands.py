"""A command that waits for its answer, and what its errors mean."""

import asyncio
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as DisconnectedError
from redis.exceptions import TimeoutError as DriverTimeoutError

from ...errors import StorageError

__all__ = [
    "ANSWERED",
    "PAUSES",
    "Answer",
    "Call",
    "Word",
    "forget_arguments",
    "is_read_only",
    "may_pass",
    "storage_error",
]

Word = str | bytes | int

_DRIVER_ERRORS = (RedisError, RedisClusterException, OSError)
_NOT_ALLOWED = (AuthenticationError, AuthorizationError)
#: Errors that the server answers with: it has not carried out the command.
ANSWERED = (ResponseError, BusyLoadingError, *_NOT_ALLOWED)
# What a server adds to the refusal of a command that it does not know, such as one that was renamed.
_ARGUMENTS = re.compile(r",? with args beginning with:.*", re.DOTALL)
_UNANSWERED = (DisconnectedError, DriverTimeoutError, OSError)

#: Seconds before each repetition, at most. A connection that was closed is replaced at once. Two short pauses help over
#: a proxy that restarts. If a server is away for longer, visitors get their error soon.
PAUSES = (0.0, 0.02, 0.1)


class Answer(NamedTuple):
    """The answer to a command, or the error that came instead.

    Attributes:
        lost: Whether the command had been sent before without an answer, so that it may have run twice.
    """

    value: Any
    lost: bool


@dataclass(slots=True, eq=False)
class Call:
    """A command that waits for its answer.

    Attributes:
        command: Its words.
        key: The key that it works on.
        answered: The answer, as soon as it is there.
        lost: Whether the command was sent and no answer came.
        node: The node of a cluster to send it to; None for the one that keeps *key*.
    """

    command: tuple[Word, ...]
    key: str
    answered: "asyncio.Future[Answer]"
    lost: bool = False
    node: Any = None

    def answer(self, value: Any) -> None:
        """Hand the answer to the caller, unless the caller has gone."""
        if not self.answered.done():
            self.answered.set_result(Answer(value, self.lost))


def is_read_only(error: object) -> bool:
    """Whether the server is a replica, which refuses to write."""
    if isinstance(error, ReadOnlyError):
        return True
    return isinstance(error, RedisError) and "READONLY" in str(error)  # Redis 6.2, from within a script


def may_pass(error: object) -> bool:
    """Whether the same command may succeed if it is sent again soon."""
    return (isinstance(error, _UNANSWERED) and not isinstance(error, _NOT_ALLOWED)) or is_read_only(error)


def forget_arguments(error: BaseException) -> None:
    """Remove a command's arguments from *error* and what it came from: those of AUTH and HELLO are a password."""
    todo: list[BaseException | None] = [error]
    seen: set[int] = set()
    while todo:
        found = todo.pop()
        if found is not None and id(found) not in seen:
            seen.add(id(found))
            found.args = tuple(_ARGUMENTS.sub("", arg) if isinstance(arg, str) else arg for arg in found.args)
            todo += [found.__cause__, found.__context__]


def storage_error(error: Exception, command: Word, timeout: float, *, maybe_stored: bool) -> Exception:
    """Return the error for the caller of *command*: a StorageError, if *error* is one of the driver."""
    if isinstance(error, TimeoutError):
        return StorageError(f"Redis did not answer {command!s} within {timeout:g} s", maybe_stored=maybe_stored)
    if isinstance(error, _DRIVER_ERRORS):
        forget_arguments(error)
        return StorageError(f"Redis: {type(error).__name__}: {error}", maybe_stored=maybe_stored)
    return error
