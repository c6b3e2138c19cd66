"""Sessions that move from one storage to another, and processes that work on both storages."""

from collections.abc import Callable
from typing import Any

from aiohttp_session_store import Session, StorageError
from aiohttp_session_store.migrate import MigratingStorage
from aiohttp_session_store.session.session import state_of
from aiohttp_session_store.testing import ManualClock
from tests.engine.suspending import RacyStorage, stored_id
from tests.records import live_keys


class OldResident(MigratingStorage):
    """Creates sessions in the old storage, as the processes did before the move, so that every session has to move."""

    async def insert(self, key: str, data: bytes, expires_at: int) -> bytes | None:
        if await self.fetch(key) is not None:
            return None
        version = await self.old.insert(key, data, expires_at)
        return None if version is None else b"o" + version


class Move:
    """A new and an old storage, both of which suspend at random, and a session in the old one.

    Attributes:
        step: Called before each verb of either storage; if it returns true, the verb raises ``StorageError``.
        after: The same, but called after the verb has done its work.
    """

    def __init__(self, seed: int, *, longest_pause: int = 4) -> None:
        self.clock = ManualClock()
        self.step: Callable[[], bool] = lambda: False
        self.after: Callable[[], bool] = lambda: False
        options: dict[str, Any] = {"clock": self.clock, "longest_pause": longest_pause}
        self.new, self.old = RacyStorage(seed, **options), RacyStorage(-seed - 1, **options)
        for storage in (self.new, self.old):
            storage.fail = lambda verb, key: self.step()
            storage.lose_answer = lambda verb, key: self.after()

    async def begin(self) -> str:
        """Store a session in the old storage and return its id."""
        return await stored_id(self.old, user=5)

    def process(self, *, move: bool = True) -> MigratingStorage:
        """Return the storage object of one more process."""
        return MigratingStorage(self.new, self.old, moving=move)

    async def seen(self, session_id: str) -> dict[str, Any] | None:
        """Return what a newly started process reads, or None for no session."""
        session = await self.process().read(session_id)
        return None if session.new else dict(session)

    def live_keys(self) -> set[str]:
        """Return the keys under which either storage holds a session; marks, copies and snapshots do not count."""
        return set(live_keys(self.new, self.old))


def ask(session: Session, action: str) -> None:
    """Do what a handler does: ``logout``, ``rotate``, ``login``, ``touch``; any other *action* is a key to write.

    The touch is that of ``save_session``, which asks whether the session still stands.
    """
    if action == "logout":
        session.destroy()
    elif action == "rotate":
        session.regenerate_id()
    elif action == "login":
        session.regenerate_id(True)
    elif action == "touch":
        state_of(session).confirm = True
    else:
        session[action] = True


async def act(session: Session, action: str, storage: MigratingStorage) -> str | None:
    """Do what a request does: :func:`ask`, then save."""
    ask(session, action)
    return await save(session, storage)


async def save(session: Session, storage: MigratingStorage) -> str | None:
    try:
        return await storage.save(session)
    except StorageError:
        return "failed"
