"""What survives when writers are killed."""

import asyncio
import os
import random
import signal
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from aiohttp_session_store import FileSystemStorage
from aiohttp_session_store.storages.filesystem import atomic_files as files
from aiohttp_session_store.storages.filesystem import sweep
from tests.storages.filesystem.filesystem_tools import exit_code, make_session, recorded, run_in_child, temporary_files

NUMBER = struct.Struct("<q")


def kill_writers(directory: Path, rounds: int, size: int, *, durable: bool = False) -> FileSystemStorage:
    """Kill *rounds* writers at random moments; check that the record is whole and has every acknowledged write."""
    random.seed(size)
    storage = FileSystemStorage(directory, sweep_interval=None, durable=durable, cache_size=0)
    value = asyncio.run(make_session_and_close(storage, number=0, filling="x" * size))
    newest = 0
    for _ in range(rounds):
        heard, told = os.pipe()

        async def write(first: int = newest + 1, told: int = told) -> None:
            for number in range(first, first + 100_000):
                session = await storage.read(value)
                session["number"] = number
                session["filling"] = chr(97 + number % 26) * size
                await storage.save(session)
                os.write(told, NUMBER.pack(number))

        pid = run_in_child(write)
        os.close(told)
        acknowledged = NUMBER.unpack(os.read(heard, NUMBER.size))[0]  # it has started to write
        time.sleep(random.uniform(0, 0.02))
        os.kill(pid, signal.SIGKILL)
        assert exit_code(pid) == -signal.SIGKILL
        while rest := os.read(heard, NUMBER.size * 4096):
            acknowledged = NUMBER.unpack(rest[-NUMBER.size :])[0]
        os.close(heard)

        data = asyncio.run(read_and_close(storage, value))
        newest = data["number"]
        assert acknowledged <= newest <= acknowledged + 1
        assert data["filling"] == chr(97 + newest % 26) * size
    return storage


async def make_session_and_close(storage: FileSystemStorage, **data: object) -> str:
    value = await make_session(storage, **data)
    await storage.aclose()
    return value


async def read_and_close(storage: FileSystemStorage, value: str) -> dict[str, Any]:
    session = await storage.read(value)
    await storage.aclose()
    return dict(session)


@pytest.mark.parametrize("size", [300, 200_000])
def test_thirty_killed_writers_leave_whole_records(tmp_path: Path, size: int) -> None:
    kill_writers(tmp_path / "sessions", 30, size)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("size", [300, 200_000])
def test_three_hundred_killed_writers_leave_whole_records(tmp_path: Path, size: int, durable: bool) -> None:
    kill_writers(tmp_path / "sessions", 300, size, durable=durable)


def test_the_sweep_removes_the_leftovers_of_a_killed_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer is killed after it has written its temporary file and before it renames it."""
    storage = FileSystemStorage(tmp_path / "sessions", sweep_interval=None)
    value = asyncio.run(make_session_and_close(storage, number=0))

    async def write() -> None:
        def die(*_: object) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        monkeypatch.setattr(files, "record_locked", die)
        session = await storage.read(value)
        session["number"] = 1
        await storage.save(session)

    assert exit_code(run_in_child(write)) == -signal.SIGKILL
    assert len(temporary_files(storage)) == 1

    asyncio.run(sweep_and_close(storage))
    assert len(temporary_files(storage)) == 1  # for all the sweep knows, the writer is still at work

    monkeypatch.setattr(sweep, "TEMPORARY_KEPT", -1)
    asyncio.run(sweep_and_close(storage))
    assert temporary_files(storage) == []
    assert asyncio.run(read_and_close(storage, value)) == {"number": 0}


async def sweep_and_close(storage: FileSystemStorage) -> None:
    await storage.sweep()
    await storage.aclose()


def test_a_killed_holder_of_an_exclusive_session_frees_it_at_once(tmp_path: Path) -> None:
    storage = FileSystemStorage(tmp_path / "sessions", sweep_interval=None)
    key = "ab" * 32

    async def take_and_die() -> None:
        async with storage.lock(key):
            os.kill(os.getpid(), signal.SIGKILL)

    async def take() -> None:
        async with asyncio.timeout(1), storage.lock(key):
            pass

    assert exit_code(run_in_child(take_and_die)) == -signal.SIGKILL
    asyncio.run(take())


async def test_a_durable_write_syncs_the_file_then_renames_it_then_syncs_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = FileSystemStorage(tmp_path / "sessions", durable=True, sweep_interval=None)
    value = await make_session(storage, number=0)
    session = await storage.read(value)
    session["number"] = 1
    calls = recorded(monkeypatch)

    await storage.save(session)

    assert calls == ["write", "fsync file", "rename", "fsync folder"]
    await storage.aclose()


async def test_a_durable_new_session_syncs_the_folder_that_it_creates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = FileSystemStorage(tmp_path / "sessions", durable=True, sweep_interval=None)
    calls = recorded(monkeypatch)

    await make_session(storage, number=0)

    assert calls == ["fsync folder", "write", "fsync file", "put_new", "fsync folder"]
    await storage.aclose()


async def test_a_durable_logout_syncs_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = FileSystemStorage(tmp_path / "sessions", durable=True, sweep_interval=None)
    session = await storage.read(await make_session(storage, number=0))
    session.destroy()
    calls = recorded(monkeypatch)

    await storage.save(session)

    assert calls[-3:] == ["fsync file", "rename", "fsync folder"]
    await storage.aclose()


async def test_without_durable_nothing_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = FileSystemStorage(tmp_path / "sessions", sweep_interval=None)
    calls = recorded(monkeypatch)

    await make_session(storage, number=0)

    assert not [call for call in calls if call.startswith("fsync")]
    await storage.aclose()
