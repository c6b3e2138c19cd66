"""The published files: builds are reproducible, contain the types and no tests, and have the right metadata."""

import email
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def build(target: Path) -> dict[str, Path]:
    """Build the wheel and the sdist into *target*; return their paths by suffix."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(target), str(ROOT)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return {path.suffix: path for path in target.iterdir()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return build(tmp_path_factory.mktemp("dist"))


def test_two_builds_are_identical_byte_for_byte(built: dict[str, Path], tmp_path: Path) -> None:
    again = build(tmp_path)

    assert set(built) == set(again) == {".whl", ".gz"}
    for suffix, path in built.items():
        assert path.read_bytes() == again[suffix].read_bytes(), suffix


def test_the_wheel_contains_only_the_package_with_its_types(built: dict[str, Path]) -> None:
    with zipfile.ZipFile(built[".whl"]) as wheel:
        names = wheel.namelist()

    assert "aiohttp_session_store/py.typed" in names
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "aiohttp_session_store").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == sources
    assert {name.split("/")[0].split("-")[0] for name in names} == {"aiohttp_session_store"}


def test_the_sdist_contains_no_tests(built: dict[str, Path]) -> None:
    with tarfile.open(built[".gz"]) as sdist:
        tops = {name.split("/")[1] for name in sdist.getnames() if "/" in name}

    assert tops <= {
        "aiohttp_session_store",
        "pyproject.toml",
        "README.md",
        "CHANGELOG.md",
        "LICENSE",
        "PKG-INFO",
        ".gitignore",
    }


def test_the_description_renders_without_errors(built: dict[str, Path]) -> None:
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, built.values())]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert finished.stdout.count("PASSED") == 2


def test_the_metadata_lists_dependencies_extras_and_licence(built: dict[str, Path]) -> None:
    with zipfile.ZipFile(built[".whl"]) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(wheel.read(name))

    needed = [one for one in metadata.get_all("Requires-Dist", []) if "extra ==" not in one]
    assert sorted(one.partition(">")[0] for one in needed) == ["aiofiles", "aiohttp", "itsdangerous"]
    assert {"redis", "postgres", "orjson"} <= set(metadata.get_all("Provides-Extra", []))
    assert metadata["License-Expression"] == "MIT"
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])


def test_the_minimum_python_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    minor = int(project["project"]["requires-python"].removeprefix(">=3."))

    assert project["tool"]["ruff"]["target-version"] == f"py3{minor}"
    assert project["tool"]["mypy"]["python_version"] == f"3.{minor}"
    assert f"Python 3.{minor} or newer" in (ROOT / "README.md").read_text()
    assert f"Programming Language :: Python :: 3.{minor}" in project["project"]["classifiers"]


# --- in an empty environment

NOTHING = "import aiohttp_session_store, aiohttp_session_store.testing, aiohttp_session_store.migrate"
WITH = "from aiohttp_session_store.storages.redis import RedisStorage as R;"
WITH += "from aiohttp_session_store.storages.postgres import PostgresStorage as P;"
WITH += "R.from_url('redis://localhost'); P.from_dsn('postgresql://localhost/x')"


@pytest.mark.long
@pytest.mark.parametrize(("extras", "statement"), [("", NOTHING), ("[redis,postgres]", WITH)])
def test_it_installs_into_an_empty_environment(
    built: dict[str, Path], tmp_path: Path, extras: str, statement: str
) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path)], check=True, timeout=60)
    python = str(tmp_path / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet", "--constraint", str(ROOT / "constraints.txt")]
    subprocess.run([*install, f"{built['.whl']}{extras}"], check=True, timeout=100)
    finished = subprocess.run(
        [python, "-c", statement], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert finished.returncode == 0, finished.stderr
    if not extras:
        missing = [python, "-c", "import aiohttp_session_store.storages.redis"]
        finished = subprocess.run(missing, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
        assert "pip install 'redis>=5.0.1'" in finished.stderr
