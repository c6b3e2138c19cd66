"""Full disks, read-only disks and worse: a loud error, the old record intact, nothing left behind."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from aiohttp_session_store import FileSystemStorage, StorageError, get_session, setup


@contextmanager
def mounted(path: Path, options: str) -> Iterator[Path]:
    """Mount a file system of its own at *path*, or skip with the reason."""
    path.mkdir(mode=0o700)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
    mount = subprocess.run(command, capture_output=True, text=True, check=False)
    if mount.returncode:
        pytest.skip(f"mounting is not permitted here: {mount.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def leftovers(directory: str) -> list[str]:
    return [path.name for path in Path(directory).rglob(".tmp-*")]


def descriptors() -> set[str]:
    return {str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}


async def test_a_full_disk_loses_nothing_and_is_over_when_there_is_space(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "size=96k,mode=700") as disk:
        storage = FileSystemStorage(disk, sweep_interval=None)
        session = await storage.read(None)
        session["small"] = "x" * 1000
        value = await storage.save(session)
        before = descriptors()

        session = await storage.read(value)
        session["large"] = "x" * 200_000
        with pytest.raises(StorageError, match="No space left"):
            await storage.save(session)

        assert list(await storage.read(value)) == ["small"]
        assert leftovers(storage.directory) == []
        assert before == descriptors()
        assert session.dirty

        subprocess.run(["mount", "-o", "remount,size=2m", str(disk)], check=True)
        await storage.save(session)

        assert list(await storage.read(value)) == ["small", "large"]
        await storage.aclose()


async def test_a_read_only_disk_is_still_read(tmp_path: Path) -> None:
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
            assert logged[0].exc_info
            error = logged[0].exc_info[1]
            assert isinstance(error, StorageError)
            assert isinstance(error.__cause__, OSError)
            assert leftovers(str(disk)) == []
