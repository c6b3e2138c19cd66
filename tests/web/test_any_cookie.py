"""Arbitrary input to the code that finds and opens the session cookie."""

from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aiohttp_session_store import CookieStorage, MemoryStorage, SessionCookie, SessionStorage
from tests.web.storages import SECRET

OTHER = "other-secret-0123456789-abcdefghijklmnopqrstuvwxyz"
THIRD = "third-secret-0123456789-abcdefghijklmnopqrstuvwxyz"
ID = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopq"
LIVE = SessionCookie(secrets=SECRET).bind(MemoryStorage()).seal(ID)


@pytest.mark.parametrize(("forged", "found"), [(15, True), (16, False)])
def test_no_more_than_sixteen_signatures_are_checked(forged: int, found: bool) -> None:
    cookie = SessionCookie(secrets=SECRET).bind(MemoryStorage())
    header = "; ".join([f"session={ID}.forged{number}" for number in range(forged)] + [f"session={LIVE}"])

    assert bool(list(cookie.candidates([header]))) is found


@pytest.mark.parametrize(("size", "opens"), [(4096, True), (4097, False)])
def test_a_value_too_long_for_a_cookie_is_not_checked(size: int, opens: bool) -> None:
    cookie = SessionCookie(secrets=SECRET).bind(CookieStorage())
    value = "x" * (size - 44)
    assert len(cookie.seal(value)) == size

    assert (cookie.open(cookie.seal(value)) == value) is opens


def test_a_cookie_signed_with_a_secret_that_was_never_ours_is_refused() -> None:
    cookie = SessionCookie(secrets=[OTHER, SECRET]).bind(MemoryStorage())
    sealed = [SessionCookie(secrets=secret).bind(MemoryStorage()).seal(ID) for secret in (OTHER, SECRET, THIRD)]

    assert [cookie.open(value) for value in sealed] == [ID, ID, None]


PATIENT = settings(deadline=None)  # a busy machine must not fail the test
HEADERS = st.lists(
    st.one_of(
        st.text(max_size=200),
        st.binary(max_size=200).map(lambda data: data.decode("utf-8", "surrogateescape")),
        st.text('session="; .,\t_-aZ0' + LIVE[-5:], max_size=200),
        st.sampled_from([f"session={LIVE}", "session=", f'session="{LIVE}"', f"session={LIVE[:-2]}"]),
    ),
    max_size=4,
)


@pytest.fixture(scope="module", params=[MemoryStorage, CookieStorage])
def cookie(request: pytest.FixtureRequest) -> SessionCookie:
    storage: SessionStorage = request.param()
    return SessionCookie(secrets=[OTHER, SECRET]).bind(storage)


@PATIENT
@given(headers=HEADERS)
@example(headers=["session=" + "." * 5000])
@example(headers=["session=" + "é" * 100, "session=\udcff", "session=\0"])
def test_any_headers_yield_only_values_that_we_signed(cookie: SessionCookie, headers: Sequence[str]) -> None:
    assert {opened.value for opened in cookie.candidates(headers)} <= {ID}


@PATIENT
@given(text=st.text() | st.binary().map(lambda data: data.decode("latin-1")))
@example(text="")
@example(text="." * 5000)
@example(text=ID + "." + "\udcff")
def test_arbitrary_text_never_opens(cookie: SessionCookie, text: str) -> None:
    assert cookie.open(text) is None


@PATIENT
@given(data=st.data())
def test_a_tampered_cookie_never_opens_as_another_value(cookie: SessionCookie, data: st.DataObject) -> None:
    value = cookie.seal(ID)
    place = data.draw(st.integers(0, len(value) - 1))
    tampered = value[:place] + data.draw(st.characters()) + value[place + data.draw(st.integers(0, 1)) :]

    assert cookie.open(tampered) in (None, ID)
    assert cookie.open(tampered) is None or tampered.startswith(ID + ".")


@PATIENT
@given(value=st.text("ABCxyz019_-.", max_size=200))
def test_a_sealed_value_opens_unchanged(cookie: SessionCookie, value: str) -> None:
    assert cookie.open(cookie.seal(value)) == value
