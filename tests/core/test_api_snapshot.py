"""The public interface, written down: whoever changes it sees it here, and in the CHANGELOG.

``UPDATE_SNAPSHOT=1 python -m pytest tests/core/test_api_snapshot.py`` writes it anew.
"""

import importlib
import inspect
import os
from pathlib import Path
from typing import Any

SNAPSHOT = Path(__file__).with_name("public_api.txt")
MODULES = ["", ".storages.redis", ".storages.postgres", ".testing", ".testing.fixtures", ".migrate"]


def described(name: str, thing: Any) -> list[str]:
    """Return a line for *thing*, and one for each public member of a class."""
    if not inspect.isclass(thing):
        return [f"{name}{signature(thing)}"]
    bases = ", ".join(base.__name__ for base in thing.__bases__ if base is not object)
    made = "__init__" in vars(thing) and not getattr(thing, "_is_protocol", False)
    lines = [f"class {name}({bases}){signature(thing.__init__) if made else ''}"]
    for member, value in sorted(vars(thing).items()):
        if member.startswith(("_", "test_")):
            continue
        if isinstance(value, property):
            lines.append(f"    {member}: property")
        elif isinstance(value, classmethod | staticmethod):
            lines.append(f"    {member}{signature(value.__func__)}")
        elif inspect.isroutine(value):
            lines.append(f"    {member}{signature(value)}")
    return lines


def signature(thing: Any) -> str:
    """Return how *thing* is called; names and kinds, whether there is a default, and no types."""
    try:
        parameters = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError):
        return ""
    shown, keywords = [], False
    for one in parameters:
        if one.kind is one.KEYWORD_ONLY and not keywords:
            keywords = True
            shown.append("*")
        mark = "*" if one.kind is one.VAR_POSITIONAL else "**" if one.kind is one.VAR_KEYWORD else ""
        keywords = keywords or one.kind is one.VAR_POSITIONAL
        shown.append(f"{mark}{one.name}{'' if one.default is one.empty else '=...'}")
    return f"({', '.join(shown)})"


def test_the_public_interface_is_the_one_that_was_written_down() -> None:
    lines = []
    for suffix in MODULES:
        module = importlib.import_module(f"aiohttp_session_store{suffix}")
        lines.append(f"# aiohttp_session_store{suffix}")
        for name in module.__all__:
            lines += described(name, getattr(module, name))
    text = "\n".join(lines) + "\n"
    if os.environ.get("UPDATE_SNAPSHOT"):
        SNAPSHOT.write_text(text)

    assert text == SNAPSHOT.read_text()
