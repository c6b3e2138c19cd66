"""The page on migrating from aiohttp-session lists every name that its users may have used."""

import ast
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT

# The modules are read, not imported: some of them need drivers that are not installed.
MODULES = sorted(
    Path(str(distribution("aiohttp-session").locate_file(file)))
    for file in distribution("aiohttp-session").files or ()
    if file.suffix == ".py" and file.parts[0] == "aiohttp_session"
)


def names_of(module: Path) -> Iterator[str]:
    for node in ast.parse(module.read_text()).body:
        if isinstance(node, ast.ClassDef):
            yield node.name
            for member in node.body:
                if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield member.name
                    if member.name == "__init__" and node.name != "Session":
                        yield from (argument.arg for argument in member.args.kwonlyargs)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def test_the_whole_package_is_read() -> None:
    assert len(MODULES) == 6
    assert {"setup", "Session", "invalidate", "MemcachedStorage"} < {name for one in MODULES for name in names_of(one)}


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.stem)
def test_every_public_name_is_in_the_table(module: Path) -> None:
    table = (ROOT / "docs/migrating.md").read_text().partition("## API mapping")[2].partition("\n## ")[0]
    theirs = "\n".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| "))
    words = {word for part in theirs.split("`")[1::2] for word in part.replace("(", " ").replace(".", " ").split()}
    missing = {name for name in names_of(module) if not name.startswith("_") and name not in words}

    assert missing == set()
