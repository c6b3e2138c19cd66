"""The stored form of a session, the record: encoding to bytes and decoding.

The stored form is text.  A line of numbers precedes the JSON, so that the times can be read without decoding the data::

    1 L <created_at> <written_at> <idle timeout or ->
    {"user_id": 5, "cart": [7]}
    [["hJ3kzX0q", "notice", "Saved."]]          only if there are flashes

    1 R <dies_at> <key of the successor or ->   a retired record of a version before
    <the record as it was>                      only after ``regenerate_id(False)``

Format 2 also has tags for types beyond JSON (see :mod:`.values`).  It is used only if there is something to tag or to
escape.  Format 2 also holds what a codec of the application has encoded, marked with the name of the codec::

    2 L <created_at> <written_at> <idle timeout or ->
    {"since": {"$date": "2024-05-01"}}

    2 C <created_at> <written_at> <idle timeout or -> <name of the codec>
    <[data, flashes], as the codec encodes it>

Format 3 is a retired record, or without a successor, a tombstone::

    3 R <dies_at> <key of the successor or -> <why>

Format 4 has a head before the data, which says whose session it is (see :mod:`.head`).  It is written only for a
session that has an owner.  Modules on top of this package may have left notes in it::

    4 L <created_at> <written_at> <idle timeout or ->
    {"owner": "42", "authenticated_at": 1700000000, "line": "Vq3kP0aa", "until": 1707776000, "remember": 2592000}
    {"cart": [7]}

    4 C <created_at> <written_at> <idle timeout or -> <name of the codec>
    <[data, flashes, head], as the codec encodes it>

The flashes may end with an entry that is none: the random ids of the last writes that added something, such as an
element of a list.  Its key is one that the data has, so that processes of a version before, to which it is a flash, do
not show it::

    [["+ Gx5fQ9aL pW3kZb0c", "cart", null]]
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from .changes import Flash
from .head import Head, UnknownFieldError, head_of
from .json_encoders import Codec, dumps, loads
from .values import escape, thaw

NEWEST_FORMAT = 4
_FORMAT_DIGITS = 4
_FLASH_PARTS = 3
_WRITES = "+ "
_MAX_DIGITS = 15  # a longer number of seconds is damage, and too large for the fields of some storages
_KEY = re.compile(rb"[0-9a-f]{64}")
# One expression takes 1 us. Splitting the line step by step took 3 us, as much as decoding the JSON.
_LIVE = re.compile(rb"([12]) L (\d{1,15}) (\d{1,15}) (\d{1,15}|-)\n([^\n]*)(?:\n(.+))?", re.DOTALL)
_OWNED = re.compile(rb"4 L (\d{1,15}) (\d{1,15}) (\d{1,15}|-)\n([^\n]*)\n([^\n]*)(?:\n(.+))?", re.DOTALL)
_CODED = re.compile(rb"([24]) C (\d{1,15}) (\d{1,15}) (\d{1,15}|-) ([a-z0-9._-]{1,32})\n(.*)", re.DOTALL)
# Every tag and every escaped key begins like this in JSON. Without it, formats 1 and 2 mean the same.
_TAGGED = b'"$'


class Stored(NamedTuple):
    """A record as a storage holds it.

    Attributes:
        data: The encoded record.
        version: Opaque and random.  Every write of *data* gives the record a new version.
        expires_at: Whole Unix seconds.  Only lets the storage reclaim space; the core decides what has expired.
    """

    data: bytes
    version: bytes
    expires_at: int


class NewerRecordError(ValueError):
    """Raised for a record that was written by a newer version of this package or by an unavailable codec.

    This process cannot read the record, and must not remove it.
    """


class Record(NamedTuple):
    """A live session.

    Attributes:
        created_at: Whole Unix seconds.
        written_at: Whole Unix seconds of the last write.  If no idle timeout was in force, the last use is known only
            to be no earlier than this.
        idle_timeout: The idle timeout in force when the record was written, in seconds, or None if there was none.
        writes: The random ids of the last writes that added something, in order.  A save whose answer was lost finds
            out by them whether it was stored.
    """

    created_at: int
    written_at: int
    idle_timeout: int | None
    data: dict[str, Any]
    flashes: tuple[Flash, ...] = ()
    head: Head | None = None
    writes: tuple[str, ...] = ()


# Why an id was retired, or a session ended.
RENEWED = "renewed"  # regenerate_id(): the session goes on under another id
REPLACED = "replaced"  # regenerate_id(True) or new_session(): the old id is worthless
LOGIN = "login"  # login(): the old id is worthless
LOGOUT = "logout"
REVOKED = "revoked"  # end_sessions() or end_session()
TOO_MANY = "too_many"  # a login that was one too many ended it
IDLE = "idle"
# What a watch says besides, and no record does.
LIFETIME = "lifetime"
ENDED = "ended"  # nobody knows why
_REASON = re.compile(rb"[a-z_]{1,32}")


@dataclass(frozen=True, slots=True)
class Retired:
    """What stands under an id that was changed, or without a successor, of a session that ended: a tombstone.

    Nothing replaces or extends it.

    Attributes:
        successor: The key of the session's new record, or None for a tombstone.
        dies_at: Whole Unix seconds.  Until then a request that comes with the old id may read what the session held
            when its id was changed.
        original: In records of a version before, the record as it was; None in those of today, which have it under a
            key of its own.
        why: The reason, one of the constants above; empty in records of a version before.
    """

    successor: str | None
    dies_at: int
    original: bytes | None = None
    why: str = ""

    @property
    def passes_on(self) -> bool:
        """Whether changes that are made under the old id still reach the successor."""
        return self.successor is not None and (self.why == RENEWED or self.original is not None)


#: A tombstone in the form of the first version, which gives no reason.  What begins with it is no session to anybody.
TOMBSTONE = Retired(None, 0)


def is_live(data: bytes) -> bool:
    """Return whether *data* is a live record by its form, also if its codec is not at hand."""
    return any(form.fullmatch(data) for form in (_LIVE, _OWNED, _CODED))


def encode_record(record: Record, codec: Codec | None = None) -> bytes:
    """Return the stored form of a live record, encoded by *codec* if there is one."""
    idle = b"-" if record.idle_timeout is None else b"%d" % record.idle_timeout
    times = b"%d %d %b" % (record.created_at, record.written_at, idle)
    if codec is not None:
        parts: list[Any] = [record.data, _flash_list(record)]
        if record.head is not None:
            parts.append(record.head.fields())
        form = b"2" if record.head is None else b"4"
        return b"%b C %b %b\n%b" % (form, times, codec.name.encode(), codec.dumps(parts))
    body = dumps(record.data)
    if record.flashes or record.writes:
        body += b"\n" + dumps(_flash_list(record))
    if record.head is not None:
        return b"4 L %b\n%b\n%b" % (times, dumps(record.head.fields()), body)
    return b"%b L %b\n%b" % (b"2" if _TAGGED in body else b"1", times, body)


def _flash_list(record: Record) -> list[list[Any]]:
    entries = [[flash.id, flash.key, flash.value] for flash in record.flashes]
    if record.writes:
        entries.append([_WRITES + " ".join(record.writes), next(iter(record.data), ""), None])
    return entries


def encode_retired(retired: Retired) -> bytes:
    """Return the stored form of a retired record."""
    head = b"R %d %b" % (retired.dies_at, (retired.successor or "-").encode())
    if retired.why:
        return b"3 %b %b" % (head, retired.why.encode())
    return b"1 " + head if retired.original is None else b"1 %b\n%b" % (head, retired.original)


def decode_record(data: bytes, codecs: Mapping[bytes, Codec] | None = None) -> Record | Retired:
    """Decode a stored form, which may be damaged or written by another program.

    Args:
        data: The stored form.
        codecs: The available codecs, by name.

    Raises:
        NewerRecordError: A newer version of this package wrote the record, or its codec is not available or cannot
            read it.
        ValueError: *data* is not a record of this package, or is incomplete.
    """
    live = _LIVE.fullmatch(data)
    if live is not None:
        form, created_at, written_at, idle, text, flashes = live.groups()
        record = _record(created_at, written_at, idle, loads(text), loads(flashes) if flashes else [])
        if _TAGGED in data:
            record = _escaped(record) if form == b"1" else _proved(record)
        return record
    coded = _CODED.fullmatch(data)
    if coded is not None:
        form, created_at, written_at, idle, name, text = coded.groups()
        parts = _decoded(name, text, codecs or {}, 3 if form == b"4" else 2)
        return _proved(_record(created_at, written_at, idle, *parts))
    owned = _OWNED.fullmatch(data)
    if owned is not None:
        created_at, written_at, idle, head, text, flashes = owned.groups()
        return _proved(
            _record(created_at, written_at, idle, loads(text), loads(flashes) if flashes else [], loads(head))
        )
    line, _, body = data.partition(b"\n")
    words = line.split(b" ")
    if words[0] not in (b"1", b"3"):
        if words[0].isdigit() and len(words[0]) <= _FORMAT_DIGITS and int(words[0]) > NEWEST_FORMAT:
            raise NewerRecordError(f"record format {words[0].decode()} is newer than this package")
        raise ValueError("not a session record")
    if words[1:2] == [b"R"]:
        return _retired(words, body or None)
    raise ValueError("not a session record")


def _retired(words: list[bytes], original: bytes | None) -> Retired:
    form, _, dies_at, successor, *why = words
    if successor != b"-" and not _KEY.fullmatch(successor):
        raise ValueError("not a key")
    if len(why) != (form == b"3") or not all(map(_REASON.fullmatch, why)):
        raise ValueError("not a retired record")
    return Retired(
        None if successor == b"-" else successor.decode("ascii"),
        _number(dies_at),
        None if why else original,
        why[0].decode("ascii") if why else "",
    )


def _record(created_at: bytes, written_at: bytes, idle: bytes, fields: Any, flashes: Any, head: Any = None) -> Record:
    if type(fields) is not dict:
        raise ValueError("session data must be a JSON object")
    try:
        owned = None if head is None else head_of(head)
    except UnknownFieldError as error:
        raise NewerRecordError(str(error)) from None
    left, writes = _flashes(flashes) if flashes != [] else ((), ())
    return Record(int(created_at), int(written_at), None if idle == b"-" else int(idle), fields, left, owned, writes)


def _decoded(name: bytes, text: bytes, codecs: Mapping[bytes, Codec], count: int) -> list[Any]:
    codec = codecs.get(name)
    if codec is None:
        raise NewerRecordError(f"the codec {name.decode()!r} is not among those of the storage")
    try:
        parts = list(codec.loads(text))
    except Exception as error:
        raise NewerRecordError(f"the codec {name.decode()!r} cannot read it: {type(error).__name__}") from error
    if len(parts) != count:
        raise NewerRecordError(f"the codec {name.decode()!r} cannot read it: it has {len(parts)} parts")
    return parts


def _escaped(record: Record) -> Record:
    """Return a record of format 1 in the frozen form.  Format 1 has no tags: a key that looks like one is escaped."""
    data = {key: escape(value) for key, value in record.data.items()}
    flashes = tuple(Flash(flash.id, flash.key, escape(flash.value)) for flash in record.flashes)
    return record._replace(data=data, flashes=flashes)


def _proved(record: Record) -> Record:
    """Return *record* after checking that all of its tags can be read."""
    try:
        for value in (*record.data.values(), *(flash.value for flash in record.flashes)):
            thaw(value)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return record


def _number(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > _MAX_DIGITS:
        raise ValueError("not a number of seconds")
    return int(digits)


def _flashes(entries: Any) -> tuple[tuple[Flash, ...], tuple[str, ...]]:
    """Return the flashes, and the ids of writes."""
    if type(entries) is not list:
        raise ValueError("flashes must be a JSON array")
    flashes: list[Flash] = []
    writes: tuple[str, ...] = ()
    for entry in entries:
        if (
            type(entry) is not list
            or len(entry) != _FLASH_PARTS
            or type(entry[0]) is not str
            or type(entry[1]) is not str
        ):
            raise ValueError("a flash must have an id, a key and a value")
        if entry[0].startswith(_WRITES) and entry[2] is None:
            writes = tuple(entry[0].split(" ")[1:])
        else:
            flashes.append(Flash(*entry))
    return tuple(flashes), writes
