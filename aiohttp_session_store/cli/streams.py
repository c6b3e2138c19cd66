"""The standard output and error of the process: closed ones, a full disk, and a reader that has gone."""

import os
import sys
from contextlib import suppress

import click

from .exits import UNWRITTEN

__all__ = ["finished", "open_closed", "unwritten"]


def open_closed() -> None:
    """Give the process an output and an error that lead nowhere, if it was started without them."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115  for the rest of the process


def finished(code: int) -> int:
    """Write out what is left in the buffers, and return *code*.

    Raises:
        OSError: It cannot be written.
    """
    sys.stdout.flush()
    return code


def unwritten(error: OSError) -> int:
    """Say that the output cannot be written, unless its reader has gone, as ``head`` does; return the exit code."""
    with suppress(OSError):
        if not isinstance(error, BrokenPipeError):
            click.echo(f"Error: the output cannot be written: {error.strerror}", err=True)
    for stream in (sys.stdout, sys.stderr):  # or Python would try again when it ends, and complain
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
    return UNWRITTEN
