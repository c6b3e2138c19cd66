"""The contract of what happens around requests: damaged records, and apps that start and stop."""

import asyncio

from ...storages.base import KeyedStorage
from ..clock import ManualClock
from .sessions import load, readable, stored_id
from .verbs import HOUR, inserted, new_key

ROUNDS = 10


async def restart(storage: KeyedStorage) -> None:
    """Close *storage* for all users that it can have here, including the test's fixture, and start it for one."""
    await storage.aclose()
    await storage.aclose()
    await storage.start()


class UpkeepContract:
    """What :class:`KeyedStorage` says of ``set_aside``, ``start`` and ``aclose``."""

    async def test_a_record_that_is_set_aside_is_gone(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """It may be set aside several times, because parallel requests find the same damage."""
        key = new_key()
        await inserted(storage, key, b"\0rubbish\xff", int(clock()) + HOUR)
        stored = await storage.fetch(key)
        assert stored is not None, "the record must be found"
        await asyncio.gather(*(storage.set_aside(key, stored) for _ in range(3)))
        assert await storage.fetch(key) is None, "a record that was set aside must not be found"
        await inserted(storage, key, b"data", int(clock()) + HOUR)

    async def test_setting_aside_spares_what_was_written_since(self, storage: KeyedStorage, clock: ManualClock) -> None:
        """After a request has found the damage, another request may have stored a good record."""
        key, expires_at = new_key(), int(clock()) + HOUR
        version = await inserted(storage, key, b"\0rubbish\xff", expires_at)
        stored = await storage.fetch(key)
        assert stored is not None, "the record must be found"
        await storage.replace(key, b"good", expires_at, version)
        await storage.set_aside(key, stored)
        newest = await storage.fetch(key)
        assert newest is not None, "set_aside() must spare a record that was written since"
        assert newest.data == b"good", "set_aside() must not change a record that was written since"

    async def test_a_storage_works_until_the_last_app_has_closed_it(self, storage: KeyedStorage) -> None:
        """Several apps may share a storage."""
        session_id = await stored_id(storage, user=5)
        await storage.start()
        await storage.start()
        await storage.aclose()
        assert await readable(storage, session_id) == {"user": 5}, "an app that stops must not close a shared storage"
        await storage.aclose()

    async def test_a_storage_that_was_closed_can_be_started_again(self, storage: KeyedStorage) -> None:
        """It has kept its records, as tests expect that serve one app after another."""
        session_id = await stored_id(storage, user=5)
        await storage.start()
        await restart(storage)
        session = await load(storage, session_id)
        session["again"] = True
        await storage.save(session)
        assert await readable(storage, session_id) == {"user": 5, "again": True}, "a storage must work after a restart"

    async def test_closing_finishes_the_saves_that_are_under_way(self, storage: KeyedStorage) -> None:
        """This includes the saves of requests that were cancelled when the app stopped."""
        await storage.start()
        for steps in range(ROUNDS):
            session_id = await stored_id(storage, user=5)
            session = await load(storage, session_id)
            session["late"] = steps
            saving = asyncio.ensure_future(storage.save(session))
            for _ in range(1 + steps):
                await asyncio.sleep(0)
            saving.cancel()
            await restart(storage)
            stored = await readable(storage, session_id)
            assert stored == {"user": 5, "late": steps}, "aclose() must first finish the saves that have begun"
