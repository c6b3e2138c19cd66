"""Compares what a storage holds with what the model says, byte by byte where the format is fixed."""

from collections.abc import Mapping
from typing import Any

from aiohttp_session_store.record.format import Record, decode_record
from aiohttp_session_store.record.session_id import key_of, snapshot_key
from tests.session.model import Model
from tests.session.modelled import Live, Old, Snapshot, Tombstone

Entry = tuple[bytes, bytes, int, int]  # of a MemoryStorage: data, version, expires_at, and a day


def difference(model: Model, records: Mapping[str, Entry]) -> str | None:
    """Say where a storage with *records* holds something else than *model* says, or return None."""
    expected: dict[str, Live | Old | Tombstone | Snapshot] = {
        key_of(session_id): record for session_id, record in model.records.items()
    }
    for (old, new), snapshot in model.snapshots.items():
        expected[snapshot_key(key_of(old), key_of(new))] = snapshot
    if expected.keys() != records.keys():
        missing = [expected[key] for key in expected.keys() - records.keys()]
        return f"missing: {missing}, and not expected: {[records[key] for key in records.keys() - expected.keys()]}"
    for key, record in expected.items():
        if not same(record, records[key]):
            return f"{record} is stored as {records[key]}"
    return None


def same(expected: Live | Old | Tombstone | Snapshot, entry: Entry) -> bool:
    data, expires_at = entry[0], entry[2]
    if expires_at != expected.expires_at:
        return False
    if isinstance(expected, Old):
        return data == f"3 R {expected.dies_at} {key_of(expected.successor)} {expected.why}".encode()
    if isinstance(expected, Tombstone):
        return data == f"3 R 0 - {expected.why}".encode()
    record = expected.record if isinstance(expected, Snapshot) else expected
    return isinstance(decode_record(data), Record) and plain(live(entry)) == plain(record)


def plain(record: Live) -> tuple[Any, ...]:
    flashes = sorted((key, str(value)) for _, key, value in record.flashes)
    return record.data, flashes, record.created_at, record.written_at, record.idle


def live(entry: Entry, version: int = 0) -> Live:
    """Return a stored live record in the form of the model."""
    record = decode_record(entry[0])
    assert isinstance(record, Record)
    flashes = [(-1, flash.key, flash.value) for flash in record.flashes]
    return Live(record.data, flashes, record.created_at, record.written_at, record.idle_timeout or 0, entry[2], version)
