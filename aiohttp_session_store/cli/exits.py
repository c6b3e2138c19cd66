"""The exit codes of the command line, and the errors that lead to them."""

import click

__all__ = [
    "FINE",
    "FOUND",
    "INTERRUPTED",
    "UNREACHABLE",
    "UNWRITTEN",
    "USAGE",
    "NotThereError",
    "UnreachableError",
    "UsageError",
]

#: All was done, and nothing was found that somebody has to look at.
FINE = 0
#: Something was found: a record that cannot be read, or something that is left to be done; or there is no such session.
FOUND = 1
#: The command was not understood.
USAGE = 2
#: The storage cannot be reached or used, or failed meanwhile.
UNREACHABLE = 3
#: The output could not be written, or nobody reads it any more.
UNWRITTEN = 74
#: Stopped by Ctrl-C, between two records.
INTERRUPTED = 130

UsageError = click.UsageError


class NotThereError(click.ClickException):
    """Raised if there is no session with the key that was given."""

    exit_code = FOUND


class UnreachableError(click.ClickException):
    """Raised if the storage cannot be used."""

    exit_code = UNREACHABLE
