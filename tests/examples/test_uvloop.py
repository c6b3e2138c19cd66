"""Sessions on uvloop: docs/examples/uvloop_app.py, and the tests of what the library promises within a request."""

import re
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.docs.blocks import ROOT
from tests.examples.running import command_of, copy_of_examples, running
from tests.servers.ports import free_port

# Reading and writing, parallel writes, locks, logout, streams and WebSockets, visitors who disconnect, files.
BEHAVIOURS = [
    "tests/web/test_saving.py",
    "tests/web/test_concurrency.py",
    "tests/web/test_exclusive.py",
    "tests/web/test_logout.py",
    "tests/web/test_streams.py",
    "tests/web/test_stream_failures.py",
    "tests/web/test_websockets.py",
    "tests/web/test_cancellation.py",
    "tests/storages/filesystem/test_filesystem_cancellation.py",
]

# This test relies on the order in which asyncio's own event loop serves connections; uvloop uses another order.
NOT_THIS = "tests/web/test_exclusive.py::test_who_came_first_gets_it_first"


@pytest.mark.long
def test_the_request_promises_hold_on_uvloop() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.examples.on_uvloop", "-p", "no:cacheprovider"]
    command += ["--deselect", NOT_THIS]

    finished = subprocess.run(
        [*command, *BEHAVIOURS], cwd=ROOT, capture_output=True, text=True, check=False, timeout=100
    )

    assert finished.returncode == 0, finished.stdout + finished.stderr
    passed = re.search(r"(\d+) passed", finished.stdout)
    assert passed
    assert int(passed[1]) > 150


@pytest.mark.parametrize("way", ["run_app", "--main"])
def test_the_example_runs_on_uvloop_both_ways_and_stops(way: str, tmp_path: Path) -> None:
    port = free_port()
    copy_of_examples(tmp_path, port)
    command = command_of("uvloop_app.py") + (["--main"] if way == "--main" else [])

    with running(command, tmp_path, port), urlopen(f"http://localhost:{port}/", timeout=20) as response:
        assert response.read() == b"visit 1, on uvloop\n"

    assert list((tmp_path / "var/sessions").glob("??/*"))
