"""The servers in Python packages are found on a machine that has no others."""

import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import pytest

from tests.servers import postgres, redis

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("kind", ["redis", "postgres"])
def test_the_packaged_server_is_found_without_a_warning(kind: str) -> None:
    """In the environment of a container: no home, no folder for sockets, no PATH."""
    command = [sys.executable, "-W", "error", "-c", f"from tests.servers.{kind} import packaged; print(packaged())"]
    kept = {name: value for name, value in os.environ.items() if name in ("VIRTUAL_ENV", "COVERAGE_PROCESS_START")}
    found = subprocess.run(command, cwd=ROOT, env=kept, capture_output=True, text=True, check=False)

    assert found.returncode == 0, found.stderr
    assert Path(found.stdout.strip()).exists(), found.stdout


@pytest.mark.parametrize("kind", [redis, postgres])
def test_with_servers_set_to_wheels_only_the_packaged_server_is_used(
    kind: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVERS", "wheels")
    assert kind.installed() is None

    monkeypatch.setenv("SERVERS", "wheel")
    with pytest.raises(ValueError, match="SERVERS"):
        kind.installed()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")
def test_a_packaged_postgres_that_its_user_cannot_read_is_copied_with_its_libraries(tmp_path: Path) -> None:
    """For example, below a home directory of mode 0700."""
    binaries = postgres.packaged()
    assert binaries is not None
    package = binaries.parents[1]
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    for name in (package.name, f"{package.name}.libs"):
        (home / name).symlink_to(package.with_name(name))
    with TemporaryDirectory(prefix="pg-") as folder:
        server = postgres.PostgresServer(Path(folder), home / binaries.relative_to(package.parent))
        server.create()
        server.start()
        server.stop()


def test_every_test_that_starts_a_server_runs_with_both_kinds_of_binaries() -> None:
    makefile = (ROOT / "Makefile").read_text()
    listed = re.search(r"^WITH_SERVERS := (.+)$", makefile, re.MULTILINE)
    assert listed
    folders = listed[1].split()
    for path in (ROOT / "tests").rglob("*.py"):
        if re.search(r"from (tests\.servers(\.| import .*)(redis|postgres)|benchmarks)", path.read_text()):
            assert any(path.is_relative_to(ROOT / folder) for folder in folders), path
