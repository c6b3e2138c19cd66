"""The code blocks of a document."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


class Block(NamedTuple):
    """A code block; *title* is the name of the file that it shows, or empty."""

    language: str
    title: str
    code: str


def blocks(document: str) -> list[Block]:
    """Return all code blocks of *document*, a path relative to the root of the repository."""
    text = (ROOT / document).read_text()
    found = re.finditer(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', text, re.DOTALL | re.MULTILINE)
    return [Block(one[1], one[2] or "", one[3]) for one in found]


def block(document: str, language: str, containing: str) -> str:
    """Return the first code block in *language* that contains *containing*."""
    for one in blocks(document):
        if one.language == language and containing in one.code:
            return one.code
    raise AssertionError(f"no block of {document} has {containing!r}")


def write_files(document: str, folder: Path) -> list[str]:
    """Write every block that has a title to a file of that name, and return the names."""
    titled = [one for one in blocks(document) if one.title]
    for one in titled:
        folder.joinpath(one.title).write_text(one.code)
    return [one.title for one in titled]
