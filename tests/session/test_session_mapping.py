"""A session is a mutable mapping with some methods of its own; it notices every change, and nothing else."""

import copy
import json
import pickle
from collections.abc import Callable, MutableMapping
from typing import Any

import pytest

from aiohttp_session_store import MemoryStorage, Session, SessionDestroyedError, SessionKey, SessionUsageError
from tests.session.conftest import Load


@pytest.fixture
async def session(load: Load) -> Session:
    return await load(a=1, b=[1, 2], none=None)


async def saved(storage: MemoryStorage, session: Session) -> dict[str, Any]:
    """Save, and return what the next request reads."""
    await storage.save(session)
    return dict(await storage.read(session.id))


# --- reading


async def test_it_is_a_mutable_mapping(session: Session) -> None:
    assert isinstance(session, MutableMapping)
    assert dict(session) == {"a": 1, "b": [1, 2], "none": None}
    assert session == {"a": 1, "b": [1, 2], "none": None}
    assert list(session) == ["a", "b", "none"]
    assert len(session) == 3


@pytest.mark.parametrize("key", ["missing", SessionKey("missing", int)], ids=["by name", "by key"])
@pytest.mark.parametrize(
    "read",
    [lambda s, key: s[key], lambda s, key: s.__delitem__(key), lambda s, key: s.pop(key)],
    ids=["[]", "del", "pop"],
)
async def test_a_missing_key_is_one_clear_key_error(
    session: Session, key: Any, read: Callable[[Any, Any], Any]
) -> None:
    with pytest.raises(KeyError) as caught:
        read(session, key)

    assert caught.value.args == ("the session has no 'missing'; where a key may be missing, use session.get()",)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert type(caught.value) is KeyError


async def test_it_has_every_method_and_operator_of_a_dict(session: Session) -> None:
    """All but ``fromkeys``, which makes a dict."""
    of_a_dict = set(dir(dict)) - {"fromkeys"}

    assert of_a_dict - set(dir(Session)) == set()
    assert {"copy", "__or__", "__ror__", "__ior__", "__reversed__", "popitem"} <= of_a_dict


@pytest.mark.parametrize(
    "use",
    [
        lambda m: m.copy(),
        lambda m: m | {"a": 2, "z": 3},
        lambda m: {"z": 3, "a": 2} | m,
        lambda m: list(reversed(m)),
        lambda m: (m.popitem(), list(m)),
        lambda m: (m.popitem(), m.popitem(), m.popitem(), list(m)),
        lambda m: (list(m.keys()), list(m.values()), list(m.items())),
        lambda m: m == {"a": 1, "b": [1, 2], "none": None},
        lambda m: (m.setdefault("z", []), list(reversed(m))),
        lambda m: (m.update(self=1, other=2), list(m.items())),
    ],
    ids=["copy", "|", "| from the right", "reversed", "popitem", "popitem all", "views", "==", "order", "update"],
)
async def test_it_gives_what_a_dict_gives(session: Session, use: Callable[[Any], Any]) -> None:
    expected = use({"a": 1, "b": [1, 2], "none": None})
    found = use(session)

    assert found == expected
    assert type(found) is type(expected)
    if isinstance(found, dict):
        assert list(found) == list(expected)


async def test_the_or_operator_changes_nothing_and_takes_only_mappings(session: Session) -> None:
    assert (session | {"c": 1})["c"] == 1
    assert not session.dirty
    pairs: Any = [("a", 1)]
    with pytest.raises(TypeError, match="unsupported operand"):
        session | pairs
    with pytest.raises(TypeError, match="unsupported operand"):
        pairs | session


@pytest.mark.parametrize("use", [copy.copy, copy.deepcopy, pickle.dumps], ids=["copy", "deepcopy", "pickle"])
async def test_copying_or_pickling_it_says_what_to_do_instead(session: Session, use: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match=r"use dict\(session\), or copy\.deepcopy\(dict\(session\)\)"):
        use(session)

    assert use(dict(session))


@pytest.mark.parametrize("given", [(), (None,), ({"user": 5},)], ids=["nothing", "None", "a dict"])
def test_making_one_by_hand_says_where_to_get_it(given: Any) -> None:
    with pytest.raises(SessionUsageError, match=r"await get_session\(request\)"):
        Session(*given)


async def test_get_has_a_default(session: Session) -> None:
    assert (session.get("a"), session.get("missing"), session.get("missing", 7)) == (1, None, 7)


async def test_a_stored_none_counts_as_present(session: Session) -> None:
    assert session.has("none")
    assert "none" in session
    assert session["none"] is None


async def test_has_and_in_are_false_for_a_missing_key(session: Session) -> None:
    assert not session.has("missing")
    assert "missing" not in session


async def test_a_key_that_is_not_a_string_is_missing(session: Session) -> None:
    assert 1 not in session  # type: ignore[comparison-overlap]
    with pytest.raises(KeyError):
        session[1]  # type: ignore[call-overload]


async def test_a_session_that_was_only_read_is_not_dirty(session: Session) -> None:
    assert [*session.values(), *session.items(), session.get("b")]
    assert not session.dirty


async def test_a_session_cannot_be_hashed(session: Session) -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(session)


async def test_its_data_can_be_encoded_as_json(session: Session) -> None:
    assert json.loads(json.dumps(dict(session))) == {"a": 1, "b": [1, 2], "none": None}


# --- changing

CHANGES: list[tuple[str, Callable[[Session], object], dict[str, Any]]] = [
    ("s[k] = v", lambda s: s.__setitem__("a", 2), {"a": 2, "b": [1, 2], "none": None}),
    ("s[k] = None stores None", lambda s: s.__setitem__("a", None), {"a": None, "b": [1, 2], "none": None}),
    ("del s[k]", lambda s: s.__delitem__("a"), {"b": [1, 2], "none": None}),
    ("set", lambda s: s.set("c", 3), {"a": 1, "b": [1, 2], "none": None, "c": 3}),
    ("set to None unsets", lambda s: s.set("a", None), {"b": [1, 2], "none": None}),
    ("unset", lambda s: s.unset("none"), {"a": 1, "b": [1, 2]}),
    ("pop", lambda s: s.pop("a"), {"b": [1, 2], "none": None}),
    ("pop with a default", lambda s: s.pop("a", 0), {"b": [1, 2], "none": None}),
    ("popitem", lambda s: s.popitem(), {"a": 1, "b": [1, 2]}),
    ("update by a dict", lambda s: s.update({"a": 3, "c": 4}), {"a": 3, "b": [1, 2], "none": None, "c": 4}),
    ("update by keywords", lambda s: s.update(a=3), {"a": 3, "b": [1, 2], "none": None}),
    ("update by pairs", lambda s: s.update([("a", 3)]), {"a": 3, "b": [1, 2], "none": None}),
    ("|=", lambda s: s.__ior__({"a": 3}), {"a": 3, "b": [1, 2], "none": None}),
    ("setdefault", lambda s: s.setdefault("c", 3), {"a": 1, "b": [1, 2], "none": None, "c": 3}),
    ("clear", lambda s: s.clear(), {}),
    ("a change in a list", lambda s: s["b"].append(3), {"a": 1, "b": [1, 2, 3], "none": None}),
    (
        "a change in a new list",
        lambda s: s.setdefault("c", []).append(3),
        {"a": 1, "b": [1, 2], "none": None, "c": [3]},
    ),
    (
        "a change by values()",
        lambda s: next(v for v in s.values() if v == [1, 2]).pop(),
        {"a": 1, "b": [1], "none": None},
    ),
    ("a change by get()", lambda s: s.get("b", []).clear(), {"a": 1, "b": [], "none": None}),
]


@pytest.mark.parametrize(("change", "after"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES])
async def test_a_change_is_visible_at_once(session: Session, change: Callable[[Session], object], after: Any) -> None:
    change(session)

    assert session.dirty
    assert dict(session) == after


@pytest.mark.parametrize(("change", "after"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES])
async def test_a_change_is_stored(
    storage: MemoryStorage, session: Session, change: Callable[[Session], object], after: Any
) -> None:
    change(session)

    assert await saved(storage, session) == after
    assert not session.dirty


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.unset("missing"),
        lambda s: s.set("missing", None),
        lambda s: s.pop("missing", None),
        lambda s: s.setdefault("a", 9),
        lambda s: s.update({}),
    ],
    ids=["unset", "set to None", "pop", "setdefault", "update"],
)
async def test_a_call_that_changes_nothing_does_not_make_the_session_dirty(
    session: Session, change: Callable[[Session], object]
) -> None:
    change(session)

    assert not session.dirty


async def test_assigning_an_equal_value_makes_the_session_dirty(session: Session) -> None:
    session["a"] = session["a"]

    assert session.dirty


async def test_assigning_an_equal_value_writes_nothing(storage: MemoryStorage, session: Session) -> None:
    before = await storage.fetch(session.key)
    session["a"] = 1
    await storage.save(session)

    assert await storage.fetch(session.key) == before


async def test_the_in_place_or_operator_keeps_the_session_object(session: Session) -> None:
    same = session
    same |= {"c": 3}

    assert same is session
    assert session["c"] == 3


async def test_popitem_on_an_empty_session_is_a_key_error(storage: MemoryStorage) -> None:
    with pytest.raises(KeyError, match="the session is empty"):
        (await storage.read(None)).popitem()


async def test_popitem_takes_a_flash_last_of_all_keys_and_is_refused_after_destroy(
    storage: MemoryStorage, session: Session
) -> None:
    session.flash("notice", "Saved.")
    await storage.save(session)
    found = await storage.read(session.id)

    assert found.popitem() == ("notice", "Saved.")
    assert "notice" not in found
    found.destroy()
    with pytest.raises(SessionDestroyedError):
        found.popitem()


async def test_pop_and_setdefault_return_what_those_of_a_dict_return(session: Session) -> None:
    assert (session.pop("a"), session.pop("a", 7), session.setdefault("a", 8), session.setdefault("a", 9)) == (
        1,
        7,
        8,
        8,
    )


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("k", frozenset({1, 2}), r"session\['k'\]: a frozenset would come back as set"),
        ("k", {"a": [float("nan")]}, r"session\['k'\]\['a'\]\[0\]: nan cannot be represented in JSON"),
        (5, 1, "session key 5: keys are strings, and this one is of type int"),
    ],
)
async def test_a_bad_value_fails_at_the_line_that_sets_it(session: Session, key: Any, value: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        session[key] = value
    assert not session.dirty


async def test_a_bad_value_inside_a_list_fails_the_save_and_can_be_removed(
    storage: MemoryStorage, session: Session
) -> None:
    session["a"] = 2
    session["b"].append(object())
    with pytest.raises(TypeError, match=r"session\['b'\]\[2\]: an object cannot be stored"):
        await storage.save(session)
    session["b"].pop()

    assert await saved(storage, session) == {"a": 2, "b": [1, 2], "none": None}


async def test_changed_writes_lists_even_if_they_are_unchanged(storage: MemoryStorage, session: Session) -> None:
    """The list of this request then wins over one that another request wrote meanwhile."""
    other = await storage.read(session.id)
    other["b"] = []
    await storage.save(other)
    assert session["b"] == [1, 2]
    session.changed()

    assert session.dirty
    assert (await saved(storage, session))["b"] == [1, 2]


async def test_clear_also_removes_keys_of_other_requests(storage: MemoryStorage, session: Session) -> None:
    other = await storage.read(session.id)
    other["theirs"] = 1
    await storage.save(other)
    session.clear()
    session["after"] = 2

    assert await saved(storage, session) == {"after": 2}


async def test_a_stored_session_that_is_emptied_stays_stored(storage: MemoryStorage, session: Session) -> None:
    session.clear()
    await storage.save(session)

    assert not (await storage.read(session.id)).new


async def test_sessions_share_no_lists(storage: MemoryStorage, session: Session) -> None:
    other = await storage.read(session.id)
    session["b"].append(3)
    await storage.save(session)
    session["b"].append(4)

    assert other["b"] == [1, 2]
    assert (await storage.read(session.id))["b"] == [1, 2, 3]
