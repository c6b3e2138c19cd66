"""Requests on one storage, next to the model of it: how both are driven, and how they are compared."""

import asyncio
from collections.abc import Coroutine
from copy import deepcopy
from typing import Any, NamedTuple, TypeVar

from hypothesis.stateful import RuleBasedStateMachine

from aiohttp_session_store import MemoryStorage, Session, SessionLockError, SessionTooLargeError, StorageError, Stored
from aiohttp_session_store.engine.writing import RecordWriter
from aiohttp_session_store.record.format import Retired, decode_record
from aiohttp_session_store.record.session_id import key_of, snapshot_key
from aiohttp_session_store.record.timeouts import Timeouts
from aiohttp_session_store.session.session import state_of
from aiohttp_session_store.testing import ManualClock
from tests.session.comparing import difference, live
from tests.session.failing import FailingStorage, Kind
from tests.session.model import LockLostError, Model, TooLargeError
from tests.session.modelled import GRACE, LIFETIME, REPLACED, SIZE_LIMIT, Live, Request, Snapshot, Tombstone
from tests.storages.plain import PlainStorage

T = TypeVar("T")
Answer = str | type[Exception] | StorageError | None


class Fault(NamedTuple):
    """How the storage fails; see :meth:`FailingStorage.fail_at`."""

    call: int
    kind: Kind
    down: bool


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits; calls of a memory storage never do."""
    try:
        coroutine.send(None)
    except StopIteration as stopped:
        result: T = stopped.value
        return result
    coroutine.close()
    raise AssertionError("a memory storage waited")


def run_sweep(storage: MemoryStorage) -> None:
    """Run a sweep to its end; it yields to the event loop between slices."""
    sweep = storage.sweep()
    try:
        while True:
            sweep.send(None)
    except StopIteration:
        return


class World(RuleBasedStateMachine):
    """A storage, the model of it, and the requests that are under way.

    Attributes:
        requests: The session of each request, and what the model knows of it.
        ids: The ids that browsers were sent.
        dead: The ids that a logout, a replacement or ``regenerate_id(True)`` made worthless.
        over: The ids that were found to open nothing any more.
        holder: The session that is held exclusively.  A request that held one before has lost its lock.
        uids: How many flashes there were.
        versions: The version of each live record, that of the model and that of the storage, after the last step.
    """

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock(1_700_000_000)
        self.model = Model()
        self.storage = FailingStorage(
            clock=self.clock, idle_timeout=self.model.idle, lifetime=LIFETIME, rotation_grace=GRACE,
            max_session_size=SIZE_LIMIT, sweep_interval=None,
        )  # fmt: skip
        self.requests: list[tuple[Session, Request]] = []
        self.ids: list[str] = []
        self.dead: set[str] = set()
        self.over: set[str] = set()
        self.holder: Session | None = None
        self.uids = 0
        self.versions: dict[str, tuple[int, bytes]] = {}

    def teardown(self) -> None:
        self.loop.close()

    @property
    def now(self) -> int:
        return int(self.clock())

    def open(self, index: int) -> tuple[Session, Request]:
        return self.requests[index % len(self.requests)]

    def set_idle(self, idle: int) -> None:
        """Change the idle timeout of the storage.  Sessions that a shorter one has ended may be alive again."""
        self.storage.timeouts = Timeouts(idle, LIFETIME)
        for session, _ in self.requests:  # as if another process with the new setting had loaded them
            place = state_of(session).place
            if place is not None:
                state_of(session).place = RecordWriter(self.storage).place(place.key, place.stored, place.record)
        self.model.idle = idle
        self.over.clear()

    # --- loading

    def load(self, session_id: str, fault: Fault | None = None) -> None:
        session = self._read(session_id, fault)
        if session is None:  # it failed, and nothing has happened
            return
        if self.storage.failed:  # a storage that cannot extend a session does not fail the request
            extended = deepcopy(self.model)
            extended.load(session_id, self.now)
            request = self.model.load(session_id, self.now, extends=False)
            self.model = self._found(self.model, extended)
            self._allow_new_versions()
        else:
            request = self.model.load(session_id, self.now)
        assert session.new == (request is None)
        if request is not None:
            self.requests.append((session, request))
            self.check(session, request)

    def _read(self, session_id: str | None, fault: Fault | None) -> Session | None:
        self._begin(fault)
        try:
            return run(self.storage.read(session_id))
        except StorageError:
            assert fault is not None
            return None
        finally:
            run(self.storage.work_again())

    def _begin(self, fault: Fault | None) -> None:
        self.storage.failed = ()
        if fault is not None:
            self.storage.fail_at(fault.call, fault.kind, down=fault.down)

    # --- saving

    def save(self, index: int, *, confirm: bool = False, fault: Fault | None = None) -> None:
        session, request = self.open(index)
        if request.place is None and request.id in self.model.records:
            fault = None  # the new id that the storage would be asked for next is not known here
        before = deepcopy((self.model, request)) if fault is not None else None
        asked, doomed = session.id, self._doomed(request)
        ends = (request.destroy_pending, request.replaces is None)
        worthless = request.original if request.delete_old else None
        self._begin(fault)
        answer = self._attempt(session, confirm=confirm, wait=fault is not None)
        run(self.storage.work_again())
        if answer and isinstance(answer, str) and request.place is None and request.id in self.model.records:
            request.id = answer  # an earlier save was carried out under this id, and its answer was lost
        expected = self._predict(session, request, confirm=confirm)
        if before is not None and self.storage.failed:
            request = self._reconcile(request, before, answer, expected, asked)
            self.requests[index % len(self.requests)] = (session, request)
        else:
            assert answer == expected
        self._saved(session, request, answer, asked)
        if ends != (request.destroy_pending, request.replaces is None):
            self.dead |= doomed
        if answer and isinstance(answer, str) and worthless is not None:
            self.dead.add(worthless)

    def _attempt(self, session: Session, *, confirm: bool, wait: bool) -> Answer:
        """Save, and return the cookie value or what was raised; *wait* says whether the save may pause."""
        state = state_of(session)
        state.confirm = confirm
        try:
            return (self.loop.run_until_complete if wait else run)(self.storage.save(session))
        except (SessionTooLargeError, SessionLockError) as error:
            return type(error)
        except StorageError as error:
            assert self.storage.failed
            return error
        finally:
            state.confirm = False

    def _predict(self, session: Session, request: Request, *, confirm: bool) -> Answer:
        """Save in the model, and return the cookie value or what has to be raised."""
        try:
            return self.model.save(request, self.now, confirm=confirm, held=session is self.holder)
        except TooLargeError:
            return SessionTooLargeError
        except LockLostError:
            return SessionLockError

    def _saved(self, session: Session, request: Request, answer: Answer, asked: str) -> None:
        if answer is None or isinstance(answer, str):
            self.ids += [answer] if answer else []
            assert not session.dirty
        elif request.original is not None:  # the id that was asked for may be in use by now
            assert session.id != asked
            request.id = session.id
        self.check(session, request)

    def check(self, session: Session, request: Request) -> None:
        """Compare what a session says of itself with what the model knows of it."""
        assert session.id == request.id
        assert session.destroyed == request.destroyed
        if not request.destroyed:
            assert session.created_at == request.created_at
            assert session.expires_at == request.expires_at
            assert state_of(session).led_on == request.led_on

    def _doomed(self, request: Request) -> set[str]:
        """Return every id that leads to a session that a save of *request* would end."""
        ends = {
            self.model.newest(one.place)
            for one in (request if request.destroy_pending else None, request.replaces)
            if one is not None and one.place is not None
        }
        return {known for known in self.ids if self.model.newest(known) in ends}

    # --- after a failure

    def _reconcile(
        self, request: Request, before: tuple[Model, Request], answer: Answer, expected: Answer, asked: str
    ) -> Request:
        """Find out what a save on a failing storage has done, and return what the model knows of the request now.

        Nothing, or all of it, may have been done; and an error has to say so, if that is not nothing.
        """
        model, unsaved = before
        unknown = isinstance(answer, StorageError) and answer.maybe_stored
        assert self.storage.lost or not unknown, "if no answer was lost, it is known what was stored"
        housekeeping = unsaved.place and unsaved.used and not (unsaved.original or unsaved.by_handler)
        if isinstance(answer, Exception | type):
            ends = unsaved.destroy_pending or unsaved.replaces
            refused = self.storage.failed == ("replace",) and not self.storage.lost
            assert not (ends and refused), "without a tombstone, the record is deleted"
            moves = unsaved.original is not None and expected == asked
            assert not (moves and unknown and len(self.storage.failed) == 1), "a fence makes it known"
            candidates = [model, self.model] if unknown else [model]
            for candidate in candidates:
                self._add_strays(candidate, asked, unknown=unknown)
        elif housekeeping:  # a flash that was read stays if it cannot be removed, and the next save tries again
            assert answer is None
            candidates = [model, self.model]
        else:
            assert answer == expected
            candidates = [self.model]
            self._forget_refused_tombstones(model)
            unsaved = request
        self.model = self._found(*candidates)
        self._allow_new_versions()
        return unsaved

    def _add_strays(self, candidate: Model, asked: str, *, unknown: bool) -> None:
        """Add what may be left under an id that nobody was sent."""
        remains = unknown or "delete" in self.storage.failed
        entry = self.storage._records.get(key_of(asked))
        if entry is not None and asked not in candidate.records:
            if isinstance(decode_record(entry[0]), Retired):
                assert self.storage.lost, "only after a lost answer is a tombstone needed"
                candidate.records[asked] = Tombstone(REPLACED, entry[2])
            else:
                assert remains, "a new record must be taken back"
                candidate.records[asked] = live(entry, candidate.next_version())
        for old in {*candidate.records, *self.ids}:  # the record of an id may have been deleted meanwhile
            entry = self.storage._records.get(snapshot_key(key_of(old), key_of(asked)))
            if entry is not None and (old, asked) not in candidate.snapshots:
                assert remains or self.storage.lost, "a snapshot must be taken back"
                assert entry[2] <= self.now + GRACE, "a snapshot that nobody can read must not stay for long"
                candidate.snapshots[old, asked] = Snapshot(live(entry), entry[2])

    def _forget_refused_tombstones(self, before: Model) -> None:
        """Where a tombstone cannot be written, the record is deleted."""
        for session_id, record in list(self.model.records.items()):
            made = isinstance(record, Tombstone) and session_id in before.records
            if made and "replace" in self.storage.failed and key_of(session_id) not in self.storage._records:
                del self.model.records[session_id]

    def _found(self, *candidates: Model) -> Model:
        """Return the first model that the storage agrees with."""
        differences = [difference(candidate, self.storage._records) for candidate in candidates]
        assert None in differences, differences
        return candidates[differences.index(None)]

    def _allow_new_versions(self) -> None:
        """Note where a failure has given a record a new version, as a fence does."""
        for session_id, record in self.model.records.items():
            if isinstance(record, Live) and session_id in self.versions:
                before = self.versions[session_id]
                if before[0] == record.version and before[1] != self._version(session_id):
                    record.version = self.model.next_version()

    # --- comparing

    def note_versions(self) -> None:
        """Check that exactly what the model says was rewritten has a new version, and not what was only touched."""
        versions = {
            session_id: (record.version, self._version(session_id))
            for session_id, record in self.model.records.items()
            if isinstance(record, Live)
        }
        for session_id, (ours, theirs) in versions.items():
            before = self.versions.get(session_id, (ours, theirs))
            assert (before[0] == ours) == (before[1] == theirs), f"{before} became {(ours, theirs)}"
            record = self.model.records[session_id]
            assert isinstance(record, Live)
            order = live(self.storage._records[key_of(session_id)]).data
            record.data = {key: record.data[key] for key in order}
        self.versions = versions

    def spectator(self) -> PlainStorage:
        """Return a storage with the same records that can be read without an effect on the real one."""
        timeouts = self.storage.timeouts
        copy = PlainStorage(
            clock=self.clock, idle_timeout=timeouts.idle, lifetime=timeouts.lifetime, rotation_grace=GRACE
        )
        copy._records = {key: Stored(*entry[:3]) for key, entry in self.storage._records.items()}
        return copy

    def _version(self, session_id: str) -> bytes:
        return self.storage._records[key_of(session_id)][1]
