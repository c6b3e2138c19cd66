"""A killed test run leaves no servers behind, and stopping them needs no tools that a small machine lacks."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.servers.postgres import children

ROOT = Path(__file__).parents[2]

RUN = """
import sys, time
from tests.servers.postgres import postgres_server
from tests.servers.redis import redis_server

with {"redis": redis_server, "postgres": postgres_server}[sys.argv[1]]() as server:
    print(server.process.pid, server.folder, flush=True)
    time.sleep(60)
"""


def is_running(pid: str) -> bool:
    listed = subprocess.run(["/bin/sh", "-c", f"kill -0 {pid}"], stderr=subprocess.DEVNULL, check=False)
    stat = Path("/proc", pid, "stat")
    return listed.returncode == 0 and not (stat.exists() and ") Z " in stat.read_text())


@pytest.mark.parametrize("kind", ["redis", "postgres"])
def test_the_servers_of_a_killed_test_run_end_and_leave_no_folder(kind: str) -> None:
    command = [sys.executable, "-c", RUN, kind]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        pid, folder = run.stdout.readline().split()
        assert is_running(pid)
        run.kill()

    deadline = time.monotonic() + 20
    while is_running(pid) or Path(folder).exists():
        assert time.monotonic() < deadline, "a server of the killed test run or its folder is still there"
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="without /proc, children() uses ps")
def test_children_are_found_without_ps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in children(os.getpid())
        child.communicate(b"\n")
