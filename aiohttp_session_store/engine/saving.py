"""Saving a session: create, update, extend, rotate or end its record; never an upsert."""

import asyncio
import logging
import secrets
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from ..errors import SessionLockError, StorageError, one_line
from ..record.changes import NO_CHANGES, Changes
from ..record.format import LOGOUT, REPLACED, Record, Retired, Stored
from ..record.head import Head, Note
from ..record.merge import merge
from ..record.session_id import key_of, new_id
from ..session.state import Login, Place, Rotation, SessionState
from ..tracebacks import hide_locals
from .ending import bury, end, fence
from .extending import confirm
from .owners import Owners
from .rotating import Rotating, rotate
from .shared_saves import SharedSaves
from .telling import tell_created
from .verbs import Verbs
from .writing import LostTrackError, RecordWriter, link, unlink

_logger = logging.getLogger("aiohttp_session_store")

# An id can be taken by a tombstone, of somebody who lists the sessions of an owner just before the record is inserted.
_ID_COLLISIONS = 20


class Saver:
    """Saves the sessions of one keyed storage."""

    def __init__(self, storage: Verbs) -> None:
        """Work on *storage*."""
        self._storage = storage
        self._writer = RecordWriter(storage)
        self._shared = SharedSaves(self._writer)
        self.owners: Owners = Owners(self._writer)
        self._running: set[asyncio.Task[Any]] = set()

    async def finish(self) -> None:
        """Wait for the saves under way, also for those that outlived their requests.

        What another app that uses the storage saves meanwhile is not waited for: that could go on for ever.  The saves
        of a forked child's parent are the parent's own.
        """
        loop = asyncio.get_running_loop()
        under_way = {task for task in self._running | self._shared.tasks if task.get_loop() is loop}
        if under_way:
            await asyncio.wait(under_way)

    async def save(self, state: SessionState) -> str | None:
        """Store what was changed; see :meth:`SessionStorage.save`.

        A save that has begun is finished even if the request is cancelled.  The next save waits for it, returns its
        cookie value, and if it failed, stores its changes.
        """
        try:
            while state.saving is not None and not (state.destroyed and state.destroy_pending):
                await asyncio.wait([state.saving])  # also for a logout: the save that is under way carries it out
            if not state.destroyed:
                changes = state.log.take()
                if changes and state.place is not None and state.rotation is None:
                    await self._update(state, state.place, changes)
                else:
                    await self._save_others(state, changes)
                if state.to_count is not None:
                    await self._structural(state, self._limit(state, state.to_count))
            elif state.destroy_pending:
                await self._structural(state, self._destroy(state, state.saving))
        except BaseException as error:
            hide_locals(error)
            raise
        owed, state.owed = state.owed, None
        return owed

    async def _save_others(self, state: SessionState, changes: Changes) -> None:
        """Save whatever is not just a change of data."""
        place, rotation = state.place, state.rotation
        if place is None:
            if changes or state.replaces is not None or state.logged_out is not None or state.login is not None:
                create = self._create(state, changes, state.id)
                await self._structural(state, self._or_put_back(state, changes, create))
        elif rotation is not None:
            rotate = self._rotate(state, changes, place, rotation, state.id)
            await self._structural(state, self._or_put_back(state, changes, rotate))
        elif state.confirm:
            await self._confirm(state, place)

    async def _or_put_back(self, state: SessionState, changes: Changes, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            _put_back(state, changes, error)
            raise

    # --- ending

    async def _destroy(self, state: SessionState, under_way: "asyncio.Future[Any] | None") -> None:
        if under_way is not None:  # waited for here: a logout is carried out even if its request is cancelled meanwhile
            await asyncio.wait([under_way])
        await self._end(state.doomed(), LOGOUT, own=state)
        state.mark_destroyed()
        state.logged_out, state.owed = None, ""

    async def _end(self, doomed: Iterable[SessionState], why: str, *, own: SessionState | None = None) -> None:
        """End sessions, and take them out of the indexes of their owners.

        Args:
            doomed: What to end.
            why: The reason that the tombstone gives.
            own: The session whose save this is, and must not be waited for.

        Raises:
            StorageError: One of them may still be there.
        """
        some_ended = False
        for state in doomed:
            while state.saving is not None and state is not own:  # it may move the session
                await asyncio.wait([state.saving])
            if state.place is None:
                continue
            try:
                ended = await end(self._storage, state.place.key, state.place.stored, why)
            except StorageError as error:
                error.maybe_stored |= some_ended
                raise
            if ended is not None:
                some_ended = True
                if ended.ended:
                    self._storage.observing.tell_end(ended.key, ended.head, why)
                with suppress(StorageError):  # or whoever lists the sessions finds that this one has ended
                    await unlink(self._storage, ended.head, ended.key)

    async def _log_out(self, state: SessionState) -> str | None:
        """End the session that this request has logged out of; return the cookie value that says so, or None."""
        if state.logged_out is None:
            return None
        await self._end(state.logged_out.doomed(), LOGOUT)
        state.logged_out = None
        return ""

    # --- creating

    async def _create(self, state: SessionState, changes: Changes, asked_id: str) -> None:
        state.owed = await self._log_out(state)
        now, replaces, login = self._storage.now(), state.replaces, state.login
        record = Record(state.created_at, now, None, {}, (), None if login is None else await self._head(login))
        record = self._writer.entered(self._writer.merged(record, [changes], now), now)
        head = record.head
        if not record.data and not record.flashes and head is None:
            if replaces is not None:
                await self._end_replaced(replaces)
                state.replaces, state.owed = None, ""
            return
        expires_at = self._storage.timeouts.expiry(now, record.created_at, head)
        session_id, stored = await self._insert(asked_id, record, expires_at)
        if replaces is not None:
            await self._replace(replaces, key_of(session_id), head)
        if state.id == asked_id:
            state.id = session_id
        else:  # regenerated meanwhile
            state.rotation = Rotation(session_id, delete_old=True, renew_lifetime=False)
        state.replaces, state.owed = None, session_id
        if state.login is login:
            state.login = None
        self._stands(state, self._writer.written(key_of(session_id), stored, record))
        tell_created(self._storage.observing, state, key_of(session_id), head, login)
        state.to_count = self._to_count(head)

    async def _head(self, login: Login) -> Head:
        """Return the head of a session that *login* makes."""
        head = login.head()
        if self._storage.max_sessions_per_owner is not None:
            # Newer than any before, also within one second, or it could be the one that the limit ends.
            newest = await self.owners.newest_login(login.owner)
            head = replace(head, authenticated_at=max(head.authenticated_at, 1 + newest))
        return head

    def _to_count(self, head: Head | None) -> str | None:
        """Return the owner who has just logged in, if the number of sessions is limited."""
        return None if head is None or self._storage.max_sessions_per_owner is None else head.owner

    async def _limit(self, state: SessionState, owner: str) -> None:
        """End the oldest sessions of an owner who has just logged in; if that fails, the next save tries again."""
        most = self._storage.max_sessions_per_owner
        if most is not None:
            await self.owners.keep_newest(owner, most)
        state.to_count = None

    async def _insert(self, session_id: str, record: Record, expires_at: int) -> tuple[str, Stored]:
        """Insert a new record, under another id if that one is taken.

        Raises:
            SessionTooLargeError: It is larger than the storage allows.
            StorageError: The storage failed, or says that every id is taken.
        """
        head = record.head
        for _ in range(_ID_COLLISIONS):
            key = key_of(session_id)
            data = self._writer.encoded(record, key)
            await link(self._storage, head, key)
            try:
                version = await self._storage.insert(key, data, expires_at)
            except StorageError as error:
                if head is not None:
                    await self._take_back(key, head, error)
                raise
            if version is not None:
                return session_id, Stored(data, version, expires_at)
            await unlink(self._storage, head, key)
            session_id = new_id()
        raise StorageError("the storage says that every new session id exists already: nothing was stored")

    async def _take_back(self, key: str, head: Head | None, error: StorageError) -> None:
        """Take a new record back, of which nobody was told; its entry in the index stays if its fate is unknown."""
        with suppress(StorageError):  # then it expires
            if error.maybe_stored:
                await bury(self._storage, key, REPLACED)
            else:
                await self._storage.delete(key)
            await unlink(self._storage, head, key)

    async def _replace(self, replaces: SessionState, new_key: str, head: Head | None) -> None:
        """End the session that a new one, just inserted at *new_key*, replaces; or take the new one back.

        Raises:
            StorageError: The session that was to be replaced goes on, unless ``maybe_stored`` is true.
        """
        try:
            await self._end_replaced(replaces)
        except StorageError as error:
            if not error.maybe_stored:
                await self._take_back(new_key, head, error)
                raise
            try:
                # The ending may still be on its way. It must not come when the new session has been taken back.
                ended = [await self._has_ended_after_all(state) for state in replaces.doomed()]
                if all(ended):
                    return
                await bury(self._storage, new_key, REPLACED)
                await unlink(self._storage, head, new_key)
            except StorageError as unknown:
                raise StorageError(
                    f"whether a new session replaced the one before is not known: {error.args[0]}", maybe_stored=True
                ) from unknown
            error.maybe_stored = any(ended)
            raise

    async def _end_replaced(self, replaces: SessionState) -> None:
        await self._end(replaces.doomed(), REPLACED)

    async def _has_ended_after_all(self, state: SessionState) -> bool:
        found = None if state.place is None else await fence(self._storage, state.place.key)
        while isinstance(found, Retired) and found.successor is not None:
            found = await fence(self._storage, found.successor)
        return not isinstance(found, Record)

    # --- owners

    async def adopt(self, state: SessionState, owner: str) -> None:
        """Give *owner* a session that has no owner yet; see :meth:`SessionStorage.adopt`."""
        place = state.place
        if place is None or state.led_on or state.head is not None:
            return
        head = Head(owner, place.record.created_at, secrets.token_urlsafe(6), 0)
        stands = await self.owners.adopt(place, head)
        if stands is None:
            state.mark_destroyed()
        else:
            self._stands(state, stands)

    async def note(self, place: Place, name: str, note: Note) -> Place | None:
        """Change a note in the head of a session; see :meth:`KeyedStorage.note`."""
        changes = NO_CHANGES._replace(notes={name: note})
        if not self._storage.suspends:
            return await self._writer.write(place, [changes])
        written = self._shared.submit(place, changes)
        await self._shielded(written)
        return written.result()

    # --- another id

    async def _rotate(
        self, state: SessionState, changes: Changes, place: Place, rotation: Rotation, session_id: str
    ) -> None:
        own_key, login, ids = key_of(rotation.original_id), state.login, [session_id]
        led_on = place.key != own_key
        head = None if login is None else await self._head(login)

        def next_key() -> str:
            key = key_of(ids[-1])
            ids.append(new_id())
            return key

        def work(newest: Place) -> Coroutine[Any, Any, Place | None]:
            return rotate(
                self._writer,
                Rotating(
                    place=newest if newest.key == place.key else place,
                    readable=state.readable or place.record,
                    led_on=led_on,
                    new_key=next_key,
                    changes=[changes],
                    delete_old=rotation.delete_old,
                    renew_lifetime=rotation.renew_lifetime,
                    lease=state.lease,
                    login=head,
                    confirmed_at=rotation.confirmed_at,
                ),
            )

        # In the queue of the saves of this process, which could otherwise starve it; under a lock there is no queue.
        alone = not self._storage.suspends or state.lease is not None
        try:
            outcome = await (work(place) if alone else self._shared.submit(place, work))
        except Exception:
            state.take_another_id(session_id)  # a tombstone may stand under that one
            raise
        before = place.record.head
        if outcome is None and head is not None and before is not None and before.owner != head.owner:
            # The session of another account has ended meanwhile. Nothing of it was to be kept, so this login goes on.
            state.rotation, state.place, state.created_at = None, None, self._storage.now()
            await self._create(state, changes, session_id)
            return
        if state.login is login:
            state.login = None
        got = next((one for one in ids if outcome is not None and outcome.key == key_of(one)), None)
        if outcome is None:
            state.rotation = None
            self._gone(state, own_key)
        elif got is not None:
            state.carried_out(rotation, got)
            state.owed = got
            self._stands(state, outcome)
            state.to_count = self._to_count(head)
        else:  # a parallel request had changed the id: the browser gets the cookie from that one
            state.carried_out(rotation, rotation.original_id)
            self._stands(state, outcome, changes)

    # --- data

    async def _update(self, state: SessionState, place: Place, changes: Changes) -> None:
        try:
            if state.lease is not None:
                await self._structural(state, self._write(state, place, changes))
            elif self._storage.suspends:
                state.saving = written = self._shared.submit(place, changes)
                written.add_done_callback(partial(self._settle, state, changes))
                await self._shielded(written)
            else:
                await self._write(state, place, changes)
        except StorageError as error:
            if changes.by_handler or state.confirm or isinstance(error, SessionLockError):
                raise
            lost = "session %s: a flash that was read could not be removed"
            self._storage.outages.note(logging.WARNING, error, lost, place.key)

    async def _write(self, state: SessionState, place: Place, changes: Changes) -> None:
        """Write alone: under an exclusive lock, and for a storage that never suspends."""
        try:
            outcome = await self._writer.write(place, [changes], state.lease)
        except Exception as error:
            _put_back(state, changes, error)
            raise
        self._updated(state, changes, outcome)

    def _settle(self, state: SessionState, changes: Changes, written: "asyncio.Future[Place | None]") -> None:
        state.saving = None
        if written.cancelled() or (error := written.exception()) is not None:
            _put_back(state, changes, None if written.cancelled() else error)
        else:
            self._updated(state, changes, written.result())

    def _updated(self, state: SessionState, changes: Changes, outcome: Place | None) -> None:
        if outcome is not None:
            self._stands(state, outcome, changes)
        elif changes.by_handler and state.place is not None:
            self._gone(state, state.place.key)
        elif state.confirm:  # only a flash was to be removed, but save_session asks whether the session stands
            state.mark_destroyed()

    async def _confirm(self, state: SessionState, place: Place) -> None:
        """Ask whether the session still stands, and extend it: the handler uses it now."""
        outcome = await confirm(self._writer, place, state.lease)
        if state.place is place and state.saving is None:
            if outcome is None:
                state.mark_destroyed()
            else:
                self._stands(state, outcome)

    # --- where the session stands

    def _stands(self, state: SessionState, place: Place, changes: Changes | None = None) -> None:
        """Note where the session stands now, and what it reads from here on.

        Under its own id it reads the newest record.  If it was led on to another id, it goes on reading what its own id
        could read, with its own *changes*.
        """
        before = place.record if state.place is None else state.place.record
        unchanged = changes is None and state.place is not None and before is place.record
        state.place = place
        state.expires_at = place.stored.expires_at
        if state.led_on:
            state.readable = state.readable or before
            if changes is not None:
                now, idle = self._storage.now(), state.readable.idle_timeout
                state.readable = merge(state.readable, changes.saves(), now, idle)
                state.log.keep(changes)
            return
        state.readable = None
        state.created_at, state.head = place.record.created_at, place.record.head
        if not unchanged and not state.sealed and not state.destroyed:
            state.log.rebase(place.record.data)

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
        await self._shielded(task)

    async def _shielded(self, work: "asyncio.Future[Any]") -> None:
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            work.add_done_callback(self._log_failure)
            raise

    def _log_failure(self, work: "asyncio.Future[Any]") -> None:
        """Log the failure of a save that outlived its cancelled request: perhaps nobody else is left to hear it."""
        if work.cancelled() or (error := work.exception()) is None:
            return
        lost = "the session of a cancelled request was not stored"
        if isinstance(error, StorageError):
            self._storage.outages.note(logging.ERROR, error, lost)
        else:
            hide_locals(error)
            _logger.error("%s: %s", lost, one_line(error), exc_info=error)


def _put_back(state: SessionState, changes: Changes, error: BaseException | None) -> None:
    state.log.put_back(changes, lost=isinstance(error, LostTrackError))
