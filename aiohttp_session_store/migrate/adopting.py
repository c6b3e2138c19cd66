"""Turns a session that another library stored into one of ours, exactly once.

An old cookie has two records, under ids that are derived from its value.  The *mark* says that the cookie was accepted.
The other record is the session itself, which is treated as if its derived id were an id of ours that is regenerated.

1. The mark is inserted first.  Of all requests that ever bring the cookie, only one succeeds with this, and only that
   request inserts the session.  So whatever happens to the session, including a logout, no other request can create it
   again.
2. The session is loaded under the derived id.  The save regenerates the id and sends our cookie.  Parallel requests
   with the old cookie read the session under the derived id for ``rotation_grace``, and their changes reach the new
   one.
3. When the session is inserted, the mark is settled.  From then on, if there is no session, it was logged out.  A
   request that finds no session and a fresh mark that is not settled waits a moment, because the request that made the
   mark is about to insert the session.  If the session does not come, the waiting request fails.  It must not go on
   without a session, because it may be a logout, which would then end nothing.  A crash just there, between two calls
   to the storage, costs the visitor the session.  This is the price of step 1.  A request that finds such a mark later
   and gives the session up records that in the mark.  If the session is inserted after all, the request that inserts
   it also ends it.
4. Many apps log out by removing a key.  So if a key of what the old cookie may read was removed from the session since,
   or emptied, a request with the old cookie reads an empty session.  Its changes still reach the session, and it gets
   no cookie, or a slow first request would put another session in the place of the visitor's.
5. If the first visit ends with a server error, the session stays under the derived id, for the next try.

The mark is kept until the old cookie cannot be valid any more.  An old cookie that comes together with a session of
ours, or with another old cookie that becomes one, is marked, too, and a session that a server error left under its
derived id is destroyed.  So the old cookie opens nothing later.  Cookies that anybody can write have neither a mark nor
a session under a derived id.  Two visitors can have equal ones, and each gets a session of their own.
"""

import asyncio
import base64
import hashlib
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from math import inf
from typing import Any, NamedTuple

from ..engine.observing import ADOPTED, observing_of
from ..errors import SessionTooLargeError, StorageError
from ..record.format import TOMBSTONE, Record, Retired, Stored, encode_retired
from ..record.session_id import key_of
from ..record.size import COOKIE_LIMIT
from ..record.values import check_key, freeze, thaw
from ..session.change_log import ChangeLog
from ..session.session import Session, state_of
from ..storages.base import KeyedStorage, SessionStorage
from ..web.adoption import Adopted
from ..web.cookie_rules import MAX_AGE
from ..web.request_headers import values_in
from .old_session import OldSession, OldSessionReader

_logger = logging.getLogger("aiohttp_session_store")

# In seconds: how long a request waits for the one that made the mark, which has one insert to do, and the pause between
# two looks.
_PATIENCE, _PAUSE = 2.0, 0.02
# For so many seconds, the session of a mark that is not settled is expected to come. This is three times the default
# time limit of a call to our storages, and two calls are made.
_FRESH = 15
# A browser sends several cookies of one name if other paths or an old domain set them. No honest browser sends more.
_MAX_TRIES = 4
# What http.cookies writes for a character in a quoted value; that module itself takes quadratic time to read it (3.11).
_ESCAPE = re.compile(r"\\(?:([0-3][0-7][0-7])|(.))", re.DOTALL)
# Seconds for which an old cookie is remembered at least, if neither its reader nor the storage sets a limit.
_TEN_YEARS = 10 * 365 * 24 * 60 * 60
_SETTLED, _GIVEN_UP = encode_retired(TOMBSTONE), encode_retired(TOMBSTONE) + b"\ngiven up"


class _Mark(NamedTuple):
    """A mark that was just made: its key, its version and its expiry."""

    key: str
    version: bytes
    expires_at: int


class OldSessionAdopter:
    """Asks readers for the old sessions of visitors who have no session of ours."""

    def __init__(self, storage: SessionStorage, readers: Sequence[OldSessionReader], value_limit: int) -> None:
        """Adopt into *storage*, whose cookie values may have *value_limit* bytes."""
        self._storage = storage
        self._value_limit = value_limit
        self._readers = readers
        self._warned: set[str] = set()

    async def adopt(self, cookie_headers: Sequence[str]) -> Adopted | None:
        """Return the session behind an old cookie, or None if there is none.

        Raises:
            StorageError: Our storage failed, or the storage of a reader.
        """
        found = await self._found(cookie_headers)
        for reader, old in found:
            session = await self._session(reader, old)
            if session is not None:
                await self._spend([other for other in found if other[1].identity != old.identity])
                return Adopted(session, _clear(reader))
        return None

    async def spend(self, cookie_headers: Sequence[str]) -> str | None:
        """Make old cookies worthless that came together with a session of ours.

        Returns:
            The Set-Cookie header that clears such a cookie, or None if there is none.

        Raises:
            StorageError: Our storage failed, or the storage of a reader.
        """
        found = await self._found(cookie_headers)
        await self._spend(found)
        return _clear(found[-1][0]) if found else None

    async def _spend(self, found: Sequence[tuple[OldSessionReader, OldSession]]) -> None:
        for reader, old in found:
            if not isinstance(self._storage, KeyedStorage) or old.identity is None:
                continue
            if await self._marked(self._storage, reader, old.identity, settled=True) is None:
                await self._end(self._storage, derived_id("session", reader.cookie_name, old.identity))

    async def _found(self, cookie_headers: Sequence[str]) -> list[tuple[OldSessionReader, OldSession]]:
        return [
            (reader, old)
            for reader in self._readers
            for value in values_of(reader.cookie_name, cookie_headers)
            if (old := await reader.read(value)) is not None
        ]

    async def _session(self, reader: OldSessionReader, old: OldSession) -> Session | None:
        storage = self._storage
        now, data = storage.now(), self._storable(old)
        if data is None or storage.timeouts.expiry(now, old.created_at) <= now:
            return None
        if not isinstance(storage, KeyedStorage) or old.identity is None:
            return await self._copied(old, data) if await self._fits(old, data) else None
        session_id = derived_id("session", reader.cookie_name, old.identity)
        session = await storage.read(session_id)
        if state_of(session).place is None:
            made = await self._marked(storage, reader, old.identity)
            if made is not None:
                record = Record(old.created_at, now, storage.timeouts.idle, data)
                if not await self._insert(storage, made, key_of(session_id), record):
                    await self._end(storage, session_id)
            elif not await self._appears(storage, reader, old.identity, key_of(session_id)):
                return None
            session = await storage.read(session_id)
        elif not state_of(session).led_on:  # if its insert was late, it may have no mark
            await self._marked(storage, reader, old.identity, settled=True)
        state = state_of(session)
        if state.place is None:
            return None
        if not state.led_on:
            session.regenerate_id()
        elif state.readable is not None and _ended(state.readable.data, state.place.record.data):
            state.log, state.head = ChangeLog({}), None
            state.readable = state.readable._replace(data={}, head=None)
        return session

    async def _copied(self, old: OldSession, data: dict[str, Any]) -> Session:
        """Return a new session with the data of an old one."""
        storage, session = self._storage, await self._storage.read(None)
        state = state_of(session)
        state.take_over(data)
        state.created_at, state.cookie_limit = old.created_at, self._value_limit
        state.expires_at = storage.timeouts.expiry(storage.now(), old.created_at)
        return session

    async def _fits(self, old: OldSession, data: dict[str, Any]) -> bool:
        """Return whether the session fits into a cookie, if it is stored in one.  Tries it by saving a copy."""
        if self._storage.kind == "data":
            copy = await self._copied(old, data)
            try:
                with observing_of(self._storage).muted():  # it keeps nothing, so this only tries
                    await self._storage.save(copy)
            except SessionTooLargeError:
                self._warn("it is too large for a cookie")
                return False
        return True

    def _storable(self, old: OldSession) -> dict[str, Any] | None:
        """Return the data of an old session in frozen form, or None if it cannot be stored as a whole."""
        data = {}
        try:
            for key, value in old.data.items():
                check_key(key)
                data[key] = freeze(value, key)
        except TypeError:
            self._warn("it has a key or a value that a session cannot hold, such as NaN or an integer beyond 64 bits")
            return None
        return data

    def _warn(self, reason: str) -> None:
        """Warn once for each reason.  The error is not logged: it names keys, which a visitor may have chosen."""
        if reason not in self._warned:
            self._warned.add(reason)
            _logger.warning(
                "an old session was not taken over, because not all of it can be stored: %s. This is logged once",
                reason,
            )

    async def _end(self, storage: KeyedStorage, session_id: str) -> None:
        """Destroy the session under a derived id, unless it has gone on to another id."""
        session = await storage.read(session_id)
        state = state_of(session)
        if state.place is not None and not state.led_on:
            session.destroy()
            await storage.save(session)

    async def _marked(
        self, storage: KeyedStorage, reader: OldSessionReader, identity: bytes, *, settled: bool = False
    ) -> _Mark | None:
        """Make the mark and return it, or return None if another request has made it already."""
        mark, now = key_of(derived_id("mark", reader.cookie_name, identity)), storage.now()
        lasts = reader.max_age or max(MAX_AGE, storage.timeouts.lifetime or _TEN_YEARS)
        version = await storage.insert(mark, _SETTLED if settled else encode_retired(Retired(None, now)), now + lasts)
        return None if version is None else _Mark(mark, version, now + lasts)

    async def _insert(self, storage: KeyedStorage, mark: _Mark, key: str, record: Record) -> bool:
        """Insert the session and settle its mark.

        Returns:
            False if another request has given the session up meanwhile.
        """
        try:
            data = storage.records.encode(record, key)
            if await storage.insert(key, data, storage.timeouts.expiry(storage.now(), record.created_at)):
                storage.observing.tell("created", key, None, ADOPTED)
        except BaseException:
            with suppress(StorageError):  # so that the next request may try again, unless it was inserted after all
                if await storage.fetch(key) is None:
                    await storage.delete(mark.key)
            raise
        with suppress(StorageError):  # if it fails, others wait longer than they need to
            if not await storage.replace(mark.key, _SETTLED, mark.expires_at, mark.version):
                stored = await storage.fetch(mark.key)
                return stored is None or stored.data != _GIVEN_UP
        return True

    async def _appears(self, storage: KeyedStorage, reader: OldSessionReader, identity: bytes, key: str) -> bool:
        """Wait for the session of a request that has just made its mark.

        Returns:
            Whether the session is there.  False means that it will not come any more.

        Raises:
            StorageError: The session did not come, but still may.
        """
        mark, waited = key_of(derived_id("mark", reader.cookie_name, identity)), 0.0
        while True:
            stored = await storage.fetch(mark)  # read before the session: if settled, the session was there
            if await storage.fetch(key) is not None:
                return True
            if stored is not None and storage.now() - _made_at(storage, stored) > _FRESH:
                if _made_at(storage, stored) <= 0:  # settled, given up or unreadable
                    return False
                await storage.replace(mark, _GIVEN_UP, stored.expires_at, stored.version)
                continue
            if stored is None or waited >= _PATIENCE:
                raise StorageError("the request that was taking over an old session failed or has not finished")
            await asyncio.sleep(_PAUSE)
            waited += _PAUSE


def _ended(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Return whether a key of a session was removed or emptied since: that may have been a logout."""
    return any(key not in now or (not thaw(now[key]) and now[key] != value) for key, value in before.items())


def _clear(reader: OldSessionReader) -> str:
    place = f"; Path={reader.path}" + (f"; Domain={reader.domain}" if reader.domain else "")
    if reader.cookie_name.lower().startswith(("__host-", "__secure-")):  # else ignored (RFC 6265bis, 4.1.3)
        place += "; Secure"
    return f"{reader.cookie_name}=; Max-Age=0{place}"


def _made_at(storage: KeyedStorage, mark: Stored) -> float:
    try:
        record = storage.records.decode(mark.data, "")
    except ValueError:  # a damaged mark still counts as one
        return -inf
    return record.dies_at if isinstance(record, Retired) else -inf


def derived_id(purpose: str, cookie_name: str, identity: bytes) -> str:
    """Return an id in our form that nobody can guess without *identity*.  It must never be given out."""
    head = f"aiohttp_session_store.migrate\n{purpose}\n{cookie_name}\n"
    digest = hashlib.sha256(head.encode() + identity).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def values_of(name: str, cookie_headers: Sequence[str]) -> Iterator[str]:
    """Yield the first values of a cookie in the headers, each once, without the quoting of ``http.cookies``."""
    for value in values_in(cookie_headers, _pattern_for(name))[:_MAX_TRIES]:
        if len(value) <= COOKIE_LIMIT:
            yield _ESCAPE.sub(_unescaped, value[1:-1]) if value[0] == value[-1] == '"' else value


@lru_cache(16)
def _pattern_for(name: str) -> re.Pattern[str]:
    """Compile the expression that finds the values of an old cookie, which may hold anything.

    Nothing but spaces and tabs may be around a name (RFC 6265bis, section 5.6).  To a browser, another blank is a part
    of the name.  It would let another host of the site set a cookie whose name, without that blank, is ``__Host-old``.
    """
    return re.compile(rf"(?:^|;)([ \t]*){re.escape(name)}=([^;]*[^; \t])")


def _unescaped(found: re.Match[str]) -> str:
    return chr(int(found[1], 8)) if found[1] else found[2]
