"""What a database keeps of encrypted sessions: nothing that can be read, and the whole contract holds."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from aiohttp_session_store import KeyedStorage, KeyRing
from aiohttp_session_store.storages.postgres import PostgresStorage
from aiohttp_session_store.testing import ManualClock, StorageContract

MARKER = "nobody is to read this"


async def test_no_row_shows_data(pool: asyncpg.Pool, schema: str) -> None:
    storage = PostgresStorage(pool, schema=schema, encryption=KeyRing(KeyRing.new_key()))
    await storage.create_schema()
    session = await storage.read(None)
    session["note"] = MARKER
    session.flash("notice", MARKER)
    session.login(f"ada {MARKER}", label=MARKER)
    session_id = await storage.save(session)
    session = await storage.read(session_id)
    session.regenerate_id()
    await storage.save(session)
    tables = await pool.fetch("SELECT tablename FROM pg_tables WHERE schemaname = $1", schema)
    rows = [row for (table,) in tables for row in await pool.fetch(f'SELECT * FROM "{schema}"."{table}"')]
    kept = [value if isinstance(value, bytes) else str(value).encode() for row in rows for value in row.values()]

    assert len(rows) >= 4  # the record, the retired one, its snapshot and the index
    assert MARKER.encode() not in b"".join(kept)
    assert dict(await storage.read(session_id)) == {"note": MARKER, "notice": MARKER}
    assert len(await storage.sessions_of(f"ada {MARKER}")) == 1
    await storage.aclose()


@pytest.mark.long
class TestEncryptedPostgres(StorageContract):
    @pytest.fixture
    async def storage(self, pool: asyncpg.Pool, schema: str, clock: ManualClock) -> AsyncIterator[KeyedStorage]:
        storage = PostgresStorage(pool, schema=schema, clock=clock, encryption=KeyRing(KeyRing.new_key()))
        await storage.create_schema()
        await storage.start()
        yield storage
        await storage.aclose()
