"""The public names of the package, what importing it loads, and the purity of its core."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import aiohttp_session_store
from aiohttp_session_store import errors

PACKAGE = Path(aiohttp_session_store.__file__).parent
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
NAME = "aiohttp_session_store"

# The modules that do no I/O and read no clock.
PURE = [module for module in MODULES if module.startswith(("record/", "session/"))]
IMPURE = {"time", "os", "io", "random", "socket", "threading", "pathlib", "subprocess", "tempfile", "logging"}


def imports_of(tree: ast.AST) -> set[str]:
    """Return the top-level packages that a module imports absolutely."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module or "")
    return {name.split(".")[0] for name in found}


def loaded_by(statement: str, *suspects: str) -> set[str]:
    """Return which of the modules *suspects* are loaded after a fresh interpreter has run *statement*."""
    script = f"import sys\n{statement}\nprint(*(set({suspects!r}) & set(sys.modules)))"
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return set(finished.stdout.split())


# --- names


@pytest.mark.parametrize("module", [NAME, f"{NAME}.testing"])
def test_all_is_sorted_and_complete(module: str) -> None:
    loaded = importlib.import_module(module)
    public = {
        name
        for name, value in vars(loaded).items()
        if not name.startswith("_")
        and not inspect.ismodule(value)
        and getattr(value, "__module__", "").startswith(NAME)
    }

    assert loaded.__all__ == sorted(loaded.__all__)
    assert len(set(loaded.__all__)) == len(loaded.__all__)
    assert public <= set(loaded.__all__)
    assert all(hasattr(loaded, name) for name in loaded.__all__)


def test_every_error_is_public_documented_and_has_the_common_base() -> None:
    for name in errors.__all__:
        error = getattr(errors, name)
        assert getattr(aiohttp_session_store, name) is error
        assert issubclass(error, aiohttp_session_store.SessionStoreError)
        assert error.__doc__


def test_every_error_of_the_module_is_in_its_docstring() -> None:
    defined = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}

    assert defined == set(errors.__all__)
    assert all(name in (errors.__doc__ or "") for name in defined)


def test_errors_have_the_builtin_base_that_callers_expect() -> None:
    assert issubclass(aiohttp_session_store.ConfigurationError, ValueError)
    assert issubclass(aiohttp_session_store.SessionTooLargeError, ValueError)
    assert issubclass(aiohttp_session_store.SessionUsageError, RuntimeError)
    assert issubclass(aiohttp_session_store.SessionDestroyedError, aiohttp_session_store.SessionUsageError)
    assert issubclass(aiohttp_session_store.SessionCommittedError, aiohttp_session_store.SessionUsageError)
    assert not issubclass(aiohttp_session_store.StorageError, RuntimeError)


def test_a_session_too_large_error_can_be_pickled() -> None:
    import pickle

    error = aiohttp_session_store.SessionTooLargeError("too large", size=5000, limit=4096)
    copy = pickle.loads(pickle.dumps(error))

    assert (str(copy), copy.size, copy.limit) == ("too large", 5000, 4096)


def test_the_package_is_marked_as_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()


def test_the_testing_package_has_no_other_names() -> None:
    from aiohttp_session_store import testing

    with pytest.raises(AttributeError, match="has no attribute 'missing'"):
        testing.missing  # noqa: B018


# --- what importing loads


def test_importing_the_package_loads_no_driver_and_no_test_tools() -> None:
    suspects = ("redis", "asyncpg", "cryptography", "pytest", "hypothesis", f"{NAME}.testing")

    assert loaded_by(f"import {NAME}", *suspects) == set()


def test_the_manual_clock_needs_no_pytest() -> None:
    assert loaded_by(f"from {NAME}.testing import ManualClock", "pytest") == set()


def test_the_contract_is_loaded_on_demand() -> None:
    assert loaded_by(f"from {NAME}.testing import StorageContract", "pytest") == {"pytest"}


# --- the core (import-linter checks the order of the layers, see pyproject.toml)


@pytest.mark.parametrize("module", PURE)
def test_the_core_does_no_io_and_reads_no_clock(module: str) -> None:
    tree = ast.parse((PACKAGE / module).read_text())
    awaits = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)

    allowed = {"os"} if module == "record/key_ring.py" else set()  # for os.environ
    assert not imports_of(tree) & IMPURE - allowed
    assert not any(isinstance(node, awaits) for node in ast.walk(tree))
    assert not any(isinstance(node, ast.Name) and node.id == "open" for node in ast.walk(tree))
