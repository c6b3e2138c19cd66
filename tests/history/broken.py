"""Storages and engines that are broken on purpose: the judge has to catch each of them; and two that are not.

They run in a process of their own.  So some of them replace a part of the library for all storages.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

from aiohttp_session_store import KeyedStorage, Session, StorageError, Stored
from aiohttp_session_store.engine import loading, saving, writing
from aiohttp_session_store.engine.rotating import Rotating, follow
from aiohttp_session_store.engine.verbs import Lease, Verbs
from aiohttp_session_store.engine.writing import RecordWriter
from aiohttp_session_store.record import merge
from aiohttp_session_store.record.changes import Changes
from aiohttp_session_store.record.format import Record, Retired
from aiohttp_session_store.record.head import Head
from aiohttp_session_store.session.session import state_of
from aiohttp_session_store.session.state import Place
from aiohttp_session_store.web.request_session import RequestSession
from tests.engine.suspending import SuspendingStorage

LONGEST_PAUSE = 0.003
STALE = 0.1
# The share of the calls to an unreliable storage that fail in each of three ways, and for how long one may be late.
FAULTY, LATEST = 0.04, 0.3

T = TypeVar("T")


class SlowStorage(SuspendingStorage):
    """Correct, and so slow that requests interleave; each subclass breaks one thing."""

    suspends: ClassVar[bool] = True

    async def pause(self) -> None:
        await asyncio.sleep(random.uniform(0, LONGEST_PAUSE))


class UnreliableStorage(SlowStorage):
    """Correct, but calls fail, and lose their answers, and arrive late; it always says so."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._late: set[asyncio.Task[Any]] = set()

    async def fetch(self, key: str) -> Any:
        if random.random() < FAULTY:
            raise StorageError("the storage did not answer")
        return await super().fetch(key)

    async def insert(self, key: str, data: bytes, expires_at: int) -> bytes | None:
        return await self._with_luck(lambda: super(UnreliableStorage, self).insert(key, data, expires_at))

    async def replace(self, key: str, data: bytes, expires_at: int, version: bytes) -> bytes | None:
        return await self._with_luck(lambda: super(UnreliableStorage, self).replace(key, data, expires_at, version))

    async def touch(self, key: str, expires_at: int, version: bytes) -> bool:
        return await self._with_luck(lambda: super(UnreliableStorage, self).touch(key, expires_at, version))

    async def delete(self, key: str, version: bytes | None = None) -> bool:
        return await self._with_luck(lambda: super(UnreliableStorage, self).delete(key, version))

    async def link(self, owner_key: str, key: str, until: int) -> None:
        await self._with_luck(lambda: super(UnreliableStorage, self).link(owner_key, key, until))

    async def unlink(self, owner_key: str, key: str) -> None:
        await self._with_luck(lambda: super(UnreliableStorage, self).unlink(owner_key, key))

    async def _with_luck(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        luck = random.random() / FAULTY
        if luck < 1:
            raise StorageError("nothing was done")
        if luck < 2:
            await call()
            raise StorageError("the answer was lost", maybe_stored=True)
        if luck < 3:
            task = asyncio.get_running_loop().create_task(self._later(call))
            self._late.add(task)
            task.add_done_callback(self._late.discard)
            await self.pause()
            raise StorageError("the call is late", maybe_stored=True)
        return await call()

    async def _later(self, call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        await asyncio.sleep(random.uniform(0, LATEST))
        await call()


# --- storages


class LostCompareAndSet(SlowStorage):
    """Replaces a record whatever its version is."""

    async def replace(self, key: str, data: bytes, expires_at: int, version: bytes) -> bytes | None:
        await self.pause()
        return self._put(key, data, expires_at) if key in self._records else None


class ResurrectingTouch(SlowStorage):
    """Writes back what it read before, even if that was replaced or removed meanwhile."""

    async def touch(self, key: str, expires_at: int, version: bytes) -> bool:
        stored = self._records.get(key)
        if stored is None or stored.version != version:
            return False
        await self.pause()
        self._records[key] = Stored(stored.data, version, max(expires_at, stored.expires_at))
        return True


class LockThatExcludesNobody(SlowStorage):
    """Gives the lock to all who ask."""

    def lock(self, key: str) -> AbstractAsyncContextManager[Any]:
        @asynccontextmanager
        async def lock() -> AsyncIterator[None]:
            yield None

        return lock()


class StaleReadCache(SlowStorage):
    """Reads what a record was up to a tenth of a second ago."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._cache: dict[str, tuple[float, Any]] = {}

    async def fetch(self, key: str) -> Any:
        read_at, stored = self._cache.get(key, (0.0, None))
        if time.monotonic() - read_at > STALE:
            stored = await super().fetch(key)
            self._cache[key] = (time.monotonic(), stored)
        return stored

    async def replace(self, key: str, data: bytes, expires_at: int, version: bytes) -> bytes | None:
        done = await super().replace(key, data, expires_at, version)
        if done is None:
            self._cache.pop(key, None)
        return done


class ErrorThatIsNone(SlowStorage):
    """Says at times that a write failed and that nothing was stored, when it was."""

    async def replace(self, key: str, data: bytes, expires_at: int, version: bytes) -> bytes | None:
        done = await super().replace(key, data, expires_at, version)
        if random.random() < 0.1:
            raise StorageError("nothing was stored")
        return done


class LoginThatKeepsTheOldId(SlowStorage):
    """Does not retire the old id of a login."""

    async def retire(self, key: str, data: bytes, expires_at: int, version: bytes) -> bytes | None:
        retired = self.records.decode(data, key)
        if isinstance(retired, Retired) and retired.successor is not None:
            return version
        return await super().retire(key, data, expires_at, version)


class FlashShownTwice(SlowStorage):
    """Never removes a flash."""

    async def read(self, cookie_value: str | None) -> Session:
        session = await super().read(cookie_value)
        state_of(session).log.flashes.spare()
        return session


class IndexThatIsWrittenBack(SlowStorage):
    """Reads the index of an owner, changes it, and writes it back."""

    async def link(self, owner_key: str, key: str, until: int) -> None:
        entries = dict(self._owners.get(owner_key, {}))
        await self.pause()
        self._owners[owner_key] = {**entries, key: until}

    async def unlink(self, owner_key: str, key: str) -> None:
        entries = dict(self._owners.get(owner_key, {}))
        await self.pause()
        self._owners[owner_key] = {other: until for other, until in entries.items() if other != key}


class IndexThatDropsEmptyEntries(SlowStorage):
    """Drops an entry without a record, which may be that of a login whose record is about to come."""

    async def linked(self, owner_key: str) -> list[str]:
        keys = await super().linked(owner_key)
        for key in keys:
            if key not in self._records:
                await self.unlink(owner_key, key)
        return [key for key in keys if key in self._records]


# --- engines


def replace_in(place: Any, **parts: Any) -> None:
    """Replace parts of a module or class."""
    for name, part in parts.items():
        assert hasattr(place, name), f"{place} has no {name} to replace"
        setattr(place, name, part)


class _Writer(RecordWriter):
    """Writes for a storage with another way to write."""

    @classmethod
    def into(cls, storage: KeyedStorage) -> None:
        saver = storage._saver
        saver._writer = saver._shared._writer = cls(storage)


class _ForgetfulWriter(_Writer):
    async def write(
        self, place: Place, changes: Sequence[Changes], lease: Lease | None = None, *, head: Head | None = None
    ) -> Place | None:
        if isinstance(await self.look(place.key), Retired):
            return None
        return await super().write(place, changes, lease, head=head)


class ForgottenSuccessor(SlowStorage):
    """Drops what is written under an id that was renewed."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        _ForgetfulWriter.into(self)


class _FollowingWriter(_Writer):
    async def write(
        self, place: Place, changes: Sequence[Changes], lease: Lease | None = None, *, head: Head | None = None
    ) -> Place | None:
        return await super().write(place, changes, None, head=head)


class ExclusiveSaveThatFollows(SlowStorage):
    """Stores what was computed under a lock, although the session got another id meanwhile, which has another lock."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        _FollowingWriter.into(self)


class FailedHandlerStored(SlowStorage):
    """Stores the changes of failed handlers."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        commit = RequestSession.commit

        async def commit_all(holder: RequestSession, status: int) -> None:
            await commit(holder, 200)

        replace_in(RequestSession, commit=commit_all)


class LogoutThatForgetsOneId(SlowStorage):
    """Does not follow an id that was renewed to the session that it became."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        end = vars(saving)["end"]

        async def end_one(storage: Verbs, key: str, stored: Stored | None, why: str) -> bool:
            newest = await storage.fetch(key)
            if newest is not None and isinstance(storage.records.decode(newest.data, key), Retired):
                return True
            return bool(await end(storage, key, stored, why))

        replace_in(saving, end=end_one)


class SnapshotThatLeaks(SlowStorage):
    """Lets an id that was renewed read what was written since."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)

        async def read_newest(storage: Verbs, key: str, retired: Retired) -> Record | None:
            place = await follow(RecordWriter(storage), retired)
            return None if place is None else place.record._replace()

        replace_in(loading, read_snapshot=read_newest)


class LoginThatTakesPlantedData(SlowStorage):
    """Takes over what was written under a renewed id when the old id logs in."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        rotate = vars(saving)["rotate"]

        async def rotate_the_newest(writer: RecordWriter, work: Rotating) -> Place | None:
            found = await writer.look(work.place.key)
            if work.led_on and isinstance(found, Place):
                work = replace(work, readable=found.record)
            moved: Place | None = await rotate(writer, work)
            return moved

        replace_in(saving, rotate=rotate_the_newest)


class StreamThatNeverEnds(SlowStorage):
    """Says to a stream that its session is there, whatever became of it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        save_now = RequestSession.save_now

        async def save_and_praise(holder: RequestSession, request: Any) -> bool:
            await save_now(holder, request)
            return True

        replace_in(RequestSession, save_now=save_and_praise)


# Each with the rules, one of which it breaks first.
class ListsThatAreTakenWhole(SlowStorage):
    """Stores what the handler left of a list, and not only what it changed."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        vars(merge)["merge_inside"] = lambda edit, newest: edit.left


class AdditionsThatAreMadeTwice(UnreliableStorage):
    """Saves again what was stored, because the answer was lost."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        vars(writing)["is_stored"] = lambda change, record: False


BROKEN: dict[type[SlowStorage], set[str]] = {
    LostCompareAndSet: {"read", "logout", "flash"},
    ResurrectingTouch: {"read", "logout"},
    LockThatExcludesNobody: {"exclusive"},
    StaleReadCache: {"read", "logout"},
    ErrorThatIsNone: {"failed"},
    LoginThatKeepsTheOldId: {"logout"},
    FlashShownTwice: {"flash"},
    ForgottenSuccessor: {"read", "alive"},
    ExclusiveSaveThatFollows: {"exclusive"},
    FailedHandlerStored: {"failed"},
    LogoutThatForgetsOneId: {"logout"},
    SnapshotThatLeaks: {"snapshot"},
    LoginThatTakesPlantedData: {"snapshot"},
    StreamThatNeverEnds: {"stream"},
    IndexThatIsWrittenBack: {"index", "logout", "stream"},
    IndexThatDropsEmptyEntries: {"index", "logout", "stream"},
    ListsThatAreTakenWhole: {"read"},
    AdditionsThatAreMadeTwice: {"additions"},
}


def broken_storage(name: str, clock: Callable[[], float]) -> KeyedStorage:
    """Return the storage of that name: a broken one, ``SlowStorage`` or ``UnreliableStorage``."""
    kinds: list[type[SlowStorage]] = [SlowStorage, UnreliableStorage]
    kinds += BROKEN
    return next(kind for kind in kinds if kind.__name__ == name)(clock=clock, idle_timeout=IDLE_TIMEOUT)


# A tenth of it is less than a jump of the clock, after which every use extends a session.
IDLE_TIMEOUT = 660
