"""What saving a session comes to: create, update, extend, rotate or destroy its record; never an upsert."""

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

from ..errors import StorageError
from ..record.changes import NO_CHANGES, Changes
from ..record.format import Record, Stored
from ..record.session_id import key_of, new_id
from ..session.state import Rotation, SessionState
from .ending import destroy
from .rotating import rotate
from .shared_saves import SharedSaves
from .verbs import Verbs
from .writing import RecordWriter, Written

_logger = logging.getLogger("aiohttp_session_store")

_ID_COLLISIONS = 3


class Saver:
    """Saves the sessions of one keyed storage."""

    def __init__(self, storage: Verbs) -> None:
        """Work on *storage*."""
        self._storage = storage
        self._writer = RecordWriter(storage)
        self._commits = SharedSaves(self._writer.write)
        self._running: set[asyncio.Task[Any]] = set()

    async def finish(self) -> None:
        """Wait for the saves that outlived their requests; a parent's, after a fork, are its own."""
        loop = asyncio.get_running_loop()
        while under_way := {task for task in self._running | self._commits.tasks if task.get_loop() is loop}:
            await asyncio.wait(under_way)

    async def save(self, state: SessionState) -> str | None:
        """Store what was changed; see :meth:`SessionStorage.save`.

        A save that has begun is finished even if the request is cancelled; the next one waits for it and tells its
        cookie value, and stores its changes if it failed.
        """
        while state.saving is not None and not state.destroy_pending:
            await asyncio.wait([state.saving])
        if not state.destroyed:
            changes = state.log.take()
            if changes and state.stored is not None and state.rotation is None:
                await self._update(state, state.stored, changes)
            else:
                await self._save_others(state, changes)
        elif state.destroy_pending:
            await self._structural(state, self._destroy(state, state.saving))
        owed, state.owed = state.owed, None
        return owed

    async def _save_others(self, state: SessionState, changes: Changes) -> None:
        """Save whatever is not just a change of data."""
        stored, rotation = state.stored, state.rotation
        if stored is None:
            if changes or state.replaces is not None:
                create = self._create(state, changes, state.id)
                await self._structural(state, self._or_put_back(state, changes, create))
        elif rotation is not None:
            rotate = self._rotate(state, changes, stored, rotation, state.id)
            await self._structural(state, self._or_put_back(state, changes, rotate))
        elif not state.retired:
            await self._touch_if_due(state, stored, state.record)

    async def _or_put_back(self, state: SessionState, changes: Changes, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:
            state.log.put_back(changes)
            raise

    async def _destroy(self, state: SessionState, under_way: "asyncio.Future[Any] | None") -> None:
        if under_way is not None:  # waited for here: a logout is carried out even if its request is cancelled meanwhile
            await asyncio.wait([under_way])
        for doomed in (state, state.replaces):
            if doomed is not None and doomed.stored is not None:
                await destroy(self._storage, key_of(doomed.id), doomed.stored)
        state.destroy_pending = False
        state.owed = ""

    async def _create(self, state: SessionState, changes: Changes, asked_id: str) -> None:
        now, replaces = self._storage.now(), state.replaces
        record = self._writer.merged(Record(state.created_at, now, self._storage.timeouts.idle, {}), [changes], now)
        if not record.data and not record.flashes:
            if replaces is not None:
                await self._replaced(replaces)
                state.replaces, state.owed = None, ""
            return
        data, expires_at = self._storage.records.encode(record), self._storage.timeouts.expiry(now, record.created_at)
        session_id = asked_id
        for _ in range(_ID_COLLISIONS):
            version = await self._storage.insert(key_of(session_id), data, expires_at)
            if version is not None:
                break
            session_id = new_id()
        else:
            raise StorageError("the storage says that every new session id exists already")
        try:
            await self._replaced(replaces)
        except StorageError:  # to be created again, or the next save would let the old session live
            with suppress(StorageError):
                await self._storage.delete(key_of(session_id))
            raise
        if state.id == asked_id:
            state.id = session_id
        else:  # regenerated meanwhile
            state.rotation = Rotation(session_id, delete_old=True, renew_lifetime=False)
        state.replaces, state.owed = None, session_id
        self._stored(state, Stored(data, version, expires_at), record)

    async def _replaced(self, replaces: SessionState | None) -> None:
        if replaces is not None and replaces.stored is not None:
            await destroy(self._storage, key_of(replaces.id), replaces.stored)

    async def _rotate(
        self, state: SessionState, changes: Changes, stored: Stored, rotation: Rotation, session_id: str
    ) -> None:
        outcome = await rotate(
            self._writer,
            old_key=key_of(rotation.original_id),
            new_key=key_of(session_id),
            stored=stored,
            changes=[changes],
            delete_old=rotation.delete_old,
            renew_lifetime=rotation.renew_lifetime,
            lease=state.lease,
        )
        if outcome is None:
            state.rotation = None
            self._gone(state, key_of(rotation.original_id))
        elif outcome.key == key_of(session_id):
            state.carried_out(rotation, session_id)
            state.owed = session_id
            self._stored(state, outcome.stored, outcome.record)
        else:  # a parallel request had rotated it: the browser gets that one's cookie
            state.carried_out(rotation, rotation.original_id)
            state.retired = True

    async def _update(self, state: SessionState, stored: Stored, changes: Changes) -> None:
        key = key_of(state.id)
        try:
            if state.lease is not None:
                await self._structural(state, self._write(state, key, stored, changes))
            elif self._storage.suspends:
                state.saving = written = self._commits.submit(key, stored, changes)
                written.add_done_callback(partial(self._settle, state, key, changes))
                await _shielded(written)
            else:
                await self._write(state, key, stored, changes)
        except StorageError:
            if changes.by_handler:
                raise
            _logger.warning("session %s: a flash that was read could not be removed", key, exc_info=True)

    async def _write(self, state: SessionState, key: str, stored: Stored, changes: Changes) -> None:
        """Write alone: for whoever has the session exclusively, and for a storage that never suspends."""
        try:
            written = await self._writer.write(key, stored, [changes], state.lease)
        except Exception:
            state.log.put_back(changes)
            raise
        self._updated(state, key, changes, written)

    def _settle(
        self, state: SessionState, key: str, changes: Changes, written: "asyncio.Future[Written | None]"
    ) -> None:
        state.saving = None
        if written.cancelled() or written.exception() is not None:
            state.log.put_back(changes)
        else:
            self._updated(state, key, changes, written.result())

    def _updated(self, state: SessionState, key: str, changes: Changes, outcome: Written | None) -> None:
        if outcome is None:
            if changes.by_handler:
                self._gone(state, key)
        elif outcome.key == key:
            self._stored(state, outcome.stored, outcome.record)
        else:  # regenerated meanwhile: what this request has is the old id
            state.retired = True

    async def _touch_if_due(self, state: SessionState, stored: Stored, record: Record) -> None:
        now = self._storage.now()
        outdated = self._storage.timeouts.outdated(record)
        if outdated or self._storage.timeouts.touch_due(record, stored.expires_at, now):
            expires_at = self._storage.timeouts.expiry(now, record.created_at)
        elif state.confirm:
            expires_at = stored.expires_at
        else:
            return
        key = key_of(state.id)
        try:
            if not outdated and await self._storage.touch(key, expires_at, stored.version):
                if state.stored is stored:
                    state.stored = Stored(stored.data, stored.version, expires_at)
                    state.expires_at = expires_at
                return
            # Written under another idle timeout, or changed since by another request: the newest record is extended.
            newest = await self._writer.write(key, stored, [NO_CHANGES])
        except StorageError:
            if state.confirm:
                raise
            _logger.warning("session %s could not be extended", key, exc_info=True)
            return
        if state.stored is stored and state.saving is None:
            if newest is None:
                state.mark_destroyed()
            else:
                self._updated(state, key, NO_CHANGES, newest)

    def _stored(self, state: SessionState, stored: Stored, record: Record) -> None:
        state.stored = stored
        state.record = record
        state.retired = False
        state.created_at = record.created_at
        state.expires_at = stored.expires_at
        if not state.sealed and not state.destroyed:
            state.log.rebase(record.data)

    def _gone(self, state: SessionState, key: str) -> None:
        state.mark_destroyed()
        state.owed = None
        _logger.info("session %s was destroyed while a request was changing it: the changes are dropped", key)

    async def _structural(self, state: SessionState, work: Coroutine[Any, Any, None]) -> None:
        """Run *work*, which changes a session's id or existence, to its end, even if the request is cancelled."""
        if not self._storage.suspends:
            await work
            return
        state.saving = task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)

        def finished(_: object) -> None:
            self._running.discard(task)
            state.saving = None

        task.add_done_callback(finished)
        await _shielded(task)


async def _shielded(work: "asyncio.Future[Any]") -> None:
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        work.add_done_callback(_log_failure)
        raise


def _log_failure(work: "asyncio.Future[Any]") -> None:
    """Say what a save that outlived its cancelled request failed with: perhaps nobody else is left to hear it."""
    if not work.cancelled() and (error := work.exception()) is not None:
        _logger.error("the session of a cancelled request was not stored", exc_info=error)
