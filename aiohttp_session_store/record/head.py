"""The head of a record: whose session it is, since when, the limits of this one session, and its entry in an index."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

# Long enough for every id, name or address; short enough for an index.
MAX_OWNER = 255
_FIELDS = {"owner": str, "authenticated_at": int, "line": str, "until": int}
_OPTIONAL = {"label": str, "confirmed_at": int, "remember": int, "idle": int, "lifetime": int}
_NOTES = "notes"
_ALL = _FIELDS | _OPTIONAL | {_NOTES: dict}

#: Makes a new note from the one that is there, or from None.  It is called again if another request was faster, so it
#: must depend on nothing else.
Note = Callable[[str | None], str | None]


class Limits(NamedTuple):
    """Limits by which one session ends sooner than the storage's say, in whole seconds; None for no such limit."""

    idle: int | None = None
    lifetime: int | None = None

    def and_also(self, other: "Limits") -> "Limits":
        """Return the limits of a session to which both apply."""
        return Limits(shorter(self.idle, other.idle), shorter(self.lifetime, other.lifetime))


def shorter(one: int | None, other: int | None) -> int | None:
    """Return the shorter one of two limits; None is no limit."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


@dataclass(frozen=True, slots=True)
class Head:
    """What a record says of its owner.

    Attributes:
        owner: The account, as the application knows it.
        authenticated_at: Whole Unix seconds of the login.  It never changes, because the limit of sessions goes by it.
        line: Random; every login makes another one, and every change of the id carries it on.  So a session whose id
            changes is known to be the same.
        until: Whole Unix seconds.  The index shows the session until then, and no save or touch lets it live longer.
        label: What the application calls the device, or None.
        confirmed_at: Whole Unix seconds at which the owner has last confirmed the login, or None.
        remember: The idle timeout of a session that is to be remembered, in seconds, or None for the storage's.
        idle: The idle timeout to which the session was shortened, in seconds, or None.
        lifetime: The lifetime to which the session was shortened, in seconds, or None.
        notes: What modules on top of this package note of the login, each under its own name.  Every change of the id
            carries the notes on, clearing the data leaves them alone, and a new login begins without.
    """

    owner: str
    authenticated_at: int
    line: str
    until: int
    label: str | None = None
    confirmed_at: int | None = None
    remember: int | None = None
    idle: int | None = None
    lifetime: int | None = None
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def proved_at(self) -> int:
        """When the owner last proved who they are, by the login or a confirmation, in whole Unix seconds."""
        return self.authenticated_at if self.confirmed_at is None else max(self.authenticated_at, self.confirmed_at)

    def shortened(self, limits: Limits) -> "Head":
        """Return the head of a session to which *limits* apply as well: the shorter one wins."""
        idle, lifetime = Limits(self.idle, self.lifetime).and_also(limits)
        return replace(self, idle=idle, lifetime=lifetime)

    def renewed(self, after: int) -> "Head":
        """Return the head of a session whose lifetime starts again *after* so many seconds.

        That is the storage's.  One to which the session was shortened ends when it would have ended.
        """
        return self if self.lifetime is None else replace(self, lifetime=max(0, self.lifetime - after))

    def noted(self, notes: Mapping[str, Note]) -> "Head":
        """Return the head with each of *notes* made from the note that is there."""
        made = {name: note(self.notes.get(name)) for name, note in notes.items()}
        return replace(self, notes={name: text for name, text in {**self.notes, **made}.items() if text is not None})

    def fields(self) -> dict[str, Any]:
        """Return the head as JSON, without what it does not say."""
        fields: dict[str, Any] = {name: getattr(self, name) for name in _FIELDS}
        fields |= {name: said for name in _OPTIONAL if (said := getattr(self, name)) is not None}
        return {**fields, _NOTES: dict(self.notes)} if self.notes else fields


class UnknownFieldError(ValueError):
    """Raised for a head that says something which this version does not know."""


def head_of(fields: Any) -> Head:
    """Return the head that :meth:`Head.fields` wrote.

    Raises:
        UnknownFieldError: A newer version of this package wrote it.
        ValueError: It is damaged.
    """
    if type(fields) is not dict:
        raise ValueError("a head is a JSON object")
    if unknown := fields.keys() - _ALL.keys():
        raise UnknownFieldError(f"the head of a record has the field {min(unknown)!r}: it is newer than this package")
    if _FIELDS.keys() - fields.keys() or any(type(fields[name]) is not _ALL[name] for name in fields):
        raise ValueError("the head of a record is damaged")
    if any(type(note) is not str for note in fields.get(_NOTES, {}).values()):
        raise ValueError("the notes in the head of a record are damaged")
    return Head(**fields)


def checked_owner(owner: Any) -> str:
    """Return *owner* if it can be one.

    Raises:
        TypeError: It is not a string of 1 to 255 characters; the message shows the fix.
    """
    if not isinstance(owner, str):
        raise TypeError(f"an owner is a string that is never reused, not {type(owner).__name__}: use str(user.id)")
    if not 0 < len(owner) <= MAX_OWNER:
        raise TypeError(
            f"an owner has 1 to {MAX_OWNER} characters, and this one has {len(owner)}: use a short id that is never"
            " reused, such as str(user.id)"
        )
    if not owner.isascii():
        try:
            owner.encode()
        except UnicodeEncodeError:
            raise TypeError("an owner is Unicode text, and this one has half of a surrogate pair") from None
    return str.__str__(owner)  # of an enum: its value, and not its name


def checked_label(label: Any) -> str | None:
    """Return *label* if it can be one.

    Raises:
        TypeError: It is neither None nor a string of up to 255 characters.
    """
    if label is None:
        return None
    if not isinstance(label, str) or len(label) > MAX_OWNER:
        raise TypeError(f"a label is a string of up to {MAX_OWNER} characters, or None")
    try:
        label.encode()
    except UnicodeEncodeError:
        raise TypeError("a label is Unicode text, and this one has half of a surrogate pair") from None
    return str.__str__(label)


def owner_key(owner: str) -> str:
    """Return the key of an owner's index, SHA-256 in hex.

    It hides who the owner is at a glance, but does not protect it: a small number is soon guessed.
    """
    return hashlib.sha256(f"owner {owner}".encode()).hexdigest()
