"""The commands on the page *Operating it* do what the page says, and the page of the command line is up to date."""

import asyncio
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from aiohttp_session_store import FileSystemStorage, KeyRing
from tests.cli.conftest import Finished, inside, stored
from tests.docs.blocks import blocks
from tests.docs.command_line import PAGE, page

OPERATING = "docs/operating.md"
NAME = "aiohttp-session-store"
OLD, NEW = KeyRing.new_key(), KeyRing.new_key()


def test_the_page_of_the_command_line_is_made_from_its_help() -> None:
    """If not: ``python -m tests.docs.command_line``."""
    assert PAGE.read_text() == page()


@pytest.fixture
async def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileSystemStorage:
    """Return a storage as the page has it, with keys at step 2 of taking a new one."""
    monkeypatch.chdir(tmp_path)
    storage = FileSystemStorage(tmp_path / "sessions", sweep_interval=None, encryption=KeyRing(OLD))
    await stored(storage, "42", label="Firefox")
    await stored(storage, "43", cart=[1])
    await stored(storage, cart=[2])
    await storage.insert("a" * 64, b"1 L 1 1 10\n{}", storage.now() - 1000)
    await storage.aclose()
    return storage


def commands() -> list[str]:
    """Return the commands on the page, in order, without what a shell does with their output."""
    code = "\n".join(one.code for one in blocks(OPERATING) if one.language == "sh")
    return [re.split(r" [|>;]|;", line)[0] for line in code.splitlines() if line.startswith(NAME)]


async def test_each_command_on_the_page_works_in_the_order_of_the_page(storage: FileSystemStorage) -> None:
    environment = {"SESSION_STORAGE": "files:sessions", "SESSION_KEYS": f"{NEW},{OLD}"}
    done = [(line, await asyncio.to_thread(inside, shlex.split(line)[1:], environment)) for line in commands()]
    said = dict(done)

    assert {finished.code for _, finished in done} == {0}, [
        (line, finished.err) for line, finished in done if finished.code
    ]

    def of(command: str) -> Finished:
        return said[f"{NAME} {command}"]

    assert of("sweep").out == "1 expired record removed.\n"
    assert of("reencrypt").out.startswith("3 records brought under the key ")
    assert of("reencrypt --dry-run").out.startswith("0 records left ")
    assert of("list --owner 42").out.count("\n") >= 1
    assert of("end --owner 42").out == "1 session ended.\n"
    assert len(done) > 15


async def test_the_commands_for_a_script_work_in_a_shell(storage: FileSystemStorage, tmp_path: Path) -> None:
    script = next(one.code for one in blocks(OPERATING) if "unreadable.txt" in one.code)
    environment = {"SESSION_STORAGE": "files:sessions", "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    finished = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )

    assert (finished.returncode, finished.stdout) == (0, "check: exit code 1\n"), "the keys are missing"
    assert '"unreadable": 3' in (tmp_path / "stats.json").read_text()
    assert len((tmp_path / "unreadable.txt").read_text().splitlines()) == 3


def test_the_exit_codes_on_the_page_are_those_of_the_program() -> None:
    from aiohttp_session_store.cli import exits

    text = " ".join(Path(__file__).parents[2].joinpath(OPERATING).read_text().split())
    codes = {exits.FINE: "all is well", exits.FOUND: "something was found", exits.USAGE: "not understood"}
    codes |= {exits.UNREACHABLE: "the storage cannot be reached", exits.INTERRUPTED: "stopped by Ctrl-C"}
    for code, words in codes.items():
        assert re.search(rf"\b{code} [a-z ]*{words}", text), code
