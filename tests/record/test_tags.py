"""Types beyond JSON: their stored form, and records from before there were tags, which must still read the same."""

import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given

from aiohttp_session_store.record.changes import Flash
from aiohttp_session_store.record.format import Record, decode_record, encode_record
from aiohttp_session_store.record.values import escape, freeze, thaw
from tests.record.strategies import plain, typed, values

MOMENT = datetime.datetime(2024, 5, 1, 12, 30, 0, 250, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))

# Values in exactly this form are on disks and in databases; an edit here would break sessions. Add a new tag instead.
FROZEN: list[tuple[Any, Any]] = [
    (MOMENT, {"$datetime": "2024-05-01T12:30:00.000250+02:00"}),
    (datetime.datetime(2024, 5, 1), {"$datetime": "2024-05-01T00:00:00"}),  # noqa: DTZ001  naive values too
    (datetime.datetime(2026, 10, 25, 2, fold=1), {"$datetime": "2026-10-25T02:00:00;fold=1"}),  # noqa: DTZ001  the second 02:00
    (datetime.date(2024, 5, 1), {"$date": "2024-05-01"}),
    (UUID(int=5), {"$uuid": "00000000-0000-0000-0000-000000000005"}),
    (Decimal("1.10"), {"$decimal": "1.10"}),
    (b"\xff\x00", {"$bytes": "/wA="}),
    ((1, "a"), {"$tuple": [1, "a"]}),
    ((), {"$tuple": []}),
    ({2, 10}, {"$set": [10, 2]}),
    (set(), {"$set": []}),
    ({"$set": [1]}, {"$$set": [1]}),
    ({"$$x": 1, "y": {"$": 2}}, {"$$$x": 1, "y": {"$$": 2}}),
    ([{"a": (b"",)}], [{"a": {"$tuple": [{"$bytes": ""}]}}]),
]


@pytest.mark.parametrize(("value", "frozen"), FROZEN, ids=[repr(frozen)[:40] for _, frozen in FROZEN])
def test_a_value_is_stored_in_exactly_this_form(value: Any, frozen: Any) -> None:
    assert freeze(value, "k") == frozen
    assert typed(thaw(frozen)) == typed(value)


@given(values)
def test_every_value_in_a_record_comes_back_with_its_types(value: Any) -> None:
    flash = Flash("id", "k", freeze(value, "k"))
    record = Record(1, 2, 3, {"k": freeze(value, "k")}, (flash,))
    found = decode_record(encode_record(record))

    assert isinstance(found, Record)
    assert typed(thaw(found.data["k"])) == typed(value)
    assert typed(thaw(found.flashes[0].value)) == typed(value)


@given(plain)
def test_a_record_from_before_there_were_tags_reads_the_same(value: Any) -> None:
    """Even if a value looks like a tag."""
    from aiohttp_session_store.record.json_encoders import dumps

    found = decode_record(b"1 L 1 2 3\n" + dumps({"k": value}))

    assert isinstance(found, Record)
    assert typed(thaw(found.data["k"])) == typed(value)
    assert typed(thaw(escape(value))) == typed(value)


@pytest.mark.parametrize(
    ("data", "head"),
    [
        ({"a": 1, "b": [None, {"c": "x"}]}, b"1 L"),
        ({"a": "costs $5"}, b"1 L"),
        ({"a": {"$date": "2024-05-01"}}, b"2 L"),
        ({"a": {"$$escaped": 1}}, b"2 L"),
    ],
)
def test_records_without_tags_stay_readable_for_earlier_versions(data: dict[str, Any], head: bytes) -> None:
    assert encode_record(Record(1, 2, 3, data))[:3] == head


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":{"$future":1}}',
        b'{"a":{"$datetime":5}}',
        b'{"a":{"$datetime":"yesterday"}}',
        b'{"a":{"$datetime":";fold=1"}}',
        b'{"a":{"$datetime":"2024-05-01T00:00:00;fold=2"}}',
        b'{"a":{"$date":null}}',
        b'{"a":{"$uuid":"x"}}',
        b'{"a":{"$uuid":5}}',
        b'{"a":{"$decimal":"x"}}',
        b'{"a":{"$bytes":"*"}}',
        b'{"a":{"$bytes":5}}',
        b'{"a":{"$set":5}}',
        b'{"a":{"$set":[[]]}}',
        b'{"a":{"$tuple":"ab"}}',
        b'{"a":[{"b":{"$tuple":{}}}]}',
        b'{"a":' + b'{"$tuple":[' * 5000 + b"]}" * 5000 + b"}",
    ],
)
def test_a_tag_with_an_invalid_value_is_damage(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  any kind
        decode_record(b"2 L 1 2 3\n" + text)
