"""The properties of a session, discard, and calls that come too late."""

from base64 import urlsafe_b64decode
from collections.abc import Callable
from hashlib import sha256

import pytest

from aiohttp_session_store import (
    MemoryStorage,
    Session,
    SessionCommittedError,
    SessionDestroyedError,
    SessionUsageError,
)
from aiohttp_session_store.session.session import state_of
from aiohttp_session_store.testing import ManualClock
from tests.session.conftest import Load

DAY = 86400

WRITES: dict[str, Callable[[Session], object]] = {
    "s[k] = v": lambda s: s.__setitem__("a", 2),
    "del s[k]": lambda s: s.__delitem__("user"),
    "set": lambda s: s.set("a", 2),
    "set to None": lambda s: s.set("a", None),
    "unset": lambda s: s.unset("missing"),
    "update": lambda s: s.update(a=2),
    "|=": lambda s: s.__ior__({"a": 2}),
    "setdefault": lambda s: s.setdefault("a", 2),
    "clear": lambda s: s.clear(),
    "flash": lambda s: s.flash("notice", "x"),
    "changed": lambda s: s.changed(),
    "regenerate_id": lambda s: s.regenerate_id(),
}


# --- properties


async def test_a_new_session_is_new_empty_and_not_dirty(storage: MemoryStorage, clock: ManualClock) -> None:
    session = await storage.read(None)

    assert (session.new, session.dirty, session.destroyed, dict(session)) == (True, False, False, {})
    assert (session.created_at, session.expires_at) == (int(clock()), int(clock()) + 14 * DAY)


async def test_a_stored_session_is_not_new(load: Load) -> None:
    assert not (await load()).new


async def test_a_session_is_no_longer_new_after_a_save(storage: MemoryStorage) -> None:
    session = await storage.read(None)
    session["a"] = 1
    await storage.save(session)

    assert not session.new


async def test_a_new_session_that_stays_empty_is_not_stored(storage: MemoryStorage) -> None:
    session = await storage.read(None)
    session["a"] = 1
    del session["a"]

    assert await storage.save(session) is None
    assert len(storage) == 0


async def test_the_id_has_256_random_bits_and_the_key_is_its_hash(storage: MemoryStorage) -> None:
    sessions = [await storage.read(None) for _ in range(1000)]

    ids = {urlsafe_b64decode(session.id + "=") for session in sessions}
    assert len(ids) == 1000
    assert {len(one) for one in ids} == {32}
    for bit in range(256):  # among 1000 ids, a bit that never changes is certain to show
        assert len({one[bit // 8] >> bit % 8 & 1 for one in ids}) == 2
    assert [session.key for session in sessions] == [sha256(session.id.encode()).hexdigest() for session in sessions]


async def test_repr_shows_neither_the_id_nor_the_data(load: Load) -> None:
    session = await load(secret="hunter2")

    assert repr(session) == f"<Session {session.key[:16]} stored>"
    assert session.id not in repr(session)


async def test_repr_shows_new_and_destroyed(storage: MemoryStorage, load: Load) -> None:
    destroyed = await load()
    destroyed.destroy()

    assert repr(await storage.read(None)).endswith(" new>")
    assert repr(destroyed).endswith(" destroyed>")


@pytest.mark.parametrize(
    "name", ["id", "key", "new", "dirty", "destroyed", "size", "created_at", "expires_at", "delete_id"]
)
async def test_properties_are_read_only(load: Load, name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(await load(), name, None)


async def test_the_size_is_that_of_the_encoded_data(load: Load) -> None:
    session = await load(a=1, ż="€")
    session.flash("notice", "not counted")

    assert session.size == len('{"a":1,"ż":"€"}'.encode())


async def test_times_are_in_whole_seconds(storage: MemoryStorage, clock: ManualClock) -> None:
    clock.advance(0.9)
    session = await storage.read(None)
    session["a"] = 1
    loaded = await storage.read(await storage.save(session))

    assert (loaded.created_at, loaded.expires_at) == (1_700_000_000, 1_700_000_000 + 14 * DAY)


async def test_a_save_extends_the_expiry(storage: MemoryStorage, clock: ManualClock, load: Load) -> None:
    session = await load()
    clock.advance(10 * DAY)
    session["a"] = 1
    await storage.save(session)

    assert session.expires_at == int(clock()) + 14 * DAY


async def test_a_touch_extends_the_expiry(storage: MemoryStorage, clock: ManualClock, load: Load) -> None:
    session_id = (await load()).id
    clock.advance(10 * DAY)
    session = await storage.read(session_id)

    assert session.expires_at == int(clock()) + 14 * DAY
    assert (await storage.read(session.id)).expires_at == session.expires_at


# --- discard


async def test_discard_restores_the_session_as_loaded(load: Load) -> None:
    session = await load(a=1, cart=[1])
    before = session.id
    session["a"] = 2
    session["cart"].append(2)
    session.flash("notice", "x")
    session.regenerate_id(True)
    session.discard()

    assert dict(session) == {"a": 1, "cart": [1]}
    assert (session.id, session.dirty, session.delete_id) == (before, False, None)


async def test_discard_detaches_lists_that_were_handed_out(storage: MemoryStorage, load: Load) -> None:
    session = await load(cart=[1])
    cart = session["cart"]
    session.discard()
    cart.append(2)

    assert session["cart"] == [1]
    assert not session.dirty


async def test_discard_does_not_undo_a_save(storage: MemoryStorage, load: Load) -> None:
    session = await load(a=1)
    session["a"] = 2
    await storage.save(session)
    session["a"] = 3
    session.discard()

    assert session["a"] == 2


async def test_discard_does_not_undo_destroy(storage: MemoryStorage, load: Load) -> None:
    session = await load()
    session.destroy()
    session.discard()

    assert await storage.save(session) == ""
    assert session.destroyed


async def test_a_session_can_be_changed_again_after_discard(storage: MemoryStorage, load: Load) -> None:
    session = await load(cart=[1])
    session["cart"].append(2)
    session.discard()
    session["cart"].append(3)
    await storage.save(session)

    assert (await storage.read(session.id))["cart"] == [1, 3]


# --- too late


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_a_write_after_the_request_is_refused_at_the_call(load: Load, write: Callable[[Session], object]) -> None:
    session = await load()
    state_of(session).sealed = True

    with pytest.raises(SessionCommittedError, match="the request is over and its session saved"):
        write(session)
    assert dict(session) == {"user": 5}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_a_first_write_after_the_headers_is_refused_at_the_call(
    storage: MemoryStorage, write: Callable[[Session], object]
) -> None:
    session = await storage.read(None)
    state_of(session).headers_sent = True

    with pytest.raises(SessionCommittedError, match="needs a cookie"):
        write(session)


async def test_a_stored_session_can_be_changed_after_the_headers(storage: MemoryStorage, load: Load) -> None:
    session = await load()
    state_of(session).headers_sent = True
    session["late"] = 1
    await storage.save(session)

    assert dict(await storage.read(session.id)) == {"user": 5, "late": 1}


async def test_a_new_id_after_the_headers_is_refused(load: Load) -> None:
    session = await load()
    state_of(session).headers_sent = True

    with pytest.raises(SessionCommittedError, match="regenerate before prepare"):
        session.regenerate_id()


async def test_destroy_after_the_request_is_refused(load: Load) -> None:
    session = await load()
    state_of(session).sealed = True

    with pytest.raises(SessionCommittedError, match="destroy the session before the handler returns"):
        session.destroy()


@pytest.mark.parametrize("error", [SessionCommittedError, SessionDestroyedError])
def test_usage_errors_have_a_common_base(error: type[Exception]) -> None:
    assert issubclass(error, SessionUsageError)
    assert issubclass(error, RuntimeError)
