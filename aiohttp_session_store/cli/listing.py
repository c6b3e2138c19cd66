"""``list`` and ``show``: which sessions there are, and what is in one."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from ..engine.owners import Owners
from ..engine.verbs import Found
from ..engine.writing import RecordWriter
from ..record.format import Record, Retired
from ..record.head import checked_owner, owner_key
from ..record.session_id import is_key
from ..storages.base import KeyedStorage
from .entries import ENDED, LIVE, RETIRED, UNREADABLE, Entry, Session, entries, entry_of
from .exits import FINE, NotThereError, UsageError
from .running import Run
from .showing import as_json, count, moment, plainly, size, span

__all__ = ["checked_key", "list_sessions", "named_owner", "show_session", "unreadable_of"]

_FIELDS = tuple(Session.__dataclass_fields__)
# What fields are called for people, if not as in JSON.
_NAMES = {"authenticated_at": "login at", "bytes": "size"}


async def list_sessions(run: Run, storage: KeyedStorage, owner: str | None) -> int:
    """List the live sessions of *owner*, newest login first, or all of them in any order."""
    listed = unreadable = 0
    run.so_far = lambda: f"{count(listed, 'session')} listed."
    out = _List(run, storage.now())
    async with aclosing(_sessions(run, storage, owner)) as parts:
        async for part, unread in parts:
            unreadable += unread
            for session in part:
                out.write(session)
                listed += 1
    out.end()
    if owner is not None:
        unreadable = len(await unreadable_of(storage, owner))
    if unreadable:
        run.remark(f"{count(unreadable, 'record')} cannot be read, and may be sessions: see the command check.")
    return run.exit_code(FINE)


async def _sessions(
    run: Run, storage: KeyedStorage, owner: str | None
) -> AsyncGenerator[tuple[Sequence[Session], int], None]:
    """Yield sessions, and how many records could not be read."""
    if owner is None:
        async for part in run.over("Reading", entries(storage)):
            yield [one.session for one in part if one.kind == LIVE], sum(one.kind == UNREADABLE for one in part)
        return
    yield (
        [
            Session(
                info.key,
                info.owner,
                info.label,
                info.created_at,
                info.authenticated_at,
                info.last_used_at,
                info.expires_at,
            )
            for info in await storage.sessions_of(owner)
        ],
        0,
    )


async def unreadable_of(storage: KeyedStorage, owner: str) -> list[Entry]:
    """Return what stands in the index of *owner* and cannot be read: nobody here knows whether it is a session."""
    found = []
    for key in await storage.linked(owner_key(owner)):
        stored = await storage.fetch(key)
        entry = None if stored is None else entry_of(storage, Found(key, stored))
        if entry is not None and entry.kind == UNREADABLE:
            found.append(entry)
    return found


async def show_session(run: Run, storage: KeyedStorage, key: str, *, data: bool) -> int:
    """Show one session, and its data if that is asked for."""
    asked, (key, _) = key, await Owners(RecordWriter(storage)).listed(key)
    stored = await storage.fetch(key)
    if stored is None:
        raise NotThereError("There is no session with this key.")
    entry = entry_of(storage, Found(key, stored))
    if entry.kind in (ENDED, RETIRED) and isinstance(entry.record, Retired):
        raise NotThereError(f"This session has ended{f' ({entry.record.why})' if entry.record.why else ''}.")
    if not isinstance(entry.record, Record):
        raise NotThereError(f"The record with this key cannot be read: {plainly(entry.fault)}.")
    shown = _described(storage, entry, entry.record, asked)
    if data:
        shown["data"] = entry.record.data
        shown["flashes"] = [{"key": flash.key, "value": flash.value} for flash in entry.record.flashes]
    if run.json:
        run.document(shown)
        return FINE
    values = shown.pop("data", None), shown.pop("flashes", None)
    named = [(_NAMES.get(name, name.replace("_", " ")), _shown(name, value)) for name, value in shown.items()]
    run.fields([(name, value) for name, value in named if value])
    for name, value in zip(("data", "flashes"), values, strict=True):
        if value is not None:
            run.say((name, "bold"))
            run.say(as_json(value, indent=2))
    return FINE


def _described(storage: KeyedStorage, entry: Entry, record: Record, asked: str) -> dict[str, Any]:
    session = entry.session
    shown: dict[str, Any] = {"key": entry.key, "listed_as": asked if asked != entry.key else None, "state": entry.kind}
    shown |= {name: getattr(session, name) for name in _FIELDS if name != "key"}
    head = record.head
    shown |= {
        "idle_timeout": record.idle_timeout,
        "remember": None if head is None else head.remember,
        "shortened_lifetime": None if head is None else head.lifetime,
        "stored_as": entry.form,
        "under_the_newest_key": None
        if storage.records.ring is None or entry.stored is None
        else not storage.records.outdated(entry.stored.data),
        "bytes": entry.size,
        "values": len(record.data),
        "flash_messages": len(record.flashes),
    }
    return shown


def _shown(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name.endswith("_at"):
        return moment(value)
    if name in ("idle_timeout", "remember", "shortened_lifetime"):
        return span(value)
    if name == "bytes":
        return size(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return plainly(str(value))


class _List:
    """Writes sessions as they come: a JSON array, lines of columns, or lines for people."""

    def __init__(self, run: Run, now: int) -> None:
        self._run, self._now = run, now
        self._count = 0

    def _begin(self) -> None:
        if not self._run.json and not self._run.is_terminal:
            self._run.write("\t".join(_FIELDS) + "\n")

    def write(self, session: Session) -> None:
        if not self._count:
            self._begin()
        self._count += 1
        if self._run.json:
            fields = {name: getattr(session, name) for name in _FIELDS}
            self._run.write(f"{'[' if self._count == 1 else ','}\n{as_json(fields)}")
        elif not self._run.is_terminal:
            self._run.write("\t".join(_column(name, getattr(session, name)) for name in _FIELDS) + "\n")
        else:
            self._for_people(session)

    def _for_people(self, session: Session) -> None:
        now = self._now
        owner = "nobody" if session.owner is None else plainly(session.owner)
        label = "" if session.label is None else f", {plainly(session.label)}"
        times = f"used {span(now - session.last_used_at)} ago, ends in {span(session.expires_at - now)}"
        if session.authenticated_at is not None:
            times = f"login {span(now - session.authenticated_at)} ago, {times}"
        details = f"  {times}"
        one_line = len(session.key) + 2 + len(owner) + len(label) + len(details) <= self._run.width
        who: list[str | tuple[str, str]] = [(owner, "bold" if session.owner is not None else "dim"), label]
        if one_line:
            self._run.say((session.key, "cyan"), "  ", *who, (details, "dim"))
            return
        self._run.say((session.key, "cyan"))
        self._run.say("  ", *who)
        self._run.say((details, "dim"))

    def end(self) -> None:
        if not self._count:
            self._begin()
        if self._run.json:
            self._run.write("[]\n" if not self._count else "\n]\n")
        elif self._run.is_terminal and not self._run.cut:
            self._run.remark(f"{count(self._count, 'session')}.")


def _column(name: str, value: Any) -> str:
    if value is None:
        return ""
    return moment(value) if name.endswith("_at") else plainly(str(value))


def checked_key(key: str) -> str:
    """Return *key* as it is stored.

    Raises:
        UsageError: It is no key.  The message does not repeat it: it may be a session id.
    """
    key = key.strip().lower()
    if not is_key(key):
        raise UsageError(
            "KEY is 64 hexadecimal digits, as the command list and the log show it. (An id from a cookie is no key.)"
        )
    return key


def named_owner(owner: str) -> str:
    """Return *owner*.

    Raises:
        UsageError: It cannot be one.
    """
    try:
        return checked_owner(owner)
    except TypeError as error:
        raise UsageError(str(error)) from None
