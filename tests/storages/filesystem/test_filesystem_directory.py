"""The directory: what is refused or repaired at the start, and what other users and git can do with it."""

import asyncio
import logging
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from aiohttp_session_store import ConfigurationError, FileSystemStorage
from tests.storages.filesystem.filesystem_tools import (
    ROOT_ONLY,
    STRANGER,
    as_user,
    exit_code,
    make_session,
    run_in_child,
)

KEY = "ab" + 62 * "0"
LATER = 4_000_000_000


def mode_of(path: str | Path) -> int:
    return Path(path).stat().st_mode & 0o7777


# --- what is no directory for sessions


@pytest.mark.parametrize(
    ("directory", "match"),
    [
        ("", "means the current directory, {cwd}"),
        (".", "means the current directory, {cwd}"),
        ("./", "means the current directory, {cwd}"),
        (Path(), "means the current directory, {cwd}"),
        ("/", "means the root directory"),
        ("//", "means the root directory"),
        ("/etc/..", "means the root directory"),
        (None, "a str or a pathlib.Path, not a value of type NoneType"),
        (7, "a str or a pathlib.Path, not a value of type int"),
        (b"sessions", "not a value of type bytes"),
        ("~/sessions", r"os.path.expanduser\('~/sessions'\), which is '{home}/sessions'"),
        ("~", "only to a shell"),
        ("var/ses\0sions", "contains a character"),
        ("~\0", "contains a character"),
        ("var/\ud800", "contains a character"),
        ("x" * 300, "{cwd}/x+ cannot hold sessions: .*too long"),
        ("file", "{cwd}/file is not a directory"),
        ("file/sessions", "{cwd}/file/sessions is not a directory"),
        ("to nowhere", "{cwd}/to nowhere cannot hold sessions: .*No such file"),
        ("to nowhere/sessions", "{cwd}/to nowhere/sessions cannot hold sessions: .*No such file"),
        ("loop/sessions", "{cwd}/loop/sessions cannot hold sessions: .*[Ss]ymbolic links"),
    ],
)
def test_a_directory_that_is_a_mistake_is_refused_with_its_full_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, directory: Any, match: str
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "to nowhere").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ada")
    before = sorted(tmp_path.rglob("*"))

    with pytest.raises(ConfigurationError, match=match.format(cwd=tmp_path, home="/home/ada")):
        FileSystemStorage(directory)

    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "url",
    [
        "redis://:sesame@host/0",
        "RedisS://:sesame@host",
        "postgresql+asyncpg://ada:sesame@host/shop",
        Path("postgresql://ada:sesame@host/shop"),
        b"redis://:sesame@host",
        URL("redis://:sesame@host"),
    ],
    ids=repr,
)
def test_a_url_is_refused_without_its_password_and_makes_no_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: Any
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigurationError) as caught:
        FileSystemStorage(url)

    assert "sesame" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_relative_directory_is_refused_if_the_current_directory_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    with pytest.raises(ConfigurationError, match="'var/sessions' is relative to the current directory, which is gone"):
        FileSystemStorage("var/sessions")


@pytest.mark.parametrize(
    "directory", ["./~sessions", "a b/ü", "/{here}/../{here}/x//y/", "link/sessions", "up/sessions"]
)
def test_unusual_paths_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, directory: str) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "target" / "up").symlink_to("../target")
    (tmp_path / "up").symlink_to("link/up")
    monkeypatch.chdir(tmp_path)
    here = str(tmp_path)[1:]
    expected = os.path.realpath(directory.format(here=here))

    storage = FileSystemStorage(directory.format(here=here))

    assert storage.directory == expected
    assert mode_of(expected) == 0o700


# --- what other users could do


def test_missing_parents_are_made_for_our_user_alone_whatever_the_umask(tmp_path: Path) -> None:
    async def make() -> None:
        os.umask(0)
        storage = FileSystemStorage(tmp_path / "x" / "var" / "sessions")
        await make_session(storage, a=1)
        storage.default_secrets()

    assert exit_code(run_in_child(make)) == 0
    made = [tmp_path / "x", *(tmp_path / "x").rglob("*")]
    assert {mode_of(path) for path in made} == {0o700, 0o600}


@ROOT_ONLY
@pytest.mark.parametrize("umask", [0o177, 0o277, 0o777])
def test_a_umask_that_takes_permissions_from_our_user_leaves_the_folders_usable(umask: int) -> None:
    """For example ``UMask=0177``, which is meant for sockets.  Root may do everything, so this is another user."""

    def work() -> None:
        os.umask(umask)
        storage = FileSystemStorage(Path(place) / "var" / "sessions")
        os.umask(umask & 0o177)  # nobody can use a file that its own user may not read

        async def use() -> None:
            for _ in range(2):
                session = await storage.read(None)
                session.login("ada")
                assert await storage.save(session)
            assert len(await storage.sessions_of("ada")) == 2
            await storage.aclose()

        asyncio.run(use())

    with tempfile.TemporaryDirectory() as place:
        os.chown(place, STRANGER, STRANGER)
        assert as_user(STRANGER, work) == 0
        assert {mode_of(path) for path in Path(place).rglob("*") if path.is_dir()} == {0o700}


@pytest.mark.parametrize("level", ["a", "a/b", "a/b/c"])
@pytest.mark.parametrize("mode", [0o777, 0o703])
def test_a_parent_that_everybody_can_write_to_is_refused_at_any_level(tmp_path: Path, level: str, mode: int) -> None:
    (tmp_path / "a/b/c").mkdir(parents=True)
    (tmp_path / level).chmod(mode)

    with pytest.raises(
        ConfigurationError, match=f"{tmp_path / level} has mode {mode:04o}.*chmod o-w {tmp_path / level}"
    ):
        FileSystemStorage(tmp_path / "a/b/c/sessions")

    assert not (tmp_path / "a/b/c/sessions").exists()


def test_a_parent_of_a_link_that_everybody_can_write_to_is_refused(tmp_path: Path) -> None:
    """Whoever can exchange the link decides where the sessions are."""
    (tmp_path / "open").mkdir()
    (tmp_path / "target").mkdir(mode=0o700)
    (tmp_path / "open/link").symlink_to(tmp_path / "target")
    (tmp_path / "open").chmod(0o777)

    with pytest.raises(ConfigurationError, match="open has mode 0777"):
        FileSystemStorage(tmp_path / "open/link/sessions")


def test_a_directory_for_all_users_is_refused_with_the_advice_to_use_one_of_our_own_in_it(tmp_path: Path) -> None:
    """``FileSystemStorage("/tmp")`` in a container, where all runs as root: ``chmod 700 /tmp`` would be bad advice."""
    tmp_path.chmod(0o1777)

    with pytest.raises(ConfigurationError, match=f"of their own, such as {tmp_path}/sessions$"):
        FileSystemStorage(tmp_path)

    FileSystemStorage(tmp_path / "sessions")


@ROOT_ONLY
def test_a_volume_that_everybody_can_write_to_works_once_it_is_made_sticky_or_given_to_our_user() -> None:
    """An ``emptyDir`` of Kubernetes is such a volume.  An init container that runs as root can do either."""
    with tempfile.TemporaryDirectory() as place:
        volume = Path(place, "volume")
        volume.mkdir()
        Path(place).chmod(0o755)
        volume.chmod(0o2777)

        def use(directory: Path) -> None:
            asyncio.run(FileSystemStorage(directory).aclose())

        def as_it_is() -> None:
            for directory in (volume, volume / "sessions"):
                with pytest.raises(ConfigurationError) as caught:
                    use(directory)
                assert "of their own" in str(caught.value) or f"chmod +t {volume}" in str(caught.value)

        assert as_user(STRANGER, as_it_is) == 0
        volume.chmod(0o1777)
        assert as_user(STRANGER, lambda: use(volume / "sessions")) == 0
        os.chown(volume, STRANGER, STRANGER)
        volume.chmod(0o700)
        assert as_user(STRANGER, lambda: use(volume)) == 0


@pytest.mark.parametrize("mode", [0o1777, 0o775, 0o2775, 0o755])
def test_parents_that_not_everybody_can_exchange_are_accepted(tmp_path: Path, mode: int) -> None:
    """/tmp is sticky, and a umask of 002 is common."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a").chmod(mode)

    FileSystemStorage(tmp_path / "a/sessions")

    assert mode_of(tmp_path / "a") == mode


@ROOT_ONLY
@pytest.mark.parametrize("mode", [0o1777, 0o775])
def test_a_link_of_another_user_in_a_directory_of_several_users_is_refused(tmp_path: Path, mode: int) -> None:
    place = tmp_path / "place"
    place.mkdir()
    place.chmod(mode)
    (tmp_path / "target").mkdir(mode=0o700)
    (place / "link").symlink_to(tmp_path / "target")
    FileSystemStorage(place / "link/sessions")
    os.lchown(place / "link", STRANGER, STRANGER)

    with pytest.raises(ConfigurationError, match=f"is a link of user {STRANGER}"):
        FileSystemStorage(place / "link/sessions")


@ROOT_ONLY
async def test_a_running_process_never_uses_a_directory_that_another_user_puts_in_place_of_ours(
    shared_directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Here, the other user is in a group that may write to the parent directory."""
    parent = shared_directory
    storage = FileSystemStorage(parent / "sessions", sweep_interval=None)
    secret = storage.default_secrets()
    value = await make_session(storage, user="ada")
    planted = "cd" + 62 * "0"

    def attack() -> None:
        (parent / "sessions").rename(parent / "hidden")
        shard = parent / "sessions" / planted[:2]
        shard.mkdir(parents=True)
        (shard / planted[2:]).write_bytes(b"aiosess1 and so on")

    assert as_user(STRANGER, attack) == 0
    theirs = sorted((parent / "sessions").rglob("*"))

    assert await storage.fetch(planted) is None
    session = await storage.read(value)
    session["more"] = 1
    await storage.save(session)
    async with storage.lock(session.key) as lease:
        await lease()
    await make_session(storage, user="eve")
    await storage.sweep()
    await storage._look()
    await storage._look()
    assert storage.default_secrets() == secret

    assert dict(await storage.read(value)) == {"user": "ada", "more": 1}
    assert sorted((parent / "sessions").rglob("*")) == theirs
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "was moved or replaced while it was in use" in caplog.text
    await storage.aclose()
    with pytest.raises(ConfigurationError, match=f"belongs to user {STRANGER}"):
        FileSystemStorage(parent / "sessions")


# --- repairs


async def test_a_directory_and_a_secret_that_only_the_group_was_let_into_are_repaired(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Kubernetes sets these bits at each mount of a volume with ``fsGroup``."""
    storage = FileSystemStorage(tmp_path / "sessions", sweep_interval=None)
    value, secret = await make_session(storage, a=1), storage.default_secrets()
    await storage.aclose()
    for path in (tmp_path / "sessions").rglob("*"):
        path.chmod(0o2770 if path.is_dir() else 0o660)
    (tmp_path / "sessions").chmod(0o2770)

    for expected in (1, 0):
        caplog.clear()
        storage = FileSystemStorage(tmp_path / "sessions", sweep_interval=None)
        assert storage.default_secrets() == secret
        assert dict(await storage.read(value)) == {"a": 1}
        await storage.aclose()
        assert len(caplog.records) == expected

    assert mode_of(tmp_path / "sessions") & 0o077 == 0
    assert {mode_of(path) & 0o077 for path in (tmp_path / "sessions").iterdir()} == {0}


@pytest.mark.parametrize(("around", "below"), [(0o755, 0o777), (0o711, 0o702)])
@pytest.mark.parametrize("name", ["3f", "owners", "set-aside"])
def test_a_folder_in_it_that_everybody_can_write_to_is_refused(
    tmp_path: Path, name: str, around: int, below: int
) -> None:
    """Somebody has run ``chmod -R 777``, and then closed the directory alone."""
    path = tmp_path / "sessions"
    (path / name).mkdir(parents=True)
    (path / name).chmod(below)
    path.chmod(0o700)
    FileSystemStorage(path)  # nobody else gets there
    path.chmod(around)

    with pytest.raises(ConfigurationError, match=f"chmod -R go-rwx {path}$"):
        FileSystemStorage(path)

    subprocess.run(["chmod", "-R", "go-rwx", str(path)], check=True)
    FileSystemStorage(path)


def test_a_folder_in_it_that_only_the_group_can_write_to_is_repaired(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "sessions"
    (path / "3f").mkdir(parents=True)
    (path / "3f").chmod(0o770)
    path.chmod(0o750)

    FileSystemStorage(path)

    assert mode_of(path) == mode_of(path / "3f") == 0o700
    assert len(caplog.records) == 1


def test_what_is_not_ours_in_it_may_be_open_to_others(tmp_path: Path) -> None:
    path = tmp_path / "sessions"
    (path / "uploads").mkdir(parents=True)
    (path / "uploads").chmod(0o777)

    FileSystemStorage(path)


@ROOT_ONLY
@pytest.mark.parametrize("name", ["3f", "set-aside", "locks", "secret.key"])
def test_a_directory_that_the_group_could_write_to_is_refused_if_others_have_put_something_there(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / "sessions"
    path.mkdir()
    (path / name).mkdir()
    os.chown(path / name, STRANGER, STRANGER)
    path.chmod(0o770)

    with pytest.raises(ConfigurationError, match=f"{path / name} belongs to user {STRANGER}"):
        FileSystemStorage(path)


def test_a_directory_whose_mode_cannot_be_changed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a mounted share, whose modes are options of the mount."""
    path = tmp_path / "sessions"
    path.mkdir()
    path.chmod(0o770)
    monkeypatch.setattr(os, "fchmod", lambda *_: None)

    with pytest.raises(ConfigurationError, match=f"{path} has mode 0770, which cannot be changed here"):
        FileSystemStorage(path)


# --- git


async def test_git_adds_neither_sessions_nor_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "app.py").write_text("")
    monkeypatch.chdir(tmp_path)
    storage = FileSystemStorage("var/sessions", sweep_interval=None)
    await make_session(storage, a=1)
    storage.default_secrets()

    assert added_to_git(tmp_path) == ["app.py"]
    assert (tmp_path / "var/sessions/.gitignore").read_text() == "*\n"
    await storage.aclose()


async def test_git_still_sees_what_else_is_in_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/model.bin").write_text("")
    storage = FileSystemStorage(tmp_path / "data", sweep_interval=None)
    await make_session(storage, a=1)
    storage.default_secrets()
    (tmp_path / "data/later.bin").write_text("")

    assert added_to_git(tmp_path) == ["data/later.bin", "data/model.bin"]
    await storage.aclose()


def test_a_gitignore_of_the_user_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("mine\n")

    FileSystemStorage(tmp_path)

    assert (tmp_path / ".gitignore").read_text() == "mine\n"


@pytest.mark.parametrize(
    ("content", "warned"),
    [("*.pyc\n", True), ("/secret.key\n", True), ("*\n!.gitignore\n", False), ("# mine\r\n/*\r\n", False)],
)
def test_a_gitignore_of_the_user_that_lets_git_add_sessions_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str, warned: bool
) -> None:
    (tmp_path / ".gitignore").write_bytes(content.encode())

    FileSystemStorage(tmp_path)

    assert [record.levelname for record in caplog.records] == ["WARNING"] * warned
    assert ("Add the line *" in caplog.text) is warned


async def test_following_the_advice_of_that_warning_keeps_all_of_it_out_of_git(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("*.pyc\n")
    await FileSystemStorage(tmp_path, sweep_interval=None).aclose()
    _, _, lines = caplog.records[0].getMessage().partition(" the lines ")
    (tmp_path / ".gitignore").write_text("\n".join(["*.pyc", *lines.split()]))
    caplog.clear()

    storage = FileSystemStorage(tmp_path, sweep_interval=None)
    storage.default_secrets()
    session = await storage.read(None)
    session.login("ada")
    await storage.save(session)

    assert not caplog.records
    assert added_to_git(tmp_path) == [".gitignore"]
    await storage.aclose()


@pytest.mark.parametrize("start", ["first", "second"])
def test_our_own_gitignore_is_not_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture, start: str) -> None:
    (tmp_path / "other.bin").write_text("")  # so that it has the list of our names
    for _ in range(1 if start == "first" else 2):
        FileSystemStorage(tmp_path)

    assert not caplog.records


def added_to_git(repository: Path) -> list[str]:
    subprocess.run(["git", "-C", str(repository), "add", "."], check=True)
    command = ["git", "-C", str(repository), "ls-files"]
    return sorted(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
