"""A directory for tests that act as two users."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.storages.filesystem.filesystem_tools import STRANGER


@pytest.fixture
def shared_directory() -> Iterator[Path]:
    """Return a directory that STRANGER can reach and, by its group, write to."""
    with tempfile.TemporaryDirectory() as directory:
        os.chown(directory, 0, STRANGER)
        Path(directory).chmod(0o775)
        yield Path(directory)
