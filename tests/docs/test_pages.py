"""The code on the pages runs, and the files they name exist."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import web

from aiohttp_session_store import KeyRing, MemoryStorage
from aiohttp_session_store.storages.postgres import PostgresStorage
from tests.docs.blocks import ROOT, block, blocks, write_files

PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
DOCUMENTS = [*PAGES, "README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"]
SETTINGS = {
    "SESSION_KEYS": KeyRing.new_key(),
    "SESSION_SECRET": "known-secret-0123456789-abcdefghijklmnopqrstuvwxyz",
    "DATABASE_URL": "postgresql://localhost/shop",
    "OLD_SECRET": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
    "FERNET_KEY": "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=",
}


# Runs run0.py, run1.py and so on; one process for all of them, because to start one takes longer than to run them.
RUN_ALL = "import runpy, sys; [runpy.run_path(f'run{number}.py') for number in range(int(sys.argv[1]))]"

# test_cookbook.py runs the pages of the cookbook, and checks that it runs all of them.
WITH_CODE = [
    page for page in PAGES if "/cookbook/" not in page and any(one.language == "python" for one in blocks(page))
]


@pytest.mark.parametrize("page", WITH_CODE)
def test_the_code_on_a_page_runs(page: str, tmp_path: Path) -> None:
    """Without a server, that means that it can be imported."""
    code = [one.code for one in blocks(page) if one.language == "python" and not one.title]
    names = write_files(page, tmp_path)
    code += [
        (tmp_path / name).read_text().partition('if __name__ == "__main__"')[0]
        for name in names
        if name.endswith(".py") and not name.startswith("test_") and name not in ("conftest.py", "dynamodb.py")
    ]
    for number, text in enumerate(code):
        (tmp_path / f"run{number}.py").write_text(text)
    finished = subprocess.run(
        [sys.executable, "-c", RUN_ALL, str(len(code))],
        cwd=tmp_path,
        env=SETTINGS,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr


def test_the_migration_example_makes_an_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files("docs/migrating.md", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("OLD_SECRET", SETTINGS["OLD_SECRET"])
    secret = SETTINGS["SESSION_SECRET"]

    assert isinstance(importlib.import_module("app").make_app(str(tmp_path / "s")), web.Application)
    moving = importlib.import_module("moving")
    assert moving.make_app(MemoryStorage(), str(tmp_path / "t"), secret, moving=True)


def test_the_sql_on_the_page_is_the_sql_that_is_run() -> None:
    shown = block("docs/postgres.md", "sql", "CREATE TABLE")

    assert shown == PostgresStorage.from_dsn(SETTINGS["DATABASE_URL"]).schema_sql


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_named_in_a_document_exists(document: str) -> None:
    for path in re.findall(r"`((?:tests|benchmarks|demo|docs)/[\w/.*-]*)`", (ROOT / document).read_text()):
        assert (ROOT / path).exists(), path


def test_the_migration_page_has_all_names_of_aiohttp_session() -> None:
    import aiohttp_session
    from aiohttp_session import cookie_storage, redis_storage

    page = (ROOT / "docs/migrating.md").read_text()
    members = [name for name in vars(aiohttp_session.Session) if not name.startswith("_")]
    storages = [cookie_storage.EncryptedCookieStorage, redis_storage.RedisStorage]
    names = [one.__name__ for one in (aiohttp_session.AbstractStorage, aiohttp_session.SimpleCookieStorage, *storages)]
    names += [
        "NaClCookieStorage",
        "setup",
        "get_session",
        "new_session",
        "session_middleware",
        "SESSION_KEY",
        "STORAGE_KEY",
    ]
    for name in (*names, *(f"session.{member}" for member in members)):
        assert name in page, name


def test_nobody_is_told_to_install_the_package_by_its_name() -> None:
    """It is on no index, so that anybody could register the name."""
    package = [path.relative_to(ROOT).as_posix() for path in (ROOT / "aiohttp_session_store").rglob("*.py")]
    for name in [*DOCUMENTS, *package]:
        assert not re.search(r"(pip|uv) (install|add)[^\n]* '?\"?aiohttp_session_store", (ROOT / name).read_text()), (
            name
        )


def test_the_list_of_decisions_is_complete() -> None:
    shown = (ROOT / "docs/decisions/index.md").read_text()

    for page in (ROOT / "docs/decisions").glob("0*.md"):
        title = page.read_text().partition("\n")[0].partition(". ")[2]
        assert f"1. [{title}]({page.name})" in shown
