"""If a setting is wrong or the server is away at the start, an error tracker learns no password and no secret."""

import base64
from collections.abc import Callable
from typing import Any

import pytest
import sentry_sdk

from aiohttp_session_store import ConfigurationError, SessionCookie, StorageError
from aiohttp_session_store.migrate import EncryptedCookieReader, RedisReader
from aiohttp_session_store.storages.postgres import PostgresStorage
from aiohttp_session_store.storages.redis import RedisStorage
from tests.servers.ports import free_port
from tests.web.tracker import sentry

PASSWORD = "hunter2"
KEY = base64.urlsafe_b64encode(bytes(range(32))).decode()


@pytest.mark.parametrize(
    ("make", "secret"),
    [
        (lambda: PostgresStorage.from_dsn("postgresql://ada:hunter2#@host/db"), PASSWORD),
        (lambda: PostgresStorage.from_dsn("postgresql://ada:hunter2@host/db", table=""), PASSWORD),
        (lambda: PostgresStorage("postgresql://ada:hunter2@host/db"), PASSWORD),  # type: ignore[arg-type]
        (lambda: RedisStorage.from_url("redis://:hunter2#@host"), PASSWORD),
        (lambda: RedisStorage.from_url("redis://:hunter2@host", prefix=""), PASSWORD),
        (lambda: RedisStorage("redis://:hunter2@host"), PASSWORD),  # type: ignore[arg-type]
        (lambda: RedisReader("redis://:hunter2@host"), PASSWORD),
        (lambda: EncryptedCookieReader(KEY[:-2]), KEY[:-2]),
        (lambda: SessionCookie("no name", secrets=KEY), KEY),
        (lambda: SessionCookie(secrets=[KEY, "short"]), KEY),
    ],
)
def test_a_wrong_setting_shows_no_password_and_no_secret(make: Callable[[], Any], secret: str) -> None:
    with sentry() as tracker:
        try:
            make()
        except ConfigurationError as error:
            sentry_sdk.capture_exception(error)

    assert "ConfigurationError" in tracker.text
    assert secret not in tracker.text


async def test_a_server_that_is_away_when_the_tables_are_made_shows_no_password() -> None:
    storage = PostgresStorage.from_dsn(f"postgresql://ada:{PASSWORD}@127.0.0.1:{free_port()}/db")
    with sentry() as tracker:
        try:
            await storage.create_schema()
        except StorageError as error:
            sentry_sdk.capture_exception(error)
    await storage.aclose()

    assert "create_schema" in tracker.functions()
    assert PASSWORD not in tracker.text
