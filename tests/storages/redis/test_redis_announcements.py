"""Ends of sessions are announced on a channel of Redis, and noticed without it, too."""

import asyncio
import logging
import secrets
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from aiohttp_session_store import Announcement, StorageError
from aiohttp_session_store.engine.watching import Watching
from aiohttp_session_store.record.session_id import key_of
from aiohttp_session_store.storages.redis import RedisStorage, announcing
from tests.docs.blocks import ROOT
from tests.servers.proxy import proxy
from tests.servers.redis import RedisServer
from tests.storages.watched_steps import AWAY, SOON, ended, log_out, stored, watch

KEY = secrets.token_hex(32)


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(SOON):
        while not await condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def watching(storage: RedisStorage, interval: float) -> AsyncIterator[Watching]:
    watching = storage.watching(interval)
    yield watching
    await watching.stop()


def listeners(client: Redis) -> Callable[[], Any]:
    async def count() -> int:
        return len(await client.client_list(_type="pubsub"))

    return count


@pytest.mark.parametrize("protocol", [2, 3])
async def test_an_end_in_another_process_is_heard(shared_server: RedisServer, prefix: str, protocol: int) -> None:
    storage = RedisStorage.from_url(f"{shared_server.url}?protocol={protocol}", prefix=prefix)
    session_id = await stored(storage)
    code = (
        "import asyncio, sys\n"
        "from aiohttp_session_store.storages.redis import RedisStorage\n"
        "async def main():\n"
        "    storage = RedisStorage.from_url(sys.argv[1], prefix=sys.argv[2])\n"
        "    session = await storage.read(sys.argv[3])\n"
        "    session.destroy()\n"
        "    await storage.save(session)\n"
        "    await storage.aclose()\n"
        "asyncio.run(main())\n"
    )
    async with watching(storage, 3600) as sessions, aclosing(storage.announcements()) as announcements:
        assert await anext(announcements) == Announcement("")
        other = await watch(storage, sessions, session_id)
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, shared_server.url, prefix, session_id, cwd=ROOT
        )
        assert await child.wait() == 0

        assert await ended(other) == "logout"
        heard = await asyncio.wait_for(anext(announcements), SOON)
        assert (heard.is_whole, heard.reason) == (True, "logout")
    await storage.aclose()


async def test_after_the_subscriber_was_cut_everything_is_looked_at(
    server: RedisServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, client = RedisStorage.from_url(server.url), Redis.from_url(server.url)
    session_id = await stored(storage)
    async with watching(storage, 3600) as sessions:
        watched = await watch(storage, sessions, session_id)
        await until(listeners(client))
        monkeypatch.setattr(RedisStorage, "announces", False)  # a hint that nobody hears
        await client.client_kill_filter(_type="pubsub")
        await log_out(storage, session_id)

        assert await ended(watched) == "logout"
        await until(listeners(client))
    assert sum("are not announced for now" in one.message for one in caplog.records) == 1
    await storage.aclose()
    await client.aclose()


async def test_an_end_is_noticed_while_nothing_is_heard(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """A user who may not listen is told once."""
    caplog.set_level(logging.INFO)
    client = Redis.from_url(server.url)
    await client.acl_setuser(
        "app", enabled=True, passwords=["+x"], keys=["*"], categories=["+@all"], reset_channels=True
    )
    storage = RedisStorage.from_url(server.url.replace("redis://", "redis://app:x@"))
    session_id = await stored(storage)
    async with watching(storage, 0.2) as sessions:
        watched = await watch(storage, sessions, session_id)
        await until(lambda: said(caplog))
        await log_out(storage, session_id)

        assert await ended(watched) == "logout"
    found = [one.levelno for one in caplog.records if "Allow SUBSCRIBE and PUBLISH on the channel" in one.message]
    assert found == [logging.WARNING]
    assert any("was not announced, and is noticed later" in one.message for one in caplog.records)
    await storage.aclose()
    await client.aclose()


async def said(caplog: pytest.LogCaptureFixture) -> bool:
    return any("Allow SUBSCRIBE" in one.message for one in caplog.records)


async def test_a_connection_that_has_gone_silent_is_given_up(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcing, "_SILENT", 0.1)
    async with proxy(server.port) as between:
        storage = RedisStorage.from_url(between.url, timeout=1)
        async with aclosing(storage.announcements()) as announcements:
            assert await anext(announcements) == Announcement("")
            await asyncio.sleep(0.3)  # it is tested, and answers
            await storage.announce(KEY, "logout")
            assert await asyncio.wait_for(anext(announcements), SOON) == Announcement(KEY, "logout")

            between.forget()

            with pytest.raises(StorageError, match="was silent for 1 s"):
                await asyncio.wait_for(anext(announcements), SOON)
        await storage.aclose()


@AWAY
async def test_a_server_that_is_away_closes_nothing_and_what_ended_is_noticed_after(
    server: RedisServer, caplog: pytest.LogCaptureFixture, seconds_away: int
) -> None:
    direct = RedisStorage.from_url(server.url)
    ends, stays = await stored(direct), await stored(direct)
    async with proxy(server.port) as between:
        storage = RedisStorage.from_url(between.url, timeout=1)
        async with watching(storage, 0.3) as sessions:
            one, other = await watch(storage, sessions, ends), await watch(storage, sessions, stays)
            await between.refuse()
            async with asyncio.timeout(SOON):
                while not any("could not be looked at" in record.message for record in caplog.records):
                    between.kill()  # one may have been on its way
                    await asyncio.sleep(0.01)
            await log_out(direct, ends)
            await asyncio.sleep(seconds_away)
            assert (one.reason, other.reason) == (None, None)

            await between.listen()

            assert await ended(one) == "logout"
            assert other.reason is None
        await storage.aclose()
    await direct.aclose()


async def test_nothing_is_opened_for_an_app_that_watches_nothing(server: RedisServer) -> None:
    storage, client = RedisStorage.from_url(server.url), Redis.from_url(server.url)
    session_id = await stored(storage)
    before = await client.info("stats")
    await log_out(storage, session_id)
    after = await client.info("stats")
    assert await listeners(client)() == 0
    assert (await client.info("commandstats"))["cmdstat_publish"]["calls"] == 1
    assert after["total_connections_received"] == before["total_connections_received"]
    async with watching(storage, 0.1) as sessions:
        watched = await watch(storage, sessions, await stored(storage))
        await until(listeners(client))
        watched.cancel()

        async def none_left() -> bool:
            return not await listeners(client)()

        await until(none_left)
    await storage.aclose()
    await client.aclose()


async def test_messages_of_others_are_ignored(client: Redis, storage: RedisStorage, prefix: str) -> None:
    async with aclosing(storage.announcements()) as announcements:
        await anext(announcements)
        for message in (b"", b"\xff\xfe", b"abc logout", KEY.encode()[:-1]):
            await client.publish(f"{prefix}ended", message)
        await storage.announce(KEY, "revoked")

        assert await asyncio.wait_for(anext(announcements), SOON) == Announcement(KEY, "revoked")


async def test_a_value_that_is_not_ours_is_no_end_and_hides_none(
    client: Redis, storage: RedisStorage, prefix: str
) -> None:
    storage.has_announcements = False
    async with watching(storage, 0.1) as sessions:
        ids = [await stored(storage) for _ in range(4)]
        watches = [await watch(storage, sessions, session_id) for session_id in ids]
        names = [prefix + key_of(session_id) for session_id in ids]
        await client.delete(names[0])
        await client.rpush(names[0], "of another type")
        await client.set(names[1], "short")

        await log_out(storage, ids[2])

        assert await ended(watches[2]) == "logout"
        assert [watches[nth].reason for nth in (0, 1, 3)] == [None] * 3
        await client.delete(*names[:2])
        assert [await ended(one) for one in watches[:2]] == ["ended"] * 2


async def test_the_nodes_of_a_cluster_tell_a_value_that_is_not_ours_from_none(
    cluster: list[RedisServer], prefix: str
) -> None:
    client = RedisCluster.from_url(cluster[0].url)
    storage = RedisStorage(client, prefix=prefix)
    record, value, short, missing = (secrets.token_hex(32) for _ in range(4))
    version = await storage.insert(record, b"data", 4_000_000_000)
    await client.rpush(prefix + value, "of another type")
    await client.set(prefix + short, "short")

    found = await storage.versions([record, value, short, missing])

    assert found.keys() == {record, value, short}
    assert found[record] == version
    await storage.aclose()
    await client.aclose()
