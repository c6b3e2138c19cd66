"""Makes ``docs/command-line.md`` from the help of the commands: ``python -m tests.docs.command_line``."""

import click

from aiohttp_session_store.cli.commands import command_line
from tests.docs.blocks import ROOT

PAGE = ROOT / "docs" / "command-line.md"
_NAME = "aiohttp-session-store"
_WIDTH = 88

_TOP = """\
# The command line

<!-- Made by `python -m tests.docs.command_line` from the help of the commands. -->

```sh
pip install 'path/to/the/clone[cli]'
export SESSION_STORAGE=files:/srv/shop/sessions
aiohttp-session-store stats
```

The command works on the storage of an app that runs, or of one that does not. It needs no code of the app. For Redis
and PostgreSQL, also install the extra `redis` or `postgres`; if the sessions are encrypted, the extra `encryption`.
`python -m aiohttp_session_store` is the same command.

- Put a URL with a password into `$SESSION_STORAGE`, not on the command line: others can see the arguments of a
  process. No error and no remark shows a password.
- For files, run it as the user of the app. A file of another user would be one that the app cannot read.
- On Redis with [a user of its own](redis.md#a-user-of-its-own-acl), that user also needs `+scan`.
- Records of a [codec](handlers.md#another-form-of-the-records) of your own cannot be read without the code of the app.
  They can be counted, re-encrypted, and ended by their key or with `--all`.
- While [`MigratingStorage`](migrating.md#moving-sessions-between-storages) moves sessions, run a command on both
  storages.

[Operating it](operating.md) says what to run when.
"""


def help_of(command: click.Command, name: str, parent: click.Context | None = None) -> str:
    """Return the help of *command* as a terminal of a fixed width shows it."""
    settings = {"help_option_names": command_line.context_settings["help_option_names"], "terminal_width": _WIDTH}
    return command.get_help(click.Context(command, info_name=name, parent=parent, max_content_width=_WIDTH, **settings))


def page() -> str:
    """Return the page."""
    group = click.Context(command_line, info_name=_NAME)
    parts = [_TOP, f"## All commands\n\n```text\n{help_of(command_line, _NAME)}\n```\n"]
    for name, command in command_line.commands.items():
        parts.append(f"## {name}\n\n```text\n{help_of(command, name, group)}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
