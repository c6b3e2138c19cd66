"""What reaches a terminal, a pipe or a log: no control of the terminal by values of sessions, and no password."""

import asyncio
import fcntl
import json
import os
import pty
import re
import shlex
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from typing import TextIO

import pytest

from aiohttp_session_store.cli.commands import run
from aiohttp_session_store.cli.opening import without_secrets
from aiohttp_session_store.cli.showing import moment, plainly, size, span
from tests.cli.conftest import COMMAND, PATIENCE, Place, stored
from tests.servers.redis import RedisServer, redis_server

HOSTILE = "ada\x1b]0;pwned\x07\u202e[red]:smile:\n\t\x9b31m"
SHOWN = r"ada\x1b]0;pwned\x07\u202e[red]:smile:\n\t\x9b31m"
PASSWORD = "pa55w0rd-tr0ub4dor"


def on_terminal(*arguments: str, width: int, **environment: str) -> str:
    """Return all that a command writes to a terminal of some columns."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdin=slave, stdout=slave, stderr=slave, env=kept | {"TERM": "xterm"} | environment
    )
    os.close(slave)
    shown = b""
    with suppress(OSError):  # EIO: the command has ended
        while part := os.read(master, 65536):
            shown += part
    os.close(master)
    assert process.wait(PATIENCE) == 0
    return shown.decode()


# --- values of sessions


async def test_a_terminal_shows_hostile_values_without_obeying_them(files: Place) -> None:
    storage = files.make()
    session = await stored(storage, HOSTILE, label=HOSTILE, **{HOSTILE: HOSTILE})
    await storage.aclose()
    narrow = await asyncio.to_thread(on_terminal, *files.options, "list", width=60)
    wide = await asyncio.to_thread(on_terminal, *files.options, "list", "--owner", HOSTILE, width=400, NO_COLOR="1")

    for shown in (narrow, wide):
        assert SHOWN in shown
        assert HOSTILE not in shown
        assert not set(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)) & {"\x1b", "\x07", "\x9b", "\u202e", "\t"}
    assert f"\x1b[36m{session.key}" in narrow
    assert "\x1b[3" not in wide
    [line] = [line for line in wide.splitlines() if session.key in line]
    assert " ago, ends in 1" in line


async def test_the_progress_bar_is_gone_before_the_result_is_shown(files: Place) -> None:
    storage = files.make()
    await stored(storage, "ada")
    await storage.aclose()
    shown = await asyncio.to_thread(on_terminal, *files.options, "stats", width=60)

    assert "Counting" in shown
    assert shown.rindex("Counting") < shown.index("storage")
    assert "\x1b[2K" in shown[shown.rindex("Counting") : shown.index("storage")], "the line of the bar is cleared"


async def test_without_a_terminal_hostile_values_are_escaped_in_every_form(files: Place) -> None:
    storage = files.make()
    session = await stored(storage, HOSTILE, label=HOSTILE, **{HOSTILE: HOSTILE})
    lines = (await files.quickly("list")).out.splitlines()
    shown = (await files.quickly("show", session.key)).out
    data = (await files.quickly("show", session.key, "--data", "--json")).out
    await storage.aclose()

    assert len(lines) == 2
    assert lines[1].split("\t")[:3] == [session.key, SHOWN, SHOWN]
    assert SHOWN in shown
    assert "pwned" not in re.sub(re.escape(SHOWN), "", shown), "data is shown only if it is asked for"
    assert data.isascii()
    assert json.loads(data)["data"] == {HOSTILE: HOSTILE}
    assert session.id not in "\n".join([*lines, shown, data])


@pytest.mark.parametrize(
    ("text", "shown"),
    [("ada", "ada"), ("Zoë 漢字 🙂", "Zoë 漢字 🙂"), ("a\u2066b\ud800", r"a\u2066b\ud800"), ("\x7f\x85", r"\x7f\x85")],
    ids=["plain", "letters", "directions", "controls"],
)
def test_only_what_is_simply_shown_is_left(text: str, shown: str) -> None:
    assert plainly(text) == shown


def test_numbers_are_shown_for_people() -> None:
    assert [size(number) for number in (0, 999, 1000, 1_500_000)] == ["0 bytes", "999 bytes", "1.0 kB", "1.5 MB"]
    assert [span(seconds) for seconds in (-5, 59, 3600, 86400 * 13 + 5)] == ["0 s", "59 s", "1 h", "13 d"]
    assert (moment(0), moment(10**20)) == ("1970-01-01T00:00:00Z", "1" + "0" * 20)


# --- Ctrl-C


@pytest.mark.parametrize("how", ["--json", "words"])
async def test_ctrl_c_stops_between_two_records_and_says_how_far_it_came(files: Place, how: str) -> None:
    storage, until = files.make(), 4_000_000_000
    keys = [f"{number:064x}" for number in range(2000)]
    for key in keys:
        await storage.insert(key, b"1 L 1700000000 1700000000 -\n{}", until)
    process = await files.begin("end", "--all", "--yes", *([how] if how == "--json" else []))
    async with asyncio.timeout(PATIENCE):
        while not await ended(storage, keys[:300]):
            await asyncio.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()

    number = await ended(storage, keys)
    await storage.aclose()
    assert process.returncode == 130
    assert 0 < number < len(keys)
    if how == "--json":
        assert json.loads(out) == {"ended": number, "left": 0, "complete": False}
    assert f"Stopped. {number:,} sessions ended.".encode() in err


async def ended(storage: object, keys: list[str]) -> int:
    """Return how many of *keys* have a tombstone."""
    records = [await storage.fetch(key) for key in keys]  # type: ignore[attr-defined]
    return sum(record is not None and record.data.startswith(b"3 R ") for record in records)


async def test_a_stopped_list_is_still_one_json_document(files: Place) -> None:
    """It says by its exit code that it is not complete."""
    storage = files.make()
    for number in range(3000):
        await storage.insert(f"{number:064x}", b"1 L 1700000000 1700000000 -\n{}", 4_000_000_000)
    process = await files.begin("list", "--json")
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        first = await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, err = await process.communicate()
    await storage.aclose()

    listed = json.loads(first + rest)
    if process.returncode == 0:  # it was quicker
        assert len(listed) == 3000
    else:
        assert process.returncode == 130
        assert f"Stopped. {len(listed):,} session".encode() in err


# --- an output that cannot be written


def unread() -> TextIO:
    """Return the end of a pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


def full() -> TextIO:
    return Path("/dev/full").open("w")


@pytest.mark.parametrize(
    "command", ["list", "list --json", "list --owner ada", "stats", "check --json", "new-secret", "--help"]
)
@pytest.mark.parametrize(("output", "said"), [(unread, ""), (full, "No space left on device")])
async def test_an_output_that_cannot_be_written_is_no_bug(
    files: Place, command: str, output: Callable[[], TextIO], said: str
) -> None:
    storage = files.make()
    for number in range(30):
        await stored(storage, "ada", label="x" * 200, number=number)
    await storage.aclose()

    def finish() -> tuple[int, str]:
        err = StringIO()
        with output() as stream, redirect_stdout(stream), redirect_stderr(err):
            return run([*files.options, *command.split()]), err.getvalue()

    expected = f"Error: the output cannot be written: {said}\n" if said else ""
    assert await asyncio.to_thread(finish) == (74, expected)


@pytest.mark.parametrize("error", [unread, full])
def test_errors_that_cannot_be_written_are_no_bug(
    error: Callable[[], TextIO], capsys: pytest.CaptureFixture[str]
) -> None:
    with error() as stream, redirect_stderr(stream):
        assert run(["list"]) == 74
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("redirection", "code"), [("| true", 74), (">&- 2>&-", 0)])
async def test_a_reader_that_has_gone_hears_of_nothing(files: Place, redirection: str, code: int) -> None:
    """Nor does a job that is started without an output complain."""
    storage = files.make()
    for number in range(600):  # more than a pipe holds
        await stored(storage, "ada", label="x" * 200, number=number)
    await storage.aclose()
    script = f"{shlex.join([*COMMAND, *files.options, 'list'])} {redirection}; exit ${{PIPESTATUS[0]}}"
    finished = await asyncio.to_thread(
        subprocess.run, ["bash", "-c", script], capture_output=True, text=True, timeout=PATIENCE, check=False
    )

    assert (finished.returncode, finished.stdout, finished.stderr) == (code, "", "")


# --- passwords


@pytest.fixture(scope="module")
def locked_redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        with server.client() as client:
            client.config_set("requirepass", "another-password")
        yield server


WRONG = [
    "redis://user:{}@127.0.0.1:1",
    "redis://user:{}@127.0.0.1:notaport",
    "redis://user:{}/x@127.0.0.1:1/0",
    "redis://:{}@[::1/0",
    "redis://127.0.0.1:1?password={}&nonsense=1",
    "redis-cluster://user:{}@127.0.0.1:1",
    "redis-cluster://user:{}@127.0.0.1:1?nonsense=1",
    "rediss://user:{}@127.0.0.1:1?ssl_ca_certs=/nowhere",
    "unix://user:{}@/nowhere/redis.sock",
    "postgresql://user:{}@127.0.0.1:1/shop",
    "postgresql://user:{}@127.0.0.1:notaport/shop",
    "postgresql://user:{}#@127.0.0.1/shop",
    "postgresql://user@127.0.0.1:1/shop?password={}",
    "postgresql+asyncpg://user:{}@127.0.0.1/shop",
    "mysql://user:{}@127.0.0.1/shop",
    "user:{}@127.0.0.1",
]


@pytest.mark.parametrize("url", WRONG)
@pytest.mark.parametrize("by", ["option", "environment"])
def test_no_error_shows_the_password(
    url: str,
    by: str,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setenv("SESSION_STORAGE", url.format(PASSWORD))
    code = run(["--storage", url.format(PASSWORD), "stats"] if by == "option" else ["stats"])
    shown = "".join(capfd.readouterr()) + caplog.text

    assert code in (2, 3)
    assert "Error: " in shown
    assert "a bug" not in shown
    assert PASSWORD not in shown
    assert "Traceback" not in shown


def test_the_name_of_a_user_is_no_secret_and_the_rest_of_an_error_stays() -> None:
    error = "role postgres of postgresql://postgres:hunter22@h/shop: hunter22"

    assert without_secrets(error, "postgresql://postgres@h/shop") == error
    assert without_secrets(error, "postgresql://postgres:hunter22@h/shop") == "role postgres of ***: ***"
    assert without_secrets(error, "stats") == error


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1", "redis://ada@127.0.0.1:1", "redis://127.0.0.1:1?password="])
def test_an_error_names_the_host_of_a_url_without_a_password(url: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["--storage", url, "stats"]) == 3
    assert "127.0.0.1:1" in capfd.readouterr().err


def test_a_wrong_password_is_not_shown(locked_redis: RedisServer, capfd: pytest.CaptureFixture[str]) -> None:
    code = run(["--storage", f"redis://:{PASSWORD}@127.0.0.1:{locked_redis.port}", "stats"])
    shown = capfd.readouterr().err

    assert code == 3
    assert "invalid" in shown
    assert PASSWORD not in shown


@pytest.mark.parametrize(
    "arguments",
    [
        [f"redis://user:{PASSWORD}@host", "stats"],
        ["stats", f"redis://user:{PASSWORD}@host"],
        [f"--storage=redis://user:{PASSWORD}@host", "stat"],
        [f"--storag=redis://user:{PASSWORD}@host", "stats"],
        [f"--store=redis://user:{PASSWORD}@host", "stats"],
        ["show", f"redis://user:{PASSWORD}@host"],
        ["--storage", f"redis://user:{PASSWORD}@host", "--schema", "s", "stats"],
        ["--storage", f"redis://user:{PASSWORD}@host", "end"],
        ["stats", f"user:{PASSWORD}@host"],
    ],
)
def test_mistakes_in_the_arguments_show_no_password(
    arguments: list[str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SESSION_STORAGE", raising=False)

    assert run(arguments) == 2
    assert PASSWORD not in "".join(capfd.readouterr())


def test_a_session_id_in_the_place_of_a_key_is_not_repeated(capfd: pytest.CaptureFixture[str]) -> None:
    session_id = "q" * 43

    assert run(["--storage", "files:/nowhere", "show", session_id]) == 2
    assert session_id not in "".join(capfd.readouterr())


async def test_no_command_starts_another_process(files: Place) -> None:
    """Whose list of arguments others could read."""
    storage = files.make()
    await stored(storage, "ada")
    await storage.aclose()
    script = (
        "import sys\n"
        "def refuse(event, arguments):\n"
        "    if event in ('subprocess.Popen', 'os.system', 'os.fork', 'os.forkpty', 'os.exec', 'os.posix_spawn'):\n"
        "        raise SystemExit(event)\n"
        "sys.addaudithook(refuse)\n"
        "from aiohttp_session_store.cli.commands import run\n"
        "codes = [run([*sys.argv[1:], *words.split()]) for words in ('stats', 'list', 'check', 'sweep', 'end --all"
        " --yes', '--help')]\n"
        "sys.exit(str(codes) if any(codes) else 0)\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", script, *files.options], capture_output=True, text=True, check=False, timeout=PATIENCE
    )

    assert finished.returncode == 0, finished.stderr


# --- what can go wrong at the start


@pytest.mark.parametrize("library", ["click", "rich"])
def test_a_missing_library_is_a_sentence(library: str) -> None:
    script = f"import sys; sys.modules[{library!r}] = None; from aiohttp_session_store.cli import main; main()"
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert finished.returncode == 2
    assert finished.stderr == (f"Error: the command line needs {library}: pip install {library}\n")


@pytest.mark.parametrize("made", [False, True])
def test_a_directory_that_no_app_has_used_is_left_as_it_is(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], *, made: bool
) -> None:
    """A misspelt path must not become a directory of sessions."""
    place = tmp_path / "other"
    if made:
        place.mkdir()
        (place / "notes.txt").write_text("hello")

    assert run(["--storage", f"files:{place}", "end", "--all", "--yes"]) == 3
    assert str(place) in capfd.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == (["other", "notes.txt"] if made else [])


@pytest.mark.parametrize("command", ["stats", "check", "sweep", "end --all --yes"])
def test_a_directory_that_looks_like_ours_in_part_is_left_as_it_is(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], command: str
) -> None:
    """A repository has a .gitignore and folders of two hexadecimal digits; other programs have files of these names."""
    objects = tmp_path / "5e"
    objects.mkdir()
    (objects / ("0" * 62)).write_text("an object of git")
    (tmp_path / ".gitignore").write_text("*.pyc\n")
    (tmp_path / "secret.key").write_text("of somebody else")
    (tmp_path / "locks").write_text("1234\n")
    tmp_path.chmod(0o770)
    before = {path: path.stat().st_mode for path in (tmp_path, *tmp_path.rglob("*"))}

    assert run(["--storage", f"files:{tmp_path}", *command.split()]) == 3
    assert "is not a directory of sessions" in capfd.readouterr().err
    assert {path: path.stat().st_mode for path in (tmp_path, *tmp_path.rglob("*"))} == before


async def test_a_directory_of_sessions_with_a_gitignore_of_the_project_is_known_by_its_records(
    files: Place, tmp_path: Path
) -> None:
    (tmp_path / "sessions").mkdir()
    (tmp_path / "sessions" / ".gitignore").write_text("# sessions\n*\n")
    storage = files.make()
    await stored(storage, visits=1)
    await storage.aclose()

    assert (await files.quickly("stats", "--json")).document["live"] == 1


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["stats"], 2, "Which storage?"),
        (["--storage", "files:", "stats"], 2, "Name the directory"),
        (["--storage", "files:/x", "--prefix", "p", "stats"], 2, "--prefix is for Redis only"),
        (["--storage", "redis://x", "--table", "t", "stats"], 2, "--schema and --table are for PostgreSQL only"),
        (["--storage", "files:/x", "end"], 2, "Give a KEY, or --owner OWNER, or --all"),
        (["--storage", "files:/x", "end", "a" * 64, "--all"], 2, "Give a KEY, or --owner OWNER, or --all"),
        (["--storage", "files:/x", "end", "--all"], 2, "add --yes"),
        (["--storage", "files:/x", "list", "--owner", ""], 2, "1 to 255 characters"),
        (["--storage", "files:/x", "show", "5"], 2, "64 hexadecimal digits"),
        (["nonsense"], 2, "No such command"),
        (["redis:x", "stats"], 2, "--storage"),
    ],
)
def test_a_command_that_is_not_understood_says_what_to_write(
    arguments: list[str],
    code: int,
    said: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SESSION_STORAGE", raising=False)
    monkeypatch.setattr("sys.stdin", StringIO())

    assert run(arguments) == code
    assert said in capfd.readouterr().err


@pytest.mark.parametrize("keys", ["nonsense", f"a:{PASSWORD}"])
def test_wrong_keys_are_not_shown(
    keys: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SESSION_KEYS", keys)

    assert run(["--storage", "files:/x", "stats"]) == 2
    shown = capfd.readouterr().err
    assert "$SESSION_KEYS" in shown
    assert PASSWORD not in shown


@pytest.mark.parametrize("arguments", [["new-secret"], ["new-encryption-key"]])
def test_new_secrets_are_new_each_time(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    from aiohttp_session_store import KeyRing, SessionCookie

    made = set()
    for _ in range(2):
        assert run(arguments) == 0
        made.add(capsys.readouterr().out.strip())
    assert run([*arguments, "--json"]) == 0
    (again,) = json.loads(capsys.readouterr().out).values()

    assert len(made | {again}) == 3
    if arguments == ["new-secret"]:
        SessionCookie(secrets=list(made))
    else:
        KeyRing(*made)
