"""One run of a command: its output, its progress bar, and how Ctrl-C stops it between two records."""

import asyncio
import logging
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import ExitStack, aclosing, suppress
from typing import Any, TextIO, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from .exits import INTERRUPTED
from .showing import as_json, plainly

__all__ = ["Run"]

T = TypeVar("T")

# Lines about one thing that the storage logs, such as records that cannot be read.
_MOST_WARNINGS = 3


class Run:
    """What a command says, and whether it is to stop.

    Data goes to the standard output.  Remarks, errors and the progress bar go to the standard error.  Without a
    terminal there are no colours, no bar and no escape codes.

    Attributes:
        json: Whether the data is one JSON document.
        stopping: Whether Ctrl-C was pressed.
        began: Whether anything was read or done yet.
        cut: Whether it was stopped before its end.
        so_far: Returns how far the command came, in words, for when it is stopped or fails.
    """

    def __init__(self, *, json: bool) -> None:
        """Begin to listen for Ctrl-C; in the event loop that runs the command."""
        self.json: bool = json
        self.stopping: bool = False
        self.began: bool = False
        self.cut: bool = False
        self.so_far: Callable[[], str] = str
        self._out = _console(sys.stdout)
        self._err = _console(sys.stderr)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._closing = ExitStack()
        self._main = asyncio.current_task()

    def __enter__(self) -> "Run":
        """Show what the storage warns of, and stop gently on Ctrl-C."""
        handler, logger = _Warnings(self.remark), logging.getLogger("aiohttp_session_store")
        logger.addHandler(handler)
        self._closing.callback(logger.removeHandler, handler)
        loop = asyncio.get_running_loop()
        with suppress(NotImplementedError, RuntimeError):  # not in a thread
            loop.add_signal_handler(signal.SIGINT, self._stop)
            self._closing.callback(loop.remove_signal_handler, signal.SIGINT)
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the progress bar, and leave Ctrl-C to what listened before."""
        self.finish()
        self._closing.close()

    def _stop(self) -> None:
        if self.stopping and self._main is not None:  # a second time: not even the current step is waited for
            self._main.cancel()
        self.stopping = True

    # --- output

    @property
    def is_terminal(self) -> bool:
        """Whether the data goes to a terminal."""
        return self._out.is_terminal

    @property
    def width(self) -> int:
        """Columns of the terminal."""
        return self._out.width

    def say(self, *parts: str | tuple[str, str]) -> None:
        """Write one line of data: text, or pairs of text and the style that it has on a terminal."""
        if self.is_terminal:  # above the bar, if there is one: it has the same terminal
            console = self._out if self._bar is None else self._bar.console
            console.print(Text.assemble(*parts), soft_wrap=True)
        else:
            self.write("".join(part if isinstance(part, str) else part[0] for part in parts) + "\n")

    def write(self, text: str) -> None:
        """Write data as it is, without a line break of its own."""
        self._out.file.write(text)

    def remark(self, text: str) -> None:
        """Write a remark for people; it is no data."""
        self._err.print(Text(plainly(text)), soft_wrap=not self._err.is_terminal)

    def document(self, value: Any) -> None:
        """Write the JSON document."""
        self.say(as_json(value, indent=2))

    def fields(self, fields: Sequence[tuple[str, str]]) -> None:
        """Write names and values, one pair in a line."""
        longest = max(len(name) for name, _ in fields)
        for name, value in fields:
            self.say((f"{name:{longest}}", "bold"), f"  {value}")

    # --- working

    def begin(self, what: str) -> None:
        """Show a progress bar, if there is a terminal for it; to be followed by :meth:`finish`."""
        if not self._err.is_terminal or self._err.is_dumb_terminal or (self.json and self.is_terminal):
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(20),
            TaskProgressColumn(),
            TextColumn("{task.fields[seen]}"),
            TimeElapsedColumn(),
        )
        self._bar = Progress(*columns, console=self._err, transient=True)
        self._bar.start()
        self._task = self._bar.add_task(what, total=None, seen="")

    def progress(self, done: float, seen: int) -> None:
        """Move the bar.

        Args:
            done: From 0, which says that nobody knows, to 1.
            seen: How many records that are.
        """
        self.began = True
        if self._bar is not None:
            self._bar.update(self._task, total=1.0 if done else None, completed=done, seen=f"{seen:,}")

    def finish(self) -> None:
        """Remove the progress bar."""
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.stop()

    async def over(
        self, what: str, parts: AsyncGenerator[tuple[Sequence[T], float], None]
    ) -> AsyncGenerator[Sequence[T], None]:
        """Yield *parts* with a progress bar, until Ctrl-C is pressed."""
        self.begin(what)
        seen = 0
        async with aclosing(parts):
            async for part, done in parts:
                self.began = True
                seen += len(part)
                if part:
                    yield part
                self.progress(done, seen)
                if self.stopping:
                    self.cut = True
                    break
        self.finish()

    def exit_code(self, code: int) -> int:
        """Return *code*, or the one of a command that was stopped, which is said with how far it came."""
        if not self.cut:
            return code
        self.remark(f"Stopped. {self.so_far()}")
        return INTERRUPTED


class _Console(Console):
    """A console that leaves an output that nobody reads to whoever runs the command; its own would exit."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def _console(stream: TextIO) -> Console:
    is_terminal = stream.isatty()
    return _Console(
        file=stream,
        force_terminal=is_terminal,
        no_color=None if is_terminal else True,
        markup=False,
        highlight=False,
        emoji=False,
    )


class _Warnings(logging.Handler):
    """Shows what a storage warns of; of one thing only the first lines."""

    def __init__(self, show: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._show = show
        self._seen: dict[str, int] = {}

    def emit(self, record: logging.LogRecord) -> None:
        seen = self._seen[str(record.msg)] = self._seen.get(str(record.msg), 0) + 1
        if seen <= _MOST_WARNINGS:
            more = "" if seen < _MOST_WARNINGS else " (more lines like this one are left out)"
            self._show(f"{record.levelname.capitalize()}: {plainly(record.getMessage())}{more}")
