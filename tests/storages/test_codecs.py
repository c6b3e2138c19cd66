"""A codec of the application: each record names its codec, so that codecs can be added, changed and removed."""

import json
import logging
import zlib
from typing import Any

import pytest
from cryptography.fernet import Fernet

from aiohttp_session_store import ConfigurationError, CookieStorage, FileSystemStorage, MemoryStorage
from aiohttp_session_store.storages.base import KeyedStorage
from aiohttp_session_store.testing import StorageContract


class Compressed:
    name = "zlib.1"

    def dumps(self, value: Any) -> bytes:
        return zlib.compress(json.dumps(value).encode())

    def loads(self, data: bytes) -> Any:
        return json.loads(zlib.decompress(data))


class Encrypted:
    def __init__(self, name: str = "fernet-2024") -> None:
        self.name = name
        self.fernet = Fernet(Fernet.generate_key())

    def dumps(self, value: Any) -> bytes:
        return self.fernet.encrypt(json.dumps(value).encode())

    def loads(self, data: bytes) -> Any:
        return json.loads(self.fernet.decrypt(data))


DATA: dict[str, Any] = {"user": "ada", "$odd": {"$set": [1]}, "tags": {"a"}, "nested": [b"\n", (1,)]}


async def stored(storage: Any, **data: Any) -> str:
    session = await storage.read(None)
    session.update(data)
    session.flash("notice", {"x"})
    value: str | None = await storage.save(session)
    assert value
    return value


def with_codec(storage: MemoryStorage, codec: Any) -> MemoryStorage:
    """Return a storage with the same records and another codec, as after a restart."""
    other = MemoryStorage(codec=codec)
    other._records = storage._records
    return other


@pytest.mark.parametrize("codec", [Compressed(), Encrypted(), [Encrypted(), Compressed()]])
@pytest.mark.parametrize("kind", [MemoryStorage, CookieStorage, FileSystemStorage])
async def test_a_codec_reads_what_it_has_written(kind: Any, codec: Any, tmp_path: Any) -> None:
    storage = kind(tmp_path / "s", codec=codec) if kind is FileSystemStorage else kind(codec=codec)
    value = await stored(storage, **DATA)

    session = await storage.read(value)
    assert dict(session) == {**DATA, "notice": {"x"}}
    session["more"] = 1
    value = await storage.save(session) or value
    assert dict(await storage.read(value)) == {**DATA, "more": 1}
    await storage.aclose() if hasattr(storage, "aclose") else None


async def test_reading_sends_no_cookie_even_if_every_encoding_differs() -> None:
    """Otherwise a request that only reads would overwrite what another one has written meanwhile."""
    storage = CookieStorage(codec=Encrypted())
    session = await storage.read(None)
    session["cart"] = [1]
    session = await storage.read(await storage.save(session))

    assert session["cart"] == [1]
    assert await storage.save(session) is None


async def test_a_record_holds_the_name_of_the_codec_and_its_bytes() -> None:
    storage = MemoryStorage(codec=Encrypted())
    await stored(storage, user="ada")

    [(data, *_)] = storage._records.values()
    head, _, body = data.partition(b"\n")
    assert head.split()[:2] == [b"2", b"C"]
    assert head.split()[-1] == b"fernet-2024"
    assert b"ada" not in body


async def test_records_from_before_the_codec_are_read_and_rewritten_with_it() -> None:
    before = MemoryStorage()
    value = await stored(before, user="ada", tags={1})
    storage = with_codec(before, Compressed())

    session = await storage.read(value)
    assert session["tags"] == {1}
    session["user"] = "grace"
    await storage.save(session)

    assert b" zlib.1\n" in next(iter(storage._records.values()))[0]
    assert (await storage.read(value))["user"] == "grace"


async def test_records_of_an_older_codec_are_read_while_it_is_listed() -> None:
    old, new = Encrypted("fernet-2024"), Encrypted("fernet-2025")
    before = MemoryStorage(codec=old)
    value = await stored(before, user="ada")

    assert (await with_codec(before, [new, old]).read(value))["user"] == "ada"


async def test_a_record_whose_codec_is_missing_reads_as_no_session_and_stays(caplog: pytest.LogCaptureFixture) -> None:
    before = MemoryStorage(codec=Encrypted())
    value = await stored(before, user="ada")

    with caplog.at_level(logging.WARNING):
        for codec in (None, Compressed(), Encrypted()):  # the last one has another encryption key
            assert (await with_codec(before, codec).read(value)).new
    assert "'fernet-2024' is not among those" in caplog.text
    assert "'fernet-2024' cannot read it: InvalidToken" in caplog.text
    assert (await before.read(value))["user"] == "ada"


async def test_regeneration_and_its_grace_work_with_a_codec() -> None:
    storage = MemoryStorage(codec=Encrypted())
    old_id = await stored(storage, user="ada")
    session = await storage.read(old_id)
    session.regenerate_id()
    new_id = await storage.save(session)

    assert (await storage.read(old_id))["user"] == (await storage.read(new_id))["user"] == "ada"


@pytest.mark.parametrize("name", [None, "", "UPPER", "a b", "a\n", "x" * 33])
def test_an_invalid_codec_name_is_refused(name: Any) -> None:
    codec = Encrypted()
    codec.name = name
    with pytest.raises(ConfigurationError, match="a codec has a name"):
        MemoryStorage(codec=codec)


def test_an_object_that_is_not_a_codec_is_refused() -> None:
    class Named:
        name = "named"

    with pytest.raises(ConfigurationError, match=r"no dumps\(\) and loads\(\)"):
        CookieStorage(codec=Named())  # type: ignore[arg-type]


class TestStorageWithACodec(StorageContract):
    @pytest.fixture
    async def storage(self, clock: Any) -> KeyedStorage:
        return MemoryStorage(codec=Encrypted(), clock=clock)
