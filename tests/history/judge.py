"""The judge: decides from a history alone whether the promises of the documentation were kept.

It knows nothing of how the library works.  For each rule it asks what must and what must not have been read, given when
the calls were sent and answered.  What overlaps may have happened in any order.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf

from tests.history.history import ADDED, CHAIN, Call, History
from tests.history.lines import Line, Write, lines_of, writes_of


@dataclass(frozen=True)
class Verdict:
    """A broken promise.

    Attributes:
        rule: Which one.
        calls: The numbers of the calls that show it.
        text: What is wrong.
    """

    rule: str
    calls: tuple[int, ...]
    text: str


def judge(history: History) -> list[Verdict]:
    """Return every broken promise."""
    lines, of, unasked = lines_of(history)
    found = [_verdict("cookies", "the answer sets a cookie that nothing asked for", call) for call in unasked]
    found += _crashes(history)
    found += _endings(history, of)
    found += _owners(history, of)
    found += _index(history, of)
    for line in lines:
        _observe(line)
    for line in lines:
        for rule in _RULES:
            found += rule(line)
    found += _strangers(history, of)
    return found


def _verdict(rule: str, text: str, *calls: Call) -> Verdict:
    return Verdict(rule, tuple(call.number for call in calls), text)


def _reads(line: Line) -> Iterator[Call]:
    return (call for call in line.calls if call.data is not None)


def _crashes(history: History) -> Iterator[Verdict]:
    for call in history.calls:
        if call.status == 500 and call.end not in ("status", "raise", "crash") and not call.error:
            yield _verdict("errors", "the answer is a 500, and the handler was not told to fail", call)
        if call.new and call.succeeded and not call.given and not call.has("destroy"):
            pieces = writes_of(call)
            if any((one.flashes or any(one.sets.values())) and one.fresh == pieces[-1].fresh for one in pieces):
                yield _verdict("cookies", "something was put into a new session, and no cookie was sent", call)


# --- every cookie is alive, or has an ending that explains it; what was ended stays so


def _endings(history: History, of: dict[str, Line]) -> Iterator[Verdict]:
    for call in history.calls:
        line = of.get(call.cookie or "")
        if line is None:
            continue
        cookie = str(call.cookie)
        if call.kind == "message":
            if call.answered is None or call.stored or call.has("destroy"):
                continue
            alive = call.saved == [True]
        elif call.new is None:
            continue
        else:
            alive = not call.new
        if not alive and not line.explains_end(call):
            yield _verdict("alive", f"the session of {cookie} is gone, and nothing in the history ended it", call)
        ending = line.ended(cookie, call.sent)
        if alive and ending is not None:
            rule = "stream" if call.kind == "message" else "logout"
            yield _verdict(rule, f"the session of {cookie} had ended, and is alive again", ending, call)


# --- owners


def _owners(history: History, of: dict[str, Line]) -> Iterator[Verdict]:
    for call in history.calls:
        if call.data is None:
            continue
        line = of.get(call.cookie or "")
        owner = None if call.new or line is None else line.owner_of(str(call.cookie))
        if call.owner != owner:
            text = f"the session of {call.cookie} belongs to {owner}, and was found to belong to {call.owner}"
            yield _verdict("owner", text, call)


@dataclass
class _Entry:
    """A cookie of an owner: it was alive, and had not got another id, at least between two moments.

    Attributes:
        key: What the index shows.
        proof: The last call that found it alive.
        since: When it belonged to the owner at the latest.
        changed: When it may have got another id, or ended, at the earliest.
    """

    key: str
    proof: Call
    since: float
    changed: float


def _entries(history: History, of: dict[str, Line]) -> dict[str, dict[str, _Entry]]:
    entries: dict[str, dict[str, _Entry]] = defaultdict(dict)
    for call in history.calls:
        if call.key is not None and call.owner is not None and call.cookie in of:
            cookie = str(call.cookie)
            entry = entries[call.owner].setdefault(cookie, _Entry(call.key, call, call.until, inf))
            entry.since = min(entry.since, call.until)
            entry.proof = max(entry.proof, call, key=lambda one: one.sent)
    for call in history.calls:
        if call.has("regenerate") or call.has("destroy") or call.has("new"):
            for cookies in entries.values():
                if call.cookie in cookies:
                    entry = cookies[str(call.cookie)]
                    entry.changed = min(entry.changed, call.sent)
    return entries


def _index(history: History, of: dict[str, Line]) -> Iterator[Verdict]:
    entries = _entries(history, of)
    for call in history.calls:
        if call.shown is None:
            continue
        owner = next(step[1] for step in call.steps if step[0] == "list")
        for cookie, entry in entries[owner].items():
            if entry.since < call.sent and entry.proof.sent > call.until and entry.changed > call.until:
                if entry.key not in call.shown:
                    yield _verdict("index", f"the session of {cookie} lives, and is not listed", call, entry.proof)
            elif entry.key in call.shown and (ending := of[cookie].ended(cookie, call.sent)) is not None:
                yield _verdict("index", f"the session of {cookie} had ended, and is listed", ending, call)


# --- what must be read


def _observe(line: Line) -> None:
    """Note which writes were seen, and thus were stored before the end of the call that saw them."""
    for call in _reads(line):
        _, until = line.window(call)
        for tag in (call.data or {}).values():
            write = line.tags.get(tag)
            if write is not None and write.sent < until:
                write.observed = True
                write.by = min(write.by, until)


def _values(line: Line) -> Iterator[Verdict]:
    touching: dict[str, list[Write]] = defaultdict(list)
    keys = {key for write in line.writes for key in write.sets}
    if _was_cleared(line):
        keys = {key for key in keys if not key.startswith(ADDED)}
    for write in line.writes:
        if write.state != "no" or write.observed:
            for key in keys if write.cleared else write.sets:
                touching[key].append(write)
    for call in _reads(line):
        data = call.data or {}
        since, until = line.window(call)
        proved = {line.tags[tag] for tag in data.values() if tag in line.tags}
        for key in keys:
            known = [
                write
                for write in touching[key]
                if write in proved
                or (
                    (write.state == "ok" or write.observed)
                    and write.by < since
                    and line.reaches(write, str(call.cookie))
                )
            ]
            if key in data:
                yield from _read_value(line, call, key, data[key], until, known)
            else:
                yield from _missing_value(call, key, until, known, touching[key])


def _read_value(line: Line, call: Call, key: str, tag: str, until: float, known: list[Write]) -> Iterator[Verdict]:
    write = line.tags.get(tag)
    if write is None or write.sets.get(key) != tag:
        return  # a value of another session: see _strangers
    what = f"{key}={tag}"
    if write.state == "no":
        yield _verdict("failed", f"{what} was read, and the call that wrote it failed", write.call, call)
    if write.sent > until:
        yield _verdict("snapshot", f"{what} was read, and was written after the id was changed", write.call, call)
    renewal = line.barred(write, str(call.cookie))
    if renewal is not None:
        text = f"{what} was written under a renewed id, and a login by the old id took it over"
        yield _verdict("snapshot", text, renewal, write.call, call)
    if write.writer != call.cookie and write.call.given == write.writer and write.call.cookie == call.cookie:
        yield _verdict("snapshot", f"{what} was written with the new id, and read by the old one", write.call, call)
    for later in known:
        if later is not write and later.sent > write.by and later.changes_surely(key):
            text = f"{what} was read, and was replaced before by a later write"
            yield _verdict("read", text, write.call, later.call, call)
            return


def _missing_value(call: Call, key: str, until: float, known: list[Write], touching: list[Write]) -> Iterator[Verdict]:
    for write in known:
        if write.sets.get(key) is None:
            continue
        removed = (other for other in touching if other.removes(key) and other is not write)
        if not any(other.sent < until and other.by > write.sent for other in removed):
            yield _verdict("read", f"{key}={write.sets[key]} was written, and is missing", write.call, call)
            return


def _strangers(history: History, of: dict[str, Line]) -> Iterator[Verdict]:
    writers = {tag: line for line in set(of.values()) for tag in line.tags}
    for call in history.calls:
        line = of.get(call.cookie or "")
        for tag in (call.data or {}).values():
            if call.new or line is None:
                if not (line is None and not call.new):
                    yield _verdict("logout", f"{tag} was read without a session", call)
            elif tag not in line.tags:
                whose = "of another session" if tag in writers else "of nobody"
                yield _verdict("read", f"{tag} was read, a value {whose}", call)


# --- additions


def _was_cleared(line: Line) -> bool:
    """Return whether everything was removed once: an append at the same time may bring the list back as it was."""
    return any(write.cleared and write.state != "no" for write in line.writes)


def _additions(line: Line) -> Iterator[Verdict]:
    if _was_cleared(line):
        return
    for call in _reads(line):
        elements = sum(name.startswith(ADDED) for name in call.data or {})
        if call.added and call.added != [elements, elements]:
            held, counted = call.added
            text = f"{elements} different elements are in a list of {held}, and the counter says {counted}"
            yield _verdict("additions", text, call)


# --- exclusive blocks


def _exclusive(line: Line) -> Iterator[Verdict]:
    cleared = any(write.cleared and write.state != "no" for write in line.writes)
    blocks: dict[str | None, list[Write]] = defaultdict(list)
    for write in line.writes:
        call = write.call
        if call.exclusive and write.state == "ok" and CHAIN in write.sets and call.new is False:
            blocks[(call.data or {}).get(CHAIN)].append(write)
    for read, writes in blocks.items():
        if read is None and cleared:
            continue
        for at, one in enumerate(writes):
            for other in writes[:at]:
                if line.reaches(one, other.writer) and line.reaches(other, one.writer):
                    text = f"two exclusive blocks both succeeded on {CHAIN}={read}"
                    yield _verdict("exclusive", text, other.call, one.call)


# --- flashes


def _flashes(line: Line) -> Iterator[Verdict]:
    left = [(name, write) for write in line.writes for name in write.flashes if write.state != "no"]
    failed = {name: write for write in line.writes for name in write.flashes if write.state == "no"}
    for call in _reads(line):
        for name in call.data or {}:
            if name in failed:
                yield _verdict("failed", f"{name} was read, and the call that left it failed", failed[name].call, call)
    readers = [call for call in _reads(line) if not line.is_old(call)]
    cleared = [write for write in line.writes if write.cleared and write.state != "no"]
    for name, write in left:
        users = [call for call in line.calls if call is not write.call and call.until > write.sent]
        if write.state == "ok":
            yield from _not_shown(line, name, write, readers, [*users, *(one.call for one in cleared)])
        yield from _shown_twice(line, name, write, readers, users)


def _not_shown(line: Line, name: str, write: Write, readers: list[Call], users: list[Call]) -> Iterator[Verdict]:
    for call in readers:
        if call.sent <= write.by or name in (call.data or {}) or not line.reaches(write, str(call.cookie)):
            continue
        used = (one for one in users if one is not call and one.sent < call.until)
        if not any(_may_have_used(one, name) for one in used):
            yield _verdict("flash", f"{name} was left, used by nobody, and is missing", write.call, call)
            return


def _may_have_used(call: Call, name: str) -> bool:
    if call.has("clear") or (call.kind != "message" and (call.data is None or call.unknown)):
        return True
    if call.data is None:
        return False
    return name in call.data and (call.succeeded or call.has("save"))


def _shown_twice(line: Line, name: str, write: Write, readers: list[Call], users: list[Call]) -> Iterator[Verdict]:
    kept = [one for one in users if one.has("keep") or one.has("discard")]
    for user in readers:
        if user is write.call or name not in (user.data or {}) or not user.succeeded or user in kept:
            continue
        if line.history.trouble(user.sent, user.until):  # it may fail to remove a flash, and says so in the log alone
            continue
        removal = Write(user, user.given or str(user.cookie), by=user.until)
        for call in readers:
            if call.sent <= user.until or name not in (call.data or {}):
                continue
            if not line.reaches(removal, str(call.cookie)):
                continue
            if any(one.sent < call.until and (one.data is None or name in one.data) for one in kept):
                continue
            yield _verdict("flash", f"{name} was shown, and is shown again", write.call, user, call)
            return


_RULES: list[Callable[[Line], Iterator[Verdict]]] = [_values, _additions, _exclusive, _flashes]
