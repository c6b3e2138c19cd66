"""Whose sessions they are: listing them, ending them, and how many an owner may have.

The index of an owner is a set of keys.  It may show too much for a moment, but it never shows too little: a session is
entered before its record is written.  An entry is removed only when a record that can never live again stands at its
key: a retired record, or a tombstone.  If nothing stands there, a tombstone is inserted first, because a login may be
just about to insert its record.
"""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from ..errors import SessionUsageError, StorageError
from ..record.changes import NO_CHANGES
from ..record.format import LOGIN, REVOKED, TOO_MANY, Retired
from ..record.head import Head, owner_key
from ..record.session_id import is_key
from ..record.timeouts import last_use
from ..session.state import Place
from .ending import bury, close
from .retry import Attempts
from .telling import tell_over
from .verbs import Verbs
from .writing import RecordWriter, Unreadable, unlink

T = TypeVar("T")

# Records that are looked at side by side.
_SLICE = 64


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """One session of an owner, as ``sessions_of`` lists it.

    Attributes:
        key: What ``end_session`` takes.  It may be shown: nobody can open the session with it.
        owner: The account that the session belongs to.
        label: What the application called the device at the login, or None.
        created_at: Whole Unix seconds.
        authenticated_at: Whole Unix seconds of the login, or of its last confirmation.
        last_used_at: Whole Unix seconds, right to a tenth of the idle timeout.
        expires_at: Whole Unix seconds.  The session ends then if it is not used again.
    """

    key: str
    owner: str
    label: str | None
    created_at: int
    authenticated_at: int
    last_used_at: int
    expires_at: int


class Owners:
    """The sessions of owners in one keyed storage."""

    def __init__(self, writer: RecordWriter) -> None:
        """Work on the storage of *writer*."""
        self._writer = writer
        self._storage: Verbs = writer.storage

    async def sessions_of(self, owner: str) -> list[SessionInfo]:
        """Return the live sessions of *owner*, the newest login first.

        Raises:
            SessionUsageError: The storage has no index.
            StorageError: The storage failed.
        """
        found = await self._live(owner)
        return [
            SessionInfo(
                place.key,
                head.owner,
                head.label,
                place.record.created_at,
                head.proved_at,
                last_use(place.record, place.stored.expires_at),
                place.ends,
            )
            for place, head in _newest_first(found)
        ]

    async def end_sessions(self, owner: str, keep: Iterable[str] = ()) -> int:
        """End the sessions of *owner*, and return how many that were.

        Args:
            owner: The account.
            keep: The lines of sessions that go on.

        Raises:
            SessionUsageError: The storage has no index.
            StorageError: Some of them may still be there; ``maybe_stored`` if others may have ended.
        """
        kept, ended, seen = set(keep), set[str](), set[str]()
        while todo := [key for key in await self._linked(owner) if key not in seen]:
            for start in range(0, len(todo), _SLICE):
                slice_ = todo[start : start + _SLICE]
                results = await _all(self._end(owner, key, kept) for key in slice_)
                try:
                    lines = _without_errors(results)
                except StorageError as error:
                    error.maybe_stored |= bool(ended) or any(isinstance(one, str) for one in results)
                    raise
                ended |= {line for line in lines if line is not None}
                seen |= {key for key, line in zip(slice_, lines, strict=True) if line is None}
        return len(ended)

    async def end_session(self, owner: str | None, key: str) -> bool:
        """End the one session of *owner* that was listed with *key*; return whether it was there.

        The key comes from a form, so it may be any text, such as a path.

        Args:
            owner: Whose session it has to be; None for anybody's or nobody's.  Then a record that cannot be read is
                ended, too.
            key: As it was listed, perhaps before the session's id was renewed.

        Raises:
            SessionUsageError: The storage has no index.
            StorageError: It may still be there.
        """
        if owner is not None:
            self._need_index()
        if not is_key(key):
            return False
        key, found = await self.listed(key)
        if isinstance(found, Place):
            head = found.record.head
            if self._storage.now() >= found.ends or (owner is not None and (head is None or head.owner != owner)):
                return False
        elif owner is not None or not isinstance(found, Unreadable):
            return False
        ended = await bury(self._storage, key, REVOKED, owner=owner)
        if ended.ended:
            self._storage.observing.tell_end(ended.key, ended.head, REVOKED)
        await unlink(self._storage, ended.head, ended.key)
        return owner is None or ended.head is not None

    async def listed(self, key: str) -> tuple[str, Place | Retired | Unreadable | None]:
        """Return what was listed with *key*, and its key now: it may have been renewed since, and is followed then.

        A session that another login has replaced is not followed: that is another one.
        """
        passed: set[str | None] = set()
        found = await self._writer.look(key)
        while isinstance(found, Retired) and found.successor is not None and found.why != LOGIN:
            if found.successor in passed:
                break
            passed.add(found.successor)
            key = found.successor
            found = await self._writer.look(key)
        return key, found

    # --- one login

    async def find(self, index: str, line: str) -> Place | None:
        """Return where the session of one login stands; see :meth:`KeyedStorage.find_login`."""
        self._need_index()
        keys, unreadable = await self._storage.linked(index), False
        for start in range(0, len(keys), _SLICE):
            for _, found in _without_errors(await _all(map(self._followed, keys[start : start + _SLICE]))):
                unreadable = unreadable or isinstance(found, Unreadable)
                head = found.record.head if isinstance(found, Place) else None
                if not isinstance(found, Place) or head is None or self._storage.now() >= found.ends:
                    continue
                if head.line == line and owner_key(head.owner) == index:
                    return found
        if unreadable:
            raise StorageError("one of the owner's sessions cannot be read here, and it may be the one in question")
        return None

    # --- the limit

    async def newest_login(self, owner: str) -> int:
        """Return when the newest login of *owner* was, in whole Unix seconds, or 0."""
        return max((head.authenticated_at for _, head in await self._live(owner)), default=0)

    async def keep_newest(self, owner: str, most: int) -> None:
        """End all but the *most* newest logins of *owner*, in an order that is the same for everybody.

        Raises:
            StorageError: Some of them may still be there.
        """
        lines: dict[str, list[str]] = {}
        for place, head in _newest_first(await self._live(owner)):
            lines.setdefault(head.line, []).append(place.key)
        for keys in list(lines.values())[most:]:
            for key in keys:
                ended = await bury(self._storage, key, TOO_MANY, owner=owner)
                if ended.ended:
                    self._storage.observing.tell_end(ended.key, ended.head, TOO_MANY)
                await unlink(self._storage, ended.head, ended.key)
                if ended.key != key:
                    await self._storage.unlink(owner_key(owner), key)

    # --- sessions from before login() was used

    async def adopt(self, place: Place, head: Head) -> Place | None:
        """Give a session that has no owner yet the owner of *head*; its id stays.

        Returns:
            Where the session stands, perhaps with the owner that a parallel request gave it, or with none because a
            parallel request changed it; None: it has ended.

        Raises:
            StorageError: The storage failed.
        """
        head = replace(head, until=self._storage.timeouts.until(self._storage.now(), place.record.created_at, head))
        return await self._writer.write(place, [NO_CHANGES], head=head)

    # --- the index

    def _need_index(self) -> None:
        if not self._storage.has_index:
            raise SessionUsageError(
                f"{type(self._storage).__name__} has no index of owners, so it cannot tell whose sessions they are: it"
                " lacks the verbs link, unlink and linked"
            )

    async def _linked(self, owner: str) -> Sequence[str]:
        self._need_index()
        return await self._storage.linked(owner_key(owner))

    async def _live(self, owner: str) -> list[tuple[Place, Head]]:
        """Return the live sessions of *owner*, and remove the entries of dead ones from the index."""
        keys = await self._linked(owner)
        found: dict[str, tuple[Place, Head]] = {}
        for start in range(0, len(keys), _SLICE):
            looked = await _all(self._look(owner, key) for key in keys[start : start + _SLICE])
            for one in _without_errors(looked):
                if one is not None:
                    found[one[0].key] = one
        return list(found.values())

    async def _look(self, owner: str, key: str) -> tuple[Place, Head] | None:
        """Return the session that is entered at *key*, or None; an entry that can never live again is removed."""
        entry, attempts = key, Attempts(key)
        while True:
            key, found = await self._followed(entry)
            if isinstance(found, Unreadable):
                return None  # it stays: a process of another version may read it
            head = found.record.head if isinstance(found, Place) else None
            if isinstance(found, Place) and self._storage.now() < found.ends:
                if head is None:
                    return None  # it stays: the session is about to get its owner
                await self._forget_moved(owner, entry, key, head)
                return (found, head) if head.owner == owner else None
            if isinstance(found, Place):
                tell_over(self._storage, found)
            try:
                if key != entry or isinstance(found, Retired) or await close(self._storage, key, found):
                    await self._storage.unlink(owner_key(owner), entry)
                    return None
                await attempts.conflict()  # a login has just inserted its record, or the session was extended
            except StorageError:
                return None  # it is removed the next time

    async def _forget_moved(self, owner: str, entry: str, key: str, head: Head) -> None:
        """Remove an entry whose session stands at another *key* now, or is another owner's: its process has died."""
        if key != entry or head.owner != owner:
            with suppress(StorageError):  # it is removed the next time
                await self._storage.unlink(owner_key(owner), entry)

    async def _followed(self, key: str) -> tuple[str, Place | Retired | Unreadable | None]:
        """Return what stands at *key*, or where retired records lead from there."""
        passed = {key}
        found = await self._writer.look(key)
        while isinstance(found, Retired) and found.successor is not None and found.successor not in passed:
            key = found.successor  # its id was changed after the index was read
            passed.add(key)
            found = await self._writer.look(key)
        return key, found

    async def _end(self, owner: str, key: str, kept: set[str]) -> str | None:
        """End the session that is entered at *key*, and return its line; None if it goes on, or none is there."""
        entry = key
        key, found = await self._followed(entry)
        head = found.record.head if isinstance(found, Place) else None
        if isinstance(found, Unreadable):
            return None
        if head is not None and (head.owner != owner or head.line in kept):
            await self._forget_moved(owner, entry, key, head)
            return None
        ended = await bury(self._storage, entry, REVOKED, owner=owner)
        expired = isinstance(found, Place) and self._storage.now() >= found.ends
        if isinstance(found, Place) and expired:
            tell_over(self._storage, found)
        elif ended.ended:
            self._storage.observing.tell_end(ended.key, ended.head, REVOKED)
        await unlink(self._storage, ended.head, ended.key)
        await self._storage.unlink(owner_key(owner), entry)
        return None if expired or ended.head is None else ended.head.line  # a login may have inserted it just now


async def _all(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T | BaseException]:
    """Return what *calls* return or raise, side by side.  If one fails, the others are not left running unawaited."""
    return await asyncio.gather(*calls, return_exceptions=True)


def _without_errors(results: Sequence[T | BaseException]) -> list[T]:
    """Return *results*, or raise the first error among them; it says ``maybe_stored`` if another one does."""
    errors = [one for one in results if isinstance(one, BaseException)]
    if errors:
        first = next((one for one in errors if not isinstance(one, StorageError)), errors[0])
        if isinstance(first, StorageError):
            first.maybe_stored = any(isinstance(one, StorageError) and one.maybe_stored for one in errors)
        raise first
    return [one for one in results if not isinstance(one, BaseException)]


def _newest_first(found: Iterable[tuple[Place, Head]]) -> list[tuple[Place, Head]]:
    return sorted(found, key=lambda one: (one[1].authenticated_at, one[1].line), reverse=True)
