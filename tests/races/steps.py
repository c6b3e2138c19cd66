"""Something goes wrong with one step of an operation: its answer is lost, or it arrives late."""

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp_session_store import KeyedStorage, StorageError
from aiohttp_session_store.engine.verbs import Verbs

# What can become of one call that changes something, as the caller sees it.
LOST = "the step is lost"  # an error, and nothing was done
ANSWER_LOST = "its answer is lost"  # an error, and it was done
LATE = "it arrives late"  # an error, and it is done when the operation is over
REPEATED = "it is repeated later"  # an answer, and it is done once more when the operation is over
FATES = [LOST, ANSWER_LOST, LATE, REPEATED]


class Steps:
    """Counts the calls that change something, and lets *fate* befall the one with number *at*.

    Attributes:
        count: How many such calls there were.
    """

    def __init__(self, storage: KeyedStorage, at: int, fate: str) -> None:
        self.count = 0
        self._at, self._fate = at, fate
        self._late: Callable[[], Awaitable[Any]] | None = None
        verbs = ["insert", "replace", "delete", *(["link", "unlink"] if storage.has_index else [])]
        if type(storage).retire is not Verbs.retire:
            verbs.append("retire")
        self._storage, self._verbs = storage, verbs
        for verb in verbs:
            setattr(storage, verb, self._watched(getattr(storage, verb)))

    def _watched(self, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def watched(*args: Any) -> Any:
            self.count += 1
            if self.count != self._at:
                return await call(*args)
            if self._fate == LOST:
                raise StorageError("the step was lost", maybe_stored=True)
            if self._fate == ANSWER_LOST:
                await call(*args)
                raise StorageError("the answer was lost", maybe_stored=True)
            self._late = lambda: call(*args)
            if self._fate == LATE:
                raise StorageError("the step is late", maybe_stored=True)
            return await call(*args)

        return watched

    async def over(self) -> None:
        """Stop watching, and let what is late arrive."""
        for verb in self._verbs:
            delattr(self._storage, verb)
        if self._late is not None:
            await self._late()
