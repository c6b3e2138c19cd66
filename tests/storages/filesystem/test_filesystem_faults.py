"""Full disks, read-only disks and I/O errors: the call fails, the old record is intact, and nothing is left behind."""

import errno
import os
import resource
import subprocess
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from aiohttp_session_store import FileSystemStorage, StorageError, get_session, setup
from aiohttp_session_store.storages.filesystem.lock import BusyError
from tests.storages.filesystem.filesystem_tools import (
    make_session,
    mounted,
    open_files,
    record_locked_by_a_stranger,
    temporary_files,
)


async def test_a_full_disk_loses_nothing_and_saving_works_again_once_there_is_space(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "size=96k,mode=700") as disk:
        storage = FileSystemStorage(disk, sweep_interval=None)
        session = await storage.read(None)
        session["small"] = "x" * 1000
        value = await storage.save(session)
        before = open_files()

        session = await storage.read(value)
        session["large"] = "x" * 200_000
        with pytest.raises(StorageError, match="No space left"):
            await storage.save(session)

        assert list(await storage.read(value)) == ["small"]
        assert temporary_files(storage) == []
        assert open_files() == before
        assert session.dirty

        subprocess.run(["mount", "-o", "remount,size=2m", str(disk)], check=True)
        await storage.save(session)

        assert list(await storage.read(value)) == ["small", "large"]
        await storage.aclose()


async def test_sessions_on_a_read_only_disk_can_be_read(tmp_path: Path) -> None:
    with mounted(tmp_path / "fixed", "size=1m,mode=700") as disk:
        storage = FileSystemStorage(disk, sweep_interval=None)
        session = await storage.read(None)
        session["a"] = 1
        value = await storage.save(session)
        await storage.aclose()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)

        session = await storage.read(value)
        assert dict(session) == {"a": 1}
        session["b"] = 2
        with pytest.raises(StorageError, match="Read-only"):
            await storage.save(session)

        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        await storage.save(session)

        assert dict(await storage.read(value)) == {"a": 1, "b": 2}
        await storage.aclose()


async def test_a_full_disk_answers_503_and_is_logged_once_with_its_cause(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def write(request: web.Request) -> web.Response:
        session = await get_session(request)
        session["data"] = "x" * int(request.query["size"])
        return web.Response(text="written")

    async def read(request: web.Request) -> web.Response:
        return web.Response(text=str(len((await get_session(request)).get("data", ""))))

    with mounted(tmp_path / "small", "size=96k,mode=700") as disk:
        app = web.Application()
        app.router.add_get("/write", write)
        app.router.add_get("/read", read)
        setup(app, FileSystemStorage(disk))
        async with TestClient(TestServer(app)) as client:
            assert (await client.get("/write?size=1000")).status == 200

            failed = await client.get("/write?size=200000")

            assert failed.status == 503
            assert "Set-Cookie" not in failed.headers
            assert await (await client.get("/read")).text() == "1000"
            logged = [record for record in caplog.records if record.levelname == "ERROR"]
            assert len(logged) == 1
            assert "No space left on device" in logged[0].getMessage()
            assert not logged[0].exc_info
            assert list(disk.rglob(".tmp-*")) == []


async def works_again(storage: FileSystemStorage, value: str, before: int) -> None:
    """Check that a fault has left no file, descriptor or lock behind."""
    assert temporary_files(storage) == []
    assert open_files() == before
    assert not storage._locks._held
    session = await storage.read(value)
    assert dict(session) == {"kept": 1}
    session["afterwards"] = 1
    await storage.save(session)
    assert dict(await storage.read(value)) == {"kept": 1, "afterwards": 1}
    await storage.aclose()


@pytest.mark.parametrize("call", ["open", "pwrite", "utime", "fsync", "fstat", "close"])
async def test_an_io_error_anywhere_in_a_write_keeps_the_old_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    storage = FileSystemStorage(tmp_path / "sessions", sweep_interval=None, durable=True)
    value = await make_session(storage, kept=1)
    session = await storage.read(value)
    session["lost"] = 1
    before = open_files()
    real = getattr(os, call)

    def fail(*args: object, **kwargs: object) -> object:
        if call == "close":  # as on Linux, the descriptor is closed despite the error
            real(*args, **kwargs)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        with pytest.raises(StorageError, match="Input/output error") as caught:
            await storage.save(session)

    assert isinstance(caught.value.__cause__, OSError)
    await works_again(storage, value, before)


@pytest.mark.parametrize("call", ["open", "read", "fstat"])
async def test_an_io_error_in_a_read_is_an_error_and_not_a_logout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    storage = FileSystemStorage(tmp_path / "sessions", sweep_interval=None, cache_size=0)
    value = await make_session(storage, kept=1)
    before = open_files()

    def fail(*_: object, **__: object) -> object:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        with pytest.raises(StorageError, match="Input/output error"):
            await storage.read(value)

    await works_again(storage, value, before)


async def test_a_short_write_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three other libraries mistake a short write for a complete one, and lose the session."""
    storage = FileSystemStorage(tmp_path / "sessions", sweep_interval=None)
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, offset: real(descriptor, data[:7], offset))

    value = await make_session(storage, filling="x" * 1000)

    assert dict(await FileSystemStorage(storage.directory).read(value)) == {"filling": "x" * 1000}
    await storage.aclose()


async def test_running_out_of_descriptors_is_an_error_that_does_no_lasting_harm(tmp_path: Path) -> None:
    storage = FileSystemStorage(tmp_path / "sessions", sweep_interval=None)
    value = await make_session(storage, kept=1)
    session = await storage.read(value)
    session["lost"] = 1
    before = open_files()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(StorageError, match="Too many open files"):
            await storage.save(session)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    await works_again(storage, value, before)


async def test_a_fault_while_a_lock_is_held_releases_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = FileSystemStorage(tmp_path / "sessions", sweep_interval=None, durable=True)
    value = await make_session(storage, kept=1)
    session = await storage.read(value)
    session["lost"] = 1
    before = open_files()

    def fail(*_: object, **__: object) -> None:
        with pytest.raises(BusyError), record_locked_by_a_stranger(storage, session):
            pass
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", fail)
        with pytest.raises(StorageError, match="quota"):
            await storage.save(session)

    await works_again(storage, value, before)
