"""The code in the README runs as it is printed there."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

import aiohttp_session_store
from tests.docs.blocks import ROOT, block
from tests.docs.serving import serving

README = (ROOT / "README.md").read_text()


@pytest.fixture
def quickstart(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(block("README.md", "python", "web.run_app"))
    return tmp_path


def test_the_quickstart_prints_what_its_comments_say(quickstart: Path) -> None:
    with serving(quickstart / "app.py") as site:
        for line in block("README.md", "sh", "curl").splitlines():
            if line.startswith("curl"):
                command, _, expected = line.partition("#")
                answer = subprocess.run(
                    shlex.split(command.replace("localhost:8000", site)),
                    cwd=quickstart,
                    capture_output=True,
                    text=True,
                    check=True,
                )
                assert answer.stdout.strip() == expected.strip()


def test_every_file_linked_from_the_readme_exists() -> None:
    for path in re.findall(r"\]\(((?:tests|demo|docs|\w+\.md)[^)#]*)", README):
        assert (ROOT / path).exists(), path


def test_the_documentation_mentions_every_public_name() -> None:
    shown = "".join(path.read_text() for path in (ROOT / "docs").glob("*.md"))

    internal = {"SessionStorage", "Stored"}  # only needed to write a storage
    assert [name for name in aiohttp_session_store.__all__ if name not in shown and name not in internal] == []


def test_the_readme_is_shorter_than_two_screens_before_its_links() -> None:
    lines = README.partition("## Documentation")[0].splitlines()

    assert len(lines) <= 100
