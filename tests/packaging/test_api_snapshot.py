"""A snapshot of the public interface: every change to it shows up in ``public_api.txt``, and belongs in the CHANGELOG.

``UPDATE_SNAPSHOT=1 python -m pytest tests/packaging/test_api_snapshot.py`` updates the snapshot.
"""

import importlib
import inspect
import os
from pathlib import Path
from typing import Any, Unpack, get_args, get_origin, get_type_hints

from aiohttp_session_store.engine.verbs import Verbs
from aiohttp_session_store.session.mapping import SessionMapping

SNAPSHOT = Path(__file__).with_name("public_api.txt")
MODULES = [
    "",
    ".storages.redis",
    ".storages.postgres",
    ".testing",
    ".testing.fixtures",
    ".migrate",
    ".integrations.aiohttp_security",
    ".integrations.opentelemetry",
    ".integrations.prometheus",
    ".device",
]


def described(name: str, thing: Any) -> list[str]:
    """Return one line for *thing* and, if it is a class, one for each public member."""
    if not inspect.isclass(thing):
        return [f"{name}{signature(thing)}"]
    bases = ", ".join(base.__name__ for base in thing.__bases__ if base is not object and not is_inner(base))
    made = "__init__" in vars(thing) and not getattr(thing, "_is_protocol", False)
    lines = [f"class {name}({bases}){signature(thing.__init__) if made else ''}"]
    for member, value in sorted(members(thing).items()):
        if member.startswith(("_", "test_")):
            continue
        if isinstance(value, property):
            lines.append(f"    {member}: property")
        elif isinstance(value, classmethod | staticmethod):
            lines.append(f"    {member}{signature(value.__func__)}")
        elif inspect.isroutine(value):
            lines.append(f"    {member}{signature(value)}")
    return lines


def is_inner(base: type) -> bool:
    """Return whether *base* is a private class of this package, whose members count as those of its subclass."""
    return base in (Verbs, SessionMapping)


def members(thing: type) -> dict[str, Any]:
    inherited = [vars(base) for base in thing.__bases__ if is_inner(base)]
    return {name: value for own in (*inherited, vars(thing)) for name, value in own.items()}


def signature(thing: Any) -> str:
    """Return the signature of *thing*: the names and kinds of its parameters and whether they have a default, no types.

    Options that a ``TypedDict`` describes are shown as keyword arguments.
    """
    try:
        parameters = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError):
        return ""
    shown, keywords = [], False
    for one in parameters:
        options = get_args(one.annotation)[0] if get_origin(one.annotation) is Unpack else None
        if options is not None:
            shown += ([] if keywords else ["*"]) + [f"{name}=..." for name in get_type_hints(options)]
            continue
        if one.kind is one.KEYWORD_ONLY and not keywords:
            keywords = True
            shown.append("*")
        mark = "*" if one.kind is one.VAR_POSITIONAL else "**" if one.kind is one.VAR_KEYWORD else ""
        keywords = keywords or one.kind is one.VAR_POSITIONAL
        shown.append(f"{mark}{one.name}{'' if one.default is one.empty else '=...'}")
    if "*" in shown:
        first = shown.index("*") + 1
        shown[first:] = sorted(shown[first:], key=lambda name: (name.startswith("**"), name))
    return f"({', '.join(shown)})"


def test_the_public_interface_matches_the_snapshot() -> None:
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
