"""Records that a newer version of this package wrote: they read as no session, and are left in place.

A version from before ``login`` treats a session that has an owner in the same way.
"""

import logging
from pathlib import Path

import pytest

from aiohttp_session_store import FileSystemStorage, KeyedStorage, MemoryStorage
from aiohttp_session_store.record.head import owner_key
from aiohttp_session_store.record.session_id import key_of, new_id

NEWER = b'99 L 1700000000 1700000000 1209600 secret-of-a-visitor\n{"user":5}'


@pytest.fixture(params=["memory", "files"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> KeyedStorage:
    if request.param == "memory":
        return MemoryStorage(sweep_interval=None)
    return FileSystemStorage(tmp_path / "sessions", sweep_interval=None)


async def test_a_newer_record_reads_as_no_session_and_is_left_in_place(
    storage: KeyedStorage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    session_id = new_id()
    await storage.insert(key_of(session_id), NEWER, storage.now() + 3600)
    for _ in range(2):
        assert (await storage.read(session_id)).new
    await storage.sweep()
    stored = await storage.fetch(key_of(session_id))
    assert stored is not None
    assert stored.data == NEWER
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len([text for text in warnings if "newer than this package" in text]) == 1, "said once"
    assert "secret-of-a-visitor" not in caplog.text
    assert session_id not in caplog.text
    await storage.aclose()


async def test_a_list_or_an_ending_leaves_a_newer_record_and_its_entry(storage: KeyedStorage) -> None:
    """A process of the newer version knows better."""
    session_id, index = new_id(), owner_key("42")
    await storage.link(index, key_of(session_id), storage.now() + 3600)
    await storage.insert(key_of(session_id), NEWER, storage.now() + 3600)
    assert await storage.sessions_of("42") == []
    assert await storage.end_sessions("42") == 0
    assert not await storage.end_session("42", key_of(session_id))
    assert list(await storage.linked(index)) == [key_of(session_id)]
    stored = await storage.fetch(key_of(session_id))
    assert stored is not None
    assert stored.data == NEWER
    await storage.aclose()
