"""What saving a session comes to: create, update, extend, rotate or destroy its record; never an upsert."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from ..changes import Changes
from ..errors import StorageError
from ..record import Record, decode_record, encode_record
from ..state import SessionState, Stored, key_of, new_id
from .group_commit import GroupCommit
from .merging import RecordWriter

if TYPE_CHECKING:
    from .base import KeyedStorage

T = TypeVar("T")

logger = logging.getLogger("aiohttp_session_store")

_ID_COLLISIONS = 3


class Saver:
    """Saves the sessions of one keyed storage."""

    def __init__(self, storage: "KeyedStorage") -> None:
        """Work on *storage*."""
        self._storage = storage
        self._writer = RecordWriter(storage)
        self._commits = GroupCommit(self._writer.write)
        self._running: set[asyncio.Task[Any]] = set()

    async def finish(self) -> None:
        """Wait for the saves that outlived their requests."""
        while under_way := self._running | self._commits.tasks:
            await asyncio.wait(under_way)

    async def save(self, state: SessionState) -> str | None:
        """Store what was changed; see :meth:`SessionStorage.save`."""
        while state.structural is not None:
            await asyncio.wait([state.structural])
        if state.destroyed:
            return await self._save_destroyed(state)
        changes = state.log.take()
        try:
            if state.stored is None:
                return await self._structural(state, self._create(state, changes))
            if state.rotation is not None:
                return await self._structural(state, self._rotate(state, changes))
            await self._update(state, changes)
        except Exception:
            state.log.put_back(changes)
            raise
        return None

    async def _save_destroyed(self, state: SessionState) -> str | None:
        if not state.destroy_pending:
            return None
        await self._structural(state, self._destroy(state))
        return ""

    async def _destroy(self, state: SessionState) -> None:
        for doomed in (state, state.replaces):
            if doomed is not None and doomed.stored is not None:
                await self._writer.destroy(key_of(doomed.id), doomed.stored)
        state.destroy_pending = False

    async def _create(self, state: SessionState, changes: Changes) -> str | None:
        now = self._storage.now()
        cookie_value: str | None = None
        record = self._writer.merged(Record(state.created_at, now, self._storage.timeouts.idle, {}), [changes], now)
        if record.data or record.flashes:
            data, expires_at = encode_record(record), self._storage.timeouts.expiry(now, record.created_at)
            for _ in range(_ID_COLLISIONS):
                version = await self._storage.insert(key_of(state.id), data, expires_at)
                if version is not None:
                    break
                state.id = new_id()
            else:
                raise StorageError("the storage says that every new session id exists already")
            self._stored(state, Stored(data, version, expires_at), record)
            cookie_value = state.id
        if state.replaces is not None:
            if state.replaces.stored is not None:
                await self._writer.destroy(key_of(state.replaces.id), state.replaces.stored)
            state.replaces = None
            cookie_value = cookie_value or ""
        return cookie_value

    async def _rotate(self, state: SessionState, changes: Changes) -> str | None:
        rotation, stored = state.rotation, state.stored
        assert rotation is not None  # noqa: S101  save() asks only then
        assert stored is not None  # noqa: S101
        outcome = await self._writer.rotate(
            old_key=key_of(rotation.original_id),
            new_key=key_of(state.id),
            stored=stored,
            changes=[changes],
            delete_old=rotation.delete_old,
            renew_lifetime=rotation.renew_lifetime,
        )
        state.rotation = None
        if outcome is None:
            self._gone(state, rotation.original_id)
            return None
        if outcome.key != key_of(state.id):  # a parallel request had rotated it: the browser gets that one's cookie
            state.id = rotation.original_id
            state.retired = True
            return None
        self._stored(state, outcome.stored, outcome.record)
        return state.id

    async def _update(self, state: SessionState, changes: Changes) -> None:
        stored, record = state.stored, state.record
        assert stored is not None  # noqa: S101  save() creates otherwise
        if not changes:
            if not state.retired:
                await self._touch_if_due(state, stored, record)
            return
        key = key_of(state.id)
        try:
            if self._storage.suspends:
                outcome = await self._commits.submit(key, stored, changes)
            else:
                outcome = await self._writer.write(key, stored, [changes])
        except StorageError:
            if changes.by_handler:
                raise
            state.log.put_back(changes)
            logger.warning("session %s: a flash that was read could not be removed", key, exc_info=True)
            return
        if outcome is None:
            if changes.by_handler:
                self._gone(state, state.id)
        elif outcome.key == key:
            self._stored(state, outcome.stored, outcome.record)

    async def _touch_if_due(self, state: SessionState, stored: Stored, record: Record) -> None:
        now = self._storage.now()
        outdated = self._storage.timeouts.outdated(record)
        if not outdated and not self._storage.timeouts.touch_due(record, stored.expires_at, now):
            return
        key, expires_at = key_of(state.id), self._storage.timeouts.expiry(now, record.created_at)
        try:
            if outdated:
                await self._writer.rewrite(key, stored)
            elif await self._storage.touch(key, expires_at, stored.version):
                state.stored = Stored(stored.data, stored.version, expires_at)
                state.expires_at = expires_at
        except StorageError:
            logger.warning("session %s could not be extended", key, exc_info=True)

    def _stored(self, state: SessionState, stored: Stored, record: Record) -> None:
        state.stored = stored
        state.record = record
        state.retired = False
        state.created_at = record.created_at
        state.expires_at = stored.expires_at
        if not state.sealed:
            fresh = decode_record(stored.data)
            assert isinstance(fresh, Record)  # noqa: S101  we encoded it
            state.record = fresh
            state.log.rebase(fresh.data)

    def _gone(self, state: SessionState, session_id: str) -> None:
        state.mark_destroyed()
        logger.info(
            "session %s was destroyed while a request was changing it: the changes are dropped", key_of(session_id)
        )

    async def _structural(self, state: SessionState, work: Coroutine[Any, Any, T]) -> T:
        """Run *work*, which changes a session's id or existence, to its end, even if the request is cancelled."""
        if not self._storage.suspends:
            return await work
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        state.structural = task

        def finished(_: object) -> None:
            self._running.discard(task)
            state.structural = None

        task.add_done_callback(finished)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.done():
                task.add_done_callback(_log_failure)
            raise


def _log_failure(task: "asyncio.Task[Any]") -> None:
    """Say what a save that outlived its cancelled request failed with: nobody else is left to hear it."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("the session of a cancelled request was not stored", exc_info=error)
