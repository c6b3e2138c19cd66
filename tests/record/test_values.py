"""Only values that come back unchanged are stored; others are refused with the path of the offending value."""

import array
import dataclasses
import datetime
import enum
import importlib
import ipaddress
import pathlib
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg.pgproto.pgproto
import attrs
import markupsafe
import multidict
import pytest
import yarl

from aiohttp_session_store.record.values import MAX_DEPTH, MAX_INTEGER, MIN_INTEGER, check_key, freeze, thaw
from tests.record.strategies import typed

dateutil_tz: Any = importlib.import_module("dateutil.tz")  # it has no types


class Point(NamedTuple):
    x: int


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    ONE = 1


class Role(str, enum.Enum):  # noqa: UP042  the old way of writing a StrEnum; its str() is "Role.ADMIN"
    ADMIN = "admin"


class MyFloat(float):
    pass


class MyInt(int):
    """With a docstring, which is not an addition."""

    __slots__ = ()


class MyStr(str):
    __slots__ = ()


class MyList(list[int]):
    pass


class MyDict(dict[str, Any]):
    pass


class MyTuple(tuple[int, ...]):
    __slots__ = ()


class MySet(set[int]):
    pass


class MyBytes(bytes):
    pass


class MyDate(datetime.date):
    pass


class MyDatetime(datetime.datetime):
    pass


class MyUUID(UUID):
    pass


class MyDecimal(Decimal):
    pass


class Grandchild(MyDecimal):
    pass


class TaggedBy(type):
    """Like the classes that freezegun puts in the place of ``datetime``: a base counts as one of them."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, datetime.datetime)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, datetime.datetime)


class FakeDatetime(datetime.datetime, metaclass=TaggedBy):
    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return cls(2024, 5, 1, tzinfo=tz)


class Price(Decimal):
    currency = "EUR"


class Shown(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "***"


class Slotted(Decimal):
    __slots__ = ("_currency",)


class Inherited(Price):
    pass


class Typed(UUID):
    @property
    def kind(self) -> str:
        return "user"


@dataclasses.dataclass
class Point2:
    x: int = 1


@attrs.define
class Point3:
    x: int = 1


class Model:
    """Has what a model of pydantic has."""

    model_fields: dict[str, Any] = {}  # noqa: RUF012  as in pydantic

    def model_dump(self) -> dict[str, Any]:
        return {}


class Timestamp(datetime.datetime):
    """Has what that of pandas has."""

    def to_pydatetime(self) -> datetime.datetime:
        return datetime.datetime.fromisoformat(self.isoformat())


class Waiting:
    def __await__(self) -> Iterator[Any]:
        yield


class London(datetime.tzinfo):
    """Has rules, and answers with its offset in winter if it is asked for no datetime, which Python permits."""

    def utcoffset(self, dt: datetime.datetime | None) -> datetime.timedelta:
        return datetime.timedelta(hours=int(dt is not None and 4 <= dt.month <= 9))

    def dst(self, dt: datetime.datetime | None) -> datetime.timedelta:
        return self.utcoffset(dt)

    def tzname(self, dt: datetime.datetime | None) -> str:
        return "GMT"


class Strict(London):
    def utcoffset(self, dt: datetime.datetime | None) -> datetime.timedelta:
        assert dt is None or dt.tzinfo is self
        return datetime.timedelta(hours=dt.month) if dt else datetime.timedelta(hours=None)  # type: ignore[arg-type]


class PytzUTC(datetime.tzinfo):
    """Like ``pytz.utc``, and those of database drivers: a class of its own, no rules."""

    def utcoffset(self, dt: datetime.datetime | None) -> datetime.timedelta:
        return datetime.timedelta(0)

    def dst(self, dt: datetime.datetime | None) -> datetime.timedelta:
        return datetime.timedelta(0)

    def tzname(self, dt: datetime.datetime | None) -> str:
        return "UTC"


noted = MyDecimal(1)
noted.note = "in the dict of the value"  # type: ignore[attr-defined]

PARIS = zoneinfo.ZoneInfo("Europe/Paris")
REFUSED: list[tuple[Any, str]] = [
    (float("nan"), "nan cannot be represented in JSON"),
    (float("inf"), "inf cannot be represented in JSON"),
    (float("-inf"), "-inf cannot be represented in JSON"),
    (Decimal("NaN"), "NaN is not a finite number"),
    (Decimal("-Infinity"), "-Infinity is not a finite number"),
    (Point(1), "a tests.record.test_values.Point would come back as a plain tuple; store tuple(value)"),
    (frozenset({1}), "a frozenset would come back as set; store set(value)"),
    (bytearray(b""), "a bytearray would come back as bytes; store bytes(value)"),
    (memoryview(b""), "a memoryview would come back as bytes; store bytes(value)"),
    (
        datetime.datetime(2024, 1, 1, tzinfo=PARIS),
        "a datetime in the zone Europe/Paris would come back with only its offset; store value.astimezone(",
    ),
    (
        datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(microseconds=1))),
        "a datetime with the offset 0:00:00.000001 would come back with another one",
    ),
    (datetime.datetime(2024, 1, 1, tzinfo=London()), "a datetime in the zone "),
    (datetime.datetime(2024, 1, 1, tzinfo=Strict()), "a datetime in the zone "),
    (
        datetime.datetime(2024, 1, 1, tzinfo=zoneinfo.ZoneInfo("Europe/London")),
        "a datetime in the zone Europe/London would come back with only its offset",
    ),
    (datetime.timedelta(1), "a datetime.timedelta cannot be stored; store value.total_seconds()"),
    (datetime.time(1), "a datetime.time cannot be stored; store value.isoformat()"),
    (object(), "an object cannot be stored"),
    (1j, "a complex cannot be stored"),
    (range(3), "a range cannot be stored; store list(value)"),
    (deque(), "a collections.deque cannot be stored; store list(value)"),
    ({}.keys(), "a dict_keys cannot be stored; store list(value)"),
    (MappingProxyType({}), "a mappingproxy cannot be stored; store dict(value)"),
    (multidict.MultiDict(), "a multidict._multidict.MultiDict cannot be stored; store dict(value)"),
    (Waiting(), "a tests.record.test_values.Waiting cannot be stored; await it, and store the result"),
    (
        pathlib.PurePosixPath("x"),
        f"a {pathlib.PurePosixPath.__module__}.PurePosixPath cannot be stored; store str(value)",
    ),
    (yarl.URL("x"), "a yarl.URL cannot be stored; store str(value)"),
    (ipaddress.ip_network("10.0.0.0/8"), "an ipaddress.IPv4Network cannot be stored; store str(value)"),
    (Fraction(1), "a fractions.Fraction cannot be stored; store str(value)"),
    (PARIS, "a zoneinfo.ZoneInfo cannot be stored; store str(value)"),
    (array.array("i"), "an array.array cannot be stored; store value.tolist()"),
    (Point2(), "a tests.record.test_values.Point2 is a dataclass; store dataclasses.asdict(value)"),
    (Point3(), "a tests.record.test_values.Point3 is a class of attrs; store attrs.asdict(value)"),
    (Model(), "a tests.record.test_values.Model is a model of pydantic; store value.model_dump("),
    (
        Timestamp(2024, 1, 1),
        "a tests.record.test_values.Timestamp would come back as a plain datetime; store value.to_p",
    ),
    ("\ud800", "a string with half a surrogate pair is not Unicode text"),
    ("ok \udfff", "a string with half a surrogate pair is not Unicode text"),
    (MAX_INTEGER + 1, "an integer beyond 64 bits; store it as a string"),
    (MIN_INTEGER - 1, "an integer beyond 64 bits; store it as a string"),
    (Colour.RED, "a tests.record.test_values.Colour is a member of an Enum; store value.value, and read it as Colour("),
    (Role.ADMIN, "a tests.record.test_values.Role is a member of an Enum; store value.value, and read it as Role("),
    (Level.ONE, "a tests.record.test_values.Level is a member of an Enum; store value.value, and read it as Level("),
    (Price(1), "a tests.record.test_values.Price would come back as a plain Decimal; store Decimal(value)"),
    (Inherited(1), "a tests.record.test_values.Inherited would come back as a plain Decimal; store Decimal(value)"),
    (Slotted(1), "a tests.record.test_values.Slotted would come back as a plain Decimal; store Decimal(value)"),
    (noted, "a tests.record.test_values.MyDecimal would come back as a plain Decimal; store Decimal(value)"),
    (Typed(int=1), "a tests.record.test_values.Typed would come back as a plain UUID; store uuid.UUID(int=value.int)"),
    (Shown("x"), "a tests.record.test_values.Shown would come back as a plain str; store str(value)"),
    (markupsafe.Markup("x"), "a markupsafe.Markup would come back as a plain str; store str(value)"),
    (defaultdict(list), "a collections.defaultdict would come back as a plain dict; store dict(value)"),
    (OrderedDict(a=1), "a collections.OrderedDict would come back as a plain dict; store dict(value)"),
    (Counter("a"), "a collections.Counter would come back as a plain dict; store dict(value)"),
]


NAMES = [f"{type(value).__name__} {number}" for number, (value, _) in enumerate(REFUSED)]  # the same in every process


@pytest.mark.parametrize(("value", "reason"), REFUSED, ids=NAMES)
def test_a_value_that_would_not_come_back_unchanged_is_refused(value: Any, reason: str) -> None:
    with pytest.raises(TypeError) as caught:
        freeze(value, "k")

    assert str(caught.value).startswith(f"session['k']: {reason}")


@pytest.mark.parametrize(("value", "reason"), REFUSED, ids=NAMES)
def test_the_message_names_the_path_of_the_offending_value(value: Any, reason: str) -> None:
    with pytest.raises(TypeError) as caught:
        freeze({"a": [0, {"b c": value}], "z": 1}, "cart")

    assert str(caught.value).startswith(f"session['cart']['a'][1]['b c']: {reason}")


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (1, "keys are strings, and this one is of type int"),
        (None, "keys are strings, and this one is of type NoneType"),
        (True, "keys are strings, and this one is of type bool"),
        ((1, 2), "keys are strings, and this one is of type tuple"),
        (Colour.RED, "keys are strings, and this one is of type tests.record.test_values.Colour; use its .value"),
        (Shown("k"), "keys are strings, and this one is of type tests.record.test_values.Shown"),
        ("\ud800", "a string with half a surrogate pair is not Unicode text"),
    ],
)
def test_a_key_of_a_dict_that_json_would_change_is_refused(key: Any, reason: str) -> None:
    with pytest.raises(TypeError) as caught:
        freeze([{key: 1}], "k")

    assert str(caught.value) == f"session['k'][0][{key!r}]: {reason}"


@pytest.mark.parametrize("key", [1, None, b"k", Colour.RED, ("k",), "\udc00"])
def test_a_key_of_the_session_that_json_would_change_is_refused(key: Any) -> None:
    with pytest.raises(TypeError) as caught:
        check_key(key)

    assert str(caught.value).startswith(f"session key {key!r}: ")


NOTHING_ADDED: list[tuple[Any, Any]] = [
    (asyncpg.pgproto.pgproto.UUID("00000000-0000-0000-0000-000000000007"), UUID(int=7)),
    (MyStr("ż"), "ż"),
    (MyInt(5), 5),
    (MyFloat(0.5), 0.5),
    (MyList([1]), [1]),
    (MyDict(a=MyStr("x")), {"a": "x"}),
    (MyTuple((1, 2)), (1, 2)),
    (MySet({1}), {1}),
    (MyBytes(b"x"), b"x"),
    (MyDate(2024, 5, 1), datetime.date(2024, 5, 1)),
    (MyDatetime(2024, 5, 1, tzinfo=datetime.UTC), datetime.datetime(2024, 5, 1, tzinfo=datetime.UTC)),
    (FakeDatetime.now(datetime.UTC), datetime.datetime(2024, 5, 1, tzinfo=datetime.UTC)),
    (MyUUID(int=7), UUID(int=7)),
    (MyDecimal("1.10"), Decimal("1.10")),
    (Grandchild("1.10"), Decimal("1.10")),
    ({multidict.istr("Accept"): MyStr("text/html")}, {"Accept": "text/html"}),
]


@pytest.mark.parametrize(("value", "base"), NOTHING_ADDED, ids=lambda value: type(value).__name__)
def test_a_subclass_that_adds_nothing_is_stored_as_its_base(value: Any, base: Any) -> None:
    assert freeze([value], "k") == freeze([base], "k")
    assert typed(thaw(freeze(value, "k"))) == typed(base)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (MyFloat("nan"), "nan cannot be represented in JSON"),
        (MyInt(MAX_INTEGER + 1), "an integer beyond 64 bits"),
        (MyDecimal("NaN"), "NaN is not a finite number"),
        (MyStr("\ud800"), "a string with half a surrogate pair"),
    ],
)
def test_a_value_of_a_subclass_is_held_to_the_rules_of_its_base(value: Any, reason: str) -> None:
    with pytest.raises(TypeError, match=reason):
        freeze(value, "k")


def test_a_list_of_a_subclass_that_contains_itself_is_refused() -> None:
    cycle: Any = MyList()
    cycle.append(cycle)

    with pytest.raises(TypeError, match="nested deeper than 100 levels, or containing itself"):
        freeze(cycle, "k")


def test_a_key_of_a_subclass_that_adds_nothing_becomes_a_plain_string() -> None:
    assert [type(key) for key in freeze({MyStr("$a"): 1}, "k")] == [str]
    assert type(check_key(MyStr("k"))) is str


@pytest.mark.parametrize(
    "zone",
    [
        zoneinfo.ZoneInfo("UTC"),
        zoneinfo.ZoneInfo("Etc/UTC"),
        zoneinfo.ZoneInfo("Zulu"),
        zoneinfo.ZoneInfo("Etc/GMT"),
        dateutil_tz.UTC,
        dateutil_tz.gettz("Etc/UTC"),
        PytzUTC(),
    ],
    ids=["UTC", "Etc/UTC", "Zulu", "Etc/GMT", "dateutil UTC", "dateutil Etc/UTC", "like pytz"],
)
def test_every_zone_that_is_utc_is_stored_as_utc(zone: datetime.tzinfo) -> None:
    found = thaw(freeze(datetime.datetime(2024, 5, 1, 12, tzinfo=zone), "k"))

    assert typed(found) == typed(datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.UTC))


@pytest.mark.parametrize("zone", [zoneinfo.ZoneInfo("Etc/GMT-2"), dateutil_tz.tzoffset("x", 7200)], ids=repr)
def test_a_zone_that_is_nothing_but_an_offset_is_stored_as_it(zone: datetime.tzinfo) -> None:
    assert freeze(datetime.datetime(2024, 5, 1, tzinfo=zone), "k") == {"$datetime": "2024-05-01T00:00:00+02:00"}


def test_the_message_about_a_key_with_a_surrogate_can_be_encoded() -> None:
    with pytest.raises(TypeError) as caught:
        check_key("\ud800")

    assert str(caught.value).encode() == (
        rb"session key '\ud800': a string with half a surrogate pair is not Unicode text"
    )


def test_a_list_that_contains_itself_is_refused() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)

    with pytest.raises(TypeError, match="nested deeper than 100 levels, or containing itself"):
        freeze(cycle, "k")


def test_a_dict_that_contains_itself_through_a_list_is_refused() -> None:
    cycle: dict[str, Any] = {"a": []}
    cycle["a"].append(cycle)

    with pytest.raises(TypeError, match=r"session\['k'\]\['a'\]\[0\]\['a'\].*or containing itself"):
        freeze(cycle, "k")


@pytest.mark.parametrize("value", [(1, [object()]), {1, (object,)}])
def test_the_path_reaches_into_tuples_and_sets(value: Any) -> None:
    with pytest.raises(TypeError, match=r"session\['k'\]\[\d\]\[\d\]: "):
        freeze(value, "k")


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def test_more_than_a_hundred_levels_of_nesting_are_refused() -> None:
    with pytest.raises(TypeError, match="nested deeper than 100 levels"):
        freeze(nested(MAX_DEPTH + 1), "k")


def test_a_frozen_value_is_a_deep_copy() -> None:
    value = {"a": [{"b": [1]}]}
    frozen = freeze(value, "k")

    value["a"][0]["b"].append(2)

    assert frozen == {"a": [{"b": [1]}]}
