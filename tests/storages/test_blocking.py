"""The file storage never blocks the event loop, except for the one ``stat`` that its documentation mentions."""

from pathlib import Path

import pytest
from blockbuster import BlockBuster, BlockingError

from aiohttp_session_store import FileSystemStorage


async def use_everything(storage: FileSystemStorage) -> None:
    session = await storage.read(None)
    session["a"] = 1
    value = await storage.save(session)
    session = await storage.read(value)
    session["b"] = 2
    await storage.save(session)
    async with storage.lock(session.key):
        await storage.refresh(session)
    session.regenerate_id(True)
    value = await storage.save(session)
    await storage.sweep()
    session = await storage.read(value)
    session.destroy()
    await storage.save(session)


@pytest.fixture
def detector() -> BlockBuster:
    return BlockBuster()


async def test_no_call_blocks_the_event_loop(tmp_path: Path, detector: BlockBuster) -> None:
    storage = FileSystemStorage(tmp_path / "sessions", cache_size=0, sweep_interval=None)
    for name in ("os.stat", "os.path.samestat"):  # taking a lock checks that the lock file is still the same: 3 us
        detector.functions.pop(name, None)
    detector.activate()
    try:
        await use_everything(storage)
    finally:
        detector.deactivate()
    await storage.aclose()


async def test_the_cache_calls_stat_on_the_event_loop_as_documented(tmp_path: Path, detector: BlockBuster) -> None:
    storage = FileSystemStorage(tmp_path / "sessions", sweep_interval=None)
    session = await storage.read(None)
    session["a"] = 1
    value = await storage.save(session)
    detector.activate()
    try:
        with pytest.raises(BlockingError, match="stat"):
            await storage.read(value)
    finally:
        detector.deactivate()
    await storage.aclose()
