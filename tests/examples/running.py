"""Run the examples as their docstrings say, on a free port and in a temporary folder."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.docs.blocks import ROOT
from tests.servers.guard import guarded

EXAMPLES = Path("docs/examples")

# aiohttp-jinja2 1.6 uses a plain string as the key of its context.
JINJA_WARNING = "ignore:It is recommended to use web.RequestKey"


def copy_of_examples(folder: Path, port: int) -> None:
    """Copy all examples to the same path below *folder*, with *port* instead of 8080."""
    shutil.copytree(ROOT / EXAMPLES, folder / EXAMPLES, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (folder / EXAMPLES).rglob("*.*"):
        if path.is_file():
            path.write_text(path.read_text().replace("8080", str(port)))


def command_of(example: str) -> list[str]:
    """Return the command in the docstring of *example*, with this Python interpreter."""
    command = re.search(r"^    python (.+)$", (ROOT / EXAMPLES / example).read_text(), re.MULTILINE)
    assert command, f"{example} does not say how to run it"
    return [sys.executable, "-W", "error", "-W", JINJA_WARNING, *command[1].split()]


@contextmanager
def running(command: list[str], folder: Path, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """Run *command* on the copies in *folder* until the block ends; its log is ``folder / "log"``.

    The command must start to serve *port*.  At the end it must exit with status 0 on SIGTERM, unless the block has
    already stopped it.
    """
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=log, stderr=log
        )
    with guarded(process, signal="TERM"):
        try:
            wait_until_served(port, process, folder / "log")
            yield process
            stop(process, folder / "log")
        finally:
            process.kill()  # does nothing if the process has ended
            process.wait()


def stop(process: "subprocess.Popen[bytes]", log: Path, number: signal.Signals = signal.SIGTERM) -> None:
    """Send *process* a signal, and check that it ends without an error."""
    if process.poll() is None:
        process.send_signal(number)
    assert process.wait(20) == 0, log.read_text()
    assert "Traceback" not in log.read_text(), log.read_text()


def wait_until_served(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until something listens on *port*."""
    deadline = time.monotonic() + 30
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
