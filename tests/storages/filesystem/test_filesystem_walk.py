"""A walk over files: what is no record is found with its fault, and is left where it is."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from aiohttp_session_store import FileSystemStorage, StorageError, Stored

EXPIRES_AT = 4_000_000_000


async def found(storage: FileSystemStorage) -> dict[str, Stored | str]:
    return {one.key: one.stored or one.fault async for part in storage.walk() for one in part.found}


async def test_damaged_files_are_found_with_their_fault_and_stay_in_place(tmp_path: Path) -> None:
    storage = FileSystemStorage(tmp_path / "s", sweep_interval=None)
    sound, torn, newer, folder, link = (digit * 64 for digit in "12345")
    for key in (sound, torn, newer):
        await storage.insert(key, b"data", EXPIRES_AT)
    path = {key: tmp_path / "s" / key[:2] / key[2:] for key in (torn, newer, folder, link)}
    path[torn].write_bytes(path[torn].read_bytes()[:-1])
    path[newer].write_bytes(b"aiosess9" + path[newer].read_bytes()[8:])
    path[folder].mkdir(parents=True, mode=0o700)
    path[link].parent.mkdir(mode=0o700)
    path[link].symlink_to("/etc/passwd")

    seen = await found(storage)

    assert isinstance(seen.pop(sound), Stored)
    assert seen == {
        torn: "3 bytes of data instead of 4",
        newer: "file format 9 is newer than this package",
        folder: "not a file of ours: Is a directory",
        link: "not a file of ours: Too many levels of symbolic links",
    }
    assert all(os.path.lexists(one) for one in path.values())
    assert not (tmp_path / "s" / "set-aside").exists()
    await storage.aclose()


async def test_a_walk_ignores_what_is_no_record_by_its_name(tmp_path: Path) -> None:
    storage = FileSystemStorage(tmp_path / "s", sweep_interval=None)
    await storage.insert("a" * 64, b"data", EXPIRES_AT)
    await storage.link("b" * 64, "a" * 64, EXPIRES_AT)
    (tmp_path / "s" / "aa" / ".tmp-0123456789abcdef").write_bytes(b"half")
    (tmp_path / "s" / "aa" / "notes.txt").write_text("hello")
    (tmp_path / "s" / "ff").write_text("a file in the place of a folder")

    assert list(await found(storage)) == ["a" * 64]
    await storage.aclose()


async def test_a_folder_that_cannot_be_read_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as one that belongs to root, after a backup was restored."""
    storage = FileSystemStorage(tmp_path / "s", sweep_interval=None)
    for digit in "123":
        await storage.insert(digit * 64, b"data", EXPIRES_AT)
    real, seen = os.open, list[str]()

    async def walk() -> None:
        async for part in storage.walk():
            seen.extend(one.key for one in part.found)

    def refuse(path: str, *args: Any, **kwargs: Any) -> int:
        if path == "22":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real(path, *args, **kwargs)

    with monkeypatch.context() as patched:  # chmod would not do: tests may run as root
        patched.setattr(os, "open", refuse)
        with pytest.raises(StorageError, match="Permission denied: '22'"):
            await walk()

    assert seen == ["1" * 64, "3" * 64]
    await storage.aclose()


async def test_the_cache_of_another_process_sees_a_rewrite(tmp_path: Path) -> None:
    """Its expiry is written into the file just before the file takes its place."""
    one, other = (FileSystemStorage(tmp_path / "s", sweep_interval=None) for _ in range(2))
    version = await one.insert("a" * 64, b"old", EXPIRES_AT) or b""
    assert await other.fetch("a" * 64) == Stored(b"old", version, EXPIRES_AT)
    assert await one.touch("a" * 64, EXPIRES_AT + 5, version)
    newer = await one.rewrite("a" * 64, b"new", version)

    assert newer
    for storage in (one, other):
        assert await storage.fetch("a" * 64) == Stored(b"new", newer, EXPIRES_AT + 5)
        await storage.aclose()
