"""Encrypted sessions: nothing can be read of them, they open at their own place alone, and keys rotate."""

import base64
import itertools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiohttp_session_store import (
    ConfigurationError,
    CookieStorage,
    FileSystemStorage,
    KeyedStorage,
    KeyRing,
    MemoryStorage,
    SessionCookie,
    SessionTooLargeError,
    Stored,
)
from aiohttp_session_store.migrate import MigratingStorage
from aiohttp_session_store.record import cipher
from aiohttp_session_store.record.encryption import is_encrypted, key_name
from aiohttp_session_store.record.session_id import key_of
from aiohttp_session_store.session.session import state_of
from aiohttp_session_store.testing import ManualClock, StorageContract
from tests.engine.suspending import SuspendingStorage

MARKER = "Grüße an niemand"  # must be found nowhere
DATA: dict[str, Any] = {"note": MARKER, "one": 1, "tags": {"a"}, "nested": [{"note": MARKER}]}
OLD, NEW = (f"{name}:{base64.b64encode(bytes(range(at, at + 32))).decode()}" for name, at in (("old", 0), ("new", 64)))
DAY = 86400

# What a storage is made of: its kind, its ring and a clock. Two with the same kind share what is stored.
Make = Callable[..., Any]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["memory", "suspending", "files", "cookie"])
def make(request: pytest.FixtureRequest, clock: ManualClock, tmp_path: Path) -> Make:
    """Return a function that makes the storage of one more process, with a ring of its own."""
    first: list[Any] = []

    def make(ring: KeyRing | None = None, **options: Any) -> Any:
        options = {"clock": clock, "encryption": ring, **options}
        if request.param == "cookie":
            return CookieStorage(**options)
        if request.param == "files":
            return FileSystemStorage(tmp_path / "sessions", sweep_interval=None, **options)
        storage = (MemoryStorage if request.param == "memory" else SuspendingStorage)(sweep_interval=None, **options)
        first.append(storage)
        storage._records = first[0]._records
        return storage

    return make


@pytest.fixture
def keyed(make: Make) -> Make:
    if isinstance(make(), CookieStorage):
        pytest.skip("a storage on the server is needed, and this one keeps its sessions in the cookie")
    return make


async def saved(storage: Any, **data: Any) -> str:
    session = await storage.read(None)
    session.update(data or DATA)
    value: str | None = await storage.save(session)
    assert value
    return value


async def changed(storage: Any, value: str, **data: Any) -> str:
    session = await storage.read(value)
    session.update(data)
    return await storage.save(session) or value


async def stored(storage: KeyedStorage, session_id: str) -> Stored:
    found = await storage.fetch(key_of(session_id))
    assert found is not None
    return found


# --- nothing can be read


async def test_what_is_stored_shows_no_data_and_reads_as_it_was(make: Make, tmp_path: Path) -> None:
    storage = make(KeyRing(NEW))
    value = await saved(storage)
    value = await changed(storage, value, more=MARKER)
    session = await storage.read(value)
    session.flash("notice", MARKER)
    session.login("ada-" + MARKER, label=MARKER)
    value = await storage.save(session)

    seen = await storage.read(value)
    assert dict(seen) == {**DATA, "more": MARKER, "notice": MARKER}
    everything = [value.encode(), base64.urlsafe_b64decode(value + "===")]
    if isinstance(storage, KeyedStorage):
        everything.append((await stored(storage, value)).data)
        everything += [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
        everything += [str(path).encode() for path in tmp_path.rglob("*")]
        everything += [data for data, *_ in getattr(storage, "_records", {}).values()]
    for one in everything:
        assert MARKER.encode() not in one
        assert b'"note"' not in one


async def test_a_failing_write_leaves_no_data_in_files_and_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A temporary file that is left behind, as after a crash, is encrypted as well."""
    storage = FileSystemStorage(tmp_path / "sessions", encryption=KeyRing(NEW), sweep_interval=None)
    monkeypatch.setattr("os.unlink", lambda *_, **__: None)
    monkeypatch.setattr("os.link", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "no space")))
    monkeypatch.setattr("os.rename", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "no space")))
    caplog.set_level(logging.DEBUG)
    text = ""
    try:
        await saved(storage)
    except Exception as error:
        text = repr(error) + repr(error.__cause__)

    for path in tmp_path.rglob("*"):
        assert not path.is_file() or MARKER.encode() not in path.read_bytes()
    assert MARKER not in text + caplog.text


async def test_the_same_session_saved_twice_has_different_bytes_of_one_length(make: Make) -> None:
    storage = make(KeyRing(NEW))
    values: list[Any] = [await saved(storage, user=user) for user in ("ada", "ada", "adas")]
    if isinstance(storage, KeyedStorage):
        values = [(await stored(storage, value)).data for value in values]

    assert len(set(values)) == 3
    assert len({len(value) for value in values}) == 1


# --- each opens at its own place alone


async def test_a_record_that_was_copied_to_another_session_does_not_open(keyed: Make) -> None:
    """Also while the original is in the cache of records: the cache knows where each one stands."""
    storage = keyed(KeyRing(NEW))
    victim, own = await saved(storage, user="ada"), await saved(storage, user="eve")
    copied, target = await stored(storage, victim), await stored(storage, own)
    assert (await storage.read(victim))["user"] == "ada"
    assert await storage.replace(key_of(own), copied.data, target.expires_at, target.version)

    assert (await storage.read(own)).new
    assert (await storage.read(victim))["user"] == "ada"


async def test_a_snapshot_of_a_renewed_id_is_encrypted_for_its_own_place(keyed: Make) -> None:
    storage = keyed(KeyRing(NEW))
    old_id = await saved(storage)
    before = await stored(storage, old_id)
    session = await storage.read(old_id)
    session.regenerate_id()
    new_id = await storage.save(session)

    assert (await storage.read(old_id))["note"] == MARKER
    assert (await storage.read(new_id))["note"] == MARKER
    assert (await stored(storage, new_id)).data != before.data


def sealed(name: str = "session", salt: str = "") -> SessionCookie:
    return SessionCookie(name, secrets=KeyRing(NEW), salt=salt).bind(CookieStorage())


async def test_an_encrypted_cookie_is_that_of_one_name_and_one_salt() -> None:
    storage = CookieStorage(encryption=KeyRing(NEW))
    text = sealed().seal(await saved(storage))

    assert sealed().open(text) is not None
    assert sealed("other").open(text) is None
    assert sealed(salt="app2").open(text) is None


async def test_a_cookie_is_no_record_and_a_record_no_cookie() -> None:
    ring = KeyRing(NEW)
    memory, cookies = MemoryStorage(encryption=ring), CookieStorage(encryption=ring)
    record = (await stored(memory, await saved(memory))).data

    assert (await cookies.read(base64.urlsafe_b64encode(record).decode())).new


async def test_a_record_with_one_bit_changed_is_no_session_and_no_error(keyed: Make) -> None:
    storage = keyed(KeyRing(NEW))
    value = await saved(storage, a=1)
    original = await stored(storage, value)
    for bit in range(0, 8 * len(original.data), 5):
        changed = bytearray(original.data)
        changed[bit // 8] ^= 1 << bit % 8
        storage = keyed(KeyRing(NEW))
        other = await saved(storage, a=1)
        now = await stored(storage, other)
        await storage.replace(key_of(other), bytes(changed), now.expires_at, now.version)
        session = await storage.read(other)
        assert session.new
        session["b"] = 2
        assert await storage.save(session)


# --- keys rotate


async def test_what_older_keys_wrote_is_read_and_written_anew_under_the_newest_one(keyed: Make) -> None:
    value = await saved(keyed(KeyRing(OLD)))
    both, new = keyed(KeyRing(NEW, OLD)), keyed(KeyRing(NEW))

    assert dict(await both.read(value)) == DATA
    assert (await new.read(value)).new
    assert await changed(both, value, more=1) == value
    assert dict(await new.read(value)) == {**DATA, "more": 1}


async def test_a_cookie_is_written_anew_under_the_newest_key() -> None:
    value = await saved(CookieStorage(encryption=KeyRing(OLD)))
    value = await changed(CookieStorage(encryption=KeyRing(NEW, OLD)), value, more=1)

    assert dict(await CookieStorage(encryption=KeyRing(NEW)).read(value)) == {**DATA, "more": 1}


async def test_a_visitor_who_only_reads_stays_logged_in_while_a_key_is_retired(make: Make, clock: ManualClock) -> None:
    """A due extension writes the session anew, so after one idle timeout no live session needs the old key."""
    value = await saved(make(KeyRing(OLD)))
    for _ in range(15):
        clock.advance(DAY)
        storage = make(KeyRing(NEW, OLD))
        value = await storage.save(await storage.read(value)) or value
    clock.advance(DAY)

    assert dict(await make(KeyRing(NEW)).read(value)) == DATA


async def test_a_key_that_the_ring_does_not_have_leaves_the_record_in_place(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    value = await saved(make(KeyRing(OLD)))
    caplog.set_level(logging.ERROR)
    storage = make(KeyRing(NEW))
    for _ in range(3):
        session = await storage.read(value)
        assert session.new
        assert await storage.save(session) is None

    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "'old'" in caplog.text
    assert dict(await make(KeyRing(NEW, OLD)).read(value)) == DATA


async def test_another_key_of_the_same_name_destroys_nothing(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    value = await saved(make(KeyRing(OLD)))
    wrong = KeyRing("old:" + NEW.partition(":")[2])

    assert (await make(wrong).read(value)).new
    assert "does not open it" in caplog.text
    assert dict(await make(KeyRing(OLD)).read(value)) == DATA


# --- turning it on, and off


# The steps of an application that turns encryption on, and then takes another key.
STEPS = [None, KeyRing(OLD, decrypt_only=True), KeyRing(OLD), KeyRing(OLD, NEW), KeyRing(NEW, OLD)]


@pytest.mark.parametrize("pair", list(itertools.pairwise(STEPS)), ids=lambda pair: " beside ".join(map(repr, pair)))
async def test_workers_of_neighbouring_steps_read_what_the_others_write(
    make: Make, pair: tuple[KeyRing | None, KeyRing | None]
) -> None:
    one, other = map(make, pair)
    for writer, reader in ((one, other), (other, one)):
        value = await saved(writer)
        assert dict(await reader.read(value)) == DATA
        value = await changed(reader, value, more=1)
        assert dict(await writer.read(value)) == {**DATA, "more": 1}


async def test_plain_records_are_read_until_they_are_refused(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    value = await saved(make())
    assert dict(await make(KeyRing(NEW)).read(value)) == DATA
    strict = make(KeyRing(NEW, accept_plain=False))
    assert (await strict.read(value)).new
    assert (await strict.read(value)).new
    assert caplog.text.count("accept_plain=False") == 1
    assert dict(await make().read(value)) == DATA

    value = await changed(make(KeyRing(NEW)), value, more=1)
    assert dict(await make(KeyRing(NEW, accept_plain=False)).read(value)) == {**DATA, "more": 1}


async def test_a_logout_works_where_plain_records_are_refused(keyed: Make) -> None:
    storage = keyed(KeyRing(NEW, accept_plain=False))
    value = await saved(storage)
    session = await storage.read(value)
    session.regenerate_id()
    newer = await storage.save(session)
    assert dict(await storage.read(value)) == DATA
    session = await storage.read(newer)
    session.destroy()
    await storage.save(session)

    assert (await storage.read(newer)).new
    assert (await storage.read(value)).new


# --- as without


async def test_a_save_that_changes_nothing_writes_nothing(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = make(KeyRing(NEW))
    value = await saved(storage)
    before = await stored(storage, value) if isinstance(storage, KeyedStorage) else None
    session = await storage.read(value)
    session["one"] = 1
    assert await storage.save(session) is None
    if before is not None:
        assert (await stored(storage, value)).data == before.data

    session = await storage.read(value)
    session["one"] = True  # equal to 1, but not the same
    value = await storage.save(session) or value
    assert (await storage.read(value))["one"] is True


async def test_reading_from_the_cache_asks_no_cipher(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = make(KeyRing(NEW))
    value = await saved(storage)
    await storage.read(value)
    calls: list[str] = []
    for name in ("seal", "open_sealed", "derived"):
        monkeypatch.setattr(cipher, name, lambda *_, name=name: calls.append(name))
    for _ in range(5):
        assert dict(await storage.read(value)) == DATA

    assert calls == []


async def test_a_cookie_that_is_too_large_counts_what_encryption_adds() -> None:
    plain, encrypted = CookieStorage(), CookieStorage(encryption=KeyRing(NEW))
    sizes = []
    for storage in (plain, encrypted):
        session = await storage.read(None)
        session["note"] = "x" * 4000
        state_of(session).cookie_limit = 4000
        with pytest.raises(SessionTooLargeError) as caught:
            await storage.save(session)
        sizes.append(caught.value.size)

    assert 60 < sizes[1] - sizes[0] < 140


async def test_max_session_size_counts_what_is_stored() -> None:
    storage = MemoryStorage(encryption=KeyRing(NEW), max_session_size=500)
    session = await storage.read(None)
    session["note"] = "x" * 450
    with pytest.raises(SessionTooLargeError):
        await storage.save(session)


@pytest.mark.parametrize("renewed", [False, True])
async def test_a_session_that_encryption_makes_too_large_can_be_changed_but_not_grow(renewed: bool) -> None:
    plain = MemoryStorage(max_session_size=500)
    session = await plain.read(None)
    session["note"], session["seen"] = "x" * 400, 1
    value = await plain.save(session)
    encrypted = MemoryStorage(max_session_size=500, encryption=KeyRing(NEW))
    encrypted._records = plain._records
    session = await encrypted.read(value)
    session["seen"] = 2
    if renewed:
        session.regenerate_id()
    value = await encrypted.save(session) or value
    session = await encrypted.read(value)
    assert session["seen"] == 2

    session["note"] += "x" * 64
    with pytest.raises(SessionTooLargeError):
        await encrypted.save(session)


@pytest.mark.parametrize("ring", ["key", b"key", [OLD], object()])
def test_something_else_than_a_ring_is_refused(ring: Any) -> None:
    for kind in (MemoryStorage, CookieStorage):
        with pytest.raises(ConfigurationError, match="encryption is a KeyRing"):
            kind(encryption=ring)


# --- moving between storages


@pytest.mark.parametrize("action", ["write", "touch", "confirm", "renew"])
@pytest.mark.parametrize(
    "rings",
    [(None, KeyRing(NEW)), (KeyRing(OLD), KeyRing(NEW)), (KeyRing(OLD), None), (KeyRing(OLD), KeyRing(OLD))],
    ids=lambda rings: " to ".join(map(repr, rings)),
)
async def test_after_a_move_the_new_storage_reads_all_alone(
    rings: tuple[KeyRing | None, KeyRing | None], action: str, clock: ManualClock
) -> None:
    options: dict[str, Any] = {"clock": clock, "sweep_interval": None}
    old, new = MemoryStorage(encryption=rings[0], **options), MemoryStorage(encryption=rings[1], **options)
    session_id = await saved(old)
    before = MigratingStorage(new, old, moving=False)
    assert dict(await before.read(session_id)) == DATA
    created = await saved(before)
    assert dict(await old.read(created)) == DATA, "processes of the step before must read it"

    moving = MigratingStorage(new, old)
    for one in (session_id, created):
        assert dict(await moving.read(one)) == DATA
    session = await moving.read(session_id)
    if action == "write":
        session["more"] = 1
    elif action == "renew":
        session.regenerate_id()
    elif action == "confirm":
        state_of(session).confirm = True
    else:
        clock.advance(2 * DAY)
        session = await moving.read(session_id)
    session_id = await moving.save(session) or session_id

    assert (await before.read(session_id))["note"] == MARKER, "processes of the step before must read it"
    assert (await new.read(session_id))["note"] == MARKER
    data = (await stored(new, session_id)).data
    assert key_name(data) == (None if rings[1] is None else rings[1].names[0])
    assert is_encrypted(data) == (rings[1] is not None)


def test_two_storages_with_different_keys_of_one_name_are_refused() -> None:
    old = MemoryStorage(encryption=KeyRing(OLD))
    new = MemoryStorage(encryption=KeyRing("old:" + NEW.partition(":")[2]))
    with pytest.raises(ConfigurationError, match="different keys of the name 'old'"):
        MigratingStorage(new, old)


# --- the contract


class TestEncryptedMemory(StorageContract):
    @pytest.fixture
    async def storage(self, clock: ManualClock) -> Any:
        storage = SuspendingStorage(clock=clock, encryption=KeyRing(NEW, OLD, accept_plain=False))
        yield storage
        await storage.aclose()


@pytest.mark.long
class TestEncryptedFiles(StorageContract):
    @pytest.fixture
    async def storage(self, clock: ManualClock, tmp_path: Path) -> Any:
        storage = FileSystemStorage(tmp_path / "sessions", clock=clock, encryption=KeyRing(NEW))
        yield storage
        await storage.aclose()


@pytest.mark.long
class TestEncryptedWhileMoving(StorageContract):
    @pytest.fixture
    async def storage(self, clock: ManualClock, tmp_path: Path) -> Any:
        old = FileSystemStorage(tmp_path / "sessions", clock=clock, encryption=KeyRing(OLD))
        storage = MigratingStorage(MemoryStorage(clock=clock, encryption=KeyRing(NEW)), old)
        await storage.start()
        yield storage
        await storage.aclose()
