"""Both JSON encoders give the same result: allowed values survive a round trip, and bad data is refused."""

import subprocess
import sys
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiohttp_session_store.record import json_encoders
from aiohttp_session_store.record.json_encoders import dumps_standard, loads_standard
from aiohttp_session_store.record.values import MAX_DEPTH, MAX_INTEGER, MIN_INTEGER, check_key, freeze, thaw
from tests.record.strategies import text, typed, values


class Pair(NamedTuple):
    """An encoder to write with and one to read with."""

    dumps: Any
    loads: Any

    def round_trip(self, value: Any) -> Any:
        return thaw(self.loads(self.dumps(freeze(value, "k"))))


PAIRS = {
    "as installed": Pair(json_encoders.dumps, json_encoders.loads),
    "standard": Pair(dumps_standard, loads_standard),
    "as installed, read by the standard one": Pair(json_encoders.dumps, loads_standard),
    "standard, read by the one installed": Pair(dumps_standard, json_encoders.loads),
}


@pytest.fixture(params=PAIRS)
def pair(request: pytest.FixtureRequest) -> Pair:
    return PAIRS[request.param]


@pytest.fixture(params=["as installed", "standard"])
def same(request: pytest.FixtureRequest) -> Pair:
    return PAIRS[request.param]


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def test_a_hundred_levels_of_nesting_survive_a_round_trip(pair: Pair) -> None:
    assert pair.round_trip(nested(MAX_DEPTH)) == nested(MAX_DEPTH)


@given(values)
def test_every_allowed_value_comes_back_with_the_same_value_and_type(value: Any) -> None:
    for pair in PAIRS.values():
        assert typed(pair.round_trip(value)) == typed(value)


@given(text)
def test_every_unicode_key_comes_back_the_same(key: str) -> None:
    check_key(key)

    for pair in PAIRS.values():
        assert pair.round_trip({key: 1}) == {key: 1}


@pytest.mark.parametrize(
    "value", [MIN_INTEGER, MAX_INTEGER, -0.0, 0.0, 1e16, 1e308, 5e-324, 1.0, 0.1 + 0.2, True, False, 0, 1]
)
def test_numbers_at_the_edge_come_back_the_same(pair: Pair, value: object) -> None:
    assert typed(pair.round_trip([value])) == typed([value])


def test_an_encoded_value_has_no_line_end(same: Pair) -> None:
    """Records are split into lines."""
    assert b"\n" not in same.dumps(freeze({"a\n": "\r\n\u2028"}, "k"))


def test_encoding_is_compact_utf8(same: Pair) -> None:
    assert same.dumps({"zażółć": [1, "€"]}) == '{"zażółć":[1,"€"]}'.encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"nope",
        b"NaN",
        b"[Infinity]",
        b"[-Infinity]",
        b"1e999",
        b"[-1e999]",
        b"\xff",
        b"\xef\xbb\xbf1",
        rb'"\ud800"',
        rb'["\uDC00"]',
        rb'{"\ud800":1}',
        b"1" * 5000,
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"1 2",
    ],
    ids=lambda data: repr(data[:20]),
)
def test_data_that_could_not_be_encoded_again_is_a_value_error(same: Pair, data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  any kind
        same.loads(data)


def test_an_escaped_surrogate_pair_is_one_character(same: Pair) -> None:
    assert same.loads(rb'"\ud83d\ude00"') == "\U0001f600"


def test_text_that_looks_like_an_escape_comes_back_as_text(pair: Pair) -> None:
    assert pair.round_trip("C:\\udata\\uDATA") == "C:\\udata\\uDATA"


@given(st.binary(max_size=60))
def test_any_bytes_decode_or_are_a_value_error(data: bytes) -> None:
    for pair in (PAIRS["as installed"], PAIRS["standard"]):
        try:
            value = pair.loads(data)
        except ValueError:
            continue
        assert typed(pair.loads(pair.dumps(value))) == typed(value)


def test_data_of_another_program_is_kept_even_if_it_is_nested_too_deeply_for_us(same: Pair) -> None:
    """Keys of another program are written back together with ours, even if we would not have accepted them."""
    deep = b"[" * 300 + b"]" * 300

    assert same.dumps(same.loads(deep)) == deep


@pytest.mark.parametrize("hidden", [False, True])
def test_orjson_is_used_if_it_is_installed(hidden: bool) -> None:
    hide = "sys.modules['orjson'] = None;" if hidden else ""
    package = "aiohttp_session_store.record"
    script = f"import sys;{hide}from {package} import json_encoders as e;print(e.dumps is e.dumps_standard)"
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)

    assert finished.stdout.strip() == str(hidden)
