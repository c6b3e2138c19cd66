"""What is noted of a login about the device that it is bound to, and the two changes that this note ever sees."""

import json
import secrets
from dataclasses import asdict, dataclass, replace
from functools import lru_cache

from ..record.head import Head, Note

#: The name of the note in the head of a session.
NOTE = "device"


@dataclass(frozen=True, slots=True)
class Binding:
    """The device that a login is bound to.

    Attributes:
        id: What the browser calls the session.  It is no secret.
        key: The public key of the device: the coordinates of a point of P-256, 64 bytes in base64.
        bound_at: Whole Unix seconds.
        turn: How many challenges were taken.  Only a challenge of this turn counts.
        by: A random id of the request that made this note, which thereby knows that it was the one.
    """

    id: str
    key: str
    bound_at: int
    turn: int = 0
    by: str = ""

    def text(self) -> str:
        """Return the note."""
        return json.dumps(asdict(self), separators=(",", ":"))


def binding_of(head: Head | None) -> Binding | None:
    """Return what the head of a session says of its device, or None if it is not bound."""
    note = None if head is None else head.notes.get(NOTE)
    return None if note is None else _read(note)


@lru_cache(4096)  # of the sessions in use; reading one takes longer than the rest of a check
def _read(note: str) -> Binding:
    """Return what a note says.  A damaged one is that of no key: nothing proves it, and the visitor logs in again."""
    try:
        fields = json.loads(note)
        read = Binding(**{name: fields[name] for name in Binding.__slots__ if name in fields})
    except (ValueError, TypeError, RecursionError):
        return _DAMAGED
    texts, numbers = (read.id, read.key, read.by), (read.bound_at, read.turn)
    is_whole = all(type(one) is str for one in texts) and all(type(one) is int for one in numbers)
    return read if is_whole else _DAMAGED


_DAMAGED = Binding("", "", 0)


def new_by() -> str:
    """Return a random id for one request."""
    return secrets.token_urlsafe(9)


def bound_first(binding: Binding) -> Note:
    """Bind a login to a device, unless it is bound: a second key never replaces the first."""

    def note(before: str | None) -> str:
        return binding.text() if before is None else before

    return note


def taken(turn: int, by: str) -> Note:
    """Take the challenge of *turn*, unless another request has taken it."""

    def note(before: str | None) -> str | None:
        binding = None if before is None else _read(before)
        return before if binding is None or binding.turn != turn else replace(binding, turn=turn + 1, by=by).text()

    return note
