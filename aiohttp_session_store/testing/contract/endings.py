"""The contract of what ends an id for good: ``retire``, and ``delete`` at a version."""

import asyncio

import pytest

from ...storages.base import KeyedStorage
from ..clock import ManualClock
from .verbs import HOUR, inserted, new_key

ROUNDS = 20


def needs_versions(storage: KeyedStorage) -> None:
    """Skip a test of ``delete`` at a version if the storage does not take one."""
    if not storage.deletes_at_version:
        pytest.skip("delete() takes no version: when this storage is full, sessions cannot be ended")


class EndingContract:
    """Of a writer and an ending at one version exactly one wins, and nothing is ended that was written since."""

    # --- retire

    async def test_retiring_at_the_version_overwrites(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """As ``replace`` does it: the mark of a logout may expire earlier than the session."""
        key, expires_at = new_key(), int(clock()) + HOUR
        version = await inserted(storage, key, b"a session", expires_at)
        newer = await storage.retire(key, b"ended", expires_at - 1, version)
        stored = await storage.fetch(key)
        assert newer is not None, "retire() at the stored version must return the new version"
        assert newer != version, "retire() must give the record a new version"
        assert stored is not None, "a retired record must be found"
        seen = (stored.data, stored.version, stored.expires_at)
        assert seen == (b"ended", newer, expires_at - 1), "retire() must store data and expiry under its new version"
        assert await storage.replace(key, b"a session", expires_at, version) is None, (
            "after retire(), replace() at the version before must return None"
        )

    async def test_retiring_at_another_version_changes_nothing(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """The change that got there first belongs into the record of the new id."""
        key, expires_at = new_key(), int(clock()) + HOUR
        stale = await inserted(storage, key, b"first", expires_at)
        await storage.replace(key, b"second", expires_at, stale)
        before = await storage.fetch(key)
        assert await storage.retire(key, b"ended", expires_at, stale) is None, (
            "retire() at a stale version must return None"
        )
        assert await storage.fetch(key) == before, "retire() at a stale version must not change the record"

    async def test_retiring_never_creates(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """What is gone needs no mark."""
        key, expires_at = new_key(), int(clock()) + HOUR
        version = await inserted(storage, key, b"first", expires_at)
        await storage.delete(key)
        assert await storage.retire(key, b"ended", expires_at, version) is None, (
            "retire() of a deleted key must return None"
        )
        assert await storage.fetch(key) is None, "retire() of a deleted key must not bring it back"

    async def test_of_racing_writes_and_retirements_exactly_one_wins(
        self, storage: KeyedStorage, clock: ManualClock
    ) -> None:
        """Otherwise a logout or a login under another id would be undone, or a write lost."""
        expires_at = int(clock()) + HOUR
        for turn in range(ROUNDS):
            key = new_key()
            version = await inserted(storage, key, b"first", expires_at)
            calls = ([storage.replace, storage.retire] * 3)[turn % 2 :]  # each of them begins in half of the turns
            outcomes = await asyncio.gather(
                *(call(key, b"racer %d" % racer, expires_at, version) for racer, call in enumerate(calls))
            )
            winners = [racer for racer, outcome in enumerate(outcomes) if outcome is not None]
            stored = await storage.fetch(key)
            assert len(winners) == 1, f"exactly one replace() or retire() at one version must win, not {len(winners)}"
            assert stored is not None, "the record must be found after the race"
            assert stored.data == b"racer %d" % winners[0], "the data of the one that won must stand"

    # --- delete

    async def test_deleting_says_that_no_record_is_left(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """Without a version there is nothing that could prevent it."""
        key = new_key()
        await inserted(storage, key, b"data", int(clock()) + HOUR)
        assert await storage.delete(key) is True, "delete() must return True"
        assert await storage.delete(key) is True, "delete() of a missing key must return True"

    async def test_deleting_at_the_version_removes(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """This is how a session ends if there is no space for the mark of its end."""
        needs_versions(storage)
        key, expires_at = new_key(), int(clock()) + HOUR
        first = await inserted(storage, key, b"first", expires_at)
        newer = await storage.replace(key, b"second", expires_at, first)
        assert newer is not None, "replace() at the stored version must return the new version"
        assert await storage.delete(key, newer) is True, "delete() at the stored version must return True"
        assert await storage.fetch(key) is None, "delete() at the stored version must remove the record"
        await inserted(storage, key, b"third", expires_at)

    async def test_deleting_at_another_version_changes_nothing(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """What was written since may be the mark of a logout, or of a login under another id."""
        needs_versions(storage)
        key, expires_at = new_key(), int(clock()) + HOUR
        stale = await inserted(storage, key, b"first", expires_at)
        await storage.replace(key, b"second", expires_at, stale)
        before = await storage.fetch(key)
        assert await storage.delete(key, stale) is False, "delete() at a stale version must return False"
        assert await storage.fetch(key) == before, "delete() at a stale version must not change the record"

    async def test_deleting_at_a_version_what_is_not_there_counts_as_removed(
        self, storage: KeyedStorage, clock: ManualClock
    ) -> None:
        """Whoever asks again after a lost answer must learn that the record is gone."""
        needs_versions(storage)
        key = new_key()
        version = await inserted(storage, key, b"data", int(clock()) + HOUR)
        await storage.delete(key, version)
        assert await storage.delete(key, version) is True, "delete() of a record that is gone must return True"
        assert await storage.delete(new_key(), version) is True, "delete() of a key without a record must return True"

    async def test_of_racing_writes_and_deletions_at_one_version_exactly_one_wins(
        self, storage: KeyedStorage, clock: ManualClock
    ) -> None:
        """A write is answered and stands, or the record is gone."""
        needs_versions(storage)
        expires_at = int(clock()) + HOUR
        for turn in range(ROUNDS):
            key = new_key()
            version = await inserted(storage, key, b"first", expires_at)
            calls = [storage.replace(key, b"racer", expires_at, version) for _ in range(2)]
            delete = storage.delete(key, version)
            if turn % 2:
                deleted, *written = await asyncio.gather(delete, *calls)
            else:
                *written, deleted = await asyncio.gather(*calls, delete)
            stored = await storage.fetch(key)
            assert (stored is None) is deleted, f"delete() returned {deleted!r}, and fetch() {stored!r}"
            stands = [one for one in written if one is not None]
            assert stands == ([] if stored is None else [stored.version]), "a replace() that was answered must stand"
