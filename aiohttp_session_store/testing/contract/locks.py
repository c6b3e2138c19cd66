"""The contract of ``lock``, on which ``exclusive_session`` is built."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import ClassVar

import pytest

from ...engine.verbs import Lease
from ...errors import SessionLockError, SessionUsageError
from ...session.session import state_of
from ...storages.base import KeyedStorage
from ..clock import ManualClock
from .sessions import load, stored_id
from .verbs import HOUR, inserted, new_key

VISITORS = 20
ROUNDS = 20
# In seconds. Much longer than it takes to get a free lock, but shorter than the lease of any lock that was left behind.
PATIENCE = 5.0


@asynccontextmanager
async def held(storage: KeyedStorage, key: str, why: str) -> AsyncIterator[Lease | None]:
    """Hold the lock of *key* for the length of a block.

    Args:
        why: The reason why the lock must be available, for the message if it is not.
    """
    async with AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(PATIENCE):
                lease = await stack.enter_async_context(storage.lock(key))
        except TimeoutError:
            raise AssertionError(f"lock() was not available within {PATIENCE:g} s: {why}") from None
        yield lease


async def hold(storage: KeyedStorage, key: str) -> None:
    """Hold the lock of *key* until cancelled."""
    async with storage.lock(key):
        await asyncio.Event().wait()


async def others_run(storage: KeyedStorage) -> None:
    """Let other tasks run, for a few round trips to the server and turns of the loop."""
    for _ in range(10):
        await storage.fetch(new_key())
        await asyncio.sleep(0)


async def cancelled(task: "asyncio.Future[None]") -> bool:
    """Cancel *task*, and return whether it ended in time."""
    task.cancel()
    await asyncio.wait([task], timeout=PATIENCE)
    return task.cancelled()


async def is_over(lease: Lease) -> bool:
    """Return whether *lease* says that its lock is not held any more."""
    try:
        await lease()
    except SessionLockError:
        return True
    return False


class LockContract:
    """Each key has one holder at a time, and no lock is ever left behind.

    Attributes:
        locks: Whether the storage has locks, and so offers ``exclusive_session``.  If False, ``lock()`` has to raise
            ``SessionUsageError``.
    """

    locks: ClassVar[bool] = True

    def needs_locks(self) -> None:
        """Skip a test that needs a storage with locks."""
        if not self.locks:
            pytest.skip("locks = False: this storage does not offer exclusive_session")

    async def test_a_storage_has_locks_or_refuses_them(self, storage: KeyedStorage) -> None:
        """A storage without locks raises ``SessionUsageError``, as the base does.

        A lock that lets everybody in would be worse.
        """
        refused = False
        try:
            async with storage.lock(new_key()):
                pass
        except SessionUsageError:
            refused = True
        expected = "give a lock" if self.locks else "raise SessionUsageError"
        assert refused is not self.locks, f"lock() of a storage with locks = {self.locks} must {expected}"

    # --- one at a time

    async def test_a_lock_has_one_holder_at_a_time(self, storage: KeyedStorage) -> None:
        """All who ask for the lock get it in the end."""
        self.needs_locks()
        key, inside = new_key(), 0
        seen: list[int] = []

        async def visit() -> None:
            nonlocal inside
            async with held(storage, key, "everybody must have a turn"):
                inside += 1
                seen.append(inside)
                await others_run(storage)
                inside -= 1

        await asyncio.gather(*(visit() for _ in range(VISITORS)))
        assert seen == [1] * VISITORS, f"a lock must have one holder at a time, not {max(seen)}"

    async def test_a_counter_under_the_lock_is_exact(self, storage: KeyedStorage) -> None:
        """Under the lock, a handler can read, add and write back, as with ``exclusive_session``."""
        self.needs_locks()
        session_id = await stored_id(storage, count=0)
        key = (await load(storage, session_id)).key

        async def count() -> None:
            async with held(storage, key, "everybody must have a turn") as lease:
                session = await load(storage, session_id)
                state_of(session).lease = lease
                before = session["count"]
                await asyncio.sleep(0)
                session["count"] = before + 1
                await storage.save(session)

        await asyncio.gather(*(count() for _ in range(VISITORS)))
        counted = (await load(storage, session_id))["count"]
        assert counted == VISITORS, f"{VISITORS} increments under the lock must make {VISITORS}, not {counted}"

    async def test_different_keys_do_not_wait_for_each_other(self, storage: KeyedStorage) -> None:
        """The lock of one visitor does not concern another visitor."""
        self.needs_locks()
        keys = [new_key() for _ in range(5)]
        inside = 0
        async with AsyncExitStack() as stack:
            for key in keys:
                await stack.enter_async_context(held(storage, key, "other keys are held, but not this one"))
                inside += 1
        assert inside == len(keys), "locks of different keys must be held at once"

    async def test_a_lock_needs_no_record(self, storage: KeyedStorage) -> None:
        """A new session has no record yet."""
        self.needs_locks()
        key, entered = new_key(), False
        async with held(storage, key, "nobody holds it, and it needs no record"):
            entered = True
        assert entered, "a key without a record must have a lock"

    async def test_a_lock_outlives_its_record(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """A logout may come while somebody holds the lock."""
        self.needs_locks()
        key, entered = new_key(), False
        await inserted(storage, key, b"data", int(clock()) + HOUR)

        async def contend() -> None:
            nonlocal entered
            async with storage.lock(key):
                entered = True

        async with held(storage, key, "nobody holds it"):
            await storage.delete(key)
            other = asyncio.ensure_future(contend())
            await others_run(storage)
            entered_early = entered
        await asyncio.wait([other], timeout=PATIENCE)
        assert not entered_early, "delete() must not give the lock away"
        assert entered, "a waiting request must get the lock when its holder has left, even if the record is gone"

    # --- nobody else is held up

    async def test_the_lock_holds_up_no_reader_and_no_writer(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """The lock keeps apart only those who ask for it, and the verbs never ask for it."""
        self.needs_locks()
        key, expires_at = new_key(), int(clock()) + HOUR
        version = await inserted(storage, key, b"first", expires_at)
        done: list[str] = []
        async with held(storage, key, "nobody holds it"):
            try:
                async with asyncio.timeout(PATIENCE):
                    await storage.fetch(key)
                    done.append("fetch")
                    await storage.touch(key, expires_at + 1, version)
                    done.append("touch")
                    await storage.replace(key, b"second", expires_at, version)
                    done.append("replace")
                    await storage.delete(key)
                    done.append("delete")
            except TimeoutError:
                pass
        assert done == ["fetch", "touch", "replace", "delete"], f"the lock must hold up no verb: only {done} were done"

    async def test_those_who_wait_hold_up_nobody_else(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """Waiters hold up neither the holder nor other visitors.

        Many waiters must not use up a pool of connections or threads.
        """
        self.needs_locks()
        key, expires_at = new_key(), int(clock()) + HOUR
        version = await inserted(storage, key, b"first", expires_at)
        newer: bytes | None = None
        async with held(storage, key, "nobody holds it"):
            waiting = [asyncio.ensure_future(hold(storage, key)) for _ in range(2 * VISITORS)]
            try:
                async with asyncio.timeout(PATIENCE):
                    await others_run(storage)
                    newer = await storage.replace(key, b"second", expires_at, version)
                async with held(storage, new_key(), "many wait for another key, but not for this one"):
                    pass
            except TimeoutError:
                pass
            finally:
                heeded = [await cancelled(task) for task in waiting]
        assert newer is not None, f"a holder must be able to write while {2 * VISITORS} wait for its lock"
        assert all(heeded), "a request that waits for a lock must end when it is cancelled"

    # --- no lock is left behind

    async def test_a_lock_can_be_had_again_and_again(self, storage: KeyedStorage) -> None:
        """A lock is free at once after each use."""
        self.needs_locks()
        key, times = new_key(), 0
        for _ in range(5 * ROUNDS):
            async with held(storage, key, "its last holder has left"):
                times += 1
        assert times == 5 * ROUNDS, "a lock must be free when its holder has left"

    async def test_an_exception_frees_the_lock(self, storage: KeyedStorage) -> None:
        """The exception also passes to the caller."""
        self.needs_locks()
        key, passed = new_key(), False
        try:
            async with held(storage, key, "nobody holds it"):
                raise LookupError("on purpose")
        except LookupError:
            passed = True
        assert passed, "an exception inside the lock must reach the caller"
        async with held(storage, key, "an exception ended the block of its last holder"):
            pass

    async def test_waiting_for_the_lock_can_be_cancelled(self, storage: KeyedStorage) -> None:
        """If a wait is cancelled while somebody holds the lock, nothing of the wait is left."""
        self.needs_locks()
        key = new_key()
        for steps in range(ROUNDS):
            async with held(storage, key, "the request that waited for it was cancelled"):
                waiting = asyncio.ensure_future(hold(storage, key))
                for _ in range(3 * steps):
                    await asyncio.sleep(0)
                assert await cancelled(waiting), "a request that waits for a lock must end when it is cancelled"

    async def test_a_lock_whose_taker_is_cancelled_is_free(self, storage: KeyedStorage) -> None:
        """The cancellation may come before the server has answered, just after, or when the lock is held."""
        self.needs_locks()
        key = new_key()
        for steps in range(2 * ROUNDS):
            taking = asyncio.ensure_future(hold(storage, key))
            for _ in range(2 * steps):
                await asyncio.sleep(0)
            assert await cancelled(taking), "a request that takes a lock must end when it is cancelled"
            async with held(storage, key, "the request that took it was cancelled"):
                pass

    # --- the lease

    async def test_the_lease_stands_while_the_lock_is_held(self, storage: KeyedStorage) -> None:
        """A lease must stand as often as a save asks it, which is before each compare-and-set.

        A storage whose locks cannot be lost gives None instead of a lease.
        """
        self.needs_locks()
        async with held(storage, new_key(), "nobody holds it") as lease:
            for _ in range(5):
                await others_run(storage)
                assert lease is None or not await is_over(lease), "the lease must stand while the lock is held"

    async def test_a_lease_ends_with_its_lock(self, storage: KeyedStorage) -> None:
        """A lease says nothing about the next holder of the lock."""
        self.needs_locks()
        key = new_key()
        async with held(storage, key, "nobody holds it") as lease:
            pass
        assert lease is None or await is_over(lease), "a lease must be over when its holder has left"
        async with held(storage, key, "its last holder has left"):
            assert lease is None or await is_over(lease), "a lease must not stand because somebody else has the lock"
