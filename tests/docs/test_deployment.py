"""The pages of the cookbook about deployment: their apps run, and their configuration fits them."""

import configparser
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.blocks import ROOT, block, blocks, write_files
from tests.servers.guard import guarded
from tests.servers.ports import free_port

SHUTDOWN_TIMEOUT = 20


@contextmanager
def served(recipe: str, folder: Path, port: int, **environment: str) -> Iterator[Path]:
    """Run the module of a page, named ``page/module``, in *folder*; yield the file with its log."""
    page, name = recipe.split("/")
    folder.mkdir(parents=True, exist_ok=True)
    write_files(f"docs/cookbook/{page}.md", folder)
    text = (folder / f"{name}.py").read_text().replace("port=8000", f"port={port}")
    (folder / f"{name}.py").write_text(text)
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "PORT": str(port), **environment}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, f"{name}.py"], cwd=folder, env=settings, stdout=log, stderr=log)
    with guarded(process, signal="TERM"):
        try:
            deadline = time.monotonic() + 30
            while "Running on" not in (folder / "log").read_text():
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.02)
            yield folder / "log"
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, (folder / "log").read_text()
        finally:
            process.kill()
            process.wait()


def visit(port: int, cookie: str = "", path: str = "/") -> tuple[str, str]:
    """Visit the app over a connection of its own; return the text, and the cookie from then on."""
    connection = HTTPConnection("localhost", port, timeout=30)
    try:
        connection.request("GET", path, headers={"Cookie": cookie})
        response = connection.getresponse()
        sent = response.headers.get("Set-Cookie", cookie).partition(";")[0]
        return response.read().decode(), sent
    finally:
        connection.close()


def shown(page: str, title: str) -> str:
    return next(one.code for one in blocks(f"docs/cookbook/{page}.md") if one.title == title)


def parsed(page: str, title: str) -> Any:
    return yaml.safe_load(shown(page, title))


def unit(title: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(shown("systemd", title))
    return parser


# --- index.md


def test_the_front_page_runs_a_recipe_as_it_says(tmp_path: Path) -> None:
    write_files("docs/cookbook/shopping-cart.md", tmp_path)
    port = free_port()
    commands = [line for line in block("docs/cookbook/index.md", "sh", "curl").splitlines() if line.startswith("curl")]
    with served("index/run", tmp_path, port):
        for line in commands:
            command, _, expected = line.partition("#")
            command = command.replace("localhost:8000", f"localhost:{port}")
            answer = subprocess.run(shlex.split(command), cwd=tmp_path, capture_output=True, text=True, check=True)
            assert answer.stdout == expected.strip()
    assert len(commands) == 2


# --- releases.md


def test_visitors_stay_logged_in_over_a_release_if_the_directory_is_not_in_its_folder(tmp_path: Path) -> None:
    old, new, shared = tmp_path / "releases/1", tmp_path / "releases/2", tmp_path / "shared"
    port = free_port()
    with served("releases/shop", old, port):
        assert visit(port, cookie := visit(port)[1])[0] == "visit 2"
    with served("releases/shop", new, port) as log:
        assert visit(port, cookie)[0] == "visit 1"
    assert "made" in log.read_text()

    shutil.move(new / "var", shared)
    (new / "var").symlink_to("../../shared")
    with served("releases/shop", new, port):
        cookie = visit(port)[1]
    with served("releases/shop", old, port, SESSIONS=str(shared / "sessions")) as log:
        assert visit(port, cookie)[0] == "visit 2"
    assert "found" in log.read_text()


# --- multiple-workers.md


def test_two_workers_on_one_port_share_the_sessions(tmp_path: Path) -> None:
    port = free_port()
    with ExitStack() as stack:
        for number in range(2):
            stack.enter_context(
                served("multiple-workers/workers", tmp_path / str(number), port, SESSIONS=str(tmp_path / "s"))
            )
        cookie = visit(port)[1]
        seen = [visit(port, cookie)[0] for _ in range(30)]
    assert [one.partition(",")[0] for one in seen] == [f"visit {number}" for number in range(2, 32)]
    assert len({one.partition(",")[2] for one in seen}) == 2


# --- systemd.md


def test_the_app_of_the_unit_keeps_its_sessions_in_the_state_directory(tmp_path: Path) -> None:
    state = tmp_path / "lib" / unit("shop.service")["Service"]["StateDirectory"]
    (tmp_path / "lib/private/shop").mkdir(parents=True, mode=0o700)
    state.symlink_to("private/shop")  # as systemd does for DynamicUser=
    port = free_port()
    with served("systemd/shop", tmp_path / "srv", port, STATE_DIRECTORY=str(state)):
        assert visit(port)[0] == "visit 1"
    assert (state / "sessions/secret.key").exists()
    assert not (tmp_path / "srv/var").exists()


@pytest.mark.parametrize("title", ["shop.service", "shop@.service"])
def test_systemd_accepts_a_unit(title: str, tmp_path: Path) -> None:
    service = unit(title)["Service"]
    assert int(service["TimeoutStopSec"]) > SHUTDOWN_TIMEOUT
    assert f"shutdown_timeout={SHUTDOWN_TIMEOUT}" in shown("systemd", "shop.py")
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    text = (
        shown("systemd", title).replace("/srv/shop/.venv/bin/python", sys.executable).replace("User=shop", "User=root")
    )
    (tmp_path / title).write_text(text)
    (tmp_path / title.replace("shop@", "shop@1")).write_text(text)
    (tmp_path / f"{title}.d").mkdir()
    (tmp_path / f"{title}.d/secret.conf").write_text(shown("systemd", "secret.conf"))

    command = [
        "systemd-analyze",
        "verify",
        "--man=no",
        "--recursive-errors=no",
        str(tmp_path / title.replace("shop@", "shop@1")),
    ]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    said = [line for line in finished.stderr.splitlines() if "shop" in line or "secret" in line]
    assert (finished.returncode, said) == (0, []), finished.stderr


# --- docker.md


def test_the_image_and_the_pods_run_as_a_user_who_may_write_to_the_directory() -> None:
    image = shown("docker", "Dockerfile")
    (user,) = re.findall(r"useradd --uid (\d+)", image)
    (home,) = re.findall(r"install --directory --owner shop --group shop --mode 0700 (\S+)", image)
    assert f"USER {user}:{user}" in image
    assert f'"{home}/sessions"' in shown("docker", "shop.py")

    (service,) = parsed("docker", "compose.yaml")["services"].values()
    assert service["volumes"] == [f"{name}:{home}" for name in parsed("docker", "compose.yaml")["volumes"]]
    assert int(service["stop_grace_period"].removesuffix("s")) > SHUTDOWN_TIMEOUT
    assert service["ports"] == ["127.0.0.1:8080:8080"]

    for name in ("shop.yaml", "shop-files.yaml"):
        pod = parsed("docker", name)["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["runAsGroup"] == int(user)
        assert pod["terminationGracePeriodSeconds"] > SHUTDOWN_TIMEOUT
        (container,) = pod["containers"]
        assert {one["name"] for one in container["volumeMounts"]} == {one["name"] for one in pod["volumes"]}
        for setting in container["env"]:
            assert f'"{setting["name"]}"' in shown("docker", "shop.py")
        assert container["readinessProbe"]["httpGet"]["path"] == "/health"
    mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    assert container["env"][0]["value"].startswith(mounts["sessions"] + "/")
    assert pod["securityContext"]["fsGroup"] == int(user)
    (sticky,) = parsed("docker", "sticky.yaml")["initContainers"]
    assert sticky["command"][-1] == mounts["sessions"]
    assert f"shutdown_timeout={SHUTDOWN_TIMEOUT}" in shown("docker", "shop.py")


def test_the_app_of_the_image_keeps_its_sessions_on_the_volume(tmp_path: Path) -> None:
    port = free_port()
    with served("docker/shop", tmp_path / "srv", port, SESSIONS=str(tmp_path / "sessions/files")):
        assert visit(port, visit(port)[1])[0] == "visit 2"
    assert (tmp_path / "sessions/files/secret.key").exists()


def test_the_probe_does_not_depend_on_redis(tmp_path: Path) -> None:
    port, away = free_port(), f"redis://localhost:{free_port()}"
    with served("docker/shop", tmp_path, port, REDIS_URL=away, SESSION_SECRET="s3cret-" * 6):
        assert visit(port, path="/health")[0] == "ok"
        assert "503" in visit(port)[0]
