"""What a storage says when it starts, and what may happen to its directory while an app uses it."""

import asyncio
import errno
import fcntl
import logging
import os
import shutil
import subprocess
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from aiohttp_session_store import FileSystemStorage, StorageError
from aiohttp_session_store.storages.filesystem import safe_path, swap
from tests.storages.filesystem.filesystem_tools import (
    ROOT_ONLY,
    STRANGER,
    as_user,
    exit_code,
    make_session,
    mounted,
    open_files,
    run_in_child,
    temporary_files,
)

KEY = "ab" + 62 * "0"
LATER = 4_000_000_000


def mode_of(path: str | Path) -> int:
    return Path(path).stat().st_mode & 0o7777


# --- what is said at the start


async def started(storage: FileSystemStorage, caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    """Start and close *storage*; return what was logged."""
    caplog.clear()
    with caplog.at_level(logging.INFO, "aiohttp_session_store"):
        await storage.start()
        await storage.start()
        await storage.aclose()
        await storage.aclose()
    return [(record.levelno, record.message) for record in caplog.records if record.name == "aiohttp_session_store"]


async def test_the_start_says_where_the_sessions_are_and_where_the_secret_comes_from(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it shows if an app is started in another directory, or each release in one of its own."""
    monkeypatch.chdir(tmp_path)
    lines = []
    for asks in (False, True, True):
        storage = FileSystemStorage("var/sessions", sweep_interval=None)
        if asks:
            storage.default_secrets()
        lines += await started(storage, caplog)

    start = f"sessions are stored in {tmp_path}/var/sessions, and "
    assert lines == [
        (logging.INFO, start + "the app has secrets of its own"),
        (logging.INFO, start + "the secret for cookies was made"),
        (logging.INFO, start + "the secret for cookies was found"),
    ]


@pytest.mark.parametrize("place", ["well-known", "of the environment", "linked"])
async def test_a_directory_for_temporary_files_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.setattr("aiohttp_session_store.storages.filesystem.storage.is_temporary", safe_path.is_temporary)
    monkeypatch.setattr(safe_path, "_TEMPORARY_PLACES", (str(tmp_path),) if place == "well-known" else ())
    monkeypatch.setattr(
        "tempfile.tempdir",
        {"of the environment": str(tmp_path), "linked": str(tmp_path / "link")}.get(place, "/nonexistent"),
    )
    storage = FileSystemStorage(tmp_path / "sessions", sweep_interval=None)

    lines = await started(storage, caplog)

    assert [level for level, _ in lines] == [logging.INFO, logging.WARNING]
    assert f"{tmp_path}/sessions is in a directory for temporary files" in lines[1][1]


@pytest.mark.parametrize("place", ["/tmp", "/var/tmp", "/run", "/dev/shm"])
def test_what_a_job_or_a_reboot_empties_is_known(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nonexistent")

    assert safe_path.is_temporary(f"{os.path.realpath(place)}/app/sessions")


async def test_a_directory_that_cannot_be_written_to_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The app still starts: after a disk error, its visitors can read their sessions on a disk that is read-only."""
    with mounted(tmp_path / "fixed", "size=1m,mode=700") as disk:
        storage = FileSystemStorage(disk, sweep_interval=None)
        value = await make_session(storage, a=1)
        await storage.aclose()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)

        storage = FileSystemStorage(disk, sweep_interval=None)
        lines = await started(storage, caplog)

        assert [level for level, _ in lines] == [logging.INFO, logging.WARNING]
        assert f"no session can be written in {disk} ([Errno 30] Read-only file system" in lines[1][1]
        assert dict(await storage.read(value)) == {"a": 1}
        await storage.aclose()


@pytest.mark.parametrize("call", ["link", "flock"])
async def test_a_file_system_that_cannot_do_what_a_write_needs_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def unable(*_: object, **__: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(swap, "_call", None)
    monkeypatch.setattr(os if call == "link" else fcntl, call, unable)
    storage = FileSystemStorage(tmp_path / "sessions", sweep_interval=None)

    lines = await started(storage, caplog)

    assert [level for level, _ in lines] == [logging.INFO, logging.WARNING]
    assert "not supported" in lines[1][1]
    assert temporary_files(storage) == []


@ROOT_ONLY
async def test_an_app_that_gave_up_its_rights_after_the_storage_was_made_warns(shared_directory: Path) -> None:
    """As with gunicorn's ``user`` and ``preload_app``."""
    storage = FileSystemStorage(shared_directory / "sessions", sweep_interval=None)

    def start() -> None:
        messages: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
        logging.getLogger("aiohttp_session_store").addHandler(handler)
        asyncio.events._set_running_loop(None)
        asyncio.run(storage.start())
        assert "Permission denied" in messages[0]

    assert as_user(STRANGER, start) == 0


# --- a directory that is removed while it is in use

Call = Callable[[FileSystemStorage], Coroutine[Any, Any, object]]


async def take_the_lock(storage: FileSystemStorage) -> None:
    async with storage.lock(KEY) as lease:
        await lease()


CALLS: dict[str, Call] = {
    "fetch": lambda storage: storage.fetch(KEY),
    "insert": lambda storage: storage.insert(KEY[::-1], b"data", LATER),
    "replace": lambda storage: storage.replace(KEY, b"new", LATER, b"a version"),
    "retire": lambda storage: storage.retire(KEY, b"new", LATER, b"a version"),
    "touch": lambda storage: storage.touch(KEY, LATER, b"a version"),
    "delete": lambda storage: storage.delete(KEY),
    "sweep": lambda storage: storage.sweep(),
    "lock": take_the_lock,
    "look": lambda storage: storage._look(),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("cache_size", [0, 10])
async def test_a_removed_directory_is_made_again_by_any_call_and_this_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, call: str, cache_size: int
) -> None:
    storage = FileSystemStorage(tmp_path / "sessions", sweep_interval=None, cache_size=cache_size)
    secret = storage.default_secrets()
    await storage.insert(KEY, b"data", LATER)
    await take_the_lock(storage)
    before = open_files()
    shutil.rmtree(storage.directory)

    await CALLS[call](storage)

    assert mode_of(storage.directory) == 0o700
    assert Path(storage.directory, ".gitignore").exists()
    assert await storage.fetch(KEY) is None
    assert await storage.insert(KEY, b"data", LATER)
    assert [record.message for record in caplog.records if "removed while" in record.message] == [
        f"{storage.directory} was removed while it was in use, and its sessions with it"
    ]
    await storage._look()
    assert open_files() <= before
    assert storage.default_secrets() == secret
    assert Path(storage.directory, "secret.key").read_text().strip() == secret[0]
    await storage.aclose()


async def test_a_session_that_another_process_stores_in_the_new_directory_is_found(tmp_path: Path) -> None:
    """Otherwise its visitor would be logged out by every process that has the old directory open."""
    storage = FileSystemStorage(tmp_path / "sessions", sweep_interval=None)
    await storage.insert(KEY, b"old", LATER)
    shutil.rmtree(storage.directory)
    other = FileSystemStorage(tmp_path / "sessions", sweep_interval=None)
    version = await other.insert(KEY, b"new", LATER)
    assert version is not None

    found = await storage.fetch(KEY)

    assert found is not None
    assert found.data == b"new"
    assert await storage.replace(KEY, b"newer", LATER, version)
    await storage.aclose()
    await other.aclose()


@ROOT_ONLY
@pytest.mark.parametrize("call", CALLS)
async def test_a_directory_that_another_user_has_made_since_is_not_used(tmp_path: Path, call: str) -> None:
    storage = FileSystemStorage(tmp_path / "sessions", sweep_interval=None)
    await storage.insert(KEY, b"data", LATER)
    shutil.rmtree(storage.directory)
    Path(storage.directory).mkdir(mode=0o700)
    os.chown(storage.directory, STRANGER, STRANGER)

    for _ in range(2):
        with pytest.raises(StorageError, match=f"belongs to user {STRANGER}"):
            await CALLS[call](storage)

    assert list(Path(storage.directory).iterdir()) == []
    await storage.aclose()


async def test_a_directory_is_not_made_again_if_its_parent_is_missing_too(tmp_path: Path) -> None:
    """For example, the folder of a release was removed.  A new one would be used by nobody else."""
    storage = FileSystemStorage(tmp_path / "release/sessions", sweep_interval=None)
    shutil.rmtree(tmp_path / "release")

    with pytest.raises(StorageError, match="the directory was removed, and cannot be used again"):
        await make_session(storage, a=1)

    assert not (tmp_path / "release").exists()
    (tmp_path / "release").mkdir()
    assert dict(await storage.read(await make_session(storage, a=1))) == {"a": 1}
    await storage.aclose()


async def test_parallel_calls_after_the_directory_was_removed_all_succeed(tmp_path: Path) -> None:
    storage = FileSystemStorage(tmp_path / "sessions", sweep_interval=None)
    for _ in range(20):
        keys = [f"{number:02x}{62 * '0'}" for number in range(40)]
        await storage.insert(KEY, b"", LATER)
        shutil.rmtree(storage.directory)

        assert all(await asyncio.gather(*(storage.insert(key, b"", LATER) for key in keys)))

        assert None not in await asyncio.gather(*(storage.fetch(key) for key in keys))
    await storage.aclose()


# --- descriptors


async def test_a_closed_storage_has_no_descriptor_and_opens_its_directory_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = open_files()
    storage = FileSystemStorage(tmp_path / "sessions", sweep_interval=None)
    value = await make_session(storage, a=1)
    await take_the_lock(storage)
    for _ in range(2):
        await storage.aclose()
        assert open_files() == before
        assert dict(await storage.read(value)) == {"a": 1}
    await storage.aclose()
    shutil.rmtree(storage.directory)
    assert (await storage.read(value)).new
    await storage.aclose()
    assert caplog.records == []


def test_a_daemon_that_closes_all_descriptors_can_use_a_storage_that_was_made_before(tmp_path: Path) -> None:
    storage = FileSystemStorage(tmp_path / "sessions", sweep_interval=None)

    async def make() -> str:
        value = await make_session(storage, a=1)
        await take_the_lock(storage)
        storage._threads._executor.shutdown()  # type: ignore[union-attr]
        return value

    value = asyncio.run(make())
    foreign = tmp_path / "of another app"
    for number in range(256):
        (foreign / f"{number:02x}").mkdir(parents=True)

    async def daemon() -> None:
        places = [os.open(foreign, os.O_RDONLY) for _ in range(100)]  # take the numbers of the closed ones
        assert dict(await storage.read(value)) == {"a": 1}
        await make_session(storage, b=1)
        await take_the_lock(storage)
        await storage.sweep()
        for place in places:
            os.fstat(place)
        assert len(list(foreign.rglob("*"))) == 256

    def close_all() -> Coroutine[Any, Any, None]:
        os.closerange(3, 256)
        return daemon()

    assert exit_code(run_in_child(close_all)) == 0
