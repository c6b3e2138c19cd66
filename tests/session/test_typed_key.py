"""Typed keys, and values beyond JSON, as a handler uses them."""

import datetime
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

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


@pytest.mark.parametrize(
    ("key", "stored", "reason"),
    [
        (USER_ID, "5", "session['user_id'] is of type str, but SessionKey('user_id', int) expects int"),
        (USER_ID, True, "session['user_id'] is of type bool"),
        (USER_ID, None, "session['user_id'] is of type NoneType"),
        (USER_ID, 5.0, "session['user_id'] is of type float"),
        (CART, {}, "session['cart'] is of type dict, but SessionKey('cart', list) expects list"),
        (PRICE, True, "session['price'] is of type bool"),
        (SINCE, datetime.datetime(2024, 5, 1), "session['since'] is of type datetime"),  # noqa: DTZ001
    ],
)
async def test_a_value_of_another_type_is_an_error_that_names_the_key(
    load: Load, key: SessionKey[Any], stored: Any, reason: str
) -> None:
    session = await load(**{key.name: stored})

    works: list[Callable[[], object]] = [
        lambda: session[key],
        lambda: session.get(key),
        lambda: session.pop(key),
        lambda: session.__setitem__(key, stored),
        lambda: session.flash(key, stored),
    ]
    for work in works:
        with pytest.raises(TypeError) as caught:
            work()
        assert str(caught.value).startswith(reason)
    assert session[key.name] == stored


async def test_an_int_is_accepted_as_a_float(load: Load) -> None:
    session = await load(price=3)

    assert session[PRICE] == 3


@pytest.mark.parametrize(("name", "kind"), [(5, int), ("\ud800", int), ("x", 5), ("x", "int"), ("x", int | None)])
def test_an_invalid_key_is_refused(name: Any, kind: Any) -> None:
    with pytest.raises(ConfigurationError):
        SessionKey(name, kind)


async def test_popping_from_a_destroyed_session_is_an_error_even_with_a_default(load: Load) -> None:
    session = await load()
    session.destroy()

    with pytest.raises(SessionDestroyedError):
        session.pop("user", None)


TYPED = """
from aiohttp_session_store import Session, SessionKey

USER_ID = SessionKey("user_id", int)
NAMES = SessionKey("names", list[str])

def f(session: Session) -> None:
    reveal_type(session[USER_ID])
    reveal_type(session.get(USER_ID))
    reveal_type(session.get(USER_ID, "none"))
    reveal_type(session.pop(NAMES))
    reveal_type(session.setdefault(NAMES, []))
    reveal_type(session["plain"])
    session[USER_ID] = "5"
    session.flash(NAMES, [5])
"""
REVEALED = ["int", "int | None", "int | str", "list[str]", "list[str]", "Any"]


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
    wrong = [line for line in said.splitlines() if ("error" in line and ":14" in line) or ":15" in line]
    assert len(wrong) >= 2, said


def test_a_key_can_be_of_type_uuid() -> None:
    assert SessionKey("visitor", UUID).proved(visitor := uuid4()) is visitor
