"""Ports for servers that tests start."""

import os
import random
import socket

# Linux gives ports from 32768 on to whoever asks for any: to connections, and to the tests' own apps.  One of those
# could be taken between our look at it and the start of the server, or while a test has its server stopped.  A node of
# a Redis cluster uses the port 10,000 above its own as well, which is below that, too.
FIRST, END = 12_768, 22_768
MOST_PROCESSES = 8

_given: set[int] = set()


def free_port() -> int:
    """Return a TCP port that nobody uses, and that is returned once, in one of the processes of pytest-xdist."""
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % MOST_PROCESSES
    while True:
        port = random.SystemRandom().randrange(FIRST + process, END, MOST_PROCESSES)
        if port not in _given and all(map(_is_free, (port, port + 10_000))):
            _given.add(port)
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
