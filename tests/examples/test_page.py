"""The code, directives and commands in docs/integrations.md are those of the examples."""

import ast
import re

import pytest

from tests.docs.blocks import ROOT, blocks
from tests.examples.running import EXAMPLES

PAGE = "docs/integrations.md"
SHOWN = blocks(PAGE)


def definitions(code: str) -> dict[str, str]:
    """Return the classes and functions of a module in a form that does not depend on formatting."""
    kinds = ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef
    return {node.name: ast.dump(node) for node in ast.parse(code).body if isinstance(node, kinds)}


@pytest.mark.parametrize("example", ["security.py", "flash_templates.py"])
def test_the_code_on_the_page_is_the_code_of_the_example(example: str) -> None:
    of_example = definitions((ROOT / EXAMPLES / example).read_text())

    shown = [definitions(one.code) for one in SHOWN if one.language == "python"]

    assert any(of_page and of_page.items() <= of_example.items() for of_page in shown)


def test_the_directives_on_the_page_are_in_the_configuration() -> None:
    lines = [line.strip() for line in (ROOT / EXAMPLES / "behind_nginx/nginx.conf").read_text().splitlines()]

    (shown,) = [one.code.splitlines() for one in SHOWN if one.language == "nginx"]

    assert [line for line in shown if line not in lines] == []


def test_the_commands_on_the_page_are_in_the_examples() -> None:
    examples = "".join(path.read_text() for path in (ROOT / EXAMPLES).rglob("*.py"))

    commands = [line for one in SHOWN if one.language == "sh" for line in one.code.splitlines()]

    assert len(commands) == 4
    assert [line for line in commands if line not in examples] == []


def test_every_example_is_linked_from_the_page() -> None:
    linked = set(re.findall(r"\]\(examples/([^)]+)\)", (ROOT / PAGE).read_text()))

    assert linked == {
        path.relative_to(ROOT / EXAMPLES).as_posix()
        for path in (ROOT / EXAMPLES).rglob("*.*")
        if path.suffix in (".py", ".conf")
    }
