"""The secret file: made once, kept there while an app runs, and never changed by it."""

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from aiohttp_session_store import ConfigurationError, FileSystemStorage, StorageError
from aiohttp_session_store.storages.filesystem import secret as secret_file
from aiohttp_session_store.storages.filesystem import swap, upkeep
from tests.storages.filesystem.filesystem_tools import make_session, temporary_files

T = TypeVar("T")

OTHER = "another-secret-0123456789-abcdefghijklmnopqrstuvwxyz"


@pytest.fixture
def storage(tmp_path: Path) -> FileSystemStorage:
    return FileSystemStorage(tmp_path / "sessions", sweep_interval=None)


def file_of(storage: FileSystemStorage) -> Path:
    return Path(storage.directory, "secret.key")


async def test_a_removed_secret_is_put_back_and_this_is_logged(
    storage: FileSystemStorage, caplog: pytest.LogCaptureFixture
) -> None:
    [secret] = storage.default_secrets()
    file_of(storage).unlink()

    await storage._look()
    await storage._look()

    assert file_of(storage).read_text().strip() == secret
    assert file_of(storage).stat().st_mode & 0o777 == 0o600
    assert temporary_files(storage) == []
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert f"secret.key was removed from {storage.directory}, and this process has put it back" in caplog.text
    assert secret not in caplog.text
    assert FileSystemStorage(storage.directory).default_secrets() == [secret]


async def test_another_secret_is_never_overwritten_and_is_logged_once(
    storage: FileSystemStorage, caplog: pytest.LogCaptureFixture
) -> None:
    [secret] = storage.default_secrets()
    file_of(storage).write_text(OTHER)

    for _ in range(3):
        await storage._look()

    assert file_of(storage).read_text() == OTHER
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "is not the secret that this process signs with" in caplog.text
    assert OTHER not in caplog.text
    assert secret not in caplog.text


async def test_a_secret_that_another_process_makes_at_the_same_moment_stays(
    storage: FileSystemStorage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.default_secrets()
    file_of(storage).unlink()
    real = swap.put_new

    def put_new(source: str, target: str, folder: int) -> None:
        file_of(storage).write_text(OTHER)
        file_of(storage).chmod(0o600)
        real(source, target, folder)

    monkeypatch.setattr(secret_file, "put_new", put_new)

    await storage._look()

    assert file_of(storage).read_text() == OTHER
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_an_app_with_secrets_of_its_own_gets_no_secret_file(
    storage: FileSystemStorage, caplog: pytest.LogCaptureFixture
) -> None:
    await storage._look()

    assert not file_of(storage).exists()
    assert caplog.records == []


async def test_a_second_app_in_a_process_gets_the_same_secret_if_the_file_was_removed(
    storage: FileSystemStorage,
) -> None:
    first = storage.default_secrets()
    file_of(storage).unlink()

    assert storage.default_secrets() == first


async def test_a_new_secret_for_existing_sessions_is_warned_of(
    storage: FileSystemStorage, caplog: pytest.LogCaptureFixture
) -> None:
    storage.default_secrets()
    await make_session(storage, a=1)
    file_of(storage).unlink()
    assert caplog.records == []

    FileSystemStorage(storage.directory).default_secrets()

    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "secret.key was missing and is made anew: all visitors have to log in again" in caplog.text


@pytest.mark.parametrize("mode", [0o640, 0o620, 0o660])
async def test_a_secret_that_its_group_can_use_is_made_private(
    storage: FileSystemStorage, caplog: pytest.LogCaptureFixture, mode: int
) -> None:
    secret = storage.default_secrets()
    file_of(storage).chmod(mode)

    assert storage.default_secrets() == secret
    await storage._look()

    assert file_of(storage).stat().st_mode & 0o777 == 0o600
    assert [record.message for record in caplog.records] == [
        f"{file_of(storage)} had mode {mode:04o}, so its group could use it; it is 0600 now"
    ]


@pytest.mark.parametrize("what", ["world-readable", "damaged", "folder", "link", "pipe", "foreign"])
async def test_a_secret_file_that_cannot_be_trusted_is_refused_and_logged_once_by_a_running_app(
    storage: FileSystemStorage,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    what: str,
) -> None:
    storage.default_secrets()
    path = file_of(storage)
    (tmp_path / "elsewhere").write_text(OTHER)
    if what == "world-readable":
        path.chmod(0o604)
    elif what == "damaged":
        path.write_text("")
    elif what == "foreign":
        if os.geteuid() != 0:
            pytest.skip("only root can give files away")
        os.chown(path, 12345, 12345)
    else:
        path.unlink()
    if what == "folder":
        path.mkdir(0o700)
    elif what == "link":
        path.symlink_to(tmp_path / "elsewhere")
    elif what == "pipe":
        os.mkfifo(path, 0o600)

    with pytest.raises(ConfigurationError, match=r"secret\.key"):
        FileSystemStorage(storage.directory).default_secrets()

    monkeypatch.setattr(upkeep, "LOOK_EVERY", 0.001)
    looks: list[int] = []
    real = storage._look

    async def look() -> None:
        looks.append(1)
        await real()

    storage._look = look
    await storage.start()
    async with asyncio.timeout(10):
        while len(looks) < 5:
            await asyncio.sleep(0.001)
    await storage.aclose()
    assert [record.levelno for record in caplog.records if "upkeep" in record.message] == [logging.ERROR]


async def test_a_disk_that_has_no_room_for_the_secret_is_tried_again(
    storage: FileSystemStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    [secret] = storage.default_secrets()
    file_of(storage).unlink()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(secret_file, "put_new", full)
        with pytest.raises(StorageError, match="No space left"):
            await storage._look()
    assert temporary_files(storage) == []

    await storage._look()

    assert file_of(storage).read_text().strip() == secret


async def test_the_upkeep_starts_and_stops_with_the_storage(
    storage: FileSystemStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "LOOK_EVERY", 0.001)
    storage.default_secrets()
    for _ in range(2):
        await storage.start()
        await storage.start()
        file_of(storage).unlink()
        async with asyncio.timeout(10):
            while not file_of(storage).exists():
                await asyncio.sleep(0.001)
        await storage.aclose()
        assert [task for task in asyncio.all_tasks() if "upkeep" in task.get_name()]
        await storage.aclose()
        assert not [task for task in asyncio.all_tasks() if "upkeep" in task.get_name()]


WORKER = """
    import logging, sys
    from aiohttp import web
    from aiohttp_session_store import FileSystemStorage, get_session, setup

    async def index(request):
        session = await get_session(request)
        session["visits"] = session.get("visits", 0) + 1
        return web.Response(text=str(session["visits"]))

    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    app = web.Application()
    app.router.add_get("/", index)
    setup(app, FileSystemStorage(sys.argv[1]))
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[2]), print=None, access_log=None)
"""


def test_visitors_stay_logged_in_when_the_secret_is_removed_and_a_worker_is_replaced(tmp_path: Path) -> None:
    """A tidy-up job removes what has not been written for long: the secret and the lock file."""
    directory, cookie, said = tmp_path / "sessions", "", ""

    def started() -> tuple[subprocess.Popen[str], int]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [sys.executable, "-c", textwrap.dedent(WORKER), str(directory), str(port)]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True), port

    def visit(port: int) -> str:
        nonlocal cookie
        request = f"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nCookie: {cookie}\r\n\r\n"
        answer = until(lambda: exchange(port, request))
        head, _, body = answer.partition("\r\n\r\n")
        for line in head.split("\r\n"):
            if line.startswith("Set-Cookie: "):
                cookie = line.removeprefix("Set-Cookie: ").partition(";")[0]
        return body

    workers = [started(), started()]
    try:
        assert [visit(port) for _, port in workers] == ["1", "2"]
        for name in ("secret.key", "locks"):
            (directory / name).unlink(missing_ok=True)
        removed = time.monotonic()
        until(lambda: (directory / "secret.key").exists() or None)
        assert time.monotonic() - removed < 10
        replaced, _ = workers.pop()
        replaced.send_signal(signal.SIGTERM)
        said += replaced.communicate(timeout=20)[1]
        workers.append(started())

        assert [visit(port) for _, port in workers * 2] == ["3", "4", "5", "6"]
    finally:
        for worker, _ in workers:
            worker.send_signal(signal.SIGTERM)
            said += worker.communicate(timeout=20)[1]
    assert said.count("this process has put it back") == 1
    assert f"sessions are stored in {directory}, and the secret for cookies was found" in said


def exchange(port: int, request: str) -> str | None:
    """Send *request*; return the answer, or None if the server has not started yet."""
    try:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(request.encode())
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    except ConnectionRefusedError:
        return None


def until(ask: Callable[[], T | None]) -> T:
    """Ask until there is an answer, for at most 20 seconds."""
    deadline = time.monotonic() + 20
    while (answer := ask()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return answer
