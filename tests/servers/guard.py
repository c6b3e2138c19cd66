"""What ends the servers of a test run that was killed, and so cannot end them itself."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Its input ends without a line when whoever started it dies. A frozen process takes a signal when it is told to go on.
WATCH = """
trap '' INT
read -r _ && exit
kill -s "$1" "$2" && kill -s CONT "$2"
for _ in 1 2 3 4 5 6 7 8 9 10; do kill -s 0 "$2" && sleep 1; done
test -z "$3" || rm -rf "$3"
"""


class Guard:
    """A shell that watches over one process for as long as we live, and ends it when we do not."""

    def __init__(self, process: "subprocess.Popen[bytes]", signal: str = "KILL", folder: Path | None = None) -> None:
        """Begin; *signal* ends *process*, after which *folder* is removed."""
        command = ["/bin/sh", "-c", WATCH, "guard", signal, str(process.pid), "" if folder is None else str(folder)]
        quiet = subprocess.DEVNULL
        self._shell = subprocess.Popen(command, cwd="/", stdin=subprocess.PIPE, stdout=quiet, stderr=quiet)

    def dismiss(self) -> None:
        """Let it go: the process has ended."""
        with suppress(BrokenPipeError):
            self._shell.communicate(b"over\n")


@contextmanager
def guarded(*processes: "subprocess.Popen[bytes]", signal: str = "KILL") -> Iterator[None]:
    """Watch over *processes* for the length of a block, at whose end they have ended."""
    guards = [Guard(process, signal) for process in processes]
    try:
        yield
    finally:
        for guard in guards:
            guard.dismiss()
