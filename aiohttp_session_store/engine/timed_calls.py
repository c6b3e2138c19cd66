"""Timing the calls to a storage, for observers.

The methods of the one storage object are wrapped, and only as long as there is an observer.  So without one, a call
costs nothing more, and whoever calls the storage need not know of observers.
"""

import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any

from ..errors import StorageError
from .observing import Outcome
from .verbs import Lease, Verbs

__all__ = ["TIMED", "time_calls"]

# What it means if a verb returns None or False.
_OTHERWISE: dict[str, Outcome] = {
    "fetch": "missing",
    "insert": "conflict",
    "replace": "conflict",
    "retire": "conflict",
    "touch": "conflict",
    "delete": "conflict",
}
#: The verbs that are timed.
TIMED: tuple[str, ...] = (
    *_OTHERWISE,
    "settle",
    "link",
    "unlink",
    "linked",
    "fetch_many",
    "versions",
    "announce",
    "sweep",
    "lock",
)

_Tell = Callable[[str, float, Outcome], None]


def time_calls(storage: Verbs, clock: Callable[[], float] = time.perf_counter) -> Callable[[], None]:
    """Tell the observers of *storage* of each call to it.

    A verb that the storage has not overridden is made of others, which are told.

    Returns:
        What ends it.
    """
    before = dict(vars(storage))
    wrapped: dict[str, Any] = {}
    for verb in TIMED:
        if getattr(type(storage), verb) is getattr(Verbs, verb):
            continue
        bound = getattr(storage, verb)
        if verb == "lock":
            wrapped[verb] = _timed_lock(bound, storage.observing.tell_call, clock)
        else:
            wrapped[verb] = _timed(verb, bound, storage.observing.tell_call, clock)
    vars(storage).update(wrapped)

    def stop() -> None:
        for verb, timed in wrapped.items():
            if vars(storage).get(verb) is timed:
                del vars(storage)[verb]
                if verb in before:
                    vars(storage)[verb] = before[verb]

    return stop


def _timed(
    verb: str, call: Callable[..., Awaitable[Any]], tell: _Tell, clock: Callable[[], float]
) -> Callable[..., Awaitable[Any]]:
    otherwise = _OTHERWISE.get(verb, "ok")

    async def timed(*args: Any, **kwargs: Any) -> Any:
        began = clock()
        try:
            result = await call(*args, **kwargs)
        except BaseException as error:
            tell(verb, clock() - began, _outcome_of(error))
            raise
        tell(verb, clock() - began, otherwise if result is None or result is False else "ok")
        return result

    return timed


def _timed_lock(
    lock: Callable[[str], AbstractAsyncContextManager[Lease | None]], tell: _Tell, clock: Callable[[], float]
) -> Callable[[str], AbstractAsyncContextManager[Lease | None]]:
    return lambda key: _TimedLock(lock(key), tell, clock)


class _TimedLock(AbstractAsyncContextManager["Lease | None"]):
    """A lock that tells how long it took until it was held."""

    def __init__(
        self, lock: AbstractAsyncContextManager[Lease | None], tell: _Tell, clock: Callable[[], float]
    ) -> None:
        self._lock, self._tell, self._clock = lock, tell, clock

    async def __aenter__(self) -> Lease | None:
        began = self._clock()
        try:
            lease = await self._lock.__aenter__()
        except BaseException as error:
            self._tell("lock", self._clock() - began, _outcome_of(error))
            raise
        self._tell("lock", self._clock() - began, "ok")
        return lease

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._lock.__aexit__(kind, error, traceback)


def _outcome_of(error: BaseException) -> Outcome:
    if isinstance(error, StorageError):
        return "unknown" if error.maybe_stored else "error"
    return "error" if isinstance(error, Exception) else "cancelled"
