"""What was asked of the app and what it answered: all that the judge knows."""

import json
from dataclasses import asdict, dataclass, field
from math import inf
from pathlib import Path
from typing import Any

# The name of a flash begins with this; every other name is a key of the session.
FLASH = "f:"
# What exclusive blocks, and nothing else, read and replace.
CHAIN = "x"
# A list that everybody appends to, and a counter of what was appended.  What a handler finds in the list is reported as
# keys that begin with a plus.
LIST, COUNT, ADDED = "list", "count", "+"

# What a handler does with its session, one after the other, for example ["set", "a", "t17"].  Every value that is ever
# written is another one, so that a read says who wrote it.
Step = list[Any]


@dataclass
class Call:
    """A request, the opening of a socket, or a message on a socket.

    Attributes:
        number: Its place in the order of sending.
        visitor: The browser that sent it.
        worker: The process that it was sent to.
        kind: "request", "open" or "message".
        steps: What the handler was told to do.
        end: How the handler was told to end: "ok", "redirect", or one of FAILURES.
        exclusive: Whether the steps were done in an exclusive block.
        cookie: The cookie that was sent.  For a message, the one that the browser had when the socket was open.
        sent: Seconds since the start of the run.
        answered: The same; None if no answer came.
        status: The status of the answer.
        stored: What a 503 says about the changes: "no" (nothing was stored) or "unknown".
        new: Whether the handler found no session.
        data: What the handler read at the beginning, flashes included.
        saved: What ``save_session`` returned, each time.
        given: The cookie that the answer set, "" if it cleared the cookie, None if it left it alone.
        error: The error that the handler met, if it was one of a wrong use.
        owner: Whose session the handler found.
        key: The key of the session that the handler found.
        ended: How many sessions were ended, if the handler was told to end those of an owner.
        shown: The keys that were listed, if the handler was told to list the sessions of an owner.
        added: How many elements the list had that everybody appends to, and what the counter said.
    """

    number: int
    visitor: int = 0
    worker: int = 0
    kind: str = "request"
    steps: list[Step] = field(default_factory=list)
    end: str = "ok"
    exclusive: bool = False
    cookie: str | None = None
    sent: float = 0.0
    answered: float | None = None
    status: int | None = None
    stored: str = ""
    new: bool | None = None
    data: dict[str, str] | None = None
    saved: list[bool] = field(default_factory=list)
    given: str | None = None
    error: str = ""
    owner: str | None = None
    key: str | None = None
    ended: int | None = None
    shown: list[str] | None = None
    added: list[int] = field(default_factory=list)

    @property
    def until(self) -> float:
        """When it was answered; infinite if it was not, because what it does may come at any time."""
        return inf if self.answered is None else self.answered

    @property
    def succeeded(self) -> bool:
        """Whether the answer says that all was done."""
        return self.status is not None and self.status < 500

    @property
    def unknown(self) -> bool:
        """Whether nobody can know what was done: no answer, or one that says so."""
        return self.status is None or (self.status == 503 and self.stored != "no")

    @property
    def logs_in(self) -> str | None:
        """The owner that a step logs in: ``["regenerate", True, owner, remember]``; a login changes the id.

        So does a confirmed login, ``["regenerate", False, None]``, which is a renewal.
        """
        return next((step[2] for step in self.steps if step[0] == "regenerate" and len(step) > 2), None)

    def has(self, name: str, *arguments: Any) -> bool:
        """Return whether one of the steps is *name*, with these *arguments*."""
        return any(step[0] == name and step[1 : 1 + len(arguments)] == list(arguments) for step in self.steps)


FAILURES = ("status", "raise", "crash")


@dataclass
class History:
    """All calls of a run.

    Attributes:
        calls: In the order of sending.
        faults: When the storage was in trouble: kind, from, to.
        jumps: When the clock of the workers was moved forward, and by how many seconds.
        grace: For how many seconds an id that was changed stays readable.
    """

    calls: list[Call] = field(default_factory=list)
    faults: list[tuple[str, float, float]] = field(default_factory=list)
    jumps: list[tuple[float, float]] = field(default_factory=list)
    grace: float = 60.0

    def trouble(self, begin: float, end: float) -> bool:
        """Return whether the storage was in trouble between two moments."""
        return any(fault[1] <= end and fault[2] >= begin for fault in self.faults)

    def longest(self, begin: float, end: float) -> float:
        """Return how many seconds may have passed for the workers between two moments."""
        return end - begin + sum(jump for at, jump in self.jumps if begin - 1 <= at <= end + 1)

    def with_calls(self, calls: list[Call]) -> "History":
        """Return the same run with other calls."""
        return History(calls, self.faults, self.jumps, self.grace)

    def save(self, path: Path) -> None:
        """Write it to a file, a line for each call."""
        head = {"faults": self.faults, "jumps": self.jumps, "grace": self.grace}
        path.write_text("\n".join(map(json.dumps, [head, *map(asdict, self.calls)])) + "\n")

    @classmethod
    def load(cls, path: Path) -> "History":
        """Read what :meth:`save` wrote."""
        head, *calls = map(json.loads, path.read_text().splitlines())
        faults = [(str(kind), float(begin), float(end)) for kind, begin, end in head["faults"]]
        return cls([Call(**call) for call in calls], faults, [(at, by) for at, by in head["jumps"]], head["grace"])
