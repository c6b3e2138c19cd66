"""A real nginx in the foreground, with all of its files in one folder."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.guard import guarded

# The main configuration, which distributions keep in /etc/nginx/nginx.conf.
MAIN = """
{user}
daemon off;
worker_processes 1;
error_log stderr warn;
pid {folder}/nginx.pid;
events {{ worker_connections 128; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/app.conf;
}}
"""


def installed() -> str | None:
    """Return the nginx on the PATH or in /usr/sbin, which on Debian only root has on the PATH."""
    return shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")


@contextmanager
def nginx(binary: str, folder: Path, site: str, *ports: int) -> Iterator[Path]:
    """Run nginx with *site*, the text of a file in ``conf.d``, that listens on *ports*; yield its log."""
    folder.mkdir()
    user = "user root;" if os.geteuid() == 0 else ""  # otherwise workers run as nobody, who may not write to folder
    (folder / "nginx.conf").write_text(MAIN.format(user=user, folder=folder))
    (folder / "app.conf").write_text(site)
    command = [binary, "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    with guarded(process, signal="TERM"):
        try:
            for port in ports:
                _wait_for(port, process, log)
            yield log
        finally:
            process.terminate()  # not kill(), which would leave the workers running
            status = process.wait(20)
    assert status == 0, log.read_text()


def _wait_for(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.01)
