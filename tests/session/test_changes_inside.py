"""What counts as a change inside a value, as an assignment and as an increment, and what a save does with each."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from aiohttp_session_store import MemoryStorage, Session, SessionConflictError, SessionKey, StorageError
from aiohttp_session_store.record.format import decode_record
from aiohttp_session_store.session.session import state_of
from tests.engine.suspending import RacyStorage, failing

CART = SessionKey("cart", list[int], converter=lambda value: [int(one) for one in value])


async def sessions(storage: Any, number: int, **data: Any) -> list[Session]:
    """Return a session as *number* requests at once get it."""
    first = await storage.read(None)
    first.update(data)
    session_id = await storage.save(first)
    return [await storage.read(session_id) for _ in range(number)]


async def saved(storage: Any, *requests: Session) -> dict[str, Any]:
    for session in requests:
        await storage.save(session)
    return dict(await storage.read(requests[0].id))


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage()


# --- given or assigned


async def test_what_setdefault_puts_there_counts_as_given(storage: MemoryStorage) -> None:
    requests = await sessions(storage, 3, user=5)
    for number, session in enumerate(requests):
        session.setdefault("cart", ["first"]).append(number)

    assert (await saved(storage, *requests))["cart"] == ["first", 0, 1, 2]


async def test_the_default_of_another_request_is_kept(storage: MemoryStorage) -> None:
    requests = await sessions(storage, 2, user=5)
    assert [session.setdefault("lang", lang) for session, lang in zip(requests, ("en", "fr"), strict=True)] == [
        "en",
        "fr",
    ]

    assert (await saved(storage, *requests))["lang"] == "en"


async def test_a_default_for_a_key_that_this_request_removed_is_an_assignment(storage: MemoryStorage) -> None:
    mine, theirs = await sessions(storage, 2, cart=[1])
    del mine["cart"]
    mine.setdefault("cart", []).append(2)
    theirs["cart"].append(3)

    assert (await saved(storage, theirs, mine))["cart"] == [2]


async def test_assigning_the_object_that_was_handed_out_is_no_assignment(storage: MemoryStorage) -> None:
    requests = await sessions(storage, 3, cart=[0], tags={0}, prefs={"a": 0})
    for number, session in enumerate(requests, 1):
        session["cart"] += [number]
        session["tags"] |= {number}
        session["prefs"] |= {str(number): number}

    assert await saved(storage, *requests) == {
        "cart": [0, 1, 2, 3],
        "tags": {0, 1, 2, 3},
        "prefs": {"a": 0, "1": 1, "2": 2, "3": 3},
    }


async def test_an_equal_list_that_is_assigned_replaces_the_value(storage: MemoryStorage) -> None:
    mine, theirs = await sessions(storage, 2, cart=[1])
    mine["cart"] = [*mine["cart"], 2]
    theirs["cart"].append(3)

    assert (await saved(storage, theirs, mine))["cart"] == [1, 2]


async def test_a_change_inside_is_merged_with_what_was_assigned_before(storage: MemoryStorage) -> None:
    mine, theirs = await sessions(storage, 2, cart=[1])
    mine["cart"] = []
    theirs["cart"].append(3)

    assert (await saved(storage, mine, theirs))["cart"] == [3]


async def test_a_change_inside_a_value_that_was_deleted_brings_it_back(storage: MemoryStorage) -> None:
    mine, theirs = await sessions(storage, 2, cart=[1])
    del mine["cart"]
    theirs["cart"].append(2)

    assert (await saved(storage, mine, theirs))["cart"] == [1, 2]


async def test_a_changed_value_of_a_converter_is_stored_whole(storage: MemoryStorage) -> None:
    """What the handler got is not what is stored, so there is nothing to compare the newest value with."""
    mine, theirs = await sessions(storage, 2, cart=("1", "2"))
    mine[CART].append(3)
    theirs["cart"] = ("9",)

    assert (await saved(storage, theirs, mine))["cart"] == [1, 2, 3]
    mine[CART].append(4)
    [later] = [await storage.read(mine.id)]
    later["cart"].append(5)
    assert (await saved(storage, later, mine))["cart"] == [1, 2, 3, 5, 4]


async def test_what_is_held_over_many_saves_undoes_nothing(storage: MemoryStorage) -> None:
    stream, other = await sessions(storage, 2, cart=[{"id": 0}])
    cart = stream["cart"]
    for number in range(1, 4):
        cart.append({"id": number})
        await storage.save(stream)
        other["cart"].append({"id": -number})
        await storage.save(other)
        cart[0]["seen"] = number
        await storage.save(stream)

    assert [one["id"] for one in (await storage.read(stream.id))["cart"]] == [0, 1, -1, 2, -2, 3, -3]
    assert (await storage.read(stream.id))["cart"][0] == {"id": 0, "seen": 3}


@pytest.mark.parametrize("same", [True, False])
async def test_what_is_appended_over_many_saves_undoes_nothing(storage: MemoryStorage, same: bool) -> None:
    """What the others append comes to stand among the elements that the stream knows."""
    stream, other = await sessions(storage, 2, user=5)
    for number in range(1, 6):
        other.setdefault("cart", []).append("x" if same else f"other {number}")
        await storage.save(other)
        stream.setdefault("cart", []).append("x" if same else f"stream {number}")
        await storage.save(stream)
    stream["cart"].remove("x" if same else "stream 2")
    cart = (await saved(storage, stream))["cart"]

    expected = ["x"] * 10 if same else [f"{who} {number}" for number in range(1, 6) for who in ("other", "stream")]
    expected.remove("x" if same else "stream 2")
    assert cart == expected


async def test_an_exclusive_block_sees_what_others_changed_inside_and_keeps_its_own(storage: MemoryStorage) -> None:
    mine, theirs = await sessions(storage, 2, cart=[1], prefs={"a": 1})
    cart = mine["cart"]
    cart.append(2)
    mine.increment("n", 5)
    theirs["cart"].append(3)
    theirs.increment("n")
    await storage.save(theirs)
    await storage.refresh(mine)

    assert cart == mine["cart"] == [1, 3, 2]
    assert mine["n"] == 6
    cart.append(4)
    assert await saved(storage, mine) == {"cart": [1, 3, 2, 4], "prefs": {"a": 1}, "n": 6}


async def test_discard_withdraws_increments_and_defaults(storage: MemoryStorage) -> None:
    [session] = await sessions(storage, 1, n=1)
    session.increment("n")
    session.setdefault("cart", []).append(1)
    session.discard()

    assert not session.dirty
    assert await saved(storage, session) == {"n": 1}


# --- increments


@pytest.mark.parametrize(
    ("stored", "by", "total"),
    [
        (None, 1, 5),
        (7, -2, -3),
        (Decimal("0.10"), Decimal("0.10"), Decimal("0.60")),
        (Decimal(1), Decimal("1e-40"), Decimal("1." + "0" * 39 + "5")),
        (2**64 - 6, 1, 2**64 - 1),
    ],
)
async def test_increments_of_parallel_requests_add_up(storage: MemoryStorage, stored: Any, by: Any, total: Any) -> None:
    requests = await sessions(storage, 5, **({"user": 5} if stored is None else {"n": stored}))
    seen = [session.increment("n", by) for session in requests]
    result = (await saved(storage, *requests))["n"]

    assert len(set(seen)) == 1  # each request sees its own
    assert repr(result) == repr(total)


async def test_an_increment_is_added_to_what_was_assigned_or_deleted_meanwhile(storage: MemoryStorage) -> None:
    first, second, third = await sessions(storage, 3, n=1)
    second["n"] = 100
    del third["n"]
    first.increment("n")
    assert (await saved(storage, second, first))["n"] == 101
    first.increment("n", 2)
    assert (await saved(storage, third, first))["n"] == 2


async def test_within_a_request_an_assignment_and_an_increment_count_in_order(storage: MemoryStorage) -> None:
    mine, theirs = await sessions(storage, 2, a=1, b=1, c=1, d=1)
    mine.increment("a")
    mine["a"] = 10
    mine["b"] = 10
    mine.increment("b")
    del mine["c"]
    mine.increment("c", 3)
    mine.increment("d")
    mine.increment("d")
    assert (mine["b"], mine["d"], mine.size) == (11, 3, len('{"a":10,"b":11,"d":3,"c":3}'))
    for key in "abcd":
        theirs.increment(key, 50)

    assert await saved(storage, theirs, mine) == {"a": 10, "b": 11, "c": 3, "d": 53}


@pytest.mark.parametrize(
    ("stored", "by", "message"),
    [
        ("5", 1, r"session\['n'\]: increment\(\) adds to an int or Decimal, not str"),
        (True, 1, "not bool"),
        (0.5, 1, "store a Decimal instead of a float"),
        (1, 0.5, "use a Decimal"),
        (1, True, "not bool"),
        (1, Decimal("NaN"), "finite"),
        (2**64 - 1, 1, "beyond 64 bits"),
        (Decimal("1e1000"), Decimal("1e-1000"), "too many digits"),
        ([1], 1, "not list"),
    ],
)
async def test_what_cannot_be_added_is_refused_at_the_call(
    storage: MemoryStorage, stored: Any, by: Any, message: str
) -> None:
    [session] = await sessions(storage, 1, n=stored)
    with pytest.raises(TypeError, match=message):
        session.increment("n", by)

    assert await saved(storage, session) == {"n": stored}


async def test_a_typed_key_is_incremented_within_its_type(storage: MemoryStorage) -> None:
    count, price = SessionKey("n", int), SessionKey("p", Decimal)
    [session] = await sessions(storage, 1, n=1)
    assert session.increment(count) == 2
    assert session.increment(price, Decimal("0.10")) == Decimal("0.10")
    with pytest.raises(TypeError, match="SessionKey"):
        session.increment(count, Decimal(1))  # type: ignore[arg-type]


@pytest.mark.parametrize("theirs", ["text", 2**64 - 1])
async def test_an_increment_that_does_not_fit_fails_alone_in_a_shared_write(theirs: Any) -> None:
    storage = RacyStorage(seed=1)
    assigning, *requests = await sessions(storage, 4, n=1, user=5)
    assigning["n"] = theirs
    await storage.save(assigning)
    requests[0].increment("n")
    requests[1]["a"] = 1
    requests[2].setdefault("cart", []).append(2)
    outcomes = await asyncio.gather(*map(storage.save, requests), return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [SessionConflictError, type(None), type(None)]
    assert dict(await storage.read(requests[0].id)) == {"n": theirs, "user": 5, "a": 1, "cart": [2]}


# --- an answer that was lost


async def lost(storage: RacyStorage, session: Session, verb: str = "replace") -> None:
    storage.lose_answer = failing(verb)
    with pytest.raises(StorageError) as caught:
        await storage.save(session)
    storage.lose_answer = lambda *_: False
    assert caught.value.maybe_stored


@pytest.mark.parametrize("others", [0, 1, 8])
@pytest.mark.parametrize("earlier", [0, 3, 20])
@pytest.mark.parametrize("owner", [None, "ada"])
async def test_an_addition_whose_answer_was_lost_is_made_once(others: int, earlier: int, owner: str | None) -> None:
    storage = RacyStorage(seed=1)
    [first] = await sessions(storage, 1, n=0, cart=[])
    if owner is not None:
        first.login(owner)
        await storage.save(first)
    for _ in range(earlier):
        first.increment("n")
        await storage.save(first)
    session = await storage.read(first.id)
    session.increment("n")
    session["cart"].append("mine")
    await lost(storage, session)
    session["cart"].append("later")
    session["prefs"] = 1
    for number in range(others):
        other = await storage.read(first.id)
        other["cart"].append(number)
        other.increment("n")
        await storage.save(other)
    await storage.save(session)
    await storage.save(session)

    stored = await storage.read(first.id)
    assert stored["n"] == earlier + others + 1
    assert stored["cart"] == ["mine", *range(others), "later"]
    assert stored["prefs"] == 1
    assert not session.dirty


async def test_beyond_eight_others_the_error_says_that_nobody_knows_and_the_session_goes_on() -> None:
    storage = RacyStorage(seed=1)
    session, other = await sessions(storage, 2, n=0)
    session.increment("n")
    await lost(storage, session)
    session["later"] = 1
    for _ in range(9):
        other.increment("n")
        await storage.save(other)
    with pytest.raises(StorageError, match="not known") as caught:
        await storage.save(session)
    assert caught.value.maybe_stored
    await storage.save(session)

    assert dict(await storage.read(session.id)) == {"n": 10, "later": 1}


async def test_an_addition_that_was_not_stored_is_made_by_the_next_save() -> None:
    storage = RacyStorage(seed=1)
    session, other = await sessions(storage, 2, n=0, cart=[0])
    session.increment("n")
    session["cart"].append("mine")
    storage.fail = failing("replace")
    with pytest.raises(StorageError):
        await storage.save(session)
    storage.fail = lambda *_: False
    session.increment("n")
    session["cart"].append("more")
    other["cart"].append("theirs")
    await storage.save(other)
    await storage.save(session)

    assert dict(await storage.read(session.id)) == {"n": 2, "cart": [0, "theirs", "mine", "more"]}


async def test_an_addition_and_a_new_id_whose_answer_was_lost_are_made_once() -> None:
    storage = RacyStorage(seed=1)
    [session] = await sessions(storage, 1, n=0)
    session.increment("n")
    session.regenerate_id()
    storage.lose_answer = failing("replace")
    storage.fail = failing("fetch")  # whoever wants to know what became of it
    with pytest.raises(StorageError) as caught:
        await storage.save(session)
    storage.lose_answer = storage.fail = lambda *_: False
    assert caught.value.maybe_stored
    await storage.save(session)

    place = state_of(session).place
    assert place is not None
    assert place.record.data == {"n": 1}


async def test_without_additions_the_stored_bytes_are_as_before(storage: MemoryStorage) -> None:
    [session] = await sessions(storage, 1, a=1, prefs={"x": 1}, tags={1})
    session["a"] = 2
    session["prefs"]["y"] = 2
    session["tags"].add(2)
    await storage.save(session)
    data = storage._records[session.key][0]

    assert data.partition(b"\n")[2] == b'{"a":2,"prefs":{"x":1,"y":2},"tags":{"$set":[1,2]}}'
    session.increment("a")
    await storage.save(session)
    assert decode_record(storage._records[session.key][0]).writes  # type: ignore[union-attr]
