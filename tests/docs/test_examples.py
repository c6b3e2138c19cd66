"""The tests that the documentation shows pass."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aiohttp_session_store.testing import StorageContract
from tests.docs.blocks import ROOT, blocks, write_files

CONFIG = "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"


# Replaces the fixture and the driver that a reader of docs/writing-a-storage.md has.
DYNAMODB = """
import sys

import pytest

import dynamodb_table

sys.modules["botocore"] = sys.modules["botocore.exceptions"] = dynamodb_table


@pytest.fixture
def table():
    return dynamodb_table.Table()
"""
AWAY = """
import pytest
from dynamodb import DynamoDBStorage

from aiohttp_session_store import StorageError


async def test_a_service_that_cannot_be_reached_is_a_storage_error(table):
    table.away = True
    storage = DynamoDBStorage(table)
    for call in (storage.fetch("k"), storage.insert("k", b"", 1), storage.touch("k", 1, b"v"), storage.delete("k")):
        with pytest.raises(StorageError, match="cannot be reached"):
            await call
"""


def test_the_storage_in_the_documentation_keeps_the_contract(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(DYNAMODB)
    (tmp_path / "test_away.py").write_text(AWAY)
    shutil.copy(ROOT / "tests/docs/dynamodb_table.py", tmp_path)
    test_the_tests_in_a_document_pass("docs/writing-a-storage.md", 105, tmp_path)


def test_the_storage_in_the_documentation_is_short() -> None:
    storage = next(one.code for one in blocks("docs/writing-a-storage.md") if one.title == "dynamodb.py")
    lines = [line for line in storage.splitlines() if line.strip()]
    assert len(lines) <= 75


def test_every_test_named_in_the_documentation_is_in_the_contract() -> None:
    for name in re.findall(r"`(test_\w+)`", (ROOT / "docs/writing-a-storage.md").read_text()):
        assert hasattr(StorageContract, name), name


def test_the_tests_on_the_page_about_the_migration_pass(tmp_path: Path) -> None:
    shown = next(one for one in blocks("docs/migrating.md") if one.title.startswith("test_"))
    (tmp_path / shown.title).write_text(shown.code)
    (tmp_path / "pytest.ini").write_text(CONFIG)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100)

    assert "\n2 passed" in finished.stdout, finished.stdout + finished.stderr


@pytest.mark.parametrize(("document", "tests"), [("docs/testing.md", 7), ("docs/coming-from.md", 1)])
def test_the_tests_in_a_document_pass(document: str, tests: int, tmp_path: Path) -> None:
    names = write_files(document, tmp_path)
    if "pytest.ini" not in names:
        (tmp_path / "pytest.ini").write_text(CONFIG)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100)

    assert f"\n{tests} passed" in finished.stdout, finished.stdout + finished.stderr
    python = [one for one in blocks(document) if one.language == "python"]
    assert len([name for name in names if name.endswith(".py")]) == len(python), "a code block was not run"
