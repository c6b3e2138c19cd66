"""Sessions in the cookie: nothing is merged or revoked, but the server still enforces when a session ends."""

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiohttp_session_store import (
    ConfigurationError,
    CookieStorage,
    SessionCommittedError,
    SessionTooLargeError,
    SessionUsageError,
)
from aiohttp_session_store.session.session import state_of
from aiohttp_session_store.testing import ManualClock

DAY = 86400


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def storage(clock: ManualClock) -> CookieStorage:
    return CookieStorage(clock=clock)


async def value_of(storage: CookieStorage, **data: Any) -> str:
    """Store a new session with *data* and return its cookie value."""
    session = await storage.read(None)
    session.update(data or {"user": 5})
    value = await storage.save(session)
    assert value
    return value


# --- reading and writing


async def test_a_session_reads_as_it_was_saved(storage: CookieStorage) -> None:
    data = {"n": 1, "s": "ż\n", "list": [1, {"a": None}]}

    assert dict(await storage.read(await value_of(storage, **data))) == data


async def test_a_session_keeps_its_id_and_created_at(storage: CookieStorage, clock: ManualClock) -> None:
    first = await storage.read(await value_of(storage))
    clock.advance(5 * DAY)
    first["a"] = 1
    second = await storage.read(await storage.save(first))

    assert (second.id, second.created_at) == (first.id, int(clock()) - 5 * DAY)


async def test_an_unchanged_session_sends_no_cookie(storage: CookieStorage) -> None:
    session = await storage.read(await value_of(storage, cart=[1]))
    assert session["cart"] == [1]
    session["cart"] = [1]

    assert await storage.save(session) is None


async def test_a_new_session_that_stays_empty_sends_no_cookie(storage: CookieStorage) -> None:
    assert await storage.save(await storage.read(None)) is None


async def test_a_change_inside_a_list_is_stored(storage: CookieStorage) -> None:
    session = await storage.read(await value_of(storage, cart=[1]))
    session["cart"].append(2)

    assert dict(await storage.read(await storage.save(session))) == {"cart": [1, 2]}


async def test_a_flash_is_read_only_by_the_next_request(storage: CookieStorage) -> None:
    session = await storage.read(await value_of(storage))
    session.flash("notice", "Saved.")
    following = await storage.read(await storage.save(session))
    assert following["notice"] == "Saved."

    assert "notice" not in await storage.read(await storage.save(following))


async def test_discarded_changes_are_not_stored_by_a_later_save(storage: CookieStorage) -> None:
    session = await storage.read(await value_of(storage, cart=[1]))
    session["a"] = 1
    await storage.save(session)
    session["cart"].append(2)
    session.discard()
    session["b"] = 2

    assert dict(await storage.read(await storage.save(session))) == {"cart": [1], "a": 1, "b": 2}


async def test_a_failed_save_keeps_its_changes(storage: CookieStorage) -> None:
    session = await storage.read(await value_of(storage, cart=[1]))
    session["cart"].append("x" * 5000)
    with pytest.raises(SessionTooLargeError):
        await storage.save(session)
    assert session.dirty
    session["cart"].pop()
    session["a"] = 1

    assert dict(await storage.read(await storage.save(session))) == {"cart": [1], "a": 1}


async def test_a_change_after_the_headers_is_refused(storage: CookieStorage) -> None:
    session = await storage.read(await value_of(storage))
    state_of(session).headers_sent = True

    with pytest.raises(RuntimeError, match="CookieStorage can never store one later"):
        session["a"] = 1
    assert await storage.save(session) is None


async def test_a_change_inside_a_list_after_the_headers_fails_the_save(storage: CookieStorage) -> None:
    session = await storage.read(await value_of(storage, cart=[1]))
    cart = session["cart"]
    state_of(session).headers_sent = True
    assert await storage.save(session) is None
    cart.append(2)

    with pytest.raises(SessionCommittedError, match="CookieStorage can never store that"):
        await storage.save(session)


# --- what cookie storage cannot do


async def test_parallel_requests_are_not_merged(storage: CookieStorage) -> None:
    value = await value_of(storage, user=5)
    one, other = await storage.read(value), await storage.read(value)
    one["a"], other["b"] = 1, 2
    await storage.save(one)

    assert dict(await storage.read(await storage.save(other))) == {"user": 5, "b": 2}


async def test_a_logout_clears_the_cookie_but_revokes_no_copy(storage: CookieStorage) -> None:
    value = await value_of(storage, user=5)
    session = await storage.read(value)
    session.destroy()

    assert await storage.save(session) == ""
    assert dict(await storage.read(value)) == {"user": 5}


async def test_a_logout_clears_the_cookie_once(storage: CookieStorage) -> None:
    session = await storage.read(await value_of(storage))
    session.destroy()
    await storage.save(session)

    assert await storage.save(session) is None


async def test_after_a_regenerate_the_old_cookie_can_still_be_read(storage: CookieStorage) -> None:
    value = await value_of(storage, user=5)
    session = await storage.read(value)
    session.regenerate_id()
    renewed = await storage.read(await storage.save(session))

    assert renewed.id == session.id != (await storage.read(value)).id


async def test_regenerating_with_true_warns_once_that_the_old_cookie_stays_valid(
    storage: CookieStorage, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        session = await storage.read(await value_of(storage))
        session.regenerate_id(True)
        await storage.save(session)

    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "cannot revoke the old cookie" in caplog.text


async def test_regenerating_with_false_logs_no_warning(
    storage: CookieStorage, caplog: pytest.LogCaptureFixture
) -> None:
    session = await storage.read(await value_of(storage))
    session.regenerate_id()
    await storage.save(session)

    assert not caplog.records


def test_there_is_no_default_secret(storage: CookieStorage) -> None:
    assert storage.default_secrets() is None


# --- limits, which the server enforces


async def test_a_session_ends_when_it_is_not_used(storage: CookieStorage, clock: ManualClock) -> None:
    value = await value_of(storage)
    clock.advance(14 * DAY - 1)
    assert not (await storage.read(value)).new
    clock.advance(1)

    assert (await storage.read(value)).new


async def test_a_session_ends_with_its_lifetime_even_in_use(storage: CookieStorage, clock: ManualClock) -> None:
    value = await value_of(storage, n=0)
    for day in range(89):
        clock.advance(DAY)
        session = await storage.read(value)
        session["n"] = day + 1
        value = await storage.save(session) or ""
    clock.advance(DAY)

    assert (await storage.read(value)).new


async def test_reading_sends_the_cookie_again_once_a_tenth_of_the_idle_timeout_has_passed(
    storage: CookieStorage, clock: ManualClock
) -> None:
    value = await value_of(storage)
    clock.advance(14 * DAY / 10 - 1)
    assert await storage.save(await storage.read(value)) is None
    clock.advance(1)
    session = await storage.read(value)
    again = await storage.save(session)

    assert again
    assert again != value
    assert (await storage.read(again)).expires_at == session.expires_at == int(clock()) + 14 * DAY


async def test_a_lowered_limit_applies_to_cookies_already_sent(storage: CookieStorage, clock: ManualClock) -> None:
    value = await value_of(storage)
    clock.advance(100)

    assert (await CookieStorage(clock=clock, idle_timeout=100).read(value)).new
    assert (await CookieStorage(clock=clock, lifetime=100).read(value)).new
    assert not (await CookieStorage(clock=clock, idle_timeout=101, lifetime=101).read(value)).new


async def test_renew_lifetime_restarts_the_lifetime(storage: CookieStorage, clock: ManualClock) -> None:
    session = await storage.read(await value_of(storage))
    clock.advance(10 * DAY)
    session.regenerate_id(renew_lifetime=True)

    assert (await storage.read(await storage.save(session))).created_at == session.created_at == int(clock())


def test_settings_without_any_limit_are_refused() -> None:
    with pytest.raises(ConfigurationError):
        CookieStorage(idle_timeout=None, lifetime=None)


# --- size


async def test_a_value_of_exactly_the_limit_is_sent(storage: CookieStorage) -> None:
    session = await storage.read(None)
    session["text"] = "x" * 100
    state_of(session).cookie_limit = len(await value_of(storage, text="x" * 100))

    assert len(await storage.save(session) or "") == state_of(session).cookie_limit


async def test_a_value_one_byte_over_the_limit_is_refused_with_size_and_limit(storage: CookieStorage) -> None:
    session = await storage.read(None)
    session["text"] = "x" * 100
    limit = len(await value_of(storage, text="x" * 100)) - 1
    state_of(session).cookie_limit = limit
    with pytest.raises(SessionTooLargeError) as caught:
        await storage.save(session)

    assert (caught.value.size, caught.value.limit) == (4097, 4096)


async def test_the_error_names_the_largest_keys(storage: CookieStorage) -> None:
    session = await storage.read(None)
    session.update(small=1, large="x" * 4000, middle="x" * 300, less="x" * 30)
    with pytest.raises(
        SessionTooLargeError, match=r"'large' \(4012 bytes\), 'middle' \(313 bytes\), 'less' \(41 bytes\)"
    ):
        await storage.save(session)


async def test_a_new_session_that_is_too_large_stays_new_and_keeps_its_changes(storage: CookieStorage) -> None:
    session = await storage.read(None)
    session["large"] = "x" * 5000
    with pytest.raises(SessionTooLargeError):
        await storage.save(session)

    assert session.new
    assert session.dirty


# --- values with a valid signature that cannot be read


@given(st.text(max_size=80) | st.binary(max_size=80).map(lambda data: data.decode("latin-1")))
async def test_any_unreadable_value_is_a_new_session(value: str) -> None:
    assert dict(await CookieStorage(clock=ManualClock()).read(value)) == {}


@pytest.mark.parametrize("value", ["", "A", "AAAA", "====", "not base64!", "ä", "MTcwMDAwMDAwMCB4CjIgWA"])
async def test_an_unreadable_value_is_a_new_session_and_at_most_one_debug_line(
    storage: CookieStorage, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "aiohttp_session_store")

    assert (await storage.read(value)).new
    assert len(caplog.records) <= 1
    assert all(record.levelno == logging.DEBUG for record in caplog.records)


# --- owners


async def test_a_session_in_a_cookie_knows_its_owner_until_logout(storage: CookieStorage, clock: ManualClock) -> None:
    session = await storage.read(await value_of(storage, cart=[1]))
    session.login("7")
    value = await storage.save(session)

    clock.advance(60)
    session = await storage.read(value)
    assert (session.owner, session.authenticated_at, dict(session)) == ("7", int(clock()) - 60, {"cart": [1]})

    session.logout()
    assert await storage.save(session) == ""
    assert (session.owner, dict(session)) == (None, {})


async def test_a_login_of_another_owner_drops_the_data_of_the_first(storage: CookieStorage) -> None:
    session = await storage.read(await value_of(storage))
    session.login("7")
    session = await storage.read(await storage.save(session))
    session["private"] = True
    session = await storage.read(await storage.save(session))
    session.login("8")
    session = await storage.read(await storage.save(session))

    assert (session.owner, dict(session)) == ("8", {})


async def test_cookies_cannot_be_listed_or_ended_by_owner(storage: CookieStorage) -> None:
    with pytest.raises(SessionUsageError):
        await storage.sessions_of("7")
    with pytest.raises(SessionUsageError):
        await storage.end_sessions("7")
    with pytest.raises(SessionUsageError):
        await storage.end_session("7", "key")
