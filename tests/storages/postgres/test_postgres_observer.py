"""What an observer hears of PostgreSQL, with the server and without it."""

import asyncpg
from pytest_aiohttp.plugin import AiohttpClient

from aiohttp_session_store.storages.postgres import PostgresStorage
from tests.servers.postgres import PostgresServer
from tests.web.observed import Recorder, observed_app, tell_story
from tests.web.visits import visit, without_jar


async def test_the_story_is_told(aiohttp_client: AiohttpClient, pool: asyncpg.Pool, schema: str) -> None:
    storage = PostgresStorage(pool, schema=schema, max_sessions_per_owner=3)
    await storage.create_schema()
    recorder = Recorder()

    await tell_story(await without_jar(aiohttp_client, observed_app(storage, recorder)), recorder)

    assert {outcome for _, outcome in recorder.calls} <= {"ok", "missing", "conflict"}
    assert {"fetch", "insert", "replace", "link", "unlink", "linked", "announce"} <= recorder.take_calls().keys()


async def test_a_server_that_is_away_is_told_as_errors(aiohttp_client: AiohttpClient, server: PostgresServer) -> None:
    storage, recorder = PostgresStorage.from_dsn(server.dsn), Recorder()
    await storage.create_schema()
    client = await without_jar(aiohttp_client, observed_app(storage, recorder))
    cookie = (await visit(client, "/?login=ada")).cookie
    server.stop()
    recorder.events, recorder.calls = [], []

    for query in ("", "set=a"):
        assert (await visit(client, f"/?{query}", cookie)).status == 503
    assert (await visit(client, "/?set=a")).status == 503

    assert [verb for verb, _ in recorder.calls] == ["fetch", "fetch", "insert"]
    assert {outcome for _, outcome in recorder.calls} <= {"error", "unknown"}
    recorder.expect()
