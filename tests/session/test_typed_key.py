"""Typed keys, and values beyond JSON, as a handler uses them."""

import dataclasses
import datetime
import enum
import subprocess
import sys
import uuid
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NewType, TypedDict
from uuid import UUID, uuid4

import asyncpg.pgproto.pgproto
import pytest
import typing_extensions

from aiohttp_session_store import ConfigurationError, CookieStorage, MemoryStorage, SessionDestroyedError, SessionKey
from tests.session.conftest import Load

USER_ID = SessionKey("user_id", int)
CART = SessionKey("cart", list[int])
PRICE = SessionKey("price", float)
SINCE = SessionKey("since", datetime.date)
BEYOND: dict[str, Any] = {
    "when": datetime.datetime(2024, 5, 1, tzinfo=datetime.UTC),
    "day": datetime.date(2024, 5, 1),
    "uuid": UUID(int=7),
    "price": Decimal("1.10"),
    "raw": b"\xff",
    "tags": {"a", "b"},
    "point": (1, (2, 3)),
}


@pytest.mark.parametrize("kind", [MemoryStorage, CookieStorage])
async def test_types_beyond_json_come_back(kind: Any) -> None:
    storage = kind()
    session = await storage.read(None)
    session.update(BEYOND)
    session["nested"] = {"$odd": [BEYOND, {"$set": 1}]}
    session.flash("notice", (1, b"x"))
    value = await storage.save(session)

    found = await storage.read(value)
    assert dict(found) == {**BEYOND, "nested": {"$odd": [BEYOND, {"$set": 1}]}, "notice": (1, b"x")}
    assert found["notice"] == (1, b"x")  # a second read
    assert not found.dirty


async def test_a_change_inside_a_set_is_noticed(load: Load, storage: MemoryStorage) -> None:
    session = await load(tags={"a"}, raw=b"1", point=(1, [2]))
    session["tags"].add("b")
    session["point"][1].append(3)
    assert session["raw"] == b"1"
    assert session.dirty
    await storage.save(session)

    found = await storage.read(session.id)
    assert dict(found) == {"tags": {"a", "b"}, "raw": b"1", "point": (1, [2, 3])}


async def test_each_request_has_its_own_copy_of_a_set(load: Load, storage: MemoryStorage) -> None:
    session = await load(tags={"a"})
    session["tags"].add("b")

    assert (await storage.read(session.id))["tags"] == {"a"}


async def test_size_is_the_size_of_the_stored_form(load: Load) -> None:
    session = await load(raw=b"123", day=datetime.date(2024, 5, 1))
    before = session.size
    assert session["raw"] == b"123"

    assert session.size == before == len('{"raw":{"$bytes":"MTIz"},"day":{"$date":"2024-05-01"}}')


async def test_discard_undoes_a_change_inside_a_set(load: Load) -> None:
    session = await load(tags={"a"})
    session["tags"].add("b")
    session.discard()

    assert session["tags"] == {"a"}


# --- typed keys


async def test_a_typed_key_and_its_name_are_the_same_key(load: Load) -> None:
    session = await load(user_id=5)

    assert session[USER_ID] == session["user_id"] == 5
    session[USER_ID] = 6
    assert session["user_id"] == 6
    assert USER_ID in session  # type: ignore[comparison-overlap]  # the mapping's keys are strings
    assert session.has(USER_ID)
    assert list(session) == ["user_id"]
    assert session.pop(USER_ID) == 6
    assert session.get(USER_ID) is None
    assert session.get(USER_ID, 0) == 0
    assert session.pop(USER_ID, "gone") == "gone"
    assert session.setdefault(USER_ID, 7) == 7
    session.set(USER_ID, 8)
    session.set(USER_ID, None)
    assert not session.has(USER_ID)
    session[USER_ID] = 9
    session.unset(USER_ID)
    session.unset(USER_ID)
    session.setdefault(CART, []).append(1)
    assert session[CART] == [1]
    del session[CART]
    with pytest.raises(KeyError, match="cart"):
        session[CART]
    with pytest.raises(KeyError, match="cart"):
        session.pop(CART)


async def test_a_typed_flash_is_read_by_the_next_request(load: Load, storage: MemoryStorage) -> None:
    session = await load()
    session.flash(USER_ID, 5)
    await storage.save(session)

    assert (await storage.read(session.id))[USER_ID] == 5


OTHER_TYPES: list[tuple[SessionKey[Any], Any, str]] = [
    (USER_ID, "5", "session['user_id'] is of type str, but SessionKey('user_id', int) expects int"),
    (USER_ID, True, "session['user_id'] is of type bool"),
    (USER_ID, None, "session['user_id'] is of type NoneType"),
    (USER_ID, 5.0, "session['user_id'] is of type float"),
    (CART, {}, "session['cart'] is of type dict, but SessionKey('cart', list) expects list"),
    (PRICE, True, "session['price'] is of type bool"),
    (SINCE, datetime.datetime(2024, 5, 1), "session['since'] is of type datetime.datetime, but"),  # noqa: DTZ001
]
EVERY_OTHER_TYPE = pytest.mark.parametrize(("key", "value", "reason"), OTHER_TYPES, ids=[row[2] for row in OTHER_TYPES])


@EVERY_OTHER_TYPE
async def test_assigning_a_value_of_another_type_is_an_error_that_names_the_key(
    load: Load, key: SessionKey[Any], value: Any, reason: str
) -> None:
    session = await load()

    works: list[Callable[[], object]] = [
        lambda: session.__setitem__(key, value),
        lambda: session.setdefault(key, value),
        lambda: session.flash(key, value),
    ]
    for work in works:
        with pytest.raises(TypeError) as caught:
            work()
        assert str(caught.value).startswith(reason)
    assert not session.dirty


@EVERY_OTHER_TYPE
async def test_a_stored_value_of_another_type_reads_as_missing(load: Load, key: Any, value: Any, reason: str) -> None:
    session = await load(**{key.name: value})

    assert key not in session
    assert not session.has(key)
    assert session.get(key) is None
    assert session.get(key, "default") == "default"
    assert session.pop(key, "default") == "default"
    reads: list[Callable[[], object]] = [lambda: session[key], lambda: session.pop(key)]
    for read in reads:
        with pytest.raises(KeyError) as caught:
            read()
        assert caught.value.args[0].startswith(reason)
    assert session[key.name] == value
    assert not session.dirty


async def test_setdefault_replaces_a_value_of_another_type(load: Load, storage: MemoryStorage) -> None:
    session = await load(cart={"old": 1})
    session.setdefault(CART, []).append(5)
    await storage.save(session)

    assert (await storage.read(session.id))["cart"] == [5]


@pytest.mark.parametrize(
    "remove",
    [lambda s: s.__delitem__(CART), lambda s: s.unset(CART), lambda s: s.set(CART, None)],
    ids=["del", "unset", "set to None"],
)
async def test_a_value_of_another_type_can_be_removed(
    load: Load, storage: MemoryStorage, remove: Callable[[Any], object]
) -> None:
    """So a logout by ``unset`` takes the old value with it."""
    session = await load(cart={"old": 1})
    remove(session)
    await storage.save(session)

    assert dict(await storage.read(session.id)) == {}


@pytest.mark.parametrize("kind", [MemoryStorage, CookieStorage])
async def test_one_warning_for_a_key_says_what_is_wrong_and_not_the_value(
    kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    storage = kind()
    name = f"warned_by_{kind.__name__}"  # one that no other test has warned of in this process
    session = await storage.read(None)
    session.update({name: "a secret", name + "2": 1})
    cookie_value = await storage.save(session)
    keys: list[Any] = [SessionKey(name, int), SessionKey(name, int), SessionKey(name + "2", str)]
    for _ in range(2):
        session = await storage.read(cookie_value)
        for key in keys:
            assert key not in session
            assert session.get(key) is None

    why = "it reads as missing, because the key has no converter"
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        f"session[{name!r}] is of type str, but SessionKey({name!r}, int) expects int; {why}",
        f"session[{name + '2'!r}] is of type int, but SessionKey({name + '2'!r}, str) expects str; {why}",
    ]


def test_two_types_of_one_name_are_told_apart_by_their_modules() -> None:
    class UUID:
        pass

    with pytest.raises(
        TypeError, match=r"of type tests\.session.*UUID, but SessionKey\('x', UUID\) expects uuid\.UUID"
    ):
        SessionKey("x", uuid.UUID).proved(UUID())


async def test_a_value_of_a_subclass_that_adds_nothing_fits_its_key_in_the_same_request_and_the_next(
    load: Load, storage: MemoryStorage
) -> None:
    """For example the UUID that asyncpg returns."""
    user, cart = SessionKey("user", UUID), SessionKey("cart", list)
    row_id = asyncpg.pgproto.pgproto.UUID("00000000-0000-0000-0000-000000000007")
    session = await load()
    session[user] = row_id
    session[cart] = MyList([1])
    session.flash(user, row_id)
    assert session[user] == row_id
    session[cart].append(2)
    assert session.setdefault(cart, []) == [1, 2]
    await storage.save(session)
    session[cart].append(3)
    await storage.save(session)

    found = await storage.read(session.id)
    assert (found[user], found[cart]) == (UUID(int=7), [1, 2, 3])
    assert (type(found[user]), type(found[cart])) == (UUID, list)


# --- a type that changed


def number(old: Any) -> int:
    return int(old)


def ids_of(old: Any) -> list[int]:
    """Change its argument, too, which is only a copy."""
    if isinstance(old, dict):
        old["seen"] = True
    return [int(key) for key in old if key != "seen"]


CONVERTED_ID = SessionKey("user_id", int, converter=number)
CONVERTED_CART = SessionKey("cart", list[int], converter=ids_of)


async def test_a_converter_makes_the_new_value_from_an_old_one(load: Load, storage: MemoryStorage) -> None:
    session = await load(user_id="5", cart={"7": 1})

    assert CONVERTED_ID in session  # type: ignore[comparison-overlap]
    assert session[CONVERTED_ID] == session.get(CONVERTED_ID) == session.setdefault(CONVERTED_ID, 1) == 5
    assert session[CONVERTED_CART] == [7]
    assert session[CONVERTED_CART] is session[CONVERTED_CART]
    assert dict(session) == {"user_id": 5, "cart": [7]}
    assert not session.dirty
    await storage.save(session)
    assert dict(await storage.read(session.id)) == {"user_id": "5", "cart": {"7": 1}}

    assert session.pop(CONVERTED_ID) == 5
    await storage.save(session)
    assert dict(await storage.read(session.id)) == {"cart": {"7": 1}}


async def test_reading_through_a_converter_writes_nothing(load: Load, storage: MemoryStorage) -> None:
    session = await load(user_id="5", cart={"7": 1})
    before = await storage.fetch(session.key)
    assert session[CONVERTED_CART] == [7]
    assert session[CONVERTED_ID] == 5
    await storage.save(session)

    assert await storage.fetch(session.key) == before


async def test_a_change_inside_a_converted_value_stores_all_of_it(load: Load, storage: MemoryStorage) -> None:
    session = await load(cart={"7": 1})
    session[CONVERTED_CART].append(8)
    assert session.dirty
    await storage.save(session)
    assert (await storage.read(session.id))["cart"] == [7, 8]

    session[CONVERTED_CART].append(9)
    await storage.save(session)
    assert (await storage.read(session.id))["cart"] == [7, 8, 9]


async def test_a_converted_value_that_is_assigned_is_stored(load: Load, storage: MemoryStorage) -> None:
    session = await load(user_id="5", cart={"7": 1})
    session[CONVERTED_ID] += 1
    session[CONVERTED_CART] = session[CONVERTED_CART]
    await storage.save(session)

    assert dict(await storage.read(session.id)) == {"user_id": 6, "cart": [7]}


async def test_an_old_value_that_this_request_assigned_is_converted_and_stored_so(
    load: Load, storage: MemoryStorage
) -> None:
    session = await load()
    session["cart"] = {"7": 1}
    session[CONVERTED_CART].append(8)
    await storage.save(session)

    assert (await storage.read(session.id))["cart"] == [7, 8]


@pytest.mark.parametrize("by", ["cart", SessionKey("cart", dict[str, int], converter=dict)], ids=["name", "key"])
async def test_a_change_inside_an_old_value_is_stored_by_its_conversion(
    load: Load, storage: MemoryStorage, by: Any
) -> None:
    session = await load(cart={"7": 1} if by == "cart" else [["7", 1]])
    session[by]["8"] = 1
    assert session[CONVERTED_CART] == [7, 8]
    assert session.dirty
    await storage.save(session)

    assert (await storage.read(session.id))["cart"] == [7, 8]


async def test_discard_goes_back_to_the_value_before_a_conversion(load: Load) -> None:
    session = await load(cart={"7": 1})
    session[CONVERTED_CART].append(8)
    session.discard()

    assert session["cart"] == {"7": 1}
    assert session[CONVERTED_CART] == [7]


async def test_a_save_of_something_else_leaves_a_converted_value_and_keeps_watching_it(
    load: Load, storage: MemoryStorage
) -> None:
    session = await load(cart={"7": 1})
    cart = session[CONVERTED_CART]
    session["other"] = 1
    await storage.save(session)
    assert (await storage.read(session.id))["cart"] == {"7": 1}

    cart.append(8)
    await storage.save(session)
    assert (await storage.read(session.id))["cart"] == [7, 8]


async def test_a_flash_is_converted_too(load: Load, storage: MemoryStorage) -> None:
    session = await load(other=1)
    session.flash("cart", {"7": 1})
    await storage.save(session)

    found = await storage.read(session.id)
    assert found[CONVERTED_CART] == [7]
    assert not found.dirty


def shout(old: Any) -> int:
    raise RuntimeError(f"never in a log: {old}")


def other_type(old: Any) -> int:
    return str(old)  # type: ignore[return-value]


def unstorable(old: Any) -> list[Any]:
    return [object(), old]


@pytest.mark.parametrize(
    ("key", "did"),
    [
        (SessionKey("failing", int, converter=shout), "raised RuntimeError"),
        (SessionKey("failing2", int, converter=other_type), "returned a str that it cannot hold"),
        (SessionKey("failing3", list[Any], converter=unstorable), "returned a list that it cannot hold"),
    ],
    ids=["raises", "another type", "cannot be stored"],
)
async def test_what_a_converter_cannot_convert_reads_as_missing_with_one_warning(
    load: Load, caplog: pytest.LogCaptureFixture, key: Any, did: str
) -> None:
    session = await load(**{key.name: "hunter2"})

    assert session.get(key, "default") == "default"
    assert key not in session
    with pytest.raises(KeyError, match=f"a converter that {did}"):
        session[key]
    assert len(caplog.records) == 1
    assert f"reads as missing, because the key has a converter that {did}" in caplog.text
    assert "hunter2" not in caplog.text


async def test_an_int_is_accepted_as_a_float(load: Load) -> None:
    session = await load(price=3)

    assert session[PRICE] == 3


@pytest.mark.parametrize("name", [5, "\ud800"])
def test_an_invalid_name_is_refused(name: Any) -> None:
    with pytest.raises(ConfigurationError):
        SessionKey(name, int)


def test_a_subclass_of_session_key_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match="write a function that returns a SessionKey"):
        type("Key", (SessionKey,), {})


async def later(old: Any) -> int:
    return int(old)


@pytest.mark.parametrize("converter", [5, later])
def test_a_converter_that_cannot_be_called_or_is_async_is_refused(converter: Any) -> None:
    with pytest.raises(ConfigurationError, match="must be a function"):
        SessionKey("x", int, converter=converter)


@dataclasses.dataclass
class Product:
    price: int


class Role(enum.StrEnum):
    ADMIN = "admin"


class MyStr(str):
    __slots__ = ()


class MyList(list[int]):
    pass


class Item(TypedDict):
    sku: str


class OldItem(typing_extensions.TypedDict):
    sku: str


UserId = NewType("UserId", int)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (5, "the type of session key 'x' must be a class, not 5"),
        ("int", "the type of session key 'x' must be a class, not 'int'"),
        (int | None, "int | None is a union; where a value can be missing, use get()"),
        (object, "an object cannot be stored"),
        (Sequence[int], "a collections.abc.Sequence cannot be stored; store list(value)"),
        (Product, "Product is a dataclass; store dataclasses.asdict(value)"),
        (Role, "Role is a member of an Enum; store value.value"),
        (MyStr, "MyStr would come back as a plain str; store str(value)"),
        (asyncpg.pgproto.pgproto.UUID, "would come back as a plain UUID"),
        (frozenset[int], "a frozenset would come back as set"),
    ],
    ids=str,
)
def test_a_type_that_a_session_cannot_hold_is_refused_at_once(kind: Any, reason: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        SessionKey("x", kind)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (str, "x"),
        (int, 1),
        (float, 1.5),
        (bool, True),
        (list, [1]),
        (dict[str, int], {"a": 1}),
        (tuple[int, ...], (1,)),
        (set[str], {"a"}),
        (bytes, b"x"),
        (datetime.date, datetime.date(2024, 5, 1)),
        (datetime.datetime, datetime.datetime(2024, 5, 1, tzinfo=datetime.UTC)),
        (UUID, UUID(int=7)),
        (Decimal, Decimal("1.10")),
        (Item, {"sku": "a"}),
        (OldItem, {"sku": "a"}),
        (UserId, 5),
    ],
    ids=str,
)
async def test_every_type_that_a_session_can_hold_can_be_the_type_of_a_key(
    load: Load, storage: MemoryStorage, kind: Any, value: Any
) -> None:
    key: SessionKey[Any] = SessionKey("x", kind)
    session = await load()
    session[key] = value
    assert session[key] == value
    await storage.save(session)

    found = (await storage.read(session.id))[key]
    assert (type(found), found) == (type(value), value)


async def test_popping_from_a_destroyed_session_is_an_error_even_with_a_default(load: Load) -> None:
    session = await load()
    session.destroy()

    with pytest.raises(SessionDestroyedError):
        session.pop("user", None)


TYPED = """
from typing import TypedDict

from aiohttp_session_store import Session, SessionKey

class Item(TypedDict):
    sku: str

USER_ID = SessionKey("user_id", int, converter=int)
NAMES = SessionKey("names", list[str])
ITEM = SessionKey("item", Item)

def f(session: Session) -> None:
    reveal_type(session[USER_ID])
    reveal_type(session.get(USER_ID))
    reveal_type(session.get(USER_ID, "none"))
    reveal_type(session.pop(NAMES))
    reveal_type(session.setdefault(NAMES, []))
    reveal_type(session[ITEM]["sku"])
    reveal_type(session["plain"])
    reveal_type(session | {"a": 1})
    reveal_type(session.copy())
    session[USER_ID] = "5"
    session.flash(NAMES, [5])
"""
REVEALED = [
    "int",
    "int | None",
    "int | str",
    "list[str]",
    "list[str]",
    "str",
    "Any",
    "dict[str, Any]",
    "dict[str, Any]",
]


@pytest.mark.parametrize("checker", ["mypy", "basedpyright"])
def test_type_checkers_know_the_types(checker: str, tmp_path: Path) -> None:
    (tmp_path / "typed.py").write_text(TYPED)
    root = Path(__file__).parents[2]
    command = {
        "mypy": [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "typed.py"],
        "basedpyright": [str(Path(sys.executable).parent / "basedpyright"), "typed.py"],
    }[checker]
    environment = {"MYPYPATH": str(root), "PYTHONPATH": str(root), "PATH": str(Path(sys.executable).parent)}
    (tmp_path / "pyrightconfig.json").write_text(f'{{"extraPaths": ["{root}"], "venvPath": "{sys.prefix}"}}')
    finished = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=100
    )

    said = finished.stdout.replace("builtins.", "").replace("Union[", "").replace('"', "")
    lines = [line for line in said.splitlines() if "evealed type is" in line or "Type of" in line]
    assert len(lines) == len(REVEALED), finished.stdout + finished.stderr
    for line, expected in zip(lines, REVEALED, strict=True):
        assert line.rstrip().endswith(f"is {expected}"), line
    first_wrong = TYPED.splitlines().index('    session[USER_ID] = "5"') + 1
    wrong = [
        line
        for line in said.splitlines()
        if ("error" in line and f":{first_wrong}" in line) or f":{first_wrong + 1}" in line
    ]
    assert len(wrong) >= 2, said


def test_a_key_can_be_of_type_uuid() -> None:
    assert SessionKey("visitor", UUID).proved(visitor := uuid4()) is visitor
