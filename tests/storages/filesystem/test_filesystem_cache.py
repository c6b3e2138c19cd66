"""The read cache: it is as fast as memory and never returns a stale record."""

import asyncio
import mmap
import os
import struct
from pathlib import Path
from typing import Any

import pytest

from aiohttp_session_store import ConfigurationError, FileSystemStorage
from aiohttp_session_store.storages.filesystem import stat_cache as cache
from aiohttp_session_store.storages.filesystem.directory import SessionDirectory
from aiohttp_session_store.storages.filesystem.probe import probe
from tests.storages.filesystem.filesystem_tools import exit_code, file_of, make_session, run_in_child

NUMBER = struct.Struct("<q")


class CountingStorage(FileSystemStorage):
    """Counts the reads that are handed to a thread."""

    hops = 0

    def count(self) -> None:
        real = self._fetch

        async def fetch(key: str) -> cache.Seen | None:
            self.hops += 1
            return await real(key)

        self._fetch = fetch


async def test_a_record_that_this_process_read_or_wrote_is_read_without_a_thread(tmp_path: Path) -> None:
    storage = CountingStorage(tmp_path / "sessions", sweep_interval=None)
    storage.count()
    value = await make_session(storage, number=1)

    for _ in range(3):
        assert (await storage.read(value))["number"] == 1

    assert storage.hops == 0
    await storage.aclose()


async def test_a_write_of_another_process_is_seen_at_once(tmp_path: Path) -> None:
    """Even for two writes within one clock tick, of records of equal size, on alternating inodes."""
    here, there = (FileSystemStorage(tmp_path / "sessions", sweep_interval=None) for _ in range(2))
    value = await make_session(here, number=1000)

    for number in range(1001, 1501):
        for written in (0, number):
            session = await there.read(value)
            session["number"] = written or 9999
            await there.save(session)

        assert (await here.read(value))["number"] == number
    await here.aclose()
    await there.aclose()


async def test_the_test_above_fails_if_files_do_not_get_their_own_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiohttp_session_store.storages.filesystem.record_file.own_time_ns", lambda: 1)

    with pytest.raises(AssertionError):
        await test_a_write_of_another_process_is_seen_at_once(tmp_path)


def test_two_processes_that_hammer_one_session_see_no_stale_record(tmp_path: Path) -> None:
    """The reader looks up the last acknowledged number before it reads; it must find that number or a later one."""
    storage = FileSystemStorage(tmp_path / "sessions", sweep_interval=None)
    shared = mmap.mmap(-1, NUMBER.size)
    writes = 3000

    async def first() -> str:
        value = await make_session(storage, number=0)
        await storage.aclose()
        return value

    value = asyncio.run(first())

    async def write() -> None:
        for number in range(1, writes + 1):
            session = await storage.read(value)
            session["number"] = number
            await storage.save(session)
            NUMBER.pack_into(shared, 0, number)

    async def read() -> int:
        reads = 0
        while (acknowledged := NUMBER.unpack_from(shared)[0]) < writes:
            assert (await storage.read(value))["number"] >= acknowledged
            reads += 1
            await asyncio.sleep(0)
        await storage.aclose()
        return reads

    writer = run_in_child(write)
    reads = asyncio.run(read())

    assert exit_code(writer) == 0
    assert reads > writes / 10


async def test_a_touch_by_another_process_is_seen_before_a_session_counts_as_expired(tmp_path: Path) -> None:
    now = 1_700_000_000.0
    here, there = (
        FileSystemStorage(tmp_path / "sessions", sweep_interval=None, idle_timeout=100, clock=lambda: now)
        for _ in range(2)
    )
    value = await make_session(here, number=1)
    now += 60
    await there.save(await there.read(value))

    now += 60

    assert not (await here.read(value)).new
    await here.aclose()
    await there.aclose()


async def test_a_record_that_another_thread_drops_from_the_cache_meanwhile_is_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two event loops in two threads may use one file storage."""
    storage = FileSystemStorage(tmp_path / "sessions", sweep_interval=None)
    value = await make_session(storage, number=1)
    key = (await storage.read(value)).key
    real = os.stat

    def stat(*args: Any, **kwargs: Any) -> os.stat_result:
        storage._cache.forget(key)
        return real(*args, **kwargs)

    monkeypatch.setattr(os, "stat", stat)

    assert (await storage.read(value))["number"] == 1
    await storage.aclose()


async def test_the_cache_size_is_limited(tmp_path: Path) -> None:
    storage = FileSystemStorage(tmp_path / "sessions", sweep_interval=None, cache_size=3)
    for number in range(5):
        await make_session(storage, number=number)

    assert len(storage._cache) == 3
    await storage.aclose()


async def test_large_records_are_not_cached(tmp_path: Path) -> None:
    storage = FileSystemStorage(tmp_path / "sessions", sweep_interval=None)
    value = await make_session(storage, filling="x" * 20_000)

    assert len((await storage.read(value))["filling"]) == 20_000
    assert len(storage._cache) == 0
    await storage.aclose()


async def test_a_cache_size_of_zero_turns_the_cache_off(tmp_path: Path) -> None:
    storage = CountingStorage(tmp_path / "sessions", sweep_interval=None, cache_size=0)
    storage.count()
    value = await make_session(storage, number=1)

    await storage.read(value)

    assert storage.hops == 1
    await storage.aclose()


async def test_coarse_file_times_turn_the_cache_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.utime

    def coarse(path: int, ns: tuple[int, int]) -> None:
        real(path, ns=tuple(value // 10**9 * 10**9 for value in ns))  # type: ignore[arg-type]

    monkeypatch.setattr(os, "utime", coarse)
    assert not probe(SessionDirectory(tmp_path)).keeps_own_times
    storage = FileSystemStorage(tmp_path / "sessions", sweep_interval=None)
    await make_session(storage, number=1)

    assert len(storage._cache) == 0
    await storage.aclose()


@pytest.mark.parametrize("size", [-1, 1.5, True])
def test_an_invalid_cache_size_is_refused(tmp_path: Path, size: int) -> None:
    with pytest.raises(ConfigurationError, match="cache_size"):
        FileSystemStorage(tmp_path / "sessions", cache_size=size)


async def test_a_deleted_file_is_dropped_from_the_cache(tmp_path: Path) -> None:
    storage = FileSystemStorage(tmp_path / "sessions", sweep_interval=None)
    value = await make_session(storage, number=1)
    file_of(storage, await storage.read(value)).unlink()

    assert (await storage.read(value)).new
    assert len(storage._cache) == 0
    await storage.aclose()
