"""The tests that documents show pass, as they stand there."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import blocks, write_files

CONFIG = "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"


@pytest.mark.parametrize(("document", "tests"), [("docs/testing.md", 5)])
def test_the_tests_of_a_document_pass(document: str, tests: int, tmp_path: Path) -> None:
    names = write_files(document, tmp_path)
    (tmp_path / "pytest.ini").write_text(CONFIG)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100)

    assert f"\n{tests} passed" in finished.stdout, finished.stdout + finished.stderr
    assert len(names) == len([one for one in blocks(document) if one.language == "python"]), "a block is not run"
