"""What a server keeps of encrypted sessions: nothing that can be read, and the whole contract holds."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from aiohttp_session_store import KeyedStorage, KeyRing
from aiohttp_session_store.storages.redis import RedisStorage
from aiohttp_session_store.testing import ManualClock, StorageContract
from tests.servers.redis import RedisServer

MARKER = "nobody is to read this"


async def test_no_key_and_no_value_shows_data(shared_server: RedisServer, prefix: str, client: Redis) -> None:
    storage = RedisStorage.from_url(shared_server.url, prefix=prefix, encryption=KeyRing(KeyRing.new_key()))
    session = await storage.read(None)
    session["note"] = MARKER
    session.flash("notice", MARKER)
    session.login(f"ada {MARKER}", label=MARKER)
    session_id = await storage.save(session)
    session = await storage.read(session_id)
    session.regenerate_id()
    await storage.save(session)
    kept = [key async for key in client.scan_iter(f"{prefix}*")]
    dumped = [await client.dump(key) or b"" for key in kept]

    assert len(kept) >= 4  # the record, the retired one, its snapshot and the index
    assert MARKER.encode() not in b"".join([*kept, *dumped])
    assert dict(await storage.read(session_id)) == {"note": MARKER, "notice": MARKER}
    assert len(await storage.sessions_of(f"ada {MARKER}")) == 1
    await storage.aclose()


@pytest.mark.long
class TestEncryptedRedis(StorageContract):
    sweeps = False

    @pytest.fixture
    async def storage(self, shared_server: RedisServer, prefix: str, clock: ManualClock) -> AsyncIterator[KeyedStorage]:
        ring = KeyRing(KeyRing.new_key())
        storage = RedisStorage.from_url(shared_server.url, prefix=prefix, clock=clock, encryption=ring)
        await storage.start()
        yield storage
        await storage.aclose()
