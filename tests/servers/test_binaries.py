"""The servers that packages carry are found on a machine that has nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("kind", ["redis", "postgres"])
def test_the_packaged_server_is_found_without_a_warning(kind: str) -> None:
    """With the environment of a container: no home, no folder for sockets, nothing on the PATH."""
    command = [sys.executable, "-W", "error", "-c", f"from tests.servers.{kind} import packaged; print(packaged())"]
    kept = {name: value for name, value in os.environ.items() if name in ("VIRTUAL_ENV", "COVERAGE_PROCESS_START")}
    found = subprocess.run(command, cwd=ROOT, env=kept, capture_output=True, text=True, check=False)

    assert found.returncode == 0, found.stderr
    assert Path(found.stdout.strip()).exists(), found.stdout
