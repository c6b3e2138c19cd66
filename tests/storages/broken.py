"""Storages that are broken on purpose: each breaks one promise of the contract, as real storages have done."""

import asyncio
import hashlib
from collections import defaultdict
from typing import Any, ClassVar

from aiohttp_session_store import Session, Stored
from aiohttp_session_store.storages.base import RECLAIM_AFTER
from tests.engine.suspending import SuspendingStorage
from tests.storages.plain import PlainStorage


class FetchThatLeavesItsAnswer(SuspendingStorage):
    """Mixes up answers, like a connection that is used again after a request stopped waiting for its answer."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.answers: list[Stored | None] = []

    async def fetch(self, key: str) -> Stored | None:
        self.answers.append(self._records.get(key))
        await self.pause()
        return self.answers.pop(0)


class FetchThatRaises(PlainStorage):
    async def fetch(self, key: str) -> Stored | None:
        return self._records[key]


class ReplaceThatCreates(PlainStorage):
    async def replace(self, key: str, data: bytes, expires_at: int, version: bytes) -> bytes | None:
        if key not in self._records:
            return await self.insert(key, data, expires_at)
        return await super().replace(key, data, expires_at, version)


class ReplaceAtAnyVersion(PlainStorage):
    async def replace(self, key: str, data: bytes, expires_at: int, version: bytes) -> bytes | None:
        return self._put(key, data, expires_at) if key in self._records else None


class ReplaceThatKeepsTheExpiry(PlainStorage):
    async def replace(self, key: str, data: bytes, expires_at: int, version: bytes) -> bytes | None:
        stored = self._records.get(key)
        return await super().replace(key, data, max(expires_at, stored.expires_at if stored else 0), version)


class ReplaceThatChecksThenActs(SuspendingStorage):
    async def replace(self, key: str, data: bytes, expires_at: int, version: bytes) -> bytes | None:
        stored = await self.fetch(key)
        return self._put(key, data, expires_at) if stored and stored.version == version else None


class ReplaceThatWritesInPlace(SuspendingStorage):
    async def replace(self, key: str, data: bytes, expires_at: int, version: bytes) -> bytes | None:
        newer = await PlainStorage.replace(self, key, data[:10], expires_at, version)
        await self.pause()
        return newer and await PlainStorage.replace(self, key, data, expires_at, newer)


class InsertThatOverwrites(PlainStorage):
    async def insert(self, key: str, data: bytes, expires_at: int) -> bytes | None:
        return self._put(key, data, expires_at)


class InsertThatChecksThenActs(SuspendingStorage):
    async def insert(self, key: str, data: bytes, expires_at: int) -> bytes | None:
        return self._put(key, data, expires_at) if await self.fetch(key) is None else None


class WritersThatShareABuffer(SuspendingStorage):
    buffer: bytes = b""

    async def insert(self, key: str, data: bytes, expires_at: int) -> bytes | None:
        self.buffer = data
        await self.pause()
        return await super().insert(key, self.buffer, expires_at)


class ExpiryOfFortyBits(PlainStorage):
    """What does not fit reads as damage, as an expiry in a file once did."""

    async def fetch(self, key: str) -> Stored | None:
        stored = await super().fetch(key)
        return None if stored is None or stored.expires_at >= 2**40 else stored


class TouchThatShortens(PlainStorage):
    async def touch(self, key: str, expires_at: int, version: bytes) -> bool:
        stored = self._records.get(key)
        if stored is None or stored.version != version:
            return False
        self._records[key] = Stored(stored.data, version, expires_at)
        return True


class TouchAtAnyVersion(PlainStorage):
    async def touch(self, key: str, expires_at: int, version: bytes) -> bool:
        stored = self._records.get(key)
        return stored is not None and await super().touch(key, expires_at, stored.version)


class TouchThatMustExtend(PlainStorage):
    async def touch(self, key: str, expires_at: int, version: bytes) -> bool:
        stored = self._records.get(key)
        return stored is not None and expires_at > stored.expires_at and await super().touch(key, expires_at, version)


class TouchThatChecksThenActs(SuspendingStorage):
    async def touch(self, key: str, expires_at: int, version: bytes) -> bool:
        stored = await self.fetch(key)
        if stored is None or stored.version != version:
            return False
        if expires_at > stored.expires_at:
            self._records[key] = Stored(stored.data, version, expires_at)
        return True


class TouchThatRefusesTheExpired(PlainStorage):
    async def touch(self, key: str, expires_at: int, version: bytes) -> bool:
        stored = self._records.get(key)
        alive = stored is not None and stored.expires_at > self.now()
        return alive and await super().touch(key, expires_at, version)


class TouchThatCreates(PlainStorage):
    async def touch(self, key: str, expires_at: int, version: bytes) -> bool:
        self._records.setdefault(key, Stored(b"", version, expires_at))
        return await super().touch(key, expires_at, version)


class TouchThatRewrites(PlainStorage):
    async def touch(self, key: str, expires_at: int, version: bytes) -> bool:
        stored = self._records.get(key)
        return stored is not None and bool(await self.replace(key, stored.data, expires_at, version))


class TouchThatDoesNothing(PlainStorage):
    async def touch(self, key: str, expires_at: int, version: bytes) -> bool:
        return key in self._records


class TouchThatWritesBackWhatItRead(SuspendingStorage):
    async def touch(self, key: str, expires_at: int, version: bytes) -> bool:
        stored = await self.fetch(key)
        if stored is None or stored.version != version:
            return False
        await self.pause()
        self._records[key] = Stored(stored.data, version, expires_at)
        return True


class OneVersionForAll(PlainStorage):
    def _put(self, key: str, data: bytes, expires_at: int) -> bytes:
        self._records[key] = Stored(data, b"version", expires_at)
        return b"version"


class VersionsFromTheData(PlainStorage):
    def _put(self, key: str, data: bytes, expires_at: int) -> bytes:
        version = hashlib.sha256(data).digest()
        self._records[key] = Stored(data, version, expires_at)
        return version


class VersionsThatCountFromOne(PlainStorage):
    def _put(self, key: str, data: bytes, expires_at: int) -> bytes:
        before = self._records.get(key)
        version = b"%d" % (int(before.version) + 1 if before else 1)
        self._records[key] = Stored(data, version, expires_at)
        return version


class LiveStored:
    """Looks like :class:`Stored`, but is mutable."""

    def __init__(self, data: bytes, version: bytes, expires_at: int) -> None:
        self.data, self.version, self.expires_at = data, version, expires_at


class LiveObjects(PlainStorage):
    def _put(self, key: str, data: bytes, expires_at: int) -> bytes:
        version = super()._put(key, data, expires_at)
        live = self.__dict__.setdefault("live", {}).setdefault(key, LiveStored(data, version, expires_at))
        live.data, live.version, live.expires_at = self._records[key]
        self._records[key] = live
        return version


class LiveSessions(PlainStorage):
    """Gives all requests the same session object."""

    async def read(self, cookie_value: str | None) -> Session:
        sessions: dict[str | None, Session] = self.__dict__.setdefault("sessions", defaultdict())
        if cookie_value not in sessions or cookie_value is None:
            sessions[cookie_value] = await super().read(cookie_value)
        return sessions[cookie_value]


class DataAsText(PlainStorage):
    def _put(self, key: str, data: bytes, expires_at: int) -> bytes:
        return super()._put(key, data.decode(errors="replace").encode(), expires_at)


class DataThatIsStripped(PlainStorage):
    def _put(self, key: str, data: bytes, expires_at: int) -> bytes:
        return super()._put(key, data.strip(), expires_at)


class DataThatIsTruncated(PlainStorage):
    def _put(self, key: str, data: bytes, expires_at: int) -> bytes:
        return super()._put(key, data[:65536], expires_at)


class DataThatMayBeNothing(PlainStorage):
    async def fetch(self, key: str) -> Stored | None:
        stored = await super().fetch(key)
        return stored if stored and stored.data else None


class ExpiryThatIsForgotten(PlainStorage):
    async def fetch(self, key: str) -> Stored | None:
        stored = await super().fetch(key)
        return stored and Stored(stored.data, stored.version, self.now() + 60)


class FetchThatHidesTheExpired(PlainStorage):
    async def fetch(self, key: str) -> Stored | None:
        stored = await super().fetch(key)
        return stored if stored and stored.expires_at > self.now() else None


class ReplaceThatRefusesTheExpired(PlainStorage):
    async def replace(self, key: str, data: bytes, expires_at: int, version: bytes) -> bytes | None:
        stored = self._records.get(key)
        if stored is None or stored.expires_at <= self.now():
            return None
        return await super().replace(key, data, expires_at, version)


class SuspendsButDeniesIt(SuspendingStorage):
    suspends: ClassVar[bool] = False


class _Sweeping(PlainStorage):
    def expired(self, key: str, stored: Stored) -> bool:
        return stored.expires_at <= self.now() - RECLAIM_AFTER

    async def sweep(self) -> int:
        doomed = [key for key, stored in self._records.items() if self.expired(key, stored)]
        await asyncio.sleep(0)
        for key in doomed:
            self._records.pop(key, None)
        return len(doomed)


class SweepThatChecksThenActs(_Sweeping):
    """The sweep of the base class loses a record that is touched between being found and being removed."""


class SweepThatOverlooksAReplace(_Sweeping):
    """Finds expired records, then removes whatever is stored under their keys by then."""

    async def sweep(self) -> int:
        doomed = {key: stored.expires_at for key, stored in self._records.items() if self.expired(key, stored)}
        await asyncio.sleep(0)
        return sum(self._records.pop(key, None) is not None for key in doomed)


class SweepOfOneSlice(_Sweeping):
    async def sweep(self) -> int:
        doomed = [key for key, stored in self._records.items() if self.expired(key, stored)][:1000]
        for key in doomed:
            del self._records[key]
        return len(doomed)


class SweepThatKeepsItsMarkWhenCancelled(_Sweeping):
    """Allows one sweep at a time, but a cancelled sweep counts as running for ever."""

    sweeping = False

    async def sweep(self) -> int:
        if self.sweeping:
            return 0
        self.sweeping = True
        await asyncio.sleep(0)
        removed = await super().sweep()
        self.sweeping = False
        return removed


class SweepThatRemovesAll(_Sweeping):
    def expired(self, key: str, stored: Stored) -> bool:
        return True


class SweepWithoutMargin(_Sweeping):
    def expired(self, key: str, stored: Stored) -> bool:
        return stored.expires_at <= self.now()


class SweepByTheFirstExpiry(_Sweeping):
    def _put(self, key: str, data: bytes, expires_at: int) -> bytes:
        self.__dict__.setdefault("first", {}).setdefault(key, expires_at)
        return super()._put(key, data, expires_at)

    def expired(self, key: str, stored: Stored) -> bool:
        first: dict[str, Any] = self.__dict__["first"]
        return bool(first[key] <= self.now() - RECLAIM_AFTER)


class SweepThatDoesNothing(_Sweeping):
    async def sweep(self) -> int:
        return 0


class SweepThatDoesNotCount(_Sweeping):
    async def sweep(self) -> int:
        await super().sweep()
        return 0
