"""Changes inside values, increments, accounts and converters where they meet, also in saves that fail."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from aiohttp_session_store import MemoryStorage, Session, SessionKey, StorageError
from aiohttp_session_store.session.session import state_of
from tests.engine.suspending import RacyStorage, failing


async def logged_in(storage: Any, **data: Any) -> tuple[Session, str]:
    """Return a stored session of ada, and its cookie value."""
    first = await storage.read(None)
    first.login("ada")
    first.update(data)
    value = await storage.save(first)
    return await storage.read(value), value


def idle_of(session: Session) -> int | None:
    head = state_of(session).head
    assert head is not None
    return head.idle


async def fail(storage: RacyStorage, session: Session, answer: str) -> None:
    """Let the answer of a save be lost, of one that was stored or of one that was not."""
    if answer == "stored":
        storage.lose_answer = failing("replace")
    else:
        replace = storage.replace

        async def lose(*_: Any) -> bytes | None:
            raise StorageError("the connection broke", maybe_stored=True)

        storage.replace = lose  # type: ignore[method-assign,assignment]
    with pytest.raises(StorageError) as caught:
        await storage.save(session)
    assert caught.value.maybe_stored
    storage.lose_answer = lambda *_: False
    if answer != "stored":
        storage.replace = replace  # type: ignore[method-assign]


EITHER = pytest.mark.parametrize("answer", ["stored", "not stored"])

# --- a save whose answer was lost, and an account


@EITHER
async def test_a_login_after_a_lost_answer_is_not_shortened_by_the_session_before(answer: str) -> None:
    storage = RacyStorage(seed=1)
    session, _ = await logged_in(storage, cart=[1])
    session["cart"].append(2)
    session.shorten(idle_timeout=60)
    await fail(storage, session, answer)
    session.login("ada")
    again = await storage.read(await storage.save(session))

    assert idle_of(again) is None
    assert dict(again) == {"cart": [1, 2]}


@EITHER
async def test_a_clear_after_a_lost_answer_keeps_the_limits_and_what_is_for_the_next_request(answer: str) -> None:
    storage = RacyStorage(seed=1)
    session, value = await logged_in(storage, cart=[1])
    session["cart"].append(2)
    session.shorten(idle_timeout=60)
    session.flash("notice", "Emptied.")
    await fail(storage, session, answer)
    session.clear()
    await storage.save(session)
    again = await storage.read(value)

    assert idle_of(again) == 60
    assert dict(again) == {"notice": "Emptied."}


@pytest.mark.parametrize("clear", [True, False])
@pytest.mark.parametrize("lost", [True, False])
async def test_what_changes_while_a_save_fails_meets_its_changes(clear: bool, lost: bool) -> None:
    storage = RacyStorage(seed=1)
    session, value = await logged_in(storage, n=1)
    session.increment("n", Decimal("1E+20"))
    session.shorten(idle_timeout=60)
    session.flash("notice", "Counted.")
    setattr(storage, "lose_answer" if lost else "fail", failing("replace"))
    save = asyncio.ensure_future(storage.save(session))
    await asyncio.sleep(0)
    if clear:
        session.clear()
    session.increment("n", Decimal("1E-20"))
    with pytest.raises(StorageError):
        await save
    storage.lose_answer = storage.fail = lambda *_: False
    await storage.save(session)
    again = await storage.read(value)

    assert idle_of(again) == 60
    assert again["notice"] == "Counted."
    assert again["n"] == Decimal("1E-20" if clear else "100000000000000000001.00000000000000000001")


@pytest.mark.parametrize("owner", ["ada", "grace"])
async def test_a_login_while_a_save_fails_begins_without_limits_and_another_account_with_nothing(owner: str) -> None:
    storage = RacyStorage(seed=1)
    session, _ = await logged_in(storage, cart=[1])
    session["cart"].append(2)
    session.shorten(idle_timeout=60)
    session.flash("notice", "of ada")
    storage.fail = failing("replace")
    save = asyncio.ensure_future(storage.save(session))
    await asyncio.sleep(0)
    session.login(owner)
    session["new"] = 1
    with pytest.raises(StorageError):
        await save
    storage.fail = lambda *_: False
    again = await storage.read(await storage.save(session))

    assert idle_of(again) is None
    assert dict(again) == ({"cart": [1, 2], "new": 1, "notice": "of ada"} if owner == "ada" else {"new": 1})


@EITHER
async def test_a_number_that_becomes_a_bool_in_a_list_is_changed_once(answer: str) -> None:
    storage = RacyStorage(seed=1)
    session, value = await logged_in(storage, flags=[1, 0.0])
    session["flags"].pop()
    session["flags"].append(0)
    await fail(storage, session, answer)
    other = await storage.read(value)
    other["x"] = 1
    await storage.save(other)
    await storage.save(session)

    assert repr((await storage.read(value))["flags"]) == "[1, 0]"


@EITHER
async def test_an_exclusive_block_after_a_lost_answer_begins_with_what_was_to_be_saved(answer: str) -> None:
    storage = RacyStorage(seed=1)
    session, value = await logged_in(storage, cart=[1], n=5)
    session["cart"].append(2)
    session.increment("n")
    session["mine"] = 1
    await fail(storage, session, answer)
    other = await storage.read(value)
    other.increment("n", 10)
    await storage.save(other)
    await storage.refresh(session)
    assert (session["cart"], session["n"], session["mine"]) == ([1, 2], 16, 1)
    session["n"] += 100
    session["cart"].append(3)
    await storage.save(session)

    assert dict(await storage.read(value)) == {"cart": [1, 2, 3], "n": 116, "mine": 1}


@EITHER
async def test_a_discard_in_an_exclusive_block_takes_back_what_is_not_stored(answer: str) -> None:
    storage = RacyStorage(seed=1)
    session, _ = await logged_in(storage, n=5)
    session.increment("n")
    await fail(storage, session, answer)
    await storage.refresh(session)
    session.discard()

    assert session["n"] == (6 if answer == "stored" else 5)
    assert not session.dirty


# --- typed keys that are incremented


@pytest.mark.parametrize("read_before", [False, True])
async def test_a_number_that_a_converter_made_is_incremented(read_before: bool) -> None:
    count: SessionKey[int] = SessionKey("count", int, converter=int)
    storage = MemoryStorage()
    session, value = await logged_in(storage, count="5")
    if read_before:
        assert session[count] == 5
    assert session.increment(count) == 6
    assert session.increment("count") == 7
    await storage.save(session)
    session.increment(count)
    await storage.save(session)

    assert dict(await storage.read(value)) == {"count": 8}


async def test_increments_of_a_converted_number_add_up_if_what_is_stored_is_a_number() -> None:
    total: SessionKey[Decimal] = SessionKey("total", Decimal, converter=Decimal)
    storage = MemoryStorage()
    first, value = await logged_in(storage, total=5)
    requests = [first, *[await storage.read(value) for _ in range(3)]]
    for session in requests:
        assert session[total] == 5
        assert session.increment(total) == 6
    for session in requests:
        await storage.save(session)

    assert (await storage.read(value))[total] == 9


async def test_a_missing_decimal_counts_as_zero() -> None:
    total = SessionKey("total", Decimal)
    session = await MemoryStorage().read(None)
    assert repr([session.increment(total), session.increment(total, 2)]) == "[Decimal('1'), Decimal('3')]"


async def test_reading_through_a_converter_loses_no_increment_and_no_default() -> None:
    total: SessionKey[Decimal] = SessionKey("n", Decimal, converter=Decimal)
    number: SessionKey[int] = SessionKey("default", int, converter=int)
    storage = MemoryStorage()
    session, value = await logged_in(storage, n=5)
    session.increment("n")
    session.setdefault("default", "7")
    assert session[total] == 6
    assert session[number] == 7
    await storage.save(session)

    assert dict(await storage.read(value)) == {"n": 6, "default": "7"}


async def test_increments_of_one_request_add_up_exactly_before_they_are_saved() -> None:
    storage = MemoryStorage()
    session, value = await logged_in(storage)
    for by in ("1E+20", "1E-20", "0.10"):
        session.increment("n", Decimal(by))
    await storage.save(session)

    assert (await storage.read(value))["n"] == Decimal("100000000000000000000.10000000000000000001")
