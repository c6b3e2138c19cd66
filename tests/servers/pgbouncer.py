"""A real PgBouncer in the foreground, with all of its files in one folder."""

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from tests.servers.guard import guarded
from tests.servers.ports import free_port

MISSING = "there is no pgbouncer on the PATH or in /usr/sbin: apt-get install -y --no-install-recommends pgbouncer"
# Transaction pooling; the rest is as PgBouncer has it by default, four connections to the server among it.
SETTINGS = """
[databases]
* = host={host} port={port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users.txt
pool_mode = transaction
default_pool_size = {pool_size}
"""


def installed() -> str | None:
    """Return the pgbouncer on the PATH or in /usr/sbin, which on Debian only root has on the PATH."""
    return shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin")


def user() -> str | None:
    """Return the user to run PgBouncer as, which refuses to run as root; None means the current user."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in known)


@contextmanager
def pgbouncer(binary: str, dsn: str, pool_size: int) -> Iterator[str]:
    """Run PgBouncer in front of the server of *dsn*; yield the DSN of the same database behind it."""
    with TemporaryDirectory(prefix="pgbouncer-") as folder:
        Path(folder).chmod(0o755)  # its user has to read it
        with _running(binary, Path(folder), dsn, pool_size) as port:
            yield dsn.replace(f":{urlsplit(dsn).port}", f":{port}")


@contextmanager
def _running(binary: str, folder: Path, dsn: str, pool_size: int) -> Iterator[int]:
    parts, own_port = urlsplit(dsn), free_port()
    users, settings, log = folder / "users.txt", folder / "pgbouncer.ini", folder / "log"
    users.write_text(f'"{parts.username}" ""\n')
    settings.write_text(
        SETTINGS.format(host=parts.hostname, port=parts.port, own_port=own_port, folder=folder, pool_size=pool_size)
    )
    with log.open("wb") as output:
        process = subprocess.Popen([binary, str(settings)], user=user(), stdout=output, stderr=output)
    with guarded(process, signal="INT"):
        try:
            _wait_for(own_port, process, log)
            yield own_port
        finally:
            process.kill()
            process.wait(20)


def _wait_for(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.01)
