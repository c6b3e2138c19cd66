"""Requests share decoded records, and no request can change what another one reads."""

from itertools import pairwise
from typing import Any

import pytest

from aiohttp_session_store import KeyedStorage, MemoryStorage
from aiohttp_session_store.engine import record_cache
from aiohttp_session_store.engine.record_cache import RecordCache
from aiohttp_session_store.record.format import NewerRecordError, Record, encode_record
from tests.engine.suspending import SuspendingStorage

RECORD = Record(1, 2, 3, {"cart": [1]})


@pytest.fixture(params=[MemoryStorage, SuspendingStorage])
def storage(request: pytest.FixtureRequest) -> KeyedStorage:
    made: KeyedStorage = request.param()
    return made


async def stored_id(storage: KeyedStorage, **data: Any) -> str:
    session = await storage.read(None)
    session.update(data)
    session.flash("later", [1])
    session_id = await storage.save(session)
    assert session_id is not None
    return session_id


def test_a_record_is_decoded_once() -> None:
    cache, data = RecordCache(), encode_record(RECORD)

    assert cache.decode(data, "") == RECORD
    assert cache.decode(bytes(bytearray(data)), "") is cache.decode(data, "")


def test_a_record_is_not_decoded_after_it_was_written() -> None:
    cache, data = RecordCache(), encode_record(RECORD)
    cache.put(data, "", RECORD)

    assert cache.decode(data, "") is RECORD


def test_the_cache_is_limited_in_bytes_and_drops_the_least_recently_used_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second, third = (encode_record(RECORD._replace(created_at=number)) for number in (4, 5, 6))
    monkeypatch.setattr(record_cache, "ROOM", 2 * len(first))
    cache = RecordCache()
    kept = cache.decode(first, "")
    dropped = cache.decode(second, "")
    cache.decode(first, "")
    cache.decode(third, "")

    assert cache.decode(first, "") is kept
    assert cache.decode(second, "") is not dropped


def test_a_record_takes_the_room_of_the_one_that_it_replaces(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = [encode_record(RECORD._replace(created_at=number)) for number in range(1, 9)]
    monkeypatch.setattr(record_cache, "ROOM", 2 * len(versions[0]))
    cache = RecordCache()
    other = encode_record(RECORD._replace(created_at=9))
    kept = cache.decode(other, "")
    for before, data in pairwise(versions):
        cache.replace(before, data, "", RECORD)

    assert cache.decode(other, "") is kept
    assert cache.decode(versions[-1], "") is RECORD


async def test_the_records_before_a_change_are_not_kept(storage: KeyedStorage) -> None:
    session_id = await stored_id(storage, counter=0)
    for _ in range(5):
        session = await storage.read(session_id)
        session.increment("counter")
        await storage.save(session)

    assert len(storage.records) == 1


def test_a_record_larger_than_the_cache_is_decoded_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode_record(RECORD)
    monkeypatch.setattr(record_cache, "ROOM", len(data) - 1)
    cache = RecordCache()

    assert cache.decode(data, "") == cache.decode(data, "") == RECORD
    assert cache.decode(data, "") is not cache.decode(data, "")


@pytest.mark.parametrize(
    ("data", "error"), [(b"rubbish", ValueError), (b"5 L 1 2 3\n{}", NewerRecordError)], ids=["damaged", "newer"]
)
def test_unreadable_data_is_an_error_every_time(data: bytes, error: type[Exception]) -> None:
    cache = RecordCache()
    for _ in range(2):
        with pytest.raises(error):
            cache.decode(data, "")


async def test_an_unsaved_change_in_a_list_is_not_seen_by_the_next_request(storage: KeyedStorage) -> None:
    session_id = await stored_id(storage, cart=[{"sku": "a"}])
    (await storage.read(session_id))["cart"][0]["sku"] = "changed"

    assert (await storage.read(session_id))["cart"] == [{"sku": "a"}]


async def test_a_change_in_a_flashed_list_is_not_seen_by_another_reader(storage: KeyedStorage) -> None:
    session_id = await stored_id(storage)
    one, other = await storage.read(session_id), await storage.read(session_id)
    one["later"].append(2)

    assert one["later"] == [1, 2]
    assert other["later"] == [1]


async def test_a_change_in_a_saved_list_is_not_seen_until_it_is_saved_again(storage: KeyedStorage) -> None:
    session_id = await stored_id(storage, cart=[1])
    session = await storage.read(session_id)
    cart = session["cart"]
    cart.append(2)
    await storage.save(session)
    cart.append(3)

    assert (await storage.read(session_id))["cart"] == [1, 2]
    await storage.save(session)
    assert (await storage.read(session_id))["cart"] == [1, 2, 3]
