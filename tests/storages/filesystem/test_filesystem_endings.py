"""What ends a session is on the disk before it is answered, also with ``durable=False``, and needs no space."""

import asyncio
import errno
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from aiohttp_session_store import FileSystemStorage, Session, StorageError
from aiohttp_session_store.record.format import LOGIN, TOMBSTONE, Retired, encode_retired
from aiohttp_session_store.session.session import state_of
from aiohttp_session_store.storages.filesystem import atomic_files, swap
from aiohttp_session_store.testing import ManualClock
from tests.storages.filesystem.filesystem_tools import as_user, file_of, mounted, recorded, temporary_files

KEY = "ab" + 62 * "0"
LATER = 4_000_000_000
MISSING = "cd" + 62 * "0"


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[FileSystemStorage]:
    storage = FileSystemStorage(tmp_path / "sessions", sweep_interval=None)
    yield storage
    await storage.aclose()


async def inserted(storage: FileSystemStorage, key: str = KEY) -> bytes:
    version = await storage.insert(key, b"data", LATER)
    assert version is not None
    return version


# --- the order of system calls


async def test_retiring_a_record_syncs_the_file_then_renames_it_then_syncs_the_folder(
    storage: FileSystemStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = await inserted(storage)
    calls = recorded(monkeypatch)

    assert await storage.retire(KEY, b"tombstone", LATER, version)

    assert calls == ["write", "fsync file", "rename", "fsync folder"]
    found = await storage.fetch(KEY)
    assert found is not None
    assert found.data == b"tombstone"


@pytest.mark.parametrize("at_version", [False, True])
async def test_a_deletion_syncs_the_folder(
    storage: FileSystemStorage, monkeypatch: pytest.MonkeyPatch, at_version: bool
) -> None:
    version = await inserted(storage)
    calls = recorded(monkeypatch)

    assert await storage.delete(KEY, version if at_version else None)

    assert calls == ["unlink", "fsync folder"]


async def test_an_ending_that_another_process_has_not_synced_yet_is_synced_by_whoever_finds_it(
    storage: FileSystemStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two tabs log out at once: the second one is told that there is nothing to do, and must be able to rely on it."""
    version = await inserted(storage)
    await storage.replace(KEY, b"of another process", LATER, version)
    calls = recorded(monkeypatch)

    assert await storage.retire(KEY, b"tombstone", LATER, version) is None
    assert calls == ["write", "fsync file", "fsync folder", "unlink"]

    calls.clear()
    assert not await storage.delete(KEY, version), "another version stands there, perhaps a tombstone"
    assert calls == ["fsync folder"]

    await inserted(storage, "ab" + 62 * "1")
    await storage.delete(KEY)
    for _ in range(2):
        calls.clear()
        assert await storage.delete(KEY)
        assert calls == ["fsync folder"]
    for _ in range(2):
        calls.clear()
        assert await storage.delete(MISSING), "its folder is missing, too"
        assert calls == ["fsync folder"]
    calls.clear()
    assert await storage.retire(MISSING, b"tombstone", LATER, version) is None
    assert calls == ["fsync folder"]


async def test_a_save_that_ends_nothing_syncs_nothing(
    storage: FileSystemStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = recorded(monkeypatch)
    version = await inserted(storage)
    assert await storage.touch(KEY, LATER + 1, version)

    assert await storage.replace(KEY, b"new", LATER + 1, version)

    assert calls == ["write", "put_new", "write", "write", "exchange", "unlink"]


@pytest.mark.skipif(os.geteuid() != 0, reason="nothing is unreadable for root, who acts as another user here")
def test_a_file_that_we_may_not_open_can_be_deleted(tmp_path: Path) -> None:
    """For example, a backup was restored with wrong modes.  It could be read again, so a logout must end it."""
    user = 12345

    def delete() -> None:
        storage = FileSystemStorage(Path(place) / "sessions", sweep_interval=None)

        async def work() -> None:
            await inserted(storage)
            Path(storage.directory, KEY[:2], KEY[2:]).chmod(0)
            with pytest.raises(StorageError, match="Permission denied"):
                await storage.delete(KEY, b"a version")
            assert await storage.delete(KEY)
            assert await storage.fetch(KEY) is None
            await storage.aclose()

        asyncio.run(work())

    with tempfile.TemporaryDirectory() as place:
        os.chown(place, user, user)
        assert as_user(user, delete) == 0


# --- a power cut


@contextmanager
def ext4(folder: Path) -> Iterator[Path]:
    """Mount an ext4 file system of its own, which by itself writes nothing to its disk for minutes.

    The disk is the file ``disk`` in *folder*.
    """
    disk, place = folder / "disk", folder / "mounted"
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("mkfs.ext4 is not installed")
    with disk.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(disk)], check=True)
    with mounted(place, "loop,commit=300", "ext4", str(disk)):
        place.chmod(0o700)
        yield place


@contextmanager
def after_a_power_cut(folder: Path) -> Iterator[Path]:
    """Mount what a computer would find on that disk if its power had been cut just now."""
    shutil.copyfile(folder / "disk", folder / "disk after the power cut")
    with mounted(folder / "after", "loop", "ext4", str(folder / "disk after the power cut")) as place:
        yield place


Ending = Callable[[FileSystemStorage, bytes], Awaitable[object]]
ENDINGS: dict[str, Ending] = {
    "delete": lambda storage, _: storage.delete(KEY),
    "delete at a version": lambda storage, version: storage.delete(KEY, version),
    "retire": lambda storage, version: storage.retire(KEY, b"tombstone", LATER, version),
}


@pytest.mark.parametrize("ending", ENDINGS)
async def test_an_ended_session_stays_ended_after_a_power_cut(tmp_path: Path, ending: str) -> None:
    with ext4(tmp_path) as place:
        storage = FileSystemStorage(place / "sessions", sweep_interval=None)
        version = await inserted(storage)
        lost = "ab" + 62 * "1"
        lost_version = await inserted(storage, lost)
        os.sync()  # both were written long ago

        assert await ENDINGS[ending](storage, version)
        answered = "ab" + 62 * "2"
        await inserted(storage, answered)
        await storage.replace(lost, b"changed", LATER, lost_version)

        with after_a_power_cut(tmp_path) as disk:
            found = FileSystemStorage(disk / "sessions", sweep_interval=None)
            stored = await found.fetch(KEY)
            assert stored is None or stored.data == b"tombstone"
            assert await found.fetch(answered) is None, "the power cut of this test loses nothing"
            await found.aclose()
        await storage.aclose()


async def new_session_in(storage: FileSystemStorage, session: Session) -> None:
    other = await storage.read(None)
    state_of(other).replaces = state_of(session)
    other["new"] = True
    await storage.save(other)


async def save_after(storage: FileSystemStorage, session: Session, change: Callable[[Session], object]) -> None:
    change(session)
    await storage.save(session)


ENDINGS_OF_AN_ID: dict[str, Callable[[FileSystemStorage, Session], Awaitable[object]]] = {
    "logout": lambda storage, session: save_after(storage, session, Session.logout),
    "login": lambda storage, session: save_after(storage, session, lambda one: one.login("bob")),
    "regenerate_id(True)": lambda storage, session: save_after(storage, session, lambda one: one.regenerate_id(True)),
    "regenerate_id()": lambda storage, session: save_after(storage, session, lambda one: one.regenerate_id()),
    "new_session": new_session_in,
    "end_sessions": lambda storage, _: storage.end_sessions("ada"),
    "end_session": lambda storage, session: storage.end_session("ada", session.key),
}


@pytest.mark.parametrize("ending", ENDINGS_OF_AN_ID)
async def test_an_id_that_ended_reads_nothing_after_a_power_cut(tmp_path: Path, ending: str) -> None:
    """Nor does one that was renewed, after the grace: somebody else may have it, and its visitor cannot end it."""
    clock = ManualClock()
    with ext4(tmp_path) as place:
        storage = FileSystemStorage(place / "sessions", sweep_interval=None, clock=clock)
        session = await storage.read(None)
        session.login("ada")
        value = await storage.save(session)
        os.sync()

        await ENDINGS_OF_AN_ID[ending](storage, await storage.read(value))

        clock.advance(storage.rotation_grace + 1)
        with after_a_power_cut(tmp_path) as disk:
            found = FileSystemStorage(disk / "sessions", sweep_interval=None, clock=clock)
            assert (await found.read(value)).new
            await found.aclose()
        await storage.aclose()


@pytest.mark.parametrize("how", ["tombstone", "login", "deletion"])
async def test_an_ending_of_another_process_that_is_found_is_on_the_disk_before_it_is_relied_on(
    tmp_path: Path, how: str
) -> None:
    """The other process has changed the name and not synced the folder yet; then the power is cut."""
    with ext4(tmp_path) as place:
        storage = FileSystemStorage(place / "sessions", sweep_interval=None)
        session = await storage.read(None)
        session.login("ada")
        value = await storage.save(session)
        os.sync()
        stored = await storage.fetch(session.key)
        assert stored is not None
        if how == "deletion":
            file_of(storage, session).unlink()
        else:
            mark = Retired("cd" + 62 * "0", 0, why=LOGIN) if how == "login" else TOMBSTONE
            assert await storage.replace(session.key, encode_retired(mark), LATER, stored.version)

        await storage.end_sessions("ada")

        with after_a_power_cut(tmp_path) as disk:
            found = FileSystemStorage(disk / "sessions", sweep_interval=None)
            assert (await found.read(value)).new
            await found.aclose()
        await storage.aclose()


# --- no space


def fill(disk: Path, content: bytes) -> None:
    """Write files with *content* until there is no space left."""
    try:
        for number in count():
            (disk / f"filling {number}").write_bytes(content)
    except OSError as error:
        assert error.errno == errno.ENOSPC  # noqa: PT017


@pytest.mark.parametrize("what", ["blocks", "inodes"])
@pytest.mark.parametrize("locks", [True, False], ids=["with the lock file", "without the lock file"])
async def test_a_session_can_be_ended_on_a_full_disk(tmp_path: Path, what: str, locks: bool) -> None:
    """The tombstone cannot be written there, so the record is deleted at its version."""
    options = "size=64k,mode=700" if what == "blocks" else "size=1m,nr_inodes=20,mode=700"
    with mounted(tmp_path / "small", options) as disk:
        storage = FileSystemStorage(disk, sweep_interval=None)
        version = await inserted(storage)
        async with storage.lock(KEY):
            pass
        if not locks:
            (disk / "locks").unlink()
        fill(disk, b"x" * 4096 if what == "blocks" else b"")
        with pytest.raises(StorageError, match="No space left") as caught:
            await storage.retire(KEY, b"tombstone" * 1000, LATER, version)
        assert not caught.value.maybe_stored
        assert not await storage.delete(KEY, b"a version")

        assert await storage.delete(KEY, version)

        assert await storage.fetch(KEY) is None
        assert temporary_files(storage) == []
        await storage.aclose()


async def test_the_sweep_frees_a_disk_that_is_so_full_that_the_lock_file_cannot_be_made(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "size=1m,nr_inodes=20,mode=700") as disk:
        storage = FileSystemStorage(disk, sweep_interval=None)
        assert await storage.insert(KEY, b"data", 1) is not None
        fill(disk, b"")
        assert not (disk / "locks").exists()

        assert await storage.sweep() == 1

        await storage.aclose()


# --- whether a failed write may have been carried out

Verb = Callable[[FileSystemStorage, bytes], Awaitable[object]]
VERBS: dict[str, Verb] = {
    "insert": lambda storage, _: storage.insert(MISSING, b"new", LATER),
    "replace": lambda storage, version: storage.replace(KEY, b"new", LATER, version),
    "retire": lambda storage, version: storage.retire(KEY, b"new", LATER, version),
    "touch": lambda storage, version: storage.touch(KEY, LATER + 1, version),
    "delete": lambda storage, _: storage.delete(KEY),
    "delete at a version": lambda storage, version: storage.delete(KEY, version),
}


async def changed(storage: FileSystemStorage, version: bytes) -> bool:
    """Return whether another process sees a change."""
    other = FileSystemStorage(storage.directory, sweep_interval=None, cache_size=0)
    old, new = await other.fetch(KEY), await other.fetch(MISSING)
    await other.aclose()
    return new is not None or old is None or old.version != version or old.expires_at != LATER


CALLS: dict[tuple[object, str], Callable[..., object]] = {
    **{(os, name): getattr(os, name) for name in ("open", "pwrite", "pread", "utime", "fstat", "stat", "close")},
    **{(os, name): getattr(os, name) for name in ("fsync", "rename", "unlink")},
    **{(atomic_files, name): getattr(swap, name) for name in ("put_new", "exchange")},
}


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, place: int, code: int, *, done: bool) -> Iterator[list[str]]:
    """Let system call number *place* fail, before or after it has done its work; yield the calls that were made."""
    made: list[str] = []

    def replaced(real: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            fails = len(made) == place
            made.append(name)
            if not fails:
                return real(*args, **kwargs)
            if done or name == "close":  # as on Linux, the descriptor is closed despite the error
                result = real(*args, **kwargs)
                if name == "open":
                    CALLS[os, "close"](result)
            raise OSError(code, os.strerror(code))

        return call

    with monkeypatch.context() as patched:
        for (module, name), real in CALLS.items():
            patched.setattr(module, name, replaced(real, name))
        yield made


@pytest.mark.parametrize(("code", "done"), [(errno.EIO, False), (errno.EIO, True), (errno.ENOSPC, False)])
@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("verb", VERBS)
async def test_a_write_that_fails_at_any_system_call_says_whether_it_may_be_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, durable: bool, code: int, done: bool
) -> None:
    wrong, place = [], 0
    while True:
        storage = FileSystemStorage(tmp_path / str(place), sweep_interval=None, durable=durable, cache_size=0)
        version = await inserted(storage)
        failed = None
        with failing(monkeypatch, place, code, done=done) as made:
            try:
                await VERBS[verb](storage, version)
            except StorageError as error:
                failed = error
        if failed is not None:
            stands = await changed(storage, version)
            if stands and not failed.maybe_stored:
                wrong.append((made[place], "stands, and the error says that it does not"))
            # After EIO nobody can know; a touch writes in place, and may have got half-way
            if failed.maybe_stored and not stands and code != errno.EIO and made[place] != "pwrite":
                wrong.append((made[place], "does not stand, and the error says that it may"))
        await storage.aclose()
        if place >= len(made):
            break
        place += 1
    assert wrong == []
    assert place >= 8
