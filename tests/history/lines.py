"""What the calls of a history did, by what the documentation says: which cookies are one session, and who wrote what.

A *line* is one session under all ids that it ever had.  It begins with the call that created it.  A change of the id
adds a cookie to it: a *renewal* is ``regenerate_id()``, a *login* is ``regenerate_id(True)``.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf

from tests.history.history import ADDED, FAILURES, Call, History


@dataclass(eq=False)
class Write:
    """Changes that are stored together or not at all.

    Attributes:
        call: Who made them.
        writer: The cookie to whose session they belong: if the call changed the id, the new one.
        sets: What became of each key that was named; None if it was unset.
        cleared: Whether every other key was removed, and every flash.
        flashes: The flashes that were left, by name.
        state: "ok" if the app said that they are stored, "no" if they must not be stored, "maybe" if nobody knows.
        by: When they were stored at the latest.
        observed: Whether somebody has read them.
    """

    call: Call
    writer: str
    sets: dict[str, str | None] = field(default_factory=dict)
    cleared: bool = False
    flashes: dict[str, str] = field(default_factory=dict)
    fresh: bool = False
    state: str = "maybe"
    by: float = inf
    observed: bool = False

    @property
    def sent(self) -> float:
        """When they were stored at the earliest."""
        return self.call.sent

    def removes(self, key: str) -> bool:
        """Return whether they remove *key*."""
        return self.sets[key] is None if key in self.sets else self.cleared

    def changes_surely(self, key: str) -> bool:
        """Return whether *key* has another value afterwards; to unset what is not there is no change."""
        if self.sets.get(key) is not None:
            return True
        return self.removes(key) and key in (self.call.data or {})


def writes_of(call: Call) -> list[Write]:
    """Return the changes that a call was told to make, in the pieces in which they are stored."""
    pieces, now = [], Write(call, call.cookie or "")
    saves = 0
    for name, *arguments in call.steps:
        if name in ("set", "append"):
            now.sets[arguments[0]] = arguments[1]
        elif name == "add":
            now.sets[ADDED + arguments[0]] = arguments[0]
        elif name == "unset":
            now.sets[arguments[0]] = None
        elif name == "clear":
            now.cleared, now.sets = True, {}
        elif name == "flash":
            now.flashes[arguments[0]] = arguments[1]
        elif name == "discard":
            now = Write(call, now.writer, fresh=now.fresh)
        elif name == "save":
            now.state = _said(call, saves)
            saves += 1
            pieces.append(now)
            now = Write(call, now.writer, fresh=now.fresh)
        elif name == "new":  # what was not saved goes with the old session
            now.state = "no"
            pieces.append(now)
            now = Write(call, now.writer, fresh=True)
    now.state = _said(call, saves) if call.kind == "message" else _state_at_the_end(call, saves)
    pieces.append(now)
    for piece in pieces:
        piece.by = call.until if piece.state == "ok" else inf
    if call.given and not call.new and pieces[-1].state != "no" and not pieces[-1].fresh:
        pieces[-1].writer = call.given
    fresh = pieces[-1].fresh and call.succeeded
    if call.given and (call.new or fresh):
        for piece in pieces:
            if piece.fresh == fresh:
                piece.writer = call.given
    return pieces


def _said(call: Call, save: int) -> str:
    """Return what became of the changes before a ``save_session``."""
    return "ok" if call.answered is not None and call.saved[save : save + 1] == [True] else "maybe"


def _state_at_the_end(call: Call, saves: int) -> str:
    if call.end in FAILURES:
        return "no"
    if call.status == 503 and call.stored == "no":
        return "maybe" if saves else "no"
    if call.unknown:
        return "maybe"
    return "ok" if call.succeeded else "no"


class Line:
    """One session under all its ids.

    Attributes:
        calls: Those that found it, and those that perhaps did.
        writes: What they changed.
        renewals: By the cookie whose id was changed: those that happened, and those of which nobody knows.
        logins: The same, of the whole line.
        endings: Calls that ended the session, or perhaps did; with whether that is certain.
        tags: Who wrote a value, or left a flash.
    """

    def __init__(self, history: History, creator: Call) -> None:
        self.history, self.creator = history, creator
        self.parents: dict[str, tuple[str, Call]] = {}
        self.calls: list[Call] = []
        self.writes: list[Write] = []
        self.renewals: dict[str, list[Call]] = defaultdict(list)
        self.logins: list[Call] = []
        self.endings: list[tuple[Call, bool]] = []
        self.tags: dict[str, Write] = {}

    def add(self, call: Call) -> None:
        """Note what a call that found this session did."""
        self.calls.append(call)
        for write in writes_of(call):
            if not write.fresh:
                self.own(write)
        if call.has("destroy"):
            self._add_logout(call)
        elif call.has("new") and (call.succeeded or (call.unknown and call.end not in FAILURES)):
            self.endings.append((call, call.succeeded and False not in call.saved))
        elif call.has("regenerate", True) and self._changed_the_id(call):
            self.logins.append(call)
        elif call.has("regenerate", False) and self._changed_the_id(call):
            self.renewals[str(call.cookie)].append(call)

    def end_from_outside(self, call: Call, owner: str, *, keep: bool) -> None:
        """Note that *call* ended all sessions of *owner*, which this one may be."""
        entered = [self.creator, *self.calls]
        logins = [one for one in entered if one.logs_in == owner and one.sent < call.until and one is not call]
        if not logins:
            return
        if keep and call in self.calls and call.new is not None:
            # It stays; but a login by another tab at the same moment makes another session of it.
            if any(one.until > call.sent for one in logins):
                self.endings.append((call, False))
            return
        before = any(one.given and one.succeeded and one.until < call.sent for one in logins)
        self.endings.append((call, before and call.ended is not None))

    def owner_of(self, cookie: str) -> str | None:
        """Return whose session *cookie* stands for."""
        calls = [*(call for _, _, call in self.edges(cookie)), self.creator]
        return next((call.logs_in for call in calls if call.logs_in), None)

    def own(self, write: Write) -> None:
        """Note a write to this session."""
        self.writes.append(write)
        for tag in (*write.sets.values(), *write.flashes.values()):
            if tag is not None:
                self.tags[tag] = write

    def _add_logout(self, call: Call) -> None:
        if call.kind == "message":
            done = call.answered is not None and not call.stored
            self.endings.append((call, done and not call.error))
        elif call.succeeded:  # one that was told that its session had ended, by a login for example, ends nothing more
            self.endings.append((call, False not in call.saved))
        elif call.unknown:
            self.endings.append((call, False))
        elif call.status == 500:
            # A failed handler's logout is carried out, but the answer does not say whether the storage could.
            calm = not self.history.trouble(call.sent, call.until)
            self.endings.append((call, calm and not call.error))

    def _changed_the_id(self, call: Call) -> bool:
        if call.new or call.end in FAILURES:
            return False
        return call.unknown or bool(call.succeeded and call.given)

    # --- who descends from whom

    def edges(self, cookie: str) -> Iterator[tuple[str, str, Call]]:
        """Return the changes of the id that led to *cookie*: the new one, the old one, the call."""
        while cookie in self.parents:
            parent, call = self.parents[cookie]
            yield cookie, parent, call
            cookie = parent

    def descends(self, cookie: str, ancestor: str) -> bool:
        """Return whether *cookie* is *ancestor* or came from it."""
        return cookie == ancestor or any(parent == ancestor for _, parent, _ in self.edges(cookie))

    # --- what a cookie reads

    def window(self, call: Call) -> tuple[float, float]:
        """Return when what *call* read was the state of the session.

        An id that was renewed reads the session as it was at the renewal.
        """
        renewals = self.renewals.get(call.cookie or "", [])
        known = [renewal for renewal in renewals if renewal.given and renewal is not call]
        for renewal in known:
            if call.sent > renewal.until:
                return renewal.sent, renewal.until
        begun = [renewal.sent for renewal in known or renewals if renewal is not call and renewal.sent < call.until]
        return min([call.sent, *begun]), call.until

    def is_old(self, call: Call) -> bool:
        """Return whether the id that *call* used was perhaps renewed when it was answered."""
        return any(one.sent < call.until for one in self.renewals.get(call.cookie or "", []) if one is not call)

    def reaches(self, write: Write, cookie: str) -> bool:
        """Return whether what was stored by *write* surely is part of what *cookie* stands for.

        A login keeps what its own cookie could read, and drops what other requests write meanwhile under the old id.
        """
        for child, parent, call in self.edges(cookie):
            if call.has("regenerate", True) and not self.descends(write.writer, child):
                begun = [one.sent for one in self.renewals.get(parent, []) if one.sent < call.until]
                if write.by >= min([call.sent, *begun]):
                    return False
        return True

    def barred(self, write: Write, cookie: str) -> Call | None:
        """Return the renewal after which *write* came, if a login by the renewed id must not have taken it over."""
        for child, parent, call in self.edges(cookie):
            if call.has("regenerate", True) and not self.descends(write.writer, child):
                for renewal in self.renewals.get(parent, []):
                    if renewal.given and write.sent > renewal.until:
                        return renewal
        return None

    # --- whether it lives

    def ended(self, cookie: str, before: float) -> Call | None:
        """Return a call that was answered *before* some moment and surely ended what *cookie* stands for."""
        for call, certain in self.endings:
            if certain and call.until < before:
                return call
        for login in self.logins:
            if login.given and login.until < before and not self.descends(cookie, login.given):
                return login
        return None

    def explains_end(self, call: Call) -> bool:
        """Return whether something in the history explains that *call* found no session."""
        cookie, until = str(call.cookie), call.until
        if any(one.sent < until for one, _ in self.endings if one is not call):
            return True
        for login in self.logins:
            if login is not call and login.sent < until and not (login.given and self.descends(cookie, login.given)):
                return True
        if call.kind == "message":  # a stream goes on under the new id, however much later
            return False
        return any(
            self.history.longest(one.sent, until) >= self.history.grace - 2
            for one in self.renewals.get(cookie, [])
            if one is not call
        )


def lines_of(history: History) -> tuple[list[Line], dict[str, Line], list[Call]]:
    """Find the sessions of a history.

    Returns:
        The sessions, the session of each cookie, and the calls whose answer set a cookie that nothing asked for.
    """
    lines: list[Line] = []
    of: dict[str, Line] = {}
    unasked = []
    for call in sorted(history.calls, key=lambda call: call.until):  # a cookie is sent after it was given
        if not call.given:
            if call.given == "" and not (call.has("destroy") or call.has("new")):
                unasked.append(call)
        elif call.new or call.has("new"):
            if call.given in of:
                unasked.append(call)
            line = of[call.given] = Line(history, call)
            lines.append(line)
        elif call.cookie in of:
            if not call.has("regenerate") or call.given in of:
                unasked.append(call)
            else:
                of[call.given] = of[call.cookie]
                of[call.given].parents[call.given] = (call.cookie, call)
    for call in history.calls:
        if call.given and (call.new or call.has("new")):
            for write in writes_of(call):
                if write.writer == call.given:
                    of[call.given].own(write)
        if not call.new and call.cookie in of:
            of[call.cookie].add(call)
    for call in history.calls:
        for step in call.steps:
            if step[0] == "end":
                for line in lines:
                    line.end_from_outside(call, step[1], keep=step[2])
    return lines, of, unasked
