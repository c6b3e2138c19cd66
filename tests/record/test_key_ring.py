"""The keys of encryption, and the envelope of an encrypted record: what opens it, and what does not."""

import base64
import itertools
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiohttp_session_store import ConfigurationError, KeyRing
from aiohttp_session_store.record import cipher
from aiohttp_session_store.record.encryption import COOKIE, RECORD, UnopenedRecordError, decrypt, encrypt, key_name

PLACE, OTHER = "ab" * 32, "cd" * 32
MATERIAL = bytes(range(32))
KEY = "2026-11:" + base64.b64encode(MATERIAL).decode()
OLD = "2025-03:" + base64.b64encode(bytes(range(1, 33))).decode()

# What a key of the ring has sealed before, and must always open. Made once, with the construction written out by hand:
# HKDF-SHA256(key, salt, "aiohttp_session_store encryption", 44) gives the key and the nonce of AES-256-GCM.
VECTORS = [
    (
        RECORD,
        PLACE,
        b'1 L 1 2 3\n{"user":"ada"}',
        "NSBFIDIwMjYtMTEKZGVmZ2hpamtsbW5vcHFycwfGBBc1/XkgnmzpTz7mrH2kCI4VR/7EjrAC1ekaZrnTJKrmbRglfJ"
        "uF20qO"
        "HhgiW5qI3ErXxO6Aio8ieMBY8jmfkGIkJSJ1jjuGU8pCWZV9",
    ),
    (
        COOKIE,
        "",
        b"99 id\n1 L 1 2 -\n{}",
        "NSBFIDIwMjYtMTEKMjM0NTY3ODk6Ozw9Pj9AQZQD+1DLay7XOVebH8k3nZ775w3ujp/k72QEhhE/uryhrjdvNuO8NKWZL7NGOGrsZw==",
    ),
]


@pytest.mark.parametrize(("purpose", "place", "data", "sealed"), VECTORS)
def test_what_was_stored_can_be_read_for_ever(purpose: bytes, place: str, data: bytes, sealed: str) -> None:
    assert decrypt(base64.b64decode(sealed), KeyRing(KEY), place, purpose) == data


def test_the_secrets_for_cookies_never_change_for_a_key() -> None:
    assert KeyRing(KEY).secrets == ["3a6b90b552e75d66ceae33fa2e9cf3324a15e82638c7436ceabde98b67168a10"]
    assert KeyRing(KEY, OLD).secrets == [*KeyRing(KEY).secrets, *KeyRing(OLD).secrets]


# --- keys


def test_a_new_key_can_be_used_and_is_never_made_twice() -> None:
    keys = {KeyRing.new_key() for _ in range(50)}

    assert len(keys) == len(KeyRing(*keys).names) == 50


def test_keys_come_from_the_environment_newest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSION_KEYS", f" {KEY} ,\n{OLD},")

    ring = KeyRing.from_env("SESSION_KEYS", decrypt_only=True)
    assert ring.names == ("2026-11", "2025-03")
    assert (ring.decrypt_only, ring.accept_plain) == (True, True)
    assert not KeyRing.from_env("SESSION_KEYS", accept_plain=False).accept_plain


def test_a_ring_that_would_refuse_what_it_writes_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="would not read them again"):
        KeyRing(KEY, decrypt_only=True, accept_plain=False)


@pytest.mark.parametrize("value", [None, "", " , "])
def test_an_environment_without_keys_is_an_error_that_says_how_to_make_one(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv("SESSION_KEYS", raising=False)
    if value is not None:
        monkeypatch.setenv("SESSION_KEYS", value)
    with pytest.raises(ConfigurationError, match=r"SESSION_KEYS has no keys.*new_key"):
        KeyRing.from_env("SESSION_KEYS")


def test_base64_may_be_that_of_urls_and_without_padding() -> None:
    material = b"\xfb\xff" * 16
    for encoded in (base64.b64encode(material), base64.urlsafe_b64encode(material)):
        for text in (encoded.decode(), encoded.decode().rstrip("=")):
            assert KeyRing(f"a:{text}").secrets == KeyRing("a:" + base64.b64encode(material).decode()).secrets


SECRET = base64.b64encode(b"not for anybody's eyes, 32 bytes").decode()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ([], "needs a key"),
        ([SECRET], "key 1 of the ring does not begin with a name"),
        ([KEY, SECRET], "key 2 of the ring does not begin with a name"),
        ([f":{SECRET}"], "does not begin with a name"),
        ([f"two words:{SECRET}"], "does not begin with a name"),
        ([f"{'x' * 33}:{SECRET}"], "does not begin with a name"),
        ([f"a\n:{SECRET}"], "does not begin with a name"),
        ([f"a:{SECRET[:-4]}"], "'a' has 30 bytes instead of 32"),
        ([f"a:{SECRET}AAAA"], "'a' is not in base64|'a' has"),
        ([f"a:{SECRET[:-6]}!!"], "'a' is not in base64"),
        ([f"a:{SECRET[:-6]}é"], "'a' is not in base64"),
        (["a:" + base64.b64encode(bytes(32)).decode()], "'a' is one byte repeated"),
        ([f"a:{SECRET}", f"a:{KEY[8:]}"], "two keys of the ring are named 'a'"),
        ([f"a:{SECRET}", f"b:{SECRET}"], "'b' is in the ring twice"),
        ([SECRET.encode()], "key 1 of the ring is a string"),
        ([[f"a:{SECRET}"]], "key 1 of the ring is a string"),
    ],
)
def test_a_wrong_key_is_an_error_that_names_it_and_never_shows_it(keys: list[Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        KeyRing(*keys)

    assert SECRET[:12] not in str(caught.value)
    traceback = caught.value.__traceback__
    while traceback is not None:
        inside = "/aiohttp_session_store/" in traceback.tb_frame.f_code.co_filename
        assert not (inside and traceback.tb_frame.f_locals)
        traceback = traceback.tb_next


def test_a_flag_is_a_bool() -> None:
    with pytest.raises(ConfigurationError, match="decrypt_only must be True or False"):
        KeyRing(KEY, decrypt_only="no")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="accept_plain must be True or False"):
        KeyRing(KEY, accept_plain=None)  # type: ignore[arg-type]


def test_a_ring_shows_the_names_of_its_keys_alone() -> None:
    assert repr(KeyRing(KEY, OLD)) == "<KeyRing 2026-11, 2025-03>"
    assert repr(KeyRing(KEY, decrypt_only=True)) == "<KeyRing 2026-11, decrypt_only=True>"
    assert repr(KeyRing(KEY, accept_plain=False)) == "<KeyRing 2026-11, accept_plain=False>"


def test_without_cryptography_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "aiohttp_session_store.record.cipher")
    monkeypatch.delattr("aiohttp_session_store.record.cipher")
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(ConfigurationError, match="pip install 'cryptography>=44'"):
        KeyRing(KEY)


# --- envelopes


@given(st.binary(max_size=300), st.sampled_from([RECORD, COOKIE]))
def test_an_envelope_holds_any_bytes(data: bytes, purpose: bytes) -> None:
    ring = KeyRing(KEY)
    assert decrypt(encrypt(data, ring, PLACE, purpose), ring, PLACE, purpose) == data


def test_the_same_bytes_are_never_encrypted_alike() -> None:
    ring = KeyRing(KEY)
    assert len({encrypt(b"data", ring, PLACE) for _ in range(100)}) == 100


@pytest.mark.parametrize(("purpose", "step"), [(RECORD, 64), (COOKIE, 16)])
def test_lengths_grow_in_steps(purpose: bytes, step: int) -> None:
    ring = KeyRing(KEY)
    lengths = [len(encrypt(bytes(length), ring, PLACE, purpose)) for length in range(3 * step + 1)]

    assert len(set(lengths)) == 4
    assert {after - before for before, after in itertools.pairwise(lengths)} == {0, step}


def test_it_opens_at_its_own_place_and_for_its_own_purpose_alone() -> None:
    ring = KeyRing(KEY)
    sealed = encrypt(b"data", ring, PLACE)
    for place, purpose in ((OTHER, RECORD), ("", RECORD), (PLACE, COOKIE)):
        with pytest.raises(UnopenedRecordError, match="does not open it"):
            decrypt(sealed, ring, place, purpose)


def test_not_one_bit_can_be_changed() -> None:
    ring, sealed = KeyRing(KEY), encrypt(b"data", KeyRing(KEY), PLACE)
    for bit in range(len(b"5 E ") * 8, len(sealed) * 8):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(UnopenedRecordError):
            decrypt(bytes(changed), ring, PLACE)


@pytest.mark.parametrize("length", [0, 3, 11, 12, 20, 43, 44, 100])
def test_a_torn_envelope_does_not_open(length: int) -> None:
    with pytest.raises(UnopenedRecordError):
        decrypt(encrypt(b"data", KeyRing(KEY), PLACE)[:length], KeyRing(KEY), PLACE)


def test_the_first_key_encrypts_and_all_decrypt() -> None:
    old, both, new = KeyRing(OLD), KeyRing(KEY, OLD), KeyRing(KEY)

    assert decrypt(encrypt(b"data", old, PLACE), both, PLACE) == b"data"
    assert key_name(encrypt(b"data", both, PLACE)) == "2026-11"
    assert key_name(b"1 L 1 2 3\n{}") is None
    with pytest.raises(UnopenedRecordError, match="'2025-03', which the ring does not have") as caught:
        decrypt(encrypt(b"data", old, PLACE), new, PLACE)
    assert caught.value.about == "2025-03"
    with pytest.raises(UnopenedRecordError, match="'2025-03', and the storage has no encryption"):
        decrypt(encrypt(b"data", old, PLACE), None, PLACE)


def test_another_key_of_the_same_name_does_not_open_it() -> None:
    other = KeyRing("2026-11:" + base64.b64encode(bytes(range(2, 34))).decode())
    with pytest.raises(UnopenedRecordError, match="under another key"):
        decrypt(encrypt(b"data", other, PLACE), KeyRing(KEY), PLACE)


def test_no_two_messages_have_the_same_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the limit of GCM with random nonces, 2^32 messages under one key, is never near."""
    used: set[bytes] = set()
    derive = cipher.derived

    def derived(*args: Any) -> bytes:
        made = derive(*args)
        used.add(made)
        return made

    monkeypatch.setattr(cipher, "derived", derived)
    for _ in range(100):
        encrypt(b"data", KeyRing(KEY), PLACE)

    assert len(used) == 100
    assert MATERIAL not in used
