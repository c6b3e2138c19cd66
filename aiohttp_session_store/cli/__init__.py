"""The command ``aiohttp-session-store``: what an operator sees of the sessions, and how they end them.

It needs no code of the app, and works while the app runs.  Needs the extra ``cli``, which is click and rich.
"""

import sys

__all__ = ["main"]

_LIBRARIES = ("click", "rich")
_USAGE = 2


def main() -> None:
    """Run the command line with the arguments of this process, and exit with its exit code."""
    try:
        from .commands import run  # noqa: PLC0415  so that a missing library is a sentence, and no traceback
    except ImportError as error:
        library = (error.name or "").partition(".")[0]
        if library not in _LIBRARIES:
            raise
        sys.stderr.write(f"Error: the command line needs {library}: pip install {library}\n")
        sys.exit(_USAGE)
    sys.exit(run(sys.argv[1:]))
