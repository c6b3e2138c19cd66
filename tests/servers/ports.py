"""Free ports for the servers that tests start."""

import os
import random
import socket

# Linux hands out ports from 32768 on to connections and to servers that ask for any port, such as the tests' own apps.
# Such a port could be taken between our check and the start of the server, or while a test has stopped its server.  A
# node of a Redis cluster also uses the port 10,000 above its own, which has to stay below 32768 as well.
FIRST, END = 12_768, 22_768
MOST_PROCESSES = 8

_given: set[int] = set()


def free_port() -> int:
    """Return a free TCP port that is never returned again, not even in another process of pytest-xdist."""
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
