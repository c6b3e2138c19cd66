"""The commands, their options and their manual."""

import asyncio
import os
import secrets
import sys
import traceback
from collections.abc import Awaitable, Callable, Sequence
from io import TextIOWrapper

import click

from ..record.key_ring import KeyRing
from ..storages.base import KeyedStorage
from . import counting, ending, listing, upkeep
from .exits import FINE, INTERRUPTED, UNREACHABLE, UsageError
from .opening import Target, without_secrets
from .running import Run
from .showing import as_json, plainly
from .streams import finished, open_closed, unwritten

__all__ = ["command_line", "run"]

Work = Callable[[Run, KeyedStorage], Awaitable[int]]

_PROGRAM, _STORAGE = "aiohttp-session-store", "SESSION_STORAGE"
_WIDTH = 100
# An error in our own code.
_BUG = 70


class _Group(click.Group):
    """The group of commands; a URL in the place of a command is not repeated, as it may hold a password."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and ":" in args[0]:
            raise UsageError("The storage is not an argument: give --storage STORAGE before the command", ctx)
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order of this file


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": _WIDTH},
    epilog="""\b
Exit codes:
  0    all is well
  1    something was found: a record that cannot be read, or something
       that is left to do; or there is no session with this key
  2    the command was not understood
  3    the storage cannot be reached or used
  74   the output cannot be written, or nobody reads it any more
  130  stopped by Ctrl-C, between two records

\b
Environment:
  SESSION_STORAGE  the storage, so that no password is in a process list
  SESSION_KEYS     the keys of encryption, newest first and separated by
                   commas, if the app encrypts its sessions
  NO_COLOR         no colours""",
)
@click.option(
    "--storage",
    metavar="STORAGE",
    envvar=_STORAGE,
    default="",
    help="Where the sessions are: files:DIRECTORY, redis://HOST, rediss://HOST, unix:///SOCKET, redis-cluster://HOST,"
    " rediss-cluster://HOST or postgresql://HOST/DATABASE.  Default: $SESSION_STORAGE.",
)
@click.option("--prefix", metavar="P", help="The prefix of all keys in Redis.  Default: session:")
@click.option("--schema", metavar="S", help="The schema in PostgreSQL.  Default: the first of the search_path.")
@click.option("--table", metavar="T", help="The table in PostgreSQL.  Default: aiohttp_sessions")
@click.pass_context
def command_line(
    context: click.Context, storage: str, prefix: str | None, schema: str | None, table: str | None
) -> None:
    """See and end the sessions of an app that uses aiohttp_session_store.

    The commands work on the storage itself.  They need no code of the app, and work while the app runs: nothing that
    the app writes is lost, and a session that is ended stays ended.

    Session ids are never shown: a storage does not know them.  KEY is the SHA-256 of an id, as the log and
    sessions_of() show it.  Nobody can use a session by its key.  What is in a session is shown only with `show KEY
    --data`.

    With --json, the output is one JSON document with times in Unix seconds.  In a pipe, it is a line for each item.
    Remarks and the progress bar go to the standard error.
    """
    context.obj = Target(storage.strip(), prefix, schema, table)


_json = click.option("--json", "as_document", is_flag=True, help="Print one JSON document.")
_dry_run = click.option("--dry-run", is_flag=True, help="Change nothing, and say what would be done.")


@command_line.command(short_help="Count the records.")
@_json
@click.pass_obj
def stats(target: Target, *, as_document: bool) -> int:
    """Count the records, by what they are and how they are stored.

    \b
    live        sessions, as far as their own record says: if the app has
                shorter limits by now, it lets some of them end sooner
    expired     sessions that have ended, and were not removed yet
    retired     marks under ids that were changed, and what they may read
    ended       marks of sessions that were ended, which last five minutes,
                and of old cookies that were taken over
    unreadable  see `check`

    All records are read, in a bounded amount of memory: a million files take about two minutes.
    """
    return _run(target, lambda run, storage: counting.stats(run, storage, target.shown), as_document=as_document)


@command_line.command("list")
@click.option("--owner", metavar="OWNER", help="Only the sessions of this account, newest login first.")
@_json
@click.pass_obj
def list_(target: Target, owner: str | None, *, as_document: bool) -> int:
    """List the live sessions.

    With --owner, the index of owners is asked, as sessions_of() does, which takes a moment.  Without it, all records
    are read.  OWNER is what the app passes to login(), such as the id of the account.

    In a pipe, the columns are separated by tabs, and the first line names them.
    """
    named = None if owner is None else listing.named_owner(owner)
    return _run(target, lambda run, storage: listing.list_sessions(run, storage, named), as_document=as_document)


@command_line.command()
@click.argument("key", metavar="KEY")
@click.option("--data", is_flag=True, help="Also show what is in the session, and its flash messages, as JSON.")
@_json
@click.pass_obj
def show(target: Target, key: str, *, data: bool, as_document: bool) -> int:
    """Show one session.

    KEY may be from before the session's id was renewed.  If there is no such session, the exit code is 1.
    """
    key = listing.checked_key(key)
    return _run(
        target, lambda run, storage: listing.show_session(run, storage, key, data=data), as_document=as_document
    )


@command_line.command()
@click.argument("key", metavar="[KEY]", required=False)
@click.option("--owner", metavar="OWNER", help="End all sessions of this account.")
@click.option("--all", "everybody", is_flag=True, help="End all sessions of everybody.")
@click.option("--yes", is_flag=True, help="With --all: do not ask.")
@_dry_run
@_json
@click.pass_obj
def end(
    target: Target,
    key: str | None,
    owner: str | None,
    *,
    everybody: bool,
    yes: bool,
    dry_run: bool,
    as_document: bool,
) -> int:
    """End one session, those of an account, or all.

    An ending is final: no request that is under way brings the session back.  The app closes the WebSockets and
    streams of these sessions with the reason `revoked`.  Sessions in a cookie (CookieStorage) cannot be ended.

    --owner ends every session whose login was answered before the command began.  So disable the account first, or
    change its password.  If a session of the account cannot be read, the exit code is 1.

    --all ends every session that stood there when the command began.  New logins go on meanwhile.  It works its way
    through all records and can be stopped with Ctrl-C.  Run it again to go on.  A session that the storage does not let
    it end is named and left, and the others end all the same.  The exit code is 1 then.

    \b
    Examples:
      aiohttp-session-store end --owner 42 --dry-run
      aiohttp-session-store end --owner 42
      aiohttp-session-store end --all --yes
    """
    if (key is not None) + (owner is not None) + everybody != 1:
        raise UsageError("Give a KEY, or --owner OWNER, or --all")
    if everybody:
        if not yes and not dry_run:
            _confirm()
        return _run(target, lambda run, storage: ending.end_all(run, storage, dry_run=dry_run), as_document=as_document)
    if owner is not None:
        named = listing.named_owner(owner)
        work: Work = lambda run, storage: ending.end_owner(run, storage, named, dry_run=dry_run)  # noqa: E731
    else:
        checked = listing.checked_key(str(key))
        work = lambda run, storage: ending.end_key(run, storage, checked, dry_run=dry_run)  # noqa: E731
    return _run(target, work, as_document=as_document)


@command_line.command(short_help="Remove expired records.")
@_dry_run
@_json
@click.pass_obj
def sweep(target: Target, *, dry_run: bool, as_document: bool) -> int:
    """Remove the records of sessions that expired more than five minutes ago.

    The app does the same from time to time (`sweep_interval`), and Redis does it by itself.  So this is for when space
    is short, or for an app that does not run.
    """
    return _run(target, lambda run, storage: upkeep.sweep(run, storage, dry_run=dry_run), as_document=as_document)


@command_line.command(short_help="Name the records that cannot be read.")
@_json
@click.pass_obj
def check(target: Target, *, as_document: bool) -> int:
    """Read all records, and name each one that cannot be read, with the reason.

    Nothing is changed.  The exit code is 1 if there is one.  Reasons are damage, a newer version of the package, a
    codec of the app's own, and a key of encryption that is not in $SESSION_KEYS.  To the app, a record that it cannot
    read is no session.
    """
    return _run(target, counting.check, as_document=as_document)


@command_line.command(short_help="Encrypt all under the newest key.")
@_dry_run
@_json
@click.pass_obj
def reencrypt(target: Target, *, dry_run: bool, as_document: bool) -> int:
    """Bring all records under the newest key of $SESSION_KEYS.

    Use it to get rid of an older key at once.  Without it, each session is encrypted anew when it is next written or
    extended.  First give the new key to all processes of the app, as the first of the list.  Records that are not
    encrypted are encrypted, too.  Nothing else about a session changes, above all not when it expires, and nothing that
    the app writes meanwhile is undone.

    What cannot be read or changed is named and left.  --dry-run says how many records are left.  The exit code is 1 if
    there are any.
    """
    return _run(target, lambda run, storage: upkeep.reencrypt(run, storage, dry_run=dry_run), as_document=as_document)


@command_line.command("new-secret", short_help="Make a secret for cookies.")
@_json
def new_secret(*, as_document: bool) -> int:
    """Print a new random secret for signing cookies: SessionCookie(secrets=...)."""
    return _print("secret", secrets.token_urlsafe(32), as_document=as_document)


@command_line.command("new-encryption-key", short_help="Make a key of encryption.")
@_json
def new_encryption_key(*, as_document: bool) -> int:
    """Print a new random key for $SESSION_KEYS: KeyRing.from_env("SESSION_KEYS")."""
    return _print("key", KeyRing.new_key(), as_document=as_document)


def _print(name: str, value: str, *, as_document: bool) -> int:
    click.echo(as_json({name: value}, indent=2) if as_document else value)
    return FINE


def _confirm() -> None:
    if not sys.stdin.isatty():
        raise UsageError("end --all logs everybody out: add --yes")
    click.confirm("Log everybody out?", abort=True, err=True)


# --- running


def _run(target: Target, work: Work, *, as_document: bool) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what its encoding does not have
    return asyncio.run(_in_loop(target, work, as_document=as_document))


async def _in_loop(target: Target, work: Work, *, as_document: bool) -> int:
    with Run(json=as_document) as run:
        try:
            async with target.opened() as storage:
                return await work(run, storage)
        except click.ClickException as error:
            if error.exit_code == UNREACHABLE and run.began:
                run.remark(run.so_far())
            raise


def run(arguments: Sequence[str]) -> int:
    """Run the command line, and return its exit code."""
    open_closed()
    try:
        return _answered(arguments)
    except OSError as error:  # storages turn theirs into StorageError, so it is one of the output
        return unwritten(error)


def _answered(arguments: Sequence[str]) -> int:
    try:
        with command_line.make_context(_PROGRAM, list(arguments) or ["--help"]) as context:
            return finished(command_line.invoke(context) or FINE)
    except click.exceptions.Exit as done:  # --help
        return finished(done.exit_code)
    except click.Abort:
        click.echo("Nothing was done.", err=True)
        return INTERRUPTED
    except click.ClickException as error:
        _say(error, arguments)
        return error.exit_code
    except (KeyboardInterrupt, asyncio.CancelledError):
        click.echo("Stopped at once. What was under way may have been carried out.", err=True)
        return INTERRUPTED
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001  its text, and those of drivers, may hold a password or data
        click.echo(f"Error: a bug, please report it ({type(error).__name__}):", err=True)
        click.echo("".join(traceback.format_tb(error.__traceback__)), err=True, nl=False)
        return _BUG


def _say(error: click.ClickException, arguments: Sequence[str]) -> None:
    """Say what is wrong, without any URL or password that the arguments or the environment hold."""
    message = plainly(error.format_message())
    for one in (os.environ.get(_STORAGE, ""), *arguments):
        message = without_secrets(message, one)
    if isinstance(error, click.UsageError) and error.ctx is not None:
        click.echo(error.ctx.get_usage(), err=True)
    click.echo(f"Error: {message}", err=True)
