"""Stop the servers of a test run that was killed and can no longer stop them itself."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# When the test run dies, read meets the end of input and fails. A frozen process gets a signal only after SIGCONT.
WATCH = """
trap '' INT
read -r _ && exit
kill -s "$1" "$2" && kill -s CONT "$2"
for _ in 1 2 3 4 5 6 7 8 9 10; do kill -s 0 "$2" && sleep 1; done
test -z "$3" || rm -rf "$3"
"""


class Guard:
    """A shell that watches this test run, and ends one process if the test run dies."""

    def __init__(self, process: "subprocess.Popen[bytes]", signal: str = "KILL", folder: Path | None = None) -> None:
        """Start to watch.  If the test run dies, send *signal* to *process* and then remove *folder*."""
        command = ["/bin/sh", "-c", WATCH, "guard", signal, str(process.pid), "" if folder is None else str(folder)]
        quiet = subprocess.DEVNULL
        self._shell = subprocess.Popen(command, cwd="/", stdin=subprocess.PIPE, stdout=quiet, stderr=quiet)

    def dismiss(self) -> None:
        """Stop watching: the process has ended."""
        with suppress(BrokenPipeError):
            self._shell.communicate(b"over\n")


@contextmanager
def guarded(*processes: "subprocess.Popen[bytes]", signal: str = "KILL") -> Iterator[None]:
    """Watch *processes* for the length of a block, at whose end they must have ended."""
    guards = [Guard(process, signal) for process in processes]
    try:
        yield
    finally:
        for guard in guards:
            guard.dismiss()
