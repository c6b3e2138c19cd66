"""The contract of the five verbs, one caller at a time."""

import secrets
from typing import ClassVar

from ...storages.base import KeyedStorage
from ..clock import ManualClock

HOUR = 3600


def new_key() -> str:
    """Return a new key in the form that sessions have: 64 hex digits."""
    return secrets.token_hex(32)


async def inserted(storage: KeyedStorage, key: str, data: bytes, expires_at: int) -> bytes:
    """Insert a record that cannot be there yet, and return its version."""
    version = await storage.insert(key, data, expires_at)
    assert version is not None, "insert() of a new key must return its version, not None"
    assert type(version) is bytes, f"a version is bytes, not {type(version).__name__}"
    return version


class VerbContract:
    """What :class:`KeyedStorage` says about ``fetch``, ``insert``, ``replace``, ``touch`` and ``delete``.

    Attributes:
        large_record: The size in bytes of a record that must come back whole.  Set it lower if the server has a lower
            limit.
    """

    large_record: ClassVar[int] = 1_000_000

    # --- fetch and insert

    async def test_a_key_that_was_never_inserted_is_none(self, storage: KeyedStorage) -> None:
        """A missing record is a normal answer."""
        assert await storage.fetch(new_key()) is None, "fetch() of a missing key must return None"

    async def test_what_was_inserted_is_fetched(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """Data, version and expiry come back as they went in."""
        key, expires_at = new_key(), int(clock()) + HOUR
        version = await inserted(storage, key, b"data", expires_at)
        stored = await storage.fetch(key)
        assert stored is not None, "fetch() must find what insert() stored"
        assert stored.data == b"data", "fetch() must return the data that was inserted"
        assert stored.version == version, "fetch() must return the version that insert() gave"
        assert stored.expires_at == expires_at, "fetch() must return the expiry that was inserted"
        assert type(stored.expires_at) is int, f"an expiry is an int, not a {type(stored.expires_at).__name__}"

    async def test_inserting_an_existing_key_gives_none_and_changes_nothing(
        self, storage: KeyedStorage, clock: ManualClock
    ) -> None:
        """Two sessions never share an id."""
        key, expires_at = new_key(), int(clock()) + HOUR
        await inserted(storage, key, b"first", expires_at)
        before = await storage.fetch(key)
        assert await storage.insert(key, b"second", expires_at + 1) is None, (
            "insert() of an existing key must return None"
        )
        assert await storage.fetch(key) == before, "insert() of an existing key must not change the record"

    async def test_a_deleted_key_can_be_inserted_again(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """Nothing of the old record must be in the way."""
        key, expires_at = new_key(), int(clock()) + HOUR
        await inserted(storage, key, b"first", expires_at)
        await storage.delete(key)
        await inserted(storage, key, b"second", expires_at)
        stored = await storage.fetch(key)
        assert stored is not None, "insert() after delete() must store the record"
        assert stored.data == b"second", "insert() after delete() must store the new data"

    async def test_any_bytes_come_back_unchanged(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """Records are bytes, not text: line ends and terminators have no meaning."""
        expires_at = int(clock()) + HOUR
        for data in (bytes(range(256)), b"", b"\0", b"\r\n\n", b"\xff\xfe", b" padded "):
            key, replaced = new_key(), new_key()
            await inserted(storage, key, data, expires_at)
            await storage.replace(replaced, data, expires_at, await inserted(storage, replaced, b"first", expires_at))
            for stored in (await storage.fetch(key), await storage.fetch(replaced)):
                assert stored is not None, f"a record of {data!r} must be found"
                assert stored.data == data, f"{data!r} came back as {stored.data!r}"
                assert type(stored.data) is bytes, f"data is bytes, not {type(stored.data).__name__}"

    async def test_a_large_record_comes_back_whole(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """Short writes are real, and drivers have limits."""
        key, expires_at = new_key(), int(clock()) + HOUR
        first, second = (secrets.token_bytes(self.large_record) for _ in range(2))
        version = await inserted(storage, key, first, expires_at)
        stored = await storage.fetch(key)
        assert stored is not None, "a large record must be found"
        assert stored.data == first, "a large record must come back whole"
        await storage.replace(key, second, expires_at, version)
        stored = await storage.fetch(key)
        assert stored is not None, "a replaced large record must be found"
        assert stored.data == second, "a replaced large record must come back whole"

    async def test_what_was_fetched_stays_as_it_was(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """Storages hold bytes, never live objects: another request's write must not change what this one has read."""
        key, expires_at = new_key(), int(clock()) + HOUR
        version = await inserted(storage, key, b"old", expires_at)
        stored = await storage.fetch(key)
        assert stored is not None, "fetch() must find what insert() stored"
        await storage.touch(key, expires_at + 1, version)
        await storage.replace(key, b"new", expires_at + 2, version)
        seen = (stored.data, stored.version, stored.expires_at)
        assert seen == (b"old", version, expires_at), "a later write must not change what fetch() returned before"

    # --- replace

    async def test_replacing_at_the_version_overwrites(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """Data, version and expiry are the new ones, even if the new expiry is earlier."""
        key, expires_at = new_key(), int(clock()) + HOUR
        version = await inserted(storage, key, b"a longer first record", expires_at)
        newer = await storage.replace(key, b"second", expires_at - 1, version)
        stored = await storage.fetch(key)
        assert newer is not None, "replace() at the stored version must return the new version"
        assert type(newer) is bytes, f"a version is bytes, not {type(newer).__name__}"
        assert stored is not None, "a replaced record must be found"
        seen = (stored.data, stored.version, stored.expires_at)
        assert seen == (b"second", newer, expires_at - 1), "replace() must store data and expiry under its new version"

    async def test_replacing_at_another_version_changes_nothing(
        self, storage: KeyedStorage, clock: ManualClock
    ) -> None:
        """Otherwise the change of the request that got there first would be lost."""
        key, expires_at = new_key(), int(clock()) + HOUR
        stale = await inserted(storage, key, b"first", expires_at)
        await storage.replace(key, b"second", expires_at, stale)
        before = await storage.fetch(key)
        assert await storage.replace(key, b"third", expires_at, stale) is None, (
            "replace() at a stale version must return None"
        )
        assert await storage.fetch(key) == before, "replace() at a stale version must not change the record"

    async def test_replacing_never_creates(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """Otherwise a slow request would log the visitor back in."""
        key, expires_at = new_key(), int(clock()) + HOUR
        version = await inserted(storage, key, b"first", expires_at)
        await storage.delete(key)
        assert await storage.replace(key, b"second", expires_at, version) is None, (
            "replace() of a deleted key must return None"
        )
        assert await storage.fetch(key) is None, "replace() of a deleted key must not bring it back"
        assert await storage.replace(new_key(), b"second", expires_at, version) is None, (
            "replace() of a key that never existed must return None"
        )

    async def test_each_write_has_a_version_of_its_own(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """This holds within one tick of the clock, for equal data, and across delete and insert, too."""
        key, expires_at = new_key(), int(clock()) + HOUR
        seen: list[bytes] = []
        for _ in range(5):
            version = await inserted(storage, key, b"same", expires_at)
            newer = await storage.replace(key, b"same", expires_at, version)
            assert newer is not None, "replace() at the version that insert() gave must succeed"
            seen += (version, newer)
            await storage.delete(key)
        assert len(set(seen)) == len(seen), "a version must not be used twice"

    # --- touch

    async def test_touching_extends_and_keeps_data_and_version(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """A touch is not a write: a request that read the record before may still replace it."""
        key, expires_at = new_key(), int(clock()) + HOUR
        version = await inserted(storage, key, b"data", expires_at)
        assert await storage.touch(key, expires_at + HOUR, version) is True, (
            "touch() at the stored version must return True"
        )
        stored = await storage.fetch(key)
        assert stored is not None, "a touched record must be found"
        assert stored.expires_at == expires_at + HOUR, "touch() must extend the expiry"
        assert (stored.data, stored.version) == (b"data", version), "touch() must change neither data nor version"
        assert await storage.replace(key, b"new", expires_at, version), "touch() must not make replace() fail"

    async def test_touching_never_shortens(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """Of two requests, the one that finishes last may have begun first."""
        key, expires_at = new_key(), int(clock()) + HOUR
        version = await inserted(storage, key, b"data", expires_at)
        assert await storage.touch(key, expires_at - 1, version) is True, (
            "touch() at the stored version must return True, even if the record expires later"
        )
        stored = await storage.fetch(key)
        assert stored is not None, "a touched record must be found"
        assert stored.expires_at == expires_at, "touch() must never shorten"

    async def test_touching_with_the_expiry_that_stands_is_no_failure(
        self, storage: KeyedStorage, clock: ManualClock
    ) -> None:
        """Nothing has to be written then, but the record still stands at its version."""
        key, expires_at = new_key(), int(clock()) + HOUR
        version = await inserted(storage, key, b"data", expires_at)
        assert await storage.touch(key, expires_at, version) is True, (
            "touch() at the stored version must return True, even if the expiry is the same"
        )

    async def test_touching_at_another_version_changes_nothing(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """The session may have been retired or destroyed, and a touch must not make it live longer."""
        key, expires_at = new_key(), int(clock()) + HOUR
        stale = await inserted(storage, key, b"first", expires_at)
        await storage.replace(key, b"second", expires_at, stale)
        before = await storage.fetch(key)
        assert await storage.touch(key, expires_at + HOUR, stale) is False, (
            "touch() at a stale version must return False"
        )
        assert await storage.fetch(key) == before, "touch() at a stale version must not change the record"

    async def test_touching_never_creates(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """A session that was destroyed stays destroyed."""
        key, expires_at = new_key(), int(clock()) + HOUR
        version = await inserted(storage, key, b"data", expires_at)
        await storage.delete(key)
        assert await storage.touch(key, expires_at + HOUR, version) is False, (
            "touch() of a deleted key must return False"
        )
        assert await storage.fetch(key) is None, "touch() of a deleted key must not bring it back"

    # --- delete

    async def test_a_deleted_record_is_gone_and_no_other(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """Delete removes the record of one key."""
        key, other, expires_at = new_key(), new_key(), int(clock()) + HOUR
        await inserted(storage, key, b"data", expires_at)
        await inserted(storage, other, b"other", expires_at)
        await storage.delete(key)
        assert await storage.fetch(key) is None, "a deleted record must be gone"
        assert await storage.fetch(other) is not None, "delete() must not remove another key"

    async def test_deleting_what_is_not_there_is_no_error(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """Delete is idempotent: a logout may be repeated."""
        key = new_key()
        await storage.delete(key)
        await inserted(storage, key, b"data", int(clock()) + HOUR)
        await storage.delete(key)
        await storage.delete(key)
        assert await storage.fetch(key) is None, "a deleted record must stay gone"
