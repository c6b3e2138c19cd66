"""What is specific to files: their format and permissions, refused directories, and rubbish in place of a record."""

import logging
import os
import stat
import struct
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from aiohttp_session_store import ConfigurationError, FileSystemStorage, Session, SessionCookie, StorageError
from aiohttp_session_store.engine import retry
from aiohttp_session_store.storages.filesystem.directory import SECRET_FILE
from aiohttp_session_store.storages.filesystem.file_format import pack
from aiohttp_session_store.testing import ManualClock

DAY = 86400


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_700_000_000)


@pytest.fixture
async def storage(tmp_path: Path, clock: ManualClock) -> AsyncIterator[FileSystemStorage]:
    storage = FileSystemStorage(tmp_path / "sessions", clock=clock, sweep_interval=None)
    await storage.start()
    yield storage
    await storage.aclose()


async def stored_session(storage: FileSystemStorage, **data: object) -> tuple[str, Path]:
    """Store a session and return its id and its file."""
    session = await storage.read(None)
    session.update(data or {"user": "ada"})
    value = await storage.save(session)
    assert value
    return value, file_of(storage, session)


def file_of(storage: FileSystemStorage, session: Session) -> Path:
    return Path(storage.directory, session.key[:2], session.key[2:])


def files_below(directory: str | Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in Path(directory).rglob("*") if path.is_file()}


# --- format and permissions


async def test_a_record_is_stored_under_the_hash_of_its_id_and_is_private(storage: FileSystemStorage) -> None:
    value, path = await stored_session(storage)

    assert path.is_file()
    assert value not in str(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in (path.parent, path.parent.parent)} == {0o700}


async def test_the_file_format_does_not_change(storage: FileSystemStorage) -> None:
    """A change here would log everybody out at an upgrade.  Give a new format a new number, and read both."""
    body = b'1 L 1700000000 1700000000 1209600\n{"user":"ada"}'
    version = bytes(range(8))
    checksum = zlib.crc32(body, zlib.crc32(b"1" + version + b"48"))
    expected = b"aiosess1" + version + struct.pack("<qII", 1_701_209_600, 48, checksum) + body

    assert expected == pack(body, 1_701_209_600, version)
    assert expected.hex().startswith("61696f73657373310001020304050607")

    session = await storage.read(None)
    key = session.key
    path = file_of(storage, session)
    path.parent.mkdir()
    path.write_bytes(expected)

    assert dict(await storage.read(session.id)) == {"user": "ada"}, key


async def test_a_touch_rewrites_the_expiry_and_nothing_else(storage: FileSystemStorage, clock: ManualClock) -> None:
    value, path = await stored_session(storage)
    before, inode = path.read_bytes(), path.stat().st_ino

    clock.advance(2 * DAY)
    await storage.save(await storage.read(value))
    after = path.read_bytes()

    assert inode == path.stat().st_ino
    assert before[:16] + before[24:] == after[:16] + after[24:]
    assert struct.unpack("<q", before[16:24])[0] + 2 * DAY == struct.unpack("<q", after[16:24])[0]


async def test_a_plain_copy_of_the_directory_keeps_sessions_until_they_expire(
    storage: FileSystemStorage, clock: ManualClock, tmp_path: Path
) -> None:
    """The expiry is inside the file; file times mean nothing."""
    value, _ = await stored_session(storage)
    storage.default_secrets()
    copy_path = tmp_path / "copy"
    os.system(f"cp -r {storage.directory} {copy_path}")
    copy = FileSystemStorage(copy_path, clock=clock, sweep_interval=None)

    assert dict(await copy.read(value)) == {"user": "ada"}
    assert storage.default_secrets() == copy.default_secrets()

    clock.advance(14 * DAY)

    assert (await copy.read(value)).new
    await copy.aclose()


async def test_a_moved_directory_still_works(storage: FileSystemStorage, clock: ManualClock, tmp_path: Path) -> None:
    value, _ = await stored_session(storage)
    storage.default_secrets()
    Path(storage.directory).rename(tmp_path / "moved")
    moved = FileSystemStorage(tmp_path / "moved", clock=clock, sweep_interval=None)

    session = await moved.read(value)
    session["seen"] = True
    await moved.save(session)

    assert dict(await moved.read(value)) == {"user": "ada", "seen": True}
    await moved.aclose()


async def test_two_apps_that_share_a_directory_do_not_accept_each_others_cookies(storage: FileSystemStorage) -> None:
    """Both sign with the secret in the directory, but the name of the cookie is part of the signature."""
    shop, forum = (SessionCookie(name).bind(storage) for name in ("shop", "forum"))
    value, _ = await stored_session(storage)

    assert shop.open(shop.seal(value)) == value
    assert forum.open(shop.seal(value)) is None


# --- rubbish

RUBBISH: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut in half": lambda good: good[: len(good) // 2],
    "cut in the header": lambda good: good[:20],
    "one byte too many": lambda good: good + b"x",
    "a flipped bit": lambda good: good[:-3] + bytes([good[-3] ^ 1]) + good[-2:],
    "random bytes": lambda _: os.urandom(500),
    "foreign JSON": lambda _: b'{"user": "eve"}',
    "a list in a sound file": lambda _: sound(b"[1,2]"),
    "a number in a sound file": lambda _: sound(b"5"),
    "no UTF-8 in a sound file": lambda _: sound(b'{"a":"\xff"}'),
    "100,000-fold nesting in a sound file": lambda _: sound(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "NaN in a sound file": lambda _: sound(b'{"a":NaN}'),
    "another program's record in a sound file": lambda _: pack(b"hello", 2_000_000_000, b"12345678"),
    "an expiry beyond all time": lambda good: good[:16] + b"\xff" * 8 + good[24:],
}


def sound(data: bytes) -> bytes:
    return pack(b"1 L 1700000000 1700000000 1209600\n" + data, 1_800_000_000, b"12345678")


@pytest.mark.parametrize("kind", RUBBISH)
async def test_rubbish_is_set_aside_logged_once_and_reads_as_no_session(
    storage: FileSystemStorage, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    value, path = await stored_session(storage)
    rubbish = RUBBISH[kind](path.read_bytes())
    path.write_bytes(rubbish)

    assert (await storage.read(value)).new
    assert (await storage.read(value)).new

    aside = list(Path(storage.directory, "set-aside").iterdir())
    assert [rubbish] == [file.read_bytes() for file in aside]
    assert not path.exists()
    assert len(caplog.records) == 1
    assert "set aside" in caplog.text
    assert value not in caplog.text


async def test_a_directory_in_place_of_a_record_is_set_aside(
    storage: FileSystemStorage, caplog: pytest.LogCaptureFixture
) -> None:
    value, path = await stored_session(storage)
    path.unlink()
    path.mkdir()

    assert (await storage.read(value)).new
    assert not path.exists()
    assert len(caplog.records) == 1


@pytest.mark.parametrize("what", ["record", "folder"])
async def test_symlinks_below_the_directory_are_not_followed(
    storage: FileSystemStorage, caplog: pytest.LogCaptureFixture, tmp_path: Path, what: str
) -> None:
    value, path = await stored_session(storage)
    place = path if what == "record" else path.parent
    elsewhere = tmp_path / "elsewhere"
    place.rename(elsewhere)
    place.symlink_to(elsewhere)

    stranger = FileSystemStorage(
        storage.directory, clock=storage.clock, sweep_interval=None
    )  # has nothing in its cache
    assert (await stranger.read(value)).new
    await stranger.aclose()
    assert not place.is_symlink()
    assert elsewhere.exists()
    assert len(caplog.records) == 1


async def test_a_file_of_a_newer_version_is_left_in_place(
    storage: FileSystemStorage, caplog: pytest.LogCaptureFixture
) -> None:
    value, path = await stored_session(storage)
    newer = path.read_bytes().replace(b"aiosess1", b"aiosess2")
    path.write_bytes(newer)

    assert (await storage.read(value)).new
    assert (await storage.read(value)).new
    assert newer == path.read_bytes()
    assert len(caplog.records) == 1


async def test_a_file_of_a_newer_version_cannot_be_ended_and_the_error_comes_in_time(
    storage: FileSystemStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "MAX_SECONDS", 0.05)
    session = await storage.read(None)
    session.login("ada")
    await storage.save(session)
    path = file_of(storage, session)
    path.write_bytes(path.read_bytes().replace(b"aiosess1", b"aiosess2"))

    with pytest.raises(StorageError, match="kept changing"):
        await storage.end_sessions("ada")
    assert path.exists()


async def test_a_record_of_a_newer_version_is_left_in_place(
    storage: FileSystemStorage, caplog: pytest.LogCaptureFixture
) -> None:
    value, path = await stored_session(storage)
    path.write_bytes(pack(b"9 something new", 1_800_000_000, b"12345678"))

    assert (await storage.read(value)).new
    assert path.exists()
    assert len(caplog.records) == 1


async def test_a_missing_session_logs_nothing(storage: FileSystemStorage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    assert (await storage.read("a" * 43)).new
    assert [record for record in caplog.records if record.name != "asyncio"] == []


async def test_emptying_the_directory_of_a_running_app_only_logs_visitors_out(storage: FileSystemStorage) -> None:
    value, _ = await stored_session(storage)
    os.system(f"rm -rf {storage.directory}")

    assert (await storage.read(value)).new
    again, path = await stored_session(storage)
    assert dict(await storage.read(again)) == {"user": "ada"}
    assert path.is_file()


# --- sweeping


async def test_the_sweep_removes_expired_sessions_and_old_leftovers(
    storage: FileSystemStorage, clock: ManualClock
) -> None:
    _, dead = await stored_session(storage)
    clock.advance(14 * DAY)
    value, live = await stored_session(storage)
    old = live.parent / ".tmp-0011223344556677"
    old.write_bytes(b"torn")
    os.utime(old, (1, 1))
    clock.advance(600)

    assert await storage.sweep() == 1
    assert not dead.exists()
    assert dict(await storage.read(value)) == {"user": "ada"}
    assert not dead.parent.exists() or dead.parent == live.parent


async def test_the_sweep_sets_rubbish_aside(storage: FileSystemStorage, caplog: pytest.LogCaptureFixture) -> None:
    _, path = await stored_session(storage)
    path.write_bytes(b"torn")

    assert await storage.sweep() == 0
    assert not path.exists()
    assert len(caplog.records) == 1


# --- what the constructor refuses


def test_a_file_as_the_directory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sessions"
    path.write_text("")

    with pytest.raises(ConfigurationError, match="is not a directory"):
        FileSystemStorage(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the owner of a directory")
def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sessions"
    path.mkdir()
    os.chown(path, 12345, 12345)

    with pytest.raises(ConfigurationError, match="belongs to user 12345"):
        FileSystemStorage(path)


@pytest.mark.parametrize("mode", [0o707, 0o777])
def test_a_directory_that_others_can_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "sessions"
    path.mkdir()
    path.chmod(mode)

    with pytest.raises(ConfigurationError, match="chmod -R go-rwx"):
        FileSystemStorage(path)


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    storage = FileSystemStorage(tmp_path / "sessions")
    storage.default_secrets()
    Path(storage.directory, SECRET_FILE).chmod(0o604)

    with pytest.raises(ConfigurationError, match="chmod 600"):
        storage.default_secrets()


def test_a_damaged_secret_is_refused(tmp_path: Path) -> None:
    storage = FileSystemStorage(tmp_path / "sessions")
    storage.default_secrets()
    Path(storage.directory, SECRET_FILE).write_text("")

    with pytest.raises(ConfigurationError, match="damaged"):
        storage.default_secrets()


def test_the_secret_is_created_once_and_is_private(tmp_path: Path) -> None:
    first, second = (FileSystemStorage(tmp_path / "sessions").default_secrets() for _ in range(2))

    assert first == second
    assert stat.S_IMODE((tmp_path / "sessions" / SECRET_FILE).stat().st_mode) == 0o600
    assert {SECRET_FILE, ".gitignore"} == files_below(tmp_path / "sessions")


def test_a_relative_directory_survives_a_change_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    storage = FileSystemStorage("sessions")
    monkeypatch.chdir("/")

    assert str(tmp_path / "sessions") == storage.directory


async def test_a_disk_error_has_its_cause(storage: FileSystemStorage) -> None:
    await stored_session(storage)
    os.system(f"rm -rf {storage.directory}")
    Path(storage.directory).write_text("a file where the directory was")

    session = await storage.read(None)
    session["a"] = 1
    with pytest.raises(StorageError, match="unavailable") as caught:
        await storage.save(session)

    assert isinstance(caught.value.__cause__, OSError)
    Path(storage.directory).unlink()
