"""What a look at watched sessions finds in the files, and what it costs."""

import asyncio
import os
from pathlib import Path

import pytest

from aiohttp_session_store import Announcement, FileSystemStorage, StorageError
from aiohttp_session_store.storages.filesystem import storage as storage_module
from aiohttp_session_store.storages.filesystem.directory import SessionDirectory
from aiohttp_session_store.storages.filesystem.watched import ChangedFolders, Versions

KEY, OTHER = "ab" + "0" * 62, "cd" + "1" * 62
EXPIRES_AT = 4_000_000_000


@pytest.fixture
async def storage(tmp_path: Path) -> FileSystemStorage:
    return FileSystemStorage(tmp_path / "sessions", sweep_interval=None)


async def test_a_folder_is_named_when_a_record_in_it_is_written_or_removed_but_not_when_it_is_touched(
    storage: FileSystemStorage,
) -> None:
    version = await storage.insert(KEY, b"data", EXPIRES_AT)
    await storage.insert(OTHER, b"data", EXPIRES_AT)
    assert version is not None
    folders = ChangedFolders(storage._open)
    for _ in range(2):
        folders.look()
    assert folders.look() == set()

    assert await storage.touch(KEY, EXPIRES_AT + 1, version)
    assert folders.look() == set()
    assert await storage.retire(KEY, b"ended", EXPIRES_AT, version)
    assert folders.look() == {"ab"}
    assert folders.look() == {"ab"}  # two changes can fall into one tick of the clock
    assert folders.look() == set()
    await storage.delete(OTHER)
    assert folders.look() == {"cd"}


async def test_an_unchanged_record_is_not_read_again(
    storage: FileSystemStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await storage.insert(KEY, b"data", EXPIRES_AT)
    versions = Versions(storage._open, remember=True)
    first = versions.of([KEY, OTHER])
    opened: list[str] = []
    real = os.open

    def noting(path: str, *args: int, **kwargs: int) -> int:
        opened.append(path)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", noting)

    assert versions.of([KEY, OTHER]) == first
    assert not [path for path in opened if KEY[2:] in str(path)]


@pytest.mark.parametrize("remember", [True, False])
async def test_every_change_is_seen(storage: FileSystemStorage, remember: bool) -> None:
    versions = Versions(storage._open, remember=remember)
    version = await storage.insert(KEY, b"data", EXPIRES_AT)
    assert version is not None
    for number in range(20):
        assert versions.of([KEY]) == {KEY: version}
        assert await storage.touch(KEY, EXPIRES_AT + number, version)
        assert versions.of([KEY]) == {KEY: version}
        newer = await storage.replace(KEY, b"data", EXPIRES_AT, version)
        assert newer is not None
        version = newer
    await storage.delete(KEY)
    assert versions.of([KEY]) == {}


async def test_a_file_that_is_no_record_is_there_all_the_same(storage: FileSystemStorage, tmp_path: Path) -> None:
    """What cannot be read is no end of a session."""
    await storage.insert(KEY, b"data", EXPIRES_AT)
    place = tmp_path / "sessions" / KEY[:2] / KEY[2:]
    for damage in (b"", b"rubbish", place.read_bytes()[:10]):
        place.write_bytes(damage)
        assert list(await storage.versions([KEY])) == [KEY]
    place.unlink()
    place.mkdir()
    assert list(await storage.versions([KEY])) == [KEY]


async def test_a_file_that_may_not_be_read_is_there_all_the_same(
    storage: FileSystemStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in (KEY, OTHER):
        await storage.insert(key, b"data", EXPIRES_AT)
    really_open = os.open

    def refused(path: str, *args: object, **kwargs: object) -> int:  # root may read everything
        if path.startswith(KEY[:2]):
            raise PermissionError(13, "Permission denied")
        return really_open(path, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refused)

    assert (await storage.versions([KEY, OTHER])).keys() == {KEY, OTHER}


async def test_a_directory_that_was_removed_has_ended_all_sessions(storage: FileSystemStorage, tmp_path: Path) -> None:
    await storage.insert(KEY, b"data", EXPIRES_AT)
    folders = ChangedFolders(storage._open)
    folders.look()
    place = tmp_path / "sessions"
    (place / KEY[:2] / KEY[2:]).unlink()
    (place / KEY[:2]).rmdir()
    assert KEY[:2] in folders.look()
    assert await storage.versions([KEY]) == {}


async def test_a_look_that_fails_is_a_storage_error(
    storage: FileSystemStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_module, "_LOOK", 0.01)
    announcements = storage.announcements()
    assert await anext(announcements) == Announcement("")

    def fails(_: object) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(ChangedFolders, "look", fails)
    broken = storage.announcements()
    with pytest.raises(StorageError, match="Permission denied"):
        await asyncio.wait_for(anext(broken), 10)
    await announcements.aclose()


def test_more_records_than_are_remembered_are_no_leak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiohttp_session_store.storages.filesystem.watched._MOST", 10)
    directory = SessionDirectory(tmp_path / "sessions")
    versions = Versions(directory, remember=True)
    versions._known = {f"{number:064x}": (0, 0, 0, b"") for number in range(11)}
    assert versions.of([KEY]) == {}
    assert versions._known == {}
    directory.close()
