"""The index of owners in files: what a copy, a tidy-up or another tool does to it."""

import os
import shutil
from pathlib import Path

import pytest

from aiohttp_session_store import FileSystemStorage
from aiohttp_session_store.record.head import owner_key
from aiohttp_session_store.storages.base import RECLAIM_AFTER
from aiohttp_session_store.testing import ManualClock
from tests.storages.filesystem.filesystem_tools import recorded

DAY = 86_400


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_700_000_000)


@pytest.fixture
def storage(tmp_path: Path, clock: ManualClock) -> FileSystemStorage:
    return FileSystemStorage(tmp_path / "sessions", clock=clock, sweep_interval=None)


async def logged_in(storage: FileSystemStorage, owner: str = "ada") -> str:
    session = await storage.read(None)
    session.login(owner)
    value = await storage.save(session)
    assert value
    return value


def entries_of(storage: FileSystemStorage, owner: str = "ada") -> Path:
    return Path(storage.directory, "owners", owner_key(owner))


async def test_a_copy_without_modification_times_still_shows_and_ends_the_sessions_of_an_owner(
    storage: FileSystemStorage, clock: ManualClock, tmp_path: Path
) -> None:
    """``cp -r`` gives each entry the time of the copy, which is the time at which the entry ends."""
    value = await logged_in(storage)
    shutil.copytree(storage.directory, tmp_path / "copy", copy_function=shutil.copy)
    copy = FileSystemStorage(tmp_path / "copy", clock=clock, sweep_interval=None)
    for entry in entries_of(copy).iterdir():
        os.utime(entry, (clock(), clock()))
    clock.advance(RECLAIM_AFTER + 1)

    await copy.sweep()

    assert [info.owner for info in await copy.sessions_of("ada")] == ["ada"]
    assert await copy.end_sessions("ada") == 1
    assert (await copy.read(value)).new


async def test_an_entry_goes_when_its_record_has_gone(storage: FileSystemStorage, clock: ManualClock) -> None:
    await logged_in(storage)
    for entry in entries_of(storage).iterdir():
        os.utime(entry, (clock(), clock()))
    clock.advance(100 * DAY)

    await storage.sweep()

    assert not entries_of(storage).exists()


async def test_names_that_are_no_keys_are_none_of_ours(storage: FileSystemStorage, clock: ManualClock) -> None:
    """NFS leaves .nfs files behind, and a desktop its own."""
    await logged_in(storage)
    for name in (".nfs0001", ".DS_Store", "x" * 64, "a" * 63):
        (entries_of(storage) / name).touch()
    (entries_of(storage) / "folder").mkdir()
    (entries_of(storage).parent / "folder").mkdir()
    before = {path.name for path in Path(storage.directory).iterdir()}

    assert len(await storage.sessions_of("ada")) == 1
    assert await storage.end_sessions("ada") == 1
    clock.advance(100 * DAY)
    await storage.sweep()

    assert {path.name for path in Path(storage.directory).iterdir()} <= before | {"locks"}
    assert (entries_of(storage) / "folder").exists()


async def test_with_durable_the_first_entry_syncs_every_new_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = FileSystemStorage(tmp_path / "sessions", durable=True, sweep_interval=None)
    calls = recorded(monkeypatch)

    await storage.link("a" * 64, "b" * 64, 4_000_000_000)

    assert calls == 3 * ["fsync folder"]
