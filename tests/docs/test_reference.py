"""The reference shows every public name, and says what each of its parameters and fields means."""

import re
from collections.abc import Iterator
from typing import Any

import griffe
import pytest
import yaml

import aiohttp_session_store
from tests.docs.blocks import ROOT

PAGES = sorted((ROOT / "docs/reference").glob("*.md"))
SHOWN = [
    (name, yaml.safe_load(options or "options: {}")["options"])
    for page in PAGES
    for name, options in re.findall(r"^::: (\S+)\n((?:    .*\n)*)", page.read_text() + "\n", re.MULTILINE)
]


@pytest.fixture(scope="module")
def package() -> Any:
    return griffe.load("aiohttp_session_store", search_paths=[ROOT], docstring_parser="google", resolve_aliases=True)


def resolved(thing: Any) -> Any:
    return thing.final_target if thing.is_alias else thing


def named(thing: Any, *kinds: str) -> set[str]:
    """Return the names that the docstring of *thing* explains in its sections of *kinds*."""
    sections = thing.docstring.parsed if thing.docstring else []
    return {item.name.lstrip("*") for one in sections if one.kind.value in kinds for item in one.value}


def members(thing: Any, options: dict[str, Any]) -> Iterator[Any]:
    """Yield the members that the reference shows of a class or module."""
    found = thing.all_members if options.get("inherited_members") else thing.members
    hidden = [one.removeprefix("!") for one in options.get("filters", ["!^_"]) if one.startswith("!")]
    if thing.is_class and "members" not in options and not any(re.search(one, "__init__") for one in hidden[1:]):
        hidden[0] = "^_(?!_init__$)"  # shown with the class
    wanted = options.get("members", [name for name in found if not any(re.search(one, name) for one in hidden)])
    for name, member in found.items():
        if name in wanted:
            yield resolved(member)


def unexplained(thing: Any, options: dict[str, Any]) -> Iterator[str]:
    if thing.is_function and not thing.is_attribute:
        for parameter in thing.parameters:
            known = {"self", "cls"} | named(thing, "parameters") | named(thing.parent, "attributes")
            if parameter.name not in known:
                yield f"{thing.path}({parameter.name})"
        return
    of_init = named(thing.members["__init__"], "parameters") if "__init__" in thing.members else set()
    for member in members(thing, options) if thing.is_class or thing.is_module else ():
        if not member.path.startswith("aiohttp_session_store") or member.is_alias:
            continue
        if member.is_attribute:
            if not member.docstring and member.name not in named(thing, "attributes") | of_init:
                yield f"{thing.path}.{member.name}"
        else:
            yield from unexplained(member, {})


@pytest.mark.parametrize(("name", "options"), SHOWN, ids=[name for name, _ in SHOWN])
def test_every_parameter_and_field_is_explained(package: Any, name: str, options: dict[str, Any]) -> None:
    thing = resolved(package[name.removeprefix("aiohttp_session_store.")])

    assert thing.docstring
    assert list(unexplained(thing, options)) == []


def test_every_public_name_is_shown_and_listed() -> None:
    shown = {name.rpartition(".")[2] for name, _ in SHOWN}
    index = (ROOT / "docs/reference/index.md").read_text()
    errors = set(aiohttp_session_store.errors.__all__)

    assert set(aiohttp_session_store.__all__) - shown - errors == set()
    for page in PAGES:
        assert page.name == "index.md" or f"({page.name})" in index
