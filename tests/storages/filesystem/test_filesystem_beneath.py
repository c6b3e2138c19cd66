"""The directory of a running app is emptied, removed, or filled with files that do not belong there."""

import asyncio
import logging
import os
import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from aiohttp_session_store import FileSystemStorage
from aiohttp_session_store.storages.filesystem import lock, set_aside
from aiohttp_session_store.storages.filesystem.lock import BusyError
from tests.storages.filesystem.filesystem_tools import lock_file, make_session, open_files

FIRST, SECOND = 2, 4  # offsets
KEY = "ab" + 62 * "0"
LATER = 4_000_000_000


def test_a_process_that_holds_a_lock_notices_that_the_lock_file_was_replaced(tmp_path: Path) -> None:
    """Otherwise one long exclusive session would keep all later locks of this process in the old lock file."""
    path = tmp_path / "locks"
    ours, others = lock_file(tmp_path), lock_file(tmp_path)
    before = open_files()
    ours.acquire(FIRST)
    path.unlink()

    ours.acquire(SECOND)

    with pytest.raises(BusyError):
        others.acquire(SECOND)
    with pytest.raises(BusyError):
        ours.acquire(FIRST)
    ours.release(SECOND)
    ours.release(FIRST)
    others.acquire(SECOND)
    with pytest.raises(BusyError):
        ours.acquire(SECOND)
    others.release(SECOND)
    ours.close()
    others.close()
    assert open_files() == before


def test_locks_in_a_replaced_lock_file_are_still_held(tmp_path: Path) -> None:
    path, kept = tmp_path / "locks", tmp_path / "kept"
    ours = lock_file(tmp_path)
    ours.acquire(FIRST)
    path.rename(kept)
    ours.acquire(SECOND)
    ours.release(SECOND)

    kept.replace(path)
    with pytest.raises(BusyError):
        lock_file(tmp_path).acquire(FIRST)


async def test_a_removed_directory_is_created_again_by_the_next_call(tmp_path: Path) -> None:
    storage = FileSystemStorage(tmp_path / "sessions", sweep_interval=None)
    value = await make_session(storage, a=1)
    shutil.rmtree(storage.directory)

    assert await storage.sweep() == 0
    assert Path(storage.directory).stat().st_mode & 0o777 == 0o700
    shutil.rmtree(storage.directory)
    async with storage.lock(KEY):
        assert (await storage.read(value)).new
    assert dict(await storage.read(await make_session(storage, b=1))) == {"b": 1}
    await storage.aclose()


@pytest.mark.parametrize("what", ["file", "link", "link to nowhere"])
async def test_a_file_or_link_in_place_of_a_folder_is_set_aside_by_the_next_insert(
    tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise every 256th new visitor would get a 503: a read sets it aside too, but nobody has a session there."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    storage = FileSystemStorage(tmp_path / "sessions", sweep_interval=None)
    misplaced = Path(storage.directory, KEY[:2])
    if what == "file":
        misplaced.write_text("a note")
    else:
        misplaced.symlink_to(elsewhere if what == "link" else tmp_path / "nowhere")

    assert await storage.insert(KEY, b"data", LATER)

    found = await storage.fetch(KEY)
    assert found is not None
    assert found.data == b"data"
    assert not list(elsewhere.iterdir())
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert len(list(Path(storage.directory, "set-aside").iterdir())) == 1
    await storage.aclose()


async def test_a_pipe_in_place_of_a_record_counts_as_rubbish(tmp_path: Path) -> None:
    storage = FileSystemStorage(tmp_path / "sessions", sweep_interval=None)
    pipe = Path(storage.directory, KEY[:2], KEY[2:])
    pipe.parent.mkdir(mode=0o700)
    os.mkfifo(pipe)

    assert await storage.replace(KEY, b"data", LATER, b"versions") is None
    assert not await storage.touch(KEY, LATER, b"versions")
    assert await storage.sweep() == 0
    assert not pipe.exists()
    await storage.aclose()


async def test_a_record_that_another_process_has_just_put_in_place_of_a_link_is_not_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, other = (FileSystemStorage(tmp_path / "sessions", sweep_interval=None) for _ in range(2))
    link = Path(storage.directory, KEY[:2], KEY[2:])
    link.parent.mkdir()
    link.symlink_to("/nowhere")
    real = lock.folder_locked
    repaired: list[object] = []

    def folder_locked(folder: int) -> AbstractContextManager[None]:
        if not repaired:  # right before this call, another process sets the link aside and stores a record
            link.unlink()
            repaired.append(asyncio.run(other.insert(KEY, b"answered", LATER)))
        return real(folder)

    monkeypatch.setattr(set_aside, "folder_locked", folder_locked)

    found = await storage.fetch(KEY)

    assert found is not None
    assert found.data == b"answered"
    assert repaired[0] == found.version
    await storage.aclose()
    await other.aclose()


async def test_parallel_inserts_that_meet_a_file_in_place_of_a_folder_all_succeed(tmp_path: Path) -> None:
    for round_ in range(20):
        first, second = (FileSystemStorage(tmp_path / f"{round_}", sweep_interval=None) for _ in range(2))
        Path(first.directory, KEY[:2]).write_text("a note")
        keys = [f"{KEY[:2]}{number:02x}{60 * '0'}" for number in range(16)]

        await asyncio.gather(*((first, second)[index % 2].insert(key, b"", LATER) for index, key in enumerate(keys)))

        assert None not in await asyncio.gather(*(first.fetch(key) for key in keys))
        await first.aclose()
        await second.aclose()


async def test_a_folder_that_another_process_has_just_repaired_is_not_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, other = (FileSystemStorage(tmp_path / "sessions", sweep_interval=None) for _ in range(2))
    misplaced, neighbour = Path(storage.directory, KEY[:2]), KEY[:2] + 62 * "1"
    misplaced.write_text("a note")
    real = os.stat
    looked: list[str] = []

    def stat(path: str, **arguments: Any) -> os.stat_result:
        found = real(path, **arguments)
        if path == misplaced.name and not looked:  # right after this call, another process repairs the folder
            looked.append(path)
            misplaced.unlink()
            asyncio.run(other.insert(neighbour, b"answered", LATER))
        return found

    monkeypatch.setattr(os, "stat", stat)

    assert await storage.insert(KEY, b"data", LATER)
    assert looked
    assert await storage.fetch(neighbour) is not None
    assert not list(Path(storage.directory, "set-aside").iterdir())
    await storage.aclose()
    await other.aclose()
