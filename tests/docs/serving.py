"""Scripts that documents show, run as a reader runs them, on a port that is free."""

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
    """Run *script*, which serves on port 8000, on another one; yield its address, and end it as Ctrl-C does."""
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
        assert process.poll() is None, "it ended without serving anything"
        assert time.monotonic() < deadline
        time.sleep(0.05)
