"""The stored format, which outlives the process that wrote it, and how changes are merged into a record."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiohttp_session_store.record.changes import Changes, Flash
from aiohttp_session_store.record.format import (
    TOMBSTONE,
    NewerRecordError,
    Record,
    Retired,
    decode_record,
    encode_record,
    encode_retired,
)
from aiohttp_session_store.record.head import Head
from aiohttp_session_store.record.merge import merge, same_content
from aiohttp_session_store.record.values import freeze
from tests.record.strategies import data, text, typed, values

KEY = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

# Records in exactly this form are on disks and in databases; an edit here would log everybody out. To change the
# format, add a new one.
LIVE: list[tuple[bytes, Record]] = [
    (b"1 L 1700000000 1700000100 1209600\n{}", Record(1_700_000_000, 1_700_000_100, 1_209_600, {})),
    (b'1 L 1700000000 1700000100 -\n{"user":5}', Record(1_700_000_000, 1_700_000_100, None, {"user": 5})),
    (
        '1 L 1 2 3\n{"a":[1,2.5,null,true,{"b":"ż\\n"}]}\n[["hJ3kzX0q","notice","Saved."],["x","n",[1]]]'.encode(),
        Record(
            1,
            2,
            3,
            {"a": [1, 2.5, None, True, {"b": "ż\n"}]},
            (Flash("hJ3kzX0q", "notice", "Saved."), Flash("x", "n", [1])),
        ),
    ),
    (
        b'4 L 1 2 3\n{"owner":"42","authenticated_at":1,"line":"x7Yk_0-a","until":9}\n{"a":1}',
        Record(1, 2, 3, {"a": 1}, (), Head("42", 1, "x7Yk_0-a", 9)),
    ),
    (
        '4 L 1 2 -\n{"owner":"ż","authenticated_at":1,"line":"l","until":9,"label":"A"}\n{}\n[["x","n",1]]'.encode(),
        Record(1, 2, None, {}, (Flash("x", "n", 1),), Head("ż", 1, "l", 9, "A")),
    ),
]
RETIRED: list[tuple[bytes, Retired]] = [
    (b"1 R 1700000060 " + KEY.encode(), Retired(KEY, 1_700_000_060)),
    (
        b"1 R 1700000060 " + KEY.encode() + b'\n1 L 1 2 3\n{"a":1}',
        Retired(KEY, 1_700_000_060, b'1 L 1 2 3\n{"a":1}'),
    ),
    (b"1 R 0 -", TOMBSTONE),
]


def changes(
    values: dict[str, Any] | None = None,
    *,
    unset: tuple[str, ...] = (),
    cleared: bool = False,
    used: tuple[str, ...] = (),
    added: tuple[Flash, ...] = (),
) -> Changes:
    return Changes(values or {}, frozenset(unset), cleared, frozenset(used), added)


# --- the stored format


@pytest.mark.parametrize(("stored", "record"), LIVE)
def test_a_live_record_is_stored_as_exactly_these_bytes(stored: bytes, record: Record) -> None:
    assert encode_record(record) == stored


@pytest.mark.parametrize(("stored", "retired"), RETIRED)
def test_a_retired_record_is_stored_as_exactly_these_bytes(stored: bytes, retired: Retired) -> None:
    assert encode_retired(retired) == stored


@pytest.mark.parametrize(("stored", "record"), [*LIVE, *RETIRED])
def test_records_stored_by_earlier_versions_are_read(stored: bytes, record: Record | Retired) -> None:
    assert decode_record(stored) == record


NEWER_HEAD = b'4 L 1 2 3\n{"owner":"42","authenticated_at":1,"line":"l","until":9,"of a later version":1}\n{}'


@pytest.mark.parametrize("stored", [b"5 L 1 2 3 4 5\nwhatever", b"5", b"9999 X\n\xff", b"10 R", NEWER_HEAD])
def test_a_newer_format_is_not_mistaken_for_damage(stored: bytes) -> None:
    with pytest.raises(NewerRecordError, match="newer than this package"):
        decode_record(stored)


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"\n",
        b"0 L 1 2 3\n{}",
        b"01 L 1 2 3\n{}",
        b"99999 L 1 2 3\n{}",
        b"-2 L",
        b"1",
        b"1 L",
        b"1 X 1 2 3\n{}",
        b"1 L 1 2\n{}",
        b"2",
        b"2 L 1 2 3 4\n{}",
        b"2 R 1 -",
        b"2 C 1 2 3\n{}",
        b"2 C 1 2 3 UPPER\n{}",
        b"1 L 1 2 3 4\n{}",
        b"1 L 1 2 3",
        b"1 L 1 2 3\n",
        b"1 L 1 2 3\n[]",
        b'1 L 1 2 3\n{"a":1',
        b'1 L 1 2 3\n{"a":NaN}',
        b'1 L 1 2 3\n{"a":1e999}',
        b"1 L a 2 3\n{}",
        b"1 L -1 2 3\n{}",
        b"1 L 1 2 \n{}",
        b"1 L 1234567890123456 2 3\n{}",
        b"1 L 1 2 3\n{}\n{}",
        b'1 L 1 2 3\n{}\n[["id","key"]]',
        b'1 L 1 2 3\n{}\n[["id",1,"value"]]',
        b'1 L 1 2 3\n{}\n[[1,"key","value"]]',
        b'1 L 1 2 3\n{}\n["abc"]',
        b"4 L 1 2 3\n{}\n{}",
        b"4 L 1 2 3\n[]\n{}",
        b'4 L 1 2 3\n{"owner":"42","authenticated_at":1,"line":"l"}\n{}',
        b'4 L 1 2 3\n{"owner":42,"authenticated_at":1,"line":"l","until":9}\n{}',
        b'4 L 1 2 3\n{"owner":"42","authenticated_at":1,"line":"l","until":9,"label":null}\n{}',
        b"1 R 1",
        b"1 R x " + KEY.encode(),
        b"1 R 1 " + KEY.encode() + b" 2",
        b"1 R 1 \xff",
        b"1 R 1 ../../../../etc/passwd",
        b"1 R 1 " + KEY[1:].encode(),
        b"1 R 1 " + KEY.upper().encode(),
        LIVE[2][0][:-1],
        LIVE[2][0][:-20],
    ],
)
def test_damage_is_a_value_error_and_not_a_newer_format(stored: bytes) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  any kind except one
        decode_record(stored)

    assert not isinstance(caught.value, NewerRecordError)


@given(st.binary(max_size=100))
def test_any_bytes_decode_to_a_record_or_a_value_error(stored: bytes) -> None:
    try:
        record = decode_record(stored)
    except ValueError:
        return
    assert decode_record(stored) == record


@given(st.sampled_from([stored for stored, _ in [*LIVE, *RETIRED]]), st.data())
def test_any_damaged_record_decodes_to_a_record_or_a_value_error(stored: bytes, drawn: st.DataObject) -> None:
    start = drawn.draw(st.integers(0, len(stored)))
    end = drawn.draw(st.integers(start, len(stored)))
    try:
        record = decode_record(stored[:start] + drawn.draw(st.binary(max_size=8)) + stored[end:])
    except ValueError:
        return
    if isinstance(record, Record):
        encode_record(record)  # a record that can be read can be written again


flashes = st.builds(Flash, id=text, key=text, value=values.map(lambda value: freeze(value, "k")))
seconds = st.integers(0, 10**14)


@given(
    st.builds(
        Record,
        created_at=seconds,
        written_at=seconds,
        idle_timeout=st.none() | seconds,
        data=data,
        flashes=st.lists(flashes, max_size=3).map(tuple),
        head=st.none()
        | st.builds(Head, owner=text, authenticated_at=seconds, line=text, until=seconds, label=st.none() | text),
        writes=st.lists(st.sampled_from(["Gx5fQ9aL", "pW3kZb0c", "-_______"]), max_size=9).map(tuple),
    )
)
def test_every_record_survives_a_round_trip(record: Record) -> None:
    loaded = decode_record(encode_record(record))

    assert isinstance(loaded, Record)
    assert loaded == record
    assert typed(loaded.data) == typed(record.data)


@pytest.mark.no_cover  # runs the same lines thousands of times
@given(data)
def test_a_truncated_record_is_never_mistaken_for_a_complete_one(data: dict[str, Any]) -> None:
    stored = encode_record(Record(1, 2, 3, data))
    for length in range(len(stored)):
        with pytest.raises(ValueError):  # noqa: PT011  any kind
            decode_record(stored[:length])


def test_the_time_of_writing_does_not_count_as_content() -> None:
    assert same_content(b'1 L 1 2 3\n{"a":1}', b'1 L 1 9 -\n{"a":1}')


def test_flashes_count_as_content() -> None:
    assert not same_content(b'1 L 1 2 3\n{"a":1}', b'1 L 1 2 3\n{"a":1}\n[["i","k",1]]')


# --- merging

RECORD = Record(1, 2, 3, {"a": 1, "b": 2}, (Flash("f1", "notice", "one"), Flash("f2", "other", "two")))


def test_unchanged_keys_stay() -> None:
    assert merge(RECORD, [changes({"c": 3})], 9, 8).data == {"a": 1, "b": 2, "c": 3}


def test_an_unset_key_is_removed_and_may_be_missing() -> None:
    assert merge(RECORD, [changes(unset=("a", "missing"))], 9, 8).data == {"b": 2}


def test_of_two_changes_of_one_key_the_later_wins() -> None:
    assert merge(RECORD, [changes({"a": 2}), changes({"a": 3}), changes({"b": 0})], 9, 8).data == {"a": 3, "b": 0}


def test_clearing_removes_keys_and_flashes_of_other_requests_too() -> None:
    merged = merge(RECORD, [changes({"theirs": 1}), changes({"mine": 2}, cleared=True)], 9, 8)

    assert (merged.data, merged.flashes) == ({"mine": 2}, ())


def test_changes_after_a_clear_stay() -> None:
    assert merge(RECORD, [changes(cleared=True), changes({"later": 1})], 9, 8).data == {"later": 1}


def test_only_used_flashes_are_removed() -> None:
    assert merge(RECORD, [changes(used=("f1", "gone before"))], 9, 8).flashes == (Flash("f2", "other", "two"),)


def test_a_new_flash_replaces_one_with_the_same_key() -> None:
    new = Flash("f3", "notice", "three")

    assert merge(RECORD, [changes(added=(new,))], 9, 8).flashes == (Flash("f2", "other", "two"), new)


def test_reading_a_flash_does_not_use_up_one_that_was_added_meanwhile() -> None:
    new = Flash("f3", "notice", "three")
    merged = merge(RECORD, [changes(added=(new,)), changes(used=("f1", "f2"))], 9, 8)

    assert merged.flashes == (new,)


def test_merging_does_not_change_the_record_and_sets_the_time_of_writing() -> None:
    before = encode_record(RECORD)
    merged = merge(RECORD, [changes({"a": 5}, unset=("b",), used=("f1",), added=(Flash("x", "y", 1),))], 9, 8)

    assert encode_record(RECORD) == before
    assert (merged.created_at, merged.written_at, merged.idle_timeout) == (1, 9, 8)
