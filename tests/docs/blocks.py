"""The code blocks of a document."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


class Block(NamedTuple):
    """One of them; *title* is the name of the file that it stands for, or empty."""

    language: str
    title: str
    code: str


def blocks(document: str) -> list[Block]:
    """Return all blocks of *document*, a path below the root."""
    text = (ROOT / document).read_text()
    found = re.finditer(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', text, re.DOTALL | re.MULTILINE)
    return [Block(one[1], one[2] or "", one[3]) for one in found]


def block(document: str, language: str, containing: str) -> str:
    """Return the first code block of *language* that contains a text."""
    for one in blocks(document):
        if one.language == language and containing in one.code:
            return one.code
    raise AssertionError(f"no block of {document} has {containing!r}")


def write_files(document: str, folder: Path) -> list[str]:
    """Write every block that has a title into a file of that name, and return the names."""
    titled = [one for one in blocks(document) if one.title]
    for one in titled:
        folder.joinpath(one.title).write_text(one.code)
    return [one.title for one in titled]
