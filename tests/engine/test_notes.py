"""What modules on top note of a login, in the head of its record: by compare-and-set, whatever its id is by now."""

import asyncio

import pytest

from aiohttp_session_store import KeyedStorage, MemoryStorage, Session, StorageError
from aiohttp_session_store.record.format import NewerRecordError, Record, decode_record, encode_record
from aiohttp_session_store.record.head import Head, Note, owner_key
from aiohttp_session_store.session.session import state_of
from aiohttp_session_store.session.state import Place
from aiohttp_session_store.testing import FailingStorage, ManualClock
from tests.engine.suspending import RacyStorage

KINDS = pytest.mark.parametrize("kind", [MemoryStorage, RacyStorage])


def once(text: str) -> Note:
    return lambda before: text if before is None else before


async def log_in(storage: KeyedStorage, owner: str = "ada") -> tuple[str, Session]:
    session = await storage.read(None)
    session.login(owner)
    value = await storage.save(session)
    assert value
    return value, await storage.read(value)


def place_of(session: Session) -> Place:
    place = state_of(session).place
    assert place is not None
    return place


def line_of(session: Session) -> str:
    (line,) = state_of(session).lines
    return line


async def notes_of(storage: KeyedStorage, value: str) -> dict[str, str]:
    head = place_of(await storage.read(value)).record.head
    assert head is not None
    return dict(head.notes)


# --- by compare-and-set


@KINDS
async def test_of_many_first_notes_at_once_one_is_kept_and_all_learn_which(kind: type[KeyedStorage]) -> None:
    storage = kind()
    value, session = await log_in(storage)

    places = await asyncio.gather(*(storage.note(place_of(session), "x", once(str(n))) for n in range(20)))

    kept = (await notes_of(storage, value))["x"]
    assert [place and place.record.head and place.record.head.notes["x"] for place in places] == [kept] * 20


@KINDS
async def test_a_note_and_changes_of_data_at_once_are_all_kept(kind: type[KeyedStorage]) -> None:
    storage = kind()
    value, session = await log_in(storage)
    writers = [await storage.read(value) for _ in range(5)]
    for number, writer in enumerate(writers):
        writer[f"key {number}"] = number

    await asyncio.gather(storage.note(place_of(session), "x", once("y")), *map(storage.save, writers))

    assert await notes_of(storage, value) == {"x": "y"}
    assert len(await storage.read(value)) == 5


async def test_a_note_that_stays_as_it_is_is_not_written() -> None:
    storage = FailingStorage()
    value, session = await log_in(storage)
    await storage.note(place_of(session), "x", once("first"))
    session = await storage.read(value)

    with storage.failing("replace"):
        place = await storage.note(place_of(session), "x", once("second"))

    assert place is not None
    assert place.record.head is not None
    assert place.record.head.notes == {"x": "first"}


async def test_a_note_can_be_removed() -> None:
    storage = MemoryStorage()
    value, session = await log_in(storage)
    await storage.note(place_of(session), "x", once("y"))

    await storage.note(place_of(session), "x", lambda _: None)

    assert await notes_of(storage, value) == {}


@KINDS
async def test_a_logout_wins_against_a_note_that_is_under_way(kind: type[KeyedStorage]) -> None:
    storage = kind()
    value, session = await log_in(storage)
    noting = place_of(await storage.read(value))
    session.logout()
    await storage.save(session)

    assert await storage.note(noting, "x", once("y")) is None
    assert (await storage.read(value)).new


async def test_a_session_without_an_owner_has_no_notes() -> None:
    storage = MemoryStorage()
    session = await storage.read(None)
    session["cart"] = 1
    value = await storage.save(session)

    place = await storage.note(place_of(await storage.read(value)), "x", once("y"))

    assert place is not None
    assert place.record.head is None


# --- about the login, not about an id or the data


async def test_clearing_the_data_leaves_the_notes_alone() -> None:
    storage = MemoryStorage()
    value, session = await log_in(storage)
    await storage.note(place_of(session), "x", once("y"))
    session = await storage.read(value)
    session["a"] = 1
    session.clear()
    await storage.save(session)

    assert await notes_of(storage, value) == {"x": "y"}
    assert "x" not in await storage.read(value)


@KINDS
@pytest.mark.parametrize("change", ["renew", "replace", "confirm"])
async def test_another_id_carries_the_notes_on(kind: type[KeyedStorage], change: str) -> None:
    storage = kind()
    value, session = await log_in(storage)
    await storage.note(place_of(session), "x", once("y"))
    session = await storage.read(value)
    if change == "confirm":
        session.confirm_login()
    else:
        session.regenerate_id(change == "replace")

    value = await storage.save(session) or ""

    assert await notes_of(storage, value) == {"x": "y"}


@KINDS
async def test_a_note_follows_a_session_to_its_new_id(kind: type[KeyedStorage]) -> None:
    storage = kind()
    value, before = await log_in(storage)
    session = await storage.read(value)
    session.regenerate_id()
    value = await storage.save(session) or ""

    await storage.note(place_of(before), "x", once("y"))

    assert await notes_of(storage, value) == {"x": "y"}


@KINDS
async def test_an_old_id_that_is_made_anew_carries_on_what_was_noted_under_the_new_one(
    kind: type[KeyedStorage],
) -> None:
    """It is made from what the old id may read, which is older than the note."""
    storage = kind()
    value, _ = await log_in(storage)
    late = await storage.read(value)
    session = await storage.read(value)
    session.regenerate_id()
    await storage.save(session)
    await storage.note(place_of(session), "x", once("y"))
    late = await storage.read(value)
    late.regenerate_id(True)

    value = await storage.save(late) or ""

    assert await notes_of(storage, value) == {"x": "y"}


@pytest.mark.parametrize("owner", ["ada", "bob"])
async def test_a_login_begins_without_notes(owner: str) -> None:
    storage = MemoryStorage()
    value, session = await log_in(storage)
    await storage.note(place_of(session), "x", once("y"))
    session = await storage.read(value)
    session.login(owner)
    value = await storage.save(session) or ""

    assert await notes_of(storage, value) == {}


# --- finding a login


@KINDS
async def test_a_login_is_found_by_its_line_whatever_its_id_is_by_now(kind: type[KeyedStorage]) -> None:
    storage = kind()
    others = [await log_in(storage) for _ in range(3)]
    value, session = await log_in(storage)
    line = line_of(session)
    for _ in range(3):
        session = await storage.read(value)
        session.regenerate_id()
        value = await storage.save(session) or ""

        place = await storage.find_login(owner_key("ada"), line)
        assert place is not None
        assert place.key == session.key
    assert await storage.find_login(owner_key("bob"), line) is None
    assert await storage.find_login(owner_key("ada"), "other") is None
    assert len(others) == 3


async def test_a_login_that_has_ended_or_expired_is_not_found() -> None:
    clock = ManualClock()
    storage = MemoryStorage(clock=clock, idle_timeout=100)
    value, ended = await log_in(storage)
    session = await storage.read(value)
    session.logout()
    await storage.save(session)
    assert await storage.find_login(owner_key("ada"), line_of(ended)) is None

    _, expired = await log_in(storage)
    clock.advance(100)
    assert await storage.find_login(owner_key("ada"), line_of(expired)) is None


async def test_a_record_that_cannot_be_read_here_may_be_the_one_in_question() -> None:
    storage = MemoryStorage()
    _, session = await log_in(storage)
    place = place_of(session)
    await storage.replace(place.key, b"9 L 1 2 3\n{}", place.ends, place.stored.version)

    with pytest.raises(StorageError, match="cannot be read"):
        await storage.find_login(owner_key("ada"), line_of(session))


# --- the stored form


def test_the_stored_form_of_notes_is_fixed_and_without_notes_it_is_as_before() -> None:
    head = Head("42", 1, "l", 9, notes={"device": "d", "other": "o"})
    data = b'4 L 1 2 3\n{"owner":"42","authenticated_at":1,"line":"l","until":9,"notes":{"device":"d","other":"o"}}\n{}'

    assert encode_record(Record(1, 2, 3, {}, (), head)) == data
    assert decode_record(data) == Record(1, 2, 3, {}, (), head)
    assert b"notes" not in encode_record(Record(1, 2, 3, {}, (), Head("42", 1, "l", 9)))


@pytest.mark.parametrize("notes", ["[]", "1", "null", '{"a":1}', '{"a":null}', '"x"'])
def test_notes_of_another_type_are_damage(notes: str) -> None:
    data = f'4 L 1 2 3\n{{"owner":"42","authenticated_at":1,"line":"a","until":9,"notes":{notes}}}\n{{}}'

    with pytest.raises(ValueError, match="damaged") as caught:
        decode_record(data.encode())
    assert not isinstance(caught.value, NewerRecordError)
