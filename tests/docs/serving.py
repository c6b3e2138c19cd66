"""Run scripts from the documentation as a reader would, but on a free port."""

import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.ports import free_port


@contextmanager
def serving(script: Path) -> Iterator[str]:
    """Run *script* on a free port instead of port 8000; yield its URL, and terminate it at the end."""
    port = free_port()
    script.write_text(re.sub(r"port=\d+", f"port={port}", script.read_text()))
    process = subprocess.Popen([sys.executable, script.name], cwd=script.parent, stdout=subprocess.DEVNULL)
    try:
        _wait_for(port, process)
        yield f"http://localhost:{port}"
    finally:
        process.terminate()
        assert process.wait(20) == 0


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 30
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, "the script ended without serving anything"
        assert time.monotonic() < deadline
        time.sleep(0.05)
